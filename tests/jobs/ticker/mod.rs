//! The time-based jobs (spec 05): when they run, what they change in each phase, what they leave alone.

pub(crate) mod both_sides;
mod clock_jumps;
mod large_users;
pub(crate) mod occurrences;
pub(crate) mod offer_jobs;
mod orphans;
mod persons;
pub(crate) mod queries;
mod reports;
mod sixty_days;
