//! The time-based jobs, their e-mail and what they ask outside.

mod changed_establishments;
mod company_directory;
mod mail;
mod notices;
pub(crate) mod ticker;
