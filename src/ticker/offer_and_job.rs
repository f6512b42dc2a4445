//! The pair of an offer and the job from which it was projected, and the decision of a time-based job about both. Pure.

use bson::{DateTime, Document, RawBsonRef, RawDocument};

use super::report::ReportLine;
use crate::model::ids::JobId;
use crate::model::{OfferStatus, TargetSchema, value};
use crate::project::closing::{self, HISTORY};
use crate::project::offer_status;

/// The fields that a plan reads. `_id` and the times of the last change are always read and need not be named.
#[derive(Debug, Clone, Copy, Default)]
pub struct PairFields {
    pub offer: &'static [&'static str],
    pub job: &'static [&'static str],
    /// Fields of the recruiter itself, outside `jobs`.
    pub recruiter: &'static [&'static str],
}

/// An offer, and its job where a recruiter has it.
#[derive(Debug, Clone, Copy)]
pub struct Pair<'a> {
    /// The `_id` of the offer, and of its job.
    pub id: JobId,
    /// The offer, with the fields that [`PairFields`] names.
    pub offer: &'a RawDocument,
    /// The job; `None` from phase `shadow` on, and for an offer whose job no recruiter has.
    pub owned_job: Option<OwnedJob<'a>>,
    /// True in `dual-write`, where an offer that is newer than its recruiter wins (spec 04).
    pub newest_wins: bool,
}

/// A job and its job owner.
#[derive(Debug, Clone, Copy)]
pub struct OwnedJob<'a> {
    /// The job owner, with the fields that [`PairFields`] names.
    pub recruiter: &'a RawDocument,
    /// The job, with the fields that [`PairFields`] names.
    pub job: &'a RawDocument,
}

/// The decision about a pair. The default changes and reports nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PairVerdict {
    /// The change to write; `None` where both sides stay as they are.
    pub edit: Option<Edit>,
    /// The reason why the pair is not changed, a label such as `not_settled`. The report counts it.
    pub skipped: Option<&'static str>,
    /// More lines for the report.
    pub lines: Vec<ReportLine>,
}

/// A change of an offer and, in the phases that write `recruiters`, the same change of its job and recruiter. The
/// changed job must project to the changed offer, so that the event that comes back writes nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Edit {
    /// Fields of the offer, with their new values.
    pub offer: Document,
    /// A new `offer_status`, with the reason and the date of its history entry.
    pub status: Option<(OfferStatus, &'static str, DateTime)>,
    /// The date of a change that people can search by; `None` for marks of the service, such as that of a reminder.
    /// Where the offer is open or gets a status, the date of both sides moves to this one (spec 09, "Dates"). Else the
    /// date of the job stays: the projection would take it for an edit, and reopen an offer that somebody else closed.
    pub moved: Option<DateTime>,
    /// True to keep the offer newer than its job, because an application made it so.
    pub keeps_newer: bool,
    /// The kind of a change that the report counts apart: a label such as `archived_closed`.
    pub kind: Option<&'static str>,
    /// Fields of the job, with their new values.
    pub job: Document,
    /// Fields of the recruiter itself, with their new values.
    pub recruiter: Document,
}

impl PairVerdict {
    /// A verdict that writes this change.
    #[must_use]
    pub fn edit(edit: Edit) -> Self {
        Self { edit: Some(edit), ..Self::default() }
    }

    /// A verdict that writes nothing, for this reason.
    #[must_use]
    pub fn skip(reason: &'static str) -> Self {
        Self { skipped: Some(reason), ..Self::default() }
    }
}

impl Edit {
    /// A change that sets a field of the offer and a field of the job to the same value.
    #[must_use]
    pub fn both(offer_field: &str, job_field: &str, value: impl Into<bson::Bson>) -> Self {
        let value = value.into();
        let (mut offer, mut job) = (Document::new(), Document::new());
        offer.insert(offer_field, value.clone());
        job.insert(job_field, value);
        Self { offer, job, ..Self::default() }
    }

    /// The same change, made at `date`, of something that people can search by.
    #[must_use]
    pub fn moving(self, date: DateTime) -> Self {
        Self { moved: Some(date), ..self }
    }

