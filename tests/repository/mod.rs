//! The repository itself: its documents.

mod log_catalogue;
mod one_build;
mod walkthrough;
