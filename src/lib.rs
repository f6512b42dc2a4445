//! The map of the service, from the ground up: a module imports only from those above its own line (`tests/tidy.rs`,
//! `LAYERS`). `main.rs` is one screen on top of it.

// The ground: no MongoDB.
pub mod clock;
pub mod failpoint;
pub mod model;
pub mod retry;
pub mod schedule;
pub mod version;

// How things fail, and what is configured.
pub mod config;
pub mod error;
pub mod logging;
pub mod outgoing;
pub mod refusal;

// What every part works with.
pub mod context;
pub mod lease;
pub mod mongo;
pub mod observe;
pub mod tasks;

// The stages of the stream, in the order of the flow.
pub mod apply;
pub mod fetch;
pub mod phase;
pub mod plan;
pub mod project;
pub mod source;
pub mod write;

// What goes on beside the stream.
pub mod directory;
pub mod mail;
pub mod maintenance;
pub mod notices;
pub mod ticker;
pub mod verify;

// Who leads, and what is shown of it.
pub mod leader;
pub mod status;
pub mod web;

// What can be typed.
pub mod cli;
pub mod doctor;
pub mod service;
pub mod setup;
