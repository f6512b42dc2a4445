//! The time-based jobs (spec 05): when they run, what they change in each phase, what they leave alone.

pub mod both_sides;
mod clock_jumps;
mod large_users;
pub mod occurrences;
pub mod offer_jobs;
mod persons;
pub mod queries;
mod reports;
mod sixty_days;
