//! The part of the server that the product's own statements need: expressions, filters and updates of one document.
//! An operator that is not here ends the test, so that a new statement of the product is not misread. Left out: indexes,
//! paths with dots, and arrays in filters.

mod expression;
mod filter;
mod update;

pub(crate) use expression::Server;
pub(crate) use filter::matches;
pub(crate) use update::{Statement, run, update};

#[cfg(test)]
mod tests;
