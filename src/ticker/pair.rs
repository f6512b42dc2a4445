//! An offer beside the job that it was projected from, and what a job of the ticker wants to become of both. Pure.

use bson::{DateTime, Document, RawBsonRef, RawDocument, oid::ObjectId};

use super::report::ReportLine;
use crate::model::{OfferStatus, value};

/// The fields that a plan looks at; `_id` and the times of the last change are always there.
#[derive(Debug, Clone, Copy, Default)]
pub struct PairFields {
    /// Of the offer.
    pub offer: &'static [&'static str],
    /// Of the job.
    pub job: &'static [&'static str],
    /// Of the recruiter.
    pub recruiter: &'static [&'static str],
}

/// An offer, and its job where a recruiter holds it.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// Its `_id`, which is the job's too.
    pub id: ObjectId,
    /// The offer, with the fields that were asked for.
    pub offer: &'a RawDocument,
    /// Its job; `None` from phase `shadow` on, and for an offer that no recruiter holds.
    pub held: Option<OwnedJob<'a>>,
    /// In `dual-write` an offer that is newer than its recruiter wins (spec 04).
    pub newest_wins: bool,
}

/// A job in its recruiter.
#[derive(Debug, Clone, Copy)]
pub struct OwnedJob<'a> {
    /// The recruiter, with the fields that were asked for.
    pub recruiter: &'a RawDocument,
    /// The job, with the fields that were asked for.
    pub job: &'a RawDocument,
}

/// What becomes of a pair.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairVerdict {
    /// What is written.
    pub edit: Option<Edit>,
    /// Why nothing is, a word; it is counted.
    pub skipped: Option<&'static str>,
    /// What else is to be told.
    pub lines: Vec<ReportLine>,
}

/// A change of an offer and, where `recruiters` counts, of the same thing there. Both must project to the same, so that
/// the change event that comes back writes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Fields of the offer, with their new values.
    pub offer: Document,
    /// A new `offer_status`, with the reason and the date of its history entry.
    pub status: Option<(OfferStatus, &'static str, DateTime)>,
    /// Fields of the job.
    pub job: Document,
    /// Fields of the recruiter itself.
    pub recruiter: Document,
}

impl PairVerdict {
    /// Writes this.
    #[must_use]
    pub fn edit(edit: Edit) -> Self {
        Self { edit: Some(edit), ..Self::default() }
    }

    /// Writes nothing, for this reason.
    #[must_use]
    pub fn skip(reason: &'static str) -> Self {
        Self { skipped: Some(reason), ..Self::default() }
    }
}

impl Edit {
    /// The same value under two names: of a field of the offer, and of one of the job.
    #[must_use]
    pub fn both(offer_field: &str, job_field: &str, value: impl Into<bson::Bson>) -> Self {
        let value = value.into();
        let (mut offer, mut job) = (Document::new(), Document::new());
        offer.insert(offer_field, value.clone());
        job.insert(job_field, value);
        Self { offer, job, ..Self::default() }
    }

    /// The names of the offer's fields that it changes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let status = self.status.map(|_| "offer_status");
        self.offer.keys().map(String::as_str).chain(status)
    }
}

impl<'a> Pair<'a> {
    /// A field of the offer; `None` for null and missing.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<RawBsonRef<'a>> {
        value::field(self.offer, name)
    }

    /// A date of the offer.
    #[must_use]
    pub fn date(&self, name: &str) -> Option<DateTime> {
        self.field(name).and_then(RawBsonRef::as_datetime)
    }

    /// False where the job says something else than the offer and may be right: an event that is still to come will
    /// settle it, and the next run goes by that.
    #[must_use]
    pub fn agrees(&self, offer_field: &str, job_field: &str) -> bool {
        let Some(held) = self.held else { return true };
        let same = match (self.field(offer_field), value::field(held.job, job_field)) {
            (Some(offer), Some(job)) => value::same(offer, job),
            (None, None) => true,
            _ => false,
        };
        same || self.newest_wins && self.is_newer(held)
    }

    fn is_newer(&self, held: OwnedJob<'_>) -> bool {
        let own = |document, name| value::field(document, name).and_then(RawBsonRef::as_datetime);
        let projected = own(held.job, "job_update_date").or_else(|| own(held.recruiter, "updatedAt"));
        self.date("updated_at").is_some_and(|offer| projected.is_none_or(|projected| offer > projected))
    }
}
