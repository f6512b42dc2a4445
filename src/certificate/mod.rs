//! The certificate (spec 10, "The certificate"): what an auditor wants to see before `recruiters` is removed, as one
//! document. `gather` reads it from the database, `verdict` judges it, `check` compares it with a later one.

pub(crate) mod check;
pub(crate) mod document;
pub(crate) mod gather;
pub(crate) mod page;
mod verdict;
