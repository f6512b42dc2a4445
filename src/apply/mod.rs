//! APPLY: one chunk of recruiters through the stages: fetch, project, compare, write.

pub mod affected_recruiters;
pub mod chunk;
pub mod conflict_policy;
pub mod dry_run;
pub mod executor;
pub mod job_chunk;
pub mod link_changes;
pub mod preemption;
pub mod removal;
pub mod sampler;
pub mod shared_jobs;
pub mod stages;
mod would_change;
