//! The names of the collections and of the documents of the service's state. The names are stored data: every version
//! must use the same ones.

/// The target: the offers of all partners.
pub(crate) const OFFERS: &str = "jobs_partners";
/// The establishments for which a user may act.
pub const ROLES: &str = "rolemanagements";
/// The answers of the company directory that the platform keeps, by SIRET.
pub const SIRET_CACHE: &str = "cache_siret";
/// The applications of candidates for offers.
pub(crate) const APPLICATIONS: &str = "applications";
/// Courses and their places.
pub(crate) const COURSES: &str = "formationcatalogues";
/// The establishments of employers, by SIRET.
pub(crate) const ESTABLISHMENTS: &str = "entreprises";
/// The contacts of delegated establishments, by the `_id`s of the establishment and of its CFA.
pub(crate) const DELEGATED: &str = "entreprise_managed_by_cfa";
/// Training centres that want no e-mail.
pub(crate) const UNSUBSCRIBED: &str = "unsubscribedofs";

/// The service's own state: one document per subject, see [`state_id`].
pub(crate) const STATE: &str = "stream_processor_state";
/// The links: the known jobs of each recruiter.
pub(crate) const LINKS: &str = "stream_processor_links";
/// Documents that could not be projected or written.
pub(crate) const DEAD_LETTERS: &str = "stream_processor_dead_letters";
/// Spans of the change stream that were not read.
pub(crate) const GAPS: &str = "stream_processor_gaps";
/// Stored commands for the leader.
pub(crate) const COMMANDS: &str = "stream_processor_commands";
/// The ledger of the time-based jobs.
pub const JOB_RUNS: &str = "stream_processor_job_runs";
/// The outbox: the state of each e-mail, without its address and content.
pub(crate) const OUTBOX: &str = "stream_processor_outbox";
/// The timeline: what happened, and when.
pub(crate) const EVENTS: &str = "stream_processor_events";
/// Signals: what operators without a shell ask for, and the answers.
pub(crate) const SIGNALS: &str = "stream_processor_signals";
/// The signs of life of all instances.
pub(crate) const INSTANCES: &str = "stream_processor_instances";
/// The writes of others to our offers, counted by minute.
pub(crate) const FOREIGN_WRITES: &str = "stream_processor_foreign_writes";
/// The changes that `setup` made, so that `setup --down` can take them back.
pub(crate) const SETUP: &str = "stream_processor_setup";

/// The `_id`s of the documents of [`STATE`].
pub(crate) mod state_id {
    /// The leader and its term.
    pub(crate) const LEASE: &str = "lease";
    /// The phase: it says which collection is the authority.
    pub(crate) const PHASE: &str = "phase";
    /// The term that may commit transactions, and the time up to which the ledger is complete.
    pub(crate) const TICKER: &str = "ticker";
    /// The progress of a resync that is not done.
    pub(crate) const RESYNC: &str = "resync";
    /// The time of the very first start, until the first checkpoint.
    pub(crate) const BEGINNING: &str = "beginning";
    /// Sources that were dropped and are not repaired.
    pub(crate) const DROPPED_SOURCES: &str = "dropped_sources";
    /// The result of the last verification of each kind.
    pub(crate) const VERIFICATION: &str = "verification";
    /// The mark of a production database.
    pub(crate) const PRODUCTION: &str = "production";
    /// The position that was saved last, where checkpoints are files.
    pub(crate) const POSITION: &str = "position";
    /// The checkpoint, where checkpoints are in MongoDB. `resume_tokens` writes this document.
    pub(crate) const CHECKPOINT: &str = "checkpoint";
    /// The tombstone. The step to `retired` writes it, and the step back removes it. While it exists, no instance
    /// writes offers from recruiters, whatever the configuration and the document `phase` say.
    pub(crate) const TOMBSTONE: &str = "tombstone";
    /// The halt of the leader after a lost position, until a person decides.
    pub(crate) const HALT: &str = "halt";
    /// The pause, until a person ends it.
    pub(crate) const PAUSE: &str = "pause";
    /// The ceiling of writes that an operator ordered, and why work is slowed.
    pub(crate) const THROTTLE: &str = "throttle";
    /// What was written to `recruiters` after the step to `retired`.
    pub(crate) const LATE_WRITES: &str = "late_writes";
    /// Lag and rates of the last hour, minute by minute, by whichever instance led.
    pub(crate) const MINUTES: &str = "minutes";
    /// The record of each `tokens import` and `tokens reset`.
    pub(crate) const TOKEN_CHANGES: &str = "token_changes";
    /// The schema of the target for which offers were written last.
    pub(crate) const TARGET_SCHEMA: &str = "target_schema";
    /// The changes that `setup` made.
    pub(crate) const SETUP_MEMORY: &str = "setup";
}

