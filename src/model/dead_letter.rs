//! Why a document cannot be projected or written (spec 02; spec 03, "Dead letters").
//! Reasons are data: they label metrics and are stored, so they never carry values of documents.

/// What failed, so that a retry can repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Action {
    /// The projection of a recruiter or a job, and its write.
    #[default]
    Project,
    /// The cancellation of an offer whose job is gone.
    Cancel,
    /// The anonymisation of an offer whose recruiter was anonymised.
    AnonymizeRecruiter,
    /// The anonymisation of an offer whose managing user was anonymised or is gone.
    AnonymizeUser,
    /// The cancellation of an offer whose managing user is deactivated.
    CancelOfUser,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Project, Self::Cancel, Self::AnonymizeRecruiter, Self::AnonymizeUser, Self::CancelOfUser];

    /// True when the letter about it must outlive whatever became of the other one: the contact of a person may be left.
    #[must_use]
    pub fn outlives(self, other: Self) -> bool {
        let anonymizes = |action| matches!(action, Self::AnonymizeRecruiter | Self::AnonymizeUser);
        anonymizes(self) && !anonymizes(other)
    }

    /// The name under which it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Cancel => "cancel",
            Self::AnonymizeRecruiter => "anonymize_recruiter",
            Self::AnonymizeUser => "anonymize_user",
            Self::CancelOfUser => "cancel_of_user",
        }
    }

    /// The action stored under `name`; letters of 1.0.0 name none, and are read as of a projection.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        Self::ALL.into_iter().find(|action| action.as_str() == name).unwrap_or_default()
    }
}

/// The reason of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Delegated, and `cfas` has no document with this `cfa_delegated_siret`.
    MissingCfa,
    /// Delegated, and `managed_by` names no user.
    MissingCfaUser,
    /// A document that the projection refers to is there and is not valid BSON; the detail names it.
    UndecodableReference,
    /// `job_status` is missing or none of the table's (spec 02).
    UnknownJobStatus,
    /// Another job has this `_id` too, and the offer is that one's.
    DuplicateJobId,
    /// A job without an ObjectId as `_id` cannot become an offer.
    InvalidJobId,
    /// The document's `_id` is no ObjectId, or its bytes are not valid BSON.
    Undecodable,
    /// The server refused the offer: document validation (121).
    RefusedByValidation,
    /// The server refused the offer: it cannot index the position (16755).
    RefusedByGeoIndex,
    /// The server refused the offer: larger than 16 MB (10334, 17419, 17420).
    TooLarge,
    /// The server refused the offer: another offer has its `{partner_label, partner_job_id}` (11000).
    DuplicateOffer,
    /// The server needs longer for this one document than the lease allows, again and again.
    TooSlow,
    /// Somebody else changed the offer between its comparison and its write, again and again.
    Overtaken,
    /// The server refused the offer for another reason; the code is in the detail.
    RefusedByServer,
}

impl Reason {
    /// Every reason, for metrics that must exist before the first dead letter does.
    pub const ALL: [Self; 14] = [
        Self::MissingCfa,
        Self::MissingCfaUser,
        Self::UndecodableReference,
        Self::UnknownJobStatus,
        Self::DuplicateJobId,
        Self::InvalidJobId,
        Self::Undecodable,
        Self::RefusedByValidation,
        Self::RefusedByGeoIndex,
        Self::TooLarge,
        Self::DuplicateOffer,
        Self::TooSlow,
        Self::Overtaken,
        Self::RefusedByServer,
    ];

    /// The name under which it is stored and counted.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingCfa => "missing_cfa",
            Self::MissingCfaUser => "missing_cfa_user",
            Self::UndecodableReference => "undecodable_reference",
            Self::UnknownJobStatus => "unknown_job_status",
            Self::DuplicateJobId => "duplicate_job_id",
            Self::InvalidJobId => "invalid_job_id",
            Self::Undecodable => "undecodable",
            Self::RefusedByValidation => "refused_by_validation",
            Self::RefusedByGeoIndex => "refused_by_geo_index",
            Self::TooLarge => "too_large",
            Self::DuplicateOffer => "duplicate_offer",
            Self::TooSlow => "too_slow",
            Self::Overtaken => "overtaken",
            Self::RefusedByServer => "refused_by_server",
        }
    }

    /// What it means, and what to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::MissingCfa => {
                "the recruiter is delegated, and cfas has no document with its cfa_delegated_siret: add it, or correct the \
                 recruiter; the change itself tries again"
            }
            Self::MissingCfaUser => {
                "the recruiter is delegated, and its managed_by names no user: correct it; the change itself tries again"
            }
            Self::UndecodableReference => {
                "the document that the detail names is not valid BSON: insert it anew; the change itself tries again"
            }
            Self::DuplicateJobId => {
                "another job has the same _id, and the offer shows that one: give this one an _id of its own in recruiters"
            }
            Self::UnknownJobStatus => "the job's job_status is missing or unknown: correct it in recruiters",
            Self::InvalidJobId => {
                "the job's _id is no ObjectId, so it cannot become an offer: give it one in recruiters"
            }
            Self::Undecodable => "the document's _id is no ObjectId, or its bytes are not valid BSON: insert it anew",
            Self::RefusedByValidation => {
                "the validator of jobs_partners refuses the offer: run `stream-processor setup` (new fields), else correct \
                 the recruiter, then `dead-letters retry`"
            }
            Self::RefusedByGeoIndex => "the position of the establishment is none on Earth: correct it in recruiters",
            Self::TooLarge => "the offer is larger than 16 MB: shorten the job in recruiters",
            Self::DuplicateOffer => {
                "another offer has its partner_label and partner_job_id: remove that one, then `dead-letters retry`"
            }
            Self::TooSlow => {
                "the server could not change this one document in time, while it took others: look for a transaction that \
                 holds it (`currentOp`), or for a very large document; it is tried again by itself"
            }
            Self::Overtaken => {
                "somebody else changed the offer each time between its comparison and its write: nothing to do, it is \
                 tried again by itself"
            }
            Self::RefusedByServer => "the server refused the offer; its code is in the detail: see the server's log",
        }
    }

    /// True when the server refused a write, whatever the projection thinks of the job.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        match self {
            Self::MissingCfa
            | Self::MissingCfaUser
            | Self::UndecodableReference
            | Self::UnknownJobStatus
            | Self::DuplicateJobId
            | Self::InvalidJobId
            | Self::Undecodable => false,
            Self::RefusedByValidation
            | Self::RefusedByGeoIndex
            | Self::TooLarge
            | Self::DuplicateOffer
            | Self::TooSlow
            | Self::Overtaken
            | Self::RefusedByServer => true,
        }
    }

    /// The reason stored under `name`; an unknown one (a newer version wrote it) is a refusal.
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::RefusedByServer)
    }
}
