//! What the service promises, whatever happens (spec 00, "Guarantees").

mod anonymisation;
mod bad_input;
mod checkpoints;
mod closings;
mod crashes;
mod dates;
mod faults;
mod golden_documents;
mod idempotence;
mod labels;
mod late_records;
mod lease;
mod link_races;
mod links;
mod majority;
mod privacy;
mod random_operations;
mod target_schemas;
mod two_writers;
mod validator_action;
