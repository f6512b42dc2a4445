//! The names of the collections and of the documents of the service's state. The names are stored data: every version
//! must use the same ones.

/// The target: the offers of all partners.
pub const OFFERS: &str = "jobs_partners";
/// The establishments for which a user may act.
pub const ROLES: &str = "rolemanagements";
/// The answers of the company directory that the platform keeps, by SIRET.
pub const SIRET_CACHE: &str = "cache_siret";
/// The applications of candidates for offers.
pub const APPLICATIONS: &str = "applications";
/// Courses and their places.
pub const COURSES: &str = "formationcatalogues";
/// Training centres that want no e-mail.
pub const UNSUBSCRIBED: &str = "unsubscribedofs";

/// The service's own state: one document per subject, see [`state_id`].
pub const STATE: &str = "stream_processor_state";
/// The jobs of each recruiter that have offers.
pub const LINKS: &str = "stream_processor_links";
/// Documents that could not be projected or written.
pub const DEAD_LETTERS: &str = "stream_processor_dead_letters";
/// Spans of the change stream that were not read.
pub const GAPS: &str = "stream_processor_gaps";
/// Stored commands for the leader.
pub const COMMANDS: &str = "stream_processor_commands";
/// The ledger of the time-based jobs.
pub const JOB_RUNS: &str = "stream_processor_job_runs";
/// The e-mails that were sent, deferred or given up.
pub const OUTBOX: &str = "stream_processor_outbox";
/// The changes that `setup` made, so that `setup --down` can take them back.
pub const SETUP: &str = "stream_processor_setup";

/// The `_id`s of the documents of [`STATE`].
pub mod state_id {
    /// Who leads.
    pub const LEASE: &str = "lease";
    /// Who is the authority.
    pub const PHASE: &str = "phase";
    /// The term that may commit transactions, and up to when the ledger is complete.
    pub const TICKER: &str = "ticker";
    /// A resync that is not done.
    pub const RESYNC: &str = "resync";
    /// Where the stream begins, until the first checkpoint.
    pub const BEGINNING: &str = "beginning";
    /// Sources that were dropped and are not repaired.
    pub const DROPPED_SOURCES: &str = "dropped_sources";
    /// The last verification of each kind.
    pub const VERIFICATION: &str = "verification";
    /// The mark of a production database.
    pub const PRODUCTION: &str = "production";
    /// The position that was saved last, where checkpoints are files.
    pub const POSITION: &str = "position";
}

/// The states of a document of [`COMMANDS`].
pub mod command_state {
    /// Nobody has begun it.
    pub const REQUESTED: &str = "requested";
    /// The instance that leads is at it.
    pub const RUNNING: &str = "running";
    /// It has ended, done or refused.
    pub const DONE: &str = "done";
    /// Another version stored it, and this one cannot read it.
    pub const UNREADABLE: &str = "unreadable";
    /// Those of a command that is not finished.
    pub const UNFINISHED: [&str; 2] = [REQUESTED, RUNNING];
}

/// The collections that are watched. Every `match` on it is exhaustive, so a new one is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WatchedCollection {
    /// `recruiters`
    Recruiters,
    /// `anonymized_recruiters`
    AnonymizedRecruiters,
    /// `userswithaccounts`
    Users,
    /// `anonymized_userswithaccounts`
    AnonymizedUsers,
    /// `cfas`
    Cfas,
    /// `referentielromes`
    RomeSheets,
    /// `referentiel_engagement_entreprise`
    Engagements,
    /// `stream_processor_canary`
    Canary,
    /// `jobs_partners`: only a replay looks at what happened to it.
    Offers,
}

impl WatchedCollection {
    /// All that the live stream watches, in the order in which the pipeline names them.
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

    /// The collection's name in the database.
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

    /// The collection called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Offers]).find(|collection| collection.name() == name)
    }
}
