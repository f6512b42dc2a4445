//! An offer as the projection gives it (spec 02), before its comparison with the existing offer.
//! The type does not know how offers are written.

use std::sync::Arc;

use bson::{DateTime, RawBson, RawDocumentBuf};

use super::TargetSchema;
use super::ids::JobId;

/// The name of this service in history entries (spec 02).
pub(crate) const GRANTED_BY: &str = "stream-processor";
/// The reason that job 4.6 gives in history entries.
pub(crate) const ESTABLISHMENT_VERIFIED: &str = "établissement vérifié";
/// The reason that job 4.15 gives in history entries.
pub(crate) const RECRUITER_STATUS_SYNCED: &str = "recruiter status synchronised";

/// The values of `offer_status` (spec 02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferStatus {
    Active,
    Filled,
    Cancelled,
    /// The job waits for a confirmation. Older schemas of the target do not have this status (spec 09, "The target's
    /// schema decides").
    Pending,
}

impl OfferStatus {
    /// The value as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Filled => "Filled",
            Self::Cancelled => "Cancelled",
            Self::Pending => "Pending",
        }
    }

    /// Reads a stored value; `None` for any other text.
    #[must_use]
    pub(crate) fn read(text: &str) -> Option<Self> {
        [Self::Active, Self::Filled, Self::Cancelled, Self::Pending].into_iter().find(|status| status.as_str() == text)
    }

    /// True when people can apply, or could after a confirmation.
    #[must_use]
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::Pending)
    }
}

/// The result of one projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The `_id` of the job and of the offer.
    pub id: JobId,
    /// Every field "written at every projection" except `_id` and those that the schema omits, in the table's order.
    pub fields: RawDocumentBuf,
    /// `workplace_description` of a new offer: the job's `job_employer_description`, or null. An existing offer keeps
    /// its own, because other processes write it too.
    pub workplace_description: RawBson,
    /// The value of `offer_status` in `fields`.
    pub status: OfferStatus,
    /// The history entry that is added if this projection changes the status.
    pub status_change: StatusChange,
    /// The job's `job_update_date`: the last change of this very job.
    pub job_updated: Option<DateTime>,
    /// The schema of the target for which this offer is made.
    pub schema: Arc<TargetSchema>,
    /// True when `fields` has the anonymised contact, because the managing user is anonymised (spec 03).
    pub hides_contact: bool,
    /// The same offer without its contact and cancelled, where `managed_by` names a user that does not exist; `None`
    /// otherwise.
    pub if_deleted: Option<Box<Self>>,
}

/// Reason and date of a status change (spec 02, "`offer_status_history`").
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    /// The job's `job_status_comment`. A job without one has the cause of the change here.
    pub reason: String,
    /// The later of `job_update_date` and the recruiter's `updatedAt`, else `created_at`. The date of the user's status
    /// takes its place where that date is later and the user's status may have changed the offer's.
    pub date: DateTime,
}

#[cfg(test)]
impl Offer {
    /// Makes an active offer with these fields. Its `_id` is the same each time.
    pub(crate) fn with_fields(fields: RawDocumentBuf) -> Self {
        Self {
            id: JobId(bson::oid::ObjectId::from_bytes([7; 12])),
            fields,
            workplace_description: RawBson::Null,
            status: OfferStatus::Active,
            status_change: StatusChange { reason: String::new(), date: DateTime::from_millis(0) },
            job_updated: None,
            schema: Arc::default(),
            hides_contact: false,
            if_deleted: None,
        }
    }
}
