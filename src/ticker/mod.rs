//! The ticker: the time-based jobs (spec 05). A job is a pure plan plus a thin run on what [`work::JobContext`] gives it;
//! only the leader runs them, one at a time. What must be remembered is in MongoDB, so that no run is lost.

pub mod ahead;
mod attempts;
pub mod calendar;
pub mod id_cursor;
pub mod job;
pub mod job_context;
pub mod job_order;
pub mod jobs;
pub mod ledger;
mod occurrences;
mod outcome;
pub mod overview;
pub mod pair;
pub mod production_marker;
pub mod report;
mod retry_policy;
pub mod runner;
mod statements;
pub mod write_access;
