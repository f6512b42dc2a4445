//! The commands that an operator types.

mod arguments;
mod backfill;
mod configuration;
mod control;
mod doctor;
mod documents;
mod events;
mod health;
mod platform;
mod printed;
mod replay;
mod replay_find;
mod setup;
mod signals;
mod status;
mod stored;
mod support_bundle;
mod terminal;
mod token_files;
mod tokens;
mod wrong_database;
