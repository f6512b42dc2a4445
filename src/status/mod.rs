//! The status of the service, built from facts of the database and of this process.

pub(crate) mod conditions;
pub(crate) mod counts;
pub(crate) mod document;
pub(crate) mod events;
pub(crate) mod instances;
pub(crate) mod job_status;
pub(crate) mod running;
pub(crate) mod survey;
pub(crate) mod time;
pub(crate) mod verdict;
pub(crate) mod verdict_state;
