//! APPLY carries out a plan: each chunk of recruiters goes through the stages fetch, project, compare and write.

pub(crate) mod affected_recruiters;
pub(crate) mod chunk;
pub(crate) mod conflict_policy;
pub(crate) mod dry_run;
pub(crate) mod dry_run_reasons;
pub(crate) mod executor;
pub(crate) mod job_chunk;
pub(crate) mod link_changes;
pub(crate) mod mirror;
mod offers_ahead;
pub(crate) mod output;
pub(crate) mod preemption;
mod refused_changes;
pub(crate) mod removal;
pub(crate) mod sampler;
pub(crate) mod shared_jobs;
pub(crate) mod stages;
mod touches;
