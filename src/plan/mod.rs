//! Stage 2, PLAN: events -> touches. Pure: it decides what to look at, never reads it.

pub mod coalesce;
pub mod react;
pub mod sources;
pub mod touch;

#[cfg(test)]
mod tests;

pub use coalesce::plan;
pub use touch::{Plan, Touch};