/// The states of a gap in [`GAPS`].
pub(crate) mod gap_state {
    /// No resync has repaired the gap.
    pub(crate) const OPEN: &str = "open";
    /// A resync that began after the gap has finished.
    pub(crate) const REPAIRED: &str = "repaired";
}

/// The states of a stored command in [`COMMANDS`].
pub(crate) mod command_state {
    /// No leader has begun the command.
    pub(crate) const REQUESTED: &str = "requested";
    /// The leader carries the command out.
    pub(crate) const RUNNING: &str = "running";
    /// The command has ended: carried out or refused.
    pub(crate) const DONE: &str = "done";
    /// Another version stored the command, and this one cannot read it.
    pub(crate) const UNREADABLE: &str = "unreadable";
    /// The states of commands that have not ended.
    pub(crate) const UNFINISHED: [&str; 2] = [REQUESTED, RUNNING];
}

/// The states of a signal in [`SIGNALS`]. A new signal has none.
pub(crate) mod signal_state {
    /// The signal has become a stored command.
    pub(crate) const ACCEPTED: &str = "accepted";
    /// What was asked for is done.
    pub(crate) const DONE: &str = "done";
    /// What was asked for is not done, for the reason in the answer.
    pub(crate) const REFUSED: &str = "refused";
    pub(crate) const ANSWERED: [&str; 2] = [DONE, REFUSED];
}

/// A collection whose changes are watched. Every `match` on this type is exhaustive, so the compiler names the places
/// that a new collection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchedCollection {
    Recruiters,
    /// The remains of anonymised recruiters, under the same `_id`s.
    AnonymizedRecruiters,
    Users,
    /// The remains of anonymised users, under the same `_id`s.
    AnonymizedUsers,
    /// Training centres, by SIRET.
    Cfas,
    /// Descriptions of occupations, by ROME code.
    RomeSheets,
    /// Handicap engagements of companies, by SIRET.
    Engagements,
    /// The leader's own document, written every few seconds. Its event shows that the stream moves.
    Canary,
    /// The target. A replay reads its events, and so does the live stream while the mirror is on.
    Offers,
}

impl WatchedCollection {
    /// The collections of the live stream without the mirror, in the order in which the pipeline names them.
    pub const ALL: [Self; 8] = [
        Self::Recruiters,
        Self::AnonymizedRecruiters,
        Self::Users,
        Self::AnonymizedUsers,
        Self::Cfas,
        Self::RomeSheets,
        Self::Engagements,
        Self::Canary,
    ];

    /// The collections of the live stream while the mirror is on.
    pub const WITH_OFFERS: [Self; 9] = [
        Self::Recruiters,
        Self::AnonymizedRecruiters,
        Self::Users,
        Self::AnonymizedUsers,
        Self::Cfas,
        Self::RomeSheets,
        Self::Engagements,
        Self::Canary,
        Self::Offers,
    ];

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recruiters => "recruiters",
            Self::AnonymizedRecruiters => "anonymized_recruiters",
            Self::Users => "userswithaccounts",
            Self::AnonymizedUsers => "anonymized_userswithaccounts",
            Self::Cfas => "cfas",
            Self::RomeSheets => "referentielromes",
            Self::Engagements => "referentiel_engagement_entreprise",
            Self::Canary => "stream_processor_canary",
            Self::Offers => crate::model::names::OFFERS,
        }
    }

    /// `None` when no watched collection has this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::WITH_OFFERS.into_iter().find(|collection| collection.name() == name)
    }
}
