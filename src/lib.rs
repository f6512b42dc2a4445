//! The modules of the service, grouped by subject. `LAYERS` in `tests/tidy.rs` lists the same modules in rows from the
//! ground up: a module names only modules of rows above its own. `main.rs` stands on top of them.

// Ground: no MongoDB.
pub mod clock;
mod counted;
mod failpoint;
pub mod json_output;
mod masking;
mod model;
mod progress;
mod retry;
mod schedule;
mod shown_time;
mod version;

// Configuration, errors, interruptions, logs, reports of errors and outgoing HTTP calls.
pub mod config;
mod error;
pub mod error_reports;
mod interruption;
pub mod logging;
mod outgoing;
pub mod refusal;
pub mod traces;

// Shared by the modules below: context, lease, signs of life, database access, metrics and health, tasks.
mod context;
mod instances;
mod lease;
mod mongo;
mod observe;
mod tasks;

// The stages of the stream, in the order of the flow. READ:
mod source;

// PLAN, pure: events become touches.
mod plan;

// FETCH: the current documents.
mod fetch;

// PROJECT, pure: a recruiter and a job become an offer.
mod project;

// What the target's schema allows now.
mod target;

// WRITE, with the acknowledgement of a majority.
mod write;

// `phase` says what the stages may write; `apply` puts one chunk through all of them.
mod apply;
mod phase;

// Work beside the stream.
mod directory;
mod mail;
mod maintenance;
mod notices;
mod ticker;
mod verify;

// Leadership, and the status that HTTP shows.
mod leader;
mod status;
mod web;

// The command line and its commands, and the certificate.
mod certificate;
pub mod cli;
pub mod doctor;
pub mod service;
pub mod setup;

/// The items that tests, benches and fuzzers use. They are not an interface for anyone else.
pub mod inside {
    pub use crate::directory::cache::Cache;
    pub use crate::error::Failure;
    pub use crate::fetch::chunks::ChunkReader;
    pub use crate::fetch::references::Answers;
    pub use crate::interruption::{Interruption, Unfinished};
    pub use crate::leader::start_position::{PositionStores, Watch, start};
    pub use crate::lease::{Lease, held_by, releasing, renewing, taking};
    pub use crate::mail::outbox;
    pub use crate::model::ids::{JobId, RecruiterId, UserId};
    pub use crate::model::names::{JOB_RUNS, ROLES, SIRET_CACHE, WatchedCollection};
    pub use crate::model::offer::Offer;
    pub use crate::model::recruiter::{Job, Recruiter};
    pub use crate::model::references::{Cfa, References, RomeSheet, User};
    pub use crate::model::user_id::spellings;
    pub use crate::mongo::causal::CausalDatabase;
    pub use crate::mongo::reads::documents;
    pub use crate::observe::metrics::Metrics;
    pub use crate::phase::state::{Current, PhaseChange, step};
    pub use crate::phase::step_conditions::{Condition, LastVerification, StepFacts, conditions};
    pub use crate::phase::watcher::Followed;
    pub use crate::phase::{Phase, StepDirection, StreamWrites};
    pub use crate::plan::{Plan, Touch, plan};
    pub use crate::project::diff::{OfferChange, compare};
    pub use crate::project::newest_wins::unless_newer;
    pub use crate::project::offer::project;
    pub use crate::project::settings::ProjectionSettings;
    pub use crate::project::written_fields::WRITTEN;
    pub use crate::project::{Unprojection, new_job, new_recruiter, unproject};
    pub use crate::schedule::{Schedule, zone};
    pub use crate::setup::new_fields::NEW;
    pub use crate::source::event::{DocumentKey, Event, Operation};
    pub use crate::ticker::job::TimedJob;
    pub use crate::ticker::jobs::remind_expiring_offers::Threshold;
    pub use crate::ticker::jobs::{
        analyze_closed_companies, anonymize_inactive_users, anonymize_orphans, anonymize_user, cancel_expired_offers,
        cap_offer_expirations, fill_missing_start_dates, refresh_pending_establishments, repair_offer_data,
        report_duplicate_recruiters, send_introductions,
    };
    pub use crate::ticker::ledger;
    pub use crate::ticker::ledger::{ByHand, LedgerEntry};
    pub use crate::ticker::write_access::{OfferWriteLock, WriteAccess};
    pub use crate::verify::report::VerificationReport;
    pub use crate::verify::stored;
    pub use crate::write::command_limit::{Begins, cluster_end, fence, limits};
    pub use crate::write::create::{WORTH_IT, create};
    pub use crate::write::fence_document::{not_later, passing_fence};
    pub use crate::write::lease_check::Validity;
    pub use crate::write::statements::{Creation, Statement, cancel_removed, of_change};
    pub use crate::write::transaction::{Fence, Transaction};
    pub use crate::write::{Writer, update_command};
}
