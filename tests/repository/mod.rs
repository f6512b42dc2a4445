//! The repository itself: its documents.

mod walkthrough;
