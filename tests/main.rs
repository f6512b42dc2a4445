//! Black-box tests of the service: one binary, one module per guarantee or feature.
//! They run the real program against a real MongoDB; nothing is mocked.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as it says; its clock and environment are the machine's"
)]

mod alerts;
mod anonymisation;
mod backfill;
mod bad_input;
mod checkpoints;
mod commands;
mod company_directory;
mod configuration;
mod continuous_verification;
mod crashes;
mod deactivated_users;
mod dead_letter_actions;
mod dead_letters;
mod doctor;
mod dropped_sources;
mod evaluation;
mod faults;
mod golden_documents;
mod health;
mod heavy_documents;
mod http_bounds;
mod idempotence;
mod late_records;
mod lease;
mod link_races;
mod links;
mod lost_history;
mod mail;
mod majority;
mod many_creations;
mod migration;
mod moves;
mod notices;
mod old_worker;
mod old_worker_leftovers;
mod other_histories;
mod other_ids;
mod phase_races;
mod phase_steps;
mod phases;
mod printed;
mod privacy;
mod random_operations;
mod reactions;
mod replay;
mod setup;
mod shared_jobs;
mod spelled_users;
mod starting;
mod status;
mod status_page;
mod support;
mod ticker;
mod tidy;
mod tls;
mod token_files;
mod tokens;
mod two_writers;
mod unreadable_events;
mod unreadable_references;
mod verification;
mod verification_beside_writes;
mod walkthrough;
