//! An offer as the projection gives it (spec 02), before it is compared with what stands.
//! It must not know how it is written.

use bson::{DateTime, RawDocumentBuf, oid::ObjectId};

/// `offer_status` (spec 02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OfferStatus {
    /// `Active`
    Active,
    /// `Filled`
    Filled,
    /// `Cancelled`
    Cancelled,
}

impl OfferStatus {
    /// The value as it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Filled => "Filled",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// The outcome of one projection.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// `_id`: the job's.
    pub id: ObjectId,
    /// Every field "written at every projection" but `_id`, in the table's order.
    pub fields: RawDocumentBuf,
    /// The value of `offer_status` in `fields`.
    pub status: OfferStatus,
    /// What a history entry says if this projection changes the status.
    pub status_change: StatusChange,
    /// The contact in `fields` is the anonymised one, because the managing user was (spec 03).
    pub hides_contact: bool,
}

/// Reason and date of a status change (spec 02, "`offer_status_history`").
#[derive(Debug, Clone, PartialEq)]
pub struct StatusChange {
    /// The job's `job_status_comment` where it has one, else what caused the change.
    pub reason: String,
    /// The later of `job_update_date` and the recruiter's `updatedAt`, else `created_at`; the date of the
    /// user's status where that is later still and may have changed the offer's.
    pub date: DateTime,
}
