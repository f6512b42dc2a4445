//! PLAN, the second stage: events -> touches. Pure code: it decides which documents to look at, and reads none.

pub(crate) mod covered;
pub(crate) mod dropped_sources;
pub(crate) mod merge;
pub(crate) mod react;
pub(crate) mod touch;

#[cfg(test)]
mod tests;

pub use merge::plan;
pub use touch::{Plan, Touch};
