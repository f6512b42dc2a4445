//! The repository itself: its documents.

mod log_catalogue;
mod walkthrough;
