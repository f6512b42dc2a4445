//! Actions and reasons of dead letters (spec 02; spec 03, "Dead letters").
//! Both are stored, and reasons label metrics. So they never carry values of documents.

/// The action that failed. A retry repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
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
    /// The mirroring of an offer into its recruiter.
    Mirror,
}

impl Action {
    pub(crate) const ALL: [Self; 6] =
        [Self::Project, Self::Cancel, Self::AnonymizeRecruiter, Self::AnonymizeUser, Self::CancelOfUser, Self::Mirror];

    /// True when the dead letter of this action stays, whether `other` fails or succeeds on the same document.
    /// A failed anonymisation outlives other actions, because the contact of a person may be left.
    #[must_use]
    pub(crate) fn outlives(self, other: Self) -> bool {
        let anonymizes = |action| matches!(action, Self::AnonymizeRecruiter | Self::AnonymizeUser);
        anonymizes(self) && !anonymizes(other)
    }

    /// The name of the action in the stored dead letter.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Cancel => "cancel",
            Self::AnonymizeRecruiter => "anonymize_recruiter",
            Self::AnonymizeUser => "anonymize_user",
            Self::CancelOfUser => "cancel_of_user",
            Self::Mirror => "mirror",
        }
    }

    /// The action stored under `name`, else [`Action::Project`]: dead letters of 1.0.0 name no action.
    #[must_use]
    pub(crate) fn from_stored(name: &str) -> Self {
        Self::ALL.into_iter().find(|action| action.as_str() == name).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The recruiter is delegated, and `cfas` has no document with its `cfa_delegated_siret`.
    MissingCfa,
    /// The recruiter is delegated, and its `managed_by` names no user.
    MissingCfaUser,
    /// A document that the projection refers to is not valid BSON. The detail names the document.
    UndecodableReference,
    /// `job_status` is missing or not in the table (spec 02).
    UnknownJobStatus,
    /// Another job has the same `_id` and owns the offer.
    DuplicateJobId,
    /// A job without an ObjectId as `_id` cannot become an offer.
    InvalidJobId,
    /// The document's `_id` is no ObjectId, or its bytes are not valid BSON.
    Undecodable,
    /// The offer fails the document validation of the server (121).
    RefusedByValidation,
    /// The geo index of the server does not take the position of the establishment (16755).
    RefusedByGeoIndex,
    /// The offer is larger than 16 MB (10334, 17419, 17420).
    TooLarge,
    /// Another offer has the same `{partner_label, partner_job_id}` (11000).
    DuplicateOffer,
    /// The write of this one document repeatedly takes longer than the lease allows.
    TooSlow,
    /// The offer stands under another label, so it is not ours to write.
    OtherLabel,
    /// Another writer repeatedly changed the offer between its comparison and its write.
    Overtaken,
    /// Fields of the offer cannot come back to its recruiter and its job. The detail names the fields.
    NotInvertible,
    /// The server refused the offer for another reason. The detail has the error code.
    RefusedByServer,
}

impl Reason {
    /// Every reason. Metrics begin with all of these labels, before there is a dead letter.
    pub const ALL: [Self; 16] = [
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
        Self::OtherLabel,
        Self::Overtaken,
        Self::NotInvertible,
        Self::RefusedByServer,
    ];

    /// The name of the reason in stored dead letters and in labels of metrics.
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
            Self::OtherLabel => "other_label",
            Self::Overtaken => "overtaken",
            Self::NotInvertible => "not_invertible",
            Self::RefusedByServer => "refused_by_server",
        }
    }

    /// A sentence for the operator: the meaning of the reason and its remedy.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::MissingCfa => {
                "the recruiter is delegated, and cfas has no document with its cfa_delegated_siret: add it, or correct the \
                 recruiter; the change triggers a retry"
            }
            Self::MissingCfaUser => {
                "the recruiter is delegated, and its managed_by names no user: correct it; the change triggers a retry"
            }
            Self::UndecodableReference => {
                "the document that the detail names is not valid BSON: insert it again; the change triggers a retry"
            }
            Self::DuplicateJobId => {
                "another job has the same _id, and the offer shows that job: give this job a new _id in recruiters"
            }
            Self::UnknownJobStatus => "the job's job_status is missing or unknown: correct it in recruiters",
            Self::InvalidJobId => {
                "the job's _id is no ObjectId, so it cannot become an offer: give it one in recruiters"
            }
            Self::Undecodable => "the document's _id is no ObjectId, or its bytes are not valid BSON: insert it again",
            Self::RefusedByValidation => {
                "the validator of jobs_partners refuses the offer: run `stream-processor setup` (new fields), else correct \
                 the recruiter, then `dead-letters retry`"
            }
            Self::RefusedByGeoIndex => "the establishment has no valid geographic position: correct it in recruiters",
            Self::TooLarge => "the offer is larger than 16 MB: shorten the job in recruiters",
            Self::DuplicateOffer => {
                "another offer has the same partner_label and partner_job_id: remove that offer, then `dead-letters retry`"
            }
            Self::TooSlow => {
                "the server could not change this one document in time: look for a transaction that locks it \
                 (`currentOp`), or for a very large document; the service retries it"
            }
            Self::OtherLabel => {
                "the offer stands under another partner_label, and the service never changes a label: give the offer \
                 the label of target.partner_label, or remove the offer, then `dead-letters retry`"
            }
            Self::Overtaken => {
                "another writer changed the offer each time between its comparison and its write: nothing to do, the \
                 service retries it"
            }
            Self::NotInvertible => {
                "recruiters cannot hold what the offer says in the fields that the detail names, or other offers of the \
                 recruiter say something else there: correct the offers, or accept that these fields exist in \
                 jobs_partners alone; a change of the offer triggers a retry"
            }
            Self::RefusedByServer => "the server refused the offer; its code is in the detail: see the server's log",
        }
    }

    /// True when the write failed, not the projection.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        match self {
            Self::MissingCfa
            | Self::MissingCfaUser
            | Self::UndecodableReference
            | Self::UnknownJobStatus
            | Self::DuplicateJobId
            | Self::InvalidJobId
            | Self::Undecodable
            | Self::NotInvertible => false,
            Self::RefusedByValidation
            | Self::RefusedByGeoIndex
            | Self::TooLarge
            | Self::DuplicateOffer
            | Self::TooSlow
            | Self::OtherLabel
            | Self::Overtaken
            | Self::RefusedByServer => true,
        }
    }

    /// True when the projection made no offer. A job that is only not the owner of its `_id` has one.
    #[must_use]
    pub(crate) fn is_of_no_projection(self) -> bool {
        !self.is_refusal() && !matches!(self, Self::DuplicateJobId | Self::NotInvertible)
    }

    /// The reason stored under `name`. An unknown name comes from a newer version and counts as
    /// [`Reason::RefusedByServer`].
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::RefusedByServer)
    }
}
