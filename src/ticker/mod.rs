//! The ticker: it runs the time-based jobs (spec 05). A job is a pure plan and a short run on a
//! [`job_context::JobContext`]. Only the leader runs jobs, one at a time. The ledger is in MongoDB, so no run is lost.

mod attempts;
pub(crate) mod calendar;
pub(crate) mod clock_ahead;
pub(crate) mod id_cursor;
pub(crate) mod job;
pub(crate) mod job_context;
pub(crate) mod jobs;
pub mod ledger;
mod occurrences;
mod offer_and_job;
mod outcome;
pub(crate) mod overview;
pub(crate) mod owned_jobs;
pub(crate) mod production_marker;
pub(crate) mod report;
mod retry_policy;
pub(crate) mod runner;
mod statements;
pub(crate) mod stored_run;
pub(crate) mod ticker_command;
pub(crate) mod write_access;
