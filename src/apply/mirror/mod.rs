//! The mirror (spec 10, "The mirror (phase `shadow`)") keeps `recruiters` in step with our offers. A touch of the mirror
//! names an offer. The mirror reads the newest offer, its recruiter and its job, and writes what they do not say yet.

pub(crate) mod derived_id;
pub(crate) mod edits;
pub(crate) mod existing_jobs;
pub(crate) mod missing_jobs;
pub(crate) mod run;
