//! The map of the service, in the order in which data flows; `main.rs` is one screen on top of it.

pub mod answer;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod directory;
pub mod doctor;
pub mod error;
pub mod fetch;
pub mod logging;
pub mod mail;
pub mod model;
pub mod notices;
pub mod observe;
pub mod outgoing;
pub mod phase;
pub mod plan;
pub mod project;
pub mod retry;
pub mod run;
pub mod setup;
pub mod source;
pub mod ticker;
pub mod verify;
pub mod web;
pub mod write;