    /// The same change, without a status that would open the offer of an anonymised person. Such an offer would collect
    /// applications for an address that nobody reads (spec 09, "Jobs, as they ran before"). Returns also whether it had
    /// such a status.
    #[must_use]
    pub fn without_reopening(self, pair: &Pair<'_>, anonymized_email: &str) -> (Self, bool) {
        let opens = self.status.is_some_and(|(status, ..)| status.is_open());
        let is_refused = opens && value::text(pair.field("apply_email")) == Some(anonymized_email);
        (Self { status: self.status.filter(|_| !is_refused), ..self }, is_refused)
    }

    /// True where nothing would be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.status.is_none() && self.offer.is_empty() && self.job.is_empty() && self.recruiter.is_empty()
    }

    /// The names of the changed fields of the offer.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let status = self.status.map(|_| "offer_status");
        self.offer.keys().map(String::as_str).chain(status)
    }
}

impl<'a> Pair<'a> {
    /// The value of a field of the offer; `None` where the field is null or missing.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<RawBsonRef<'a>> {
        value::field(self.offer, name)
    }

    /// True where the offer is open to applications.
    #[must_use]
    pub fn is_open(&self) -> bool {
        value::text(self.field("offer_status")).and_then(OfferStatus::read).is_some_and(OfferStatus::is_open)
    }

    /// True where the offer stays closed whatever the job says, because somebody else closed it after the last change
    /// of the job (spec 09). Needs the status and the history of the offer, and both dates of the job.
    #[must_use]
    pub fn closing_stands(&self) -> bool {
        let of_job = |name| self.owned_job.and_then(|owned| value::field(owned.job, name)).and_then(value::date);
        closing::stands(self.offer, of_job("job_update_date"), of_job("job_expiration_date"))
    }

    /// The date in a field of the offer; `None` where the field has another type.
    #[must_use]
    pub fn date(&self, name: &str) -> Option<DateTime> {
        self.field(name).and_then(RawBsonRef::as_datetime)
    }

    /// The mark that offer and job have under the same name. It is that of the job where the target's schema omits the
    /// field.
    #[must_use]
    pub(crate) fn mark(&self, name: &str, schema: &TargetSchema) -> Option<RawBsonRef<'a>> {
        if schema.omits(name) { value::field(self.owned_job?.job, name) } else { self.field(name) }
    }

    /// True when the job in `recruiters` has this mark.
    #[must_use]
    pub(crate) fn is_marked_in_job(&self, name: &str) -> bool {
        self.owned_job.is_some_and(|owned| value::field(owned.job, name).is_some())
    }

    /// True when the job in `recruiters` is not open, and the offer does not win. Needs the status of both.
    #[must_use]
    pub(crate) fn is_closed_by_job(&self) -> bool {
        self.owned_job.is_some_and(|owned| {
            let status = offer_status(value::field(owned.recruiter, "status"), value::field(owned.job, "job_status"));
            status != Ok(OfferStatus::Active) && !(self.newest_wins && self.is_newer(owned))
        })
    }

    /// True when an application gave the offer a later date than its job has, so that the offer wins in `dual-write`.
    /// Needs the history of the offer.
    #[must_use]
    pub(crate) fn is_of_application(&self) -> bool {
        let own = closing::own_date(self.field(HISTORY.as_str()), self.date("updated_at"));
        self.newest_wins && own.is_none() && self.owned_job.is_some_and(|owned| self.is_newer(owned))
    }

    /// False where the job has another value than the offer and may be right. Then the event of the job is still to
    /// come: it brings the offer up to date, and the next run decides again.
    #[must_use]
    pub fn agrees(&self, offer_field: &str, job_field: &str) -> bool {
        let Some(owned_job) = self.owned_job else { return true };
        let same = match (self.field(offer_field), value::field(owned_job.job, job_field)) {
            (Some(offer), Some(job)) => value::same(offer, job),
            (None, None) => true,
            _ => false,
        };
        same || self.newest_wins && self.is_newer(owned_job)
    }

    fn is_newer(&self, owned_job: OwnedJob<'_>) -> bool {
        let own = |document, name| value::field(document, name).and_then(RawBsonRef::as_datetime);
        let projected = own(owned_job.job, "job_update_date").or_else(|| own(owned_job.recruiter, "updatedAt"));
        self.date("updated_at").is_some_and(|offer| projected.is_none_or(|projected| offer > projected))
    }
}
