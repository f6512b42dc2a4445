//! PLAN, the second stage: events -> touches. Pure code: it decides which documents to look at, and reads none.

pub(crate) mod coalesce;
pub(crate) mod react;
pub(crate) mod sources;
pub(crate) mod touch;

#[cfg(test)]
mod tests;

pub use coalesce::plan;
pub use touch::{Plan, Touch};
