//! The migration from `recruiters` to `jobs_partners`, and from the old worker.

mod certificate;
mod first_night;
mod late_writes;
mod migration;
mod mirror;
mod mirror_backfill;
mod mirror_faults;
mod mirror_matrix;
mod old_worker;
mod old_worker_leftovers;
mod only_in_recruiters;
mod phase_races;
mod phase_steps;
mod rules;
mod there_and_back;
