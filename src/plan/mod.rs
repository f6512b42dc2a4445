//! Stage 2, PLAN: events -> touches. Pure: it decides what to look at, never reads it.

pub(crate) mod coalesce;
pub(crate) mod react;
pub(crate) mod sources;
pub(crate) mod touch;

#[cfg(test)]
mod tests;

pub use coalesce::plan;
pub(crate) use touch::{Plan, Touch};
