//! The time-based jobs (spec 05): when they run, what they change in each phase, what they leave alone.

mod both_sides;
mod occurrences;
mod offer_jobs;
mod persons;
mod queries;
mod reports;
mod sixty_days;
