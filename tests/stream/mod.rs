//! How events, references and documents of every kind reach the offers.

mod covered;
mod deactivated_users;
mod dead_letter_actions;
mod dead_letters;
mod dropped_sources;
mod heavy_documents;
mod lost_history;
mod many_creations;
mod moves;
mod other_histories;
mod other_ids;
mod reactions;
mod refused_closings;
mod shared_jobs;
mod spelled_users;
mod starting;
mod unreadable_events;
mod unreadable_references;
