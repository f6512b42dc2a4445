//! The modules of the service, grouped by subject. `LAYERS` in `tests/tidy.rs` lists the same modules in rows from the
//! ground up: a module names only modules of rows above its own. `main.rs` stands on top of them.

// Ground: no MongoDB.
pub mod clock;
pub mod failpoint;
pub mod model;
pub mod retry;
pub mod schedule;
pub mod version;

// Configuration, errors, logs and outgoing HTTP calls.
pub mod config;
pub mod error;
pub mod logging;
pub mod outgoing;
pub mod refusal;

// Shared by the modules below: context, lease, database access, metrics and health, tasks.
pub mod context;
pub mod lease;
pub mod mongo;
pub mod observe;
pub mod tasks;

// The stages of the stream: `source`, `plan`, `fetch`, `project`, `write`. `apply` runs them; `phase` says what they
// may write.
pub mod apply;
pub mod fetch;
pub mod phase;
pub mod plan;
pub mod project;
pub mod source;
pub mod write;

// Work beside the stream.
pub mod directory;
pub mod mail;
pub mod maintenance;
pub mod notices;
pub mod ticker;
pub mod verify;

// Leadership, and the status that HTTP shows.
pub mod leader;
pub mod status;
pub mod web;

// The command line and its commands.
pub mod cli;
pub mod doctor;
pub mod service;
pub mod setup;
