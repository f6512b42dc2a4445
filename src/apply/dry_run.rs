//! Counts of written offers, and results of a dry run. A dry run of a backfill only counts. A dry run of a replay also
//! keeps the new values of each offer, which the server computes without writing.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, RawDocument};

use super::dry_run_reasons::{FieldReason, FieldReasons};
use crate::model::Offer;
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::value;
use crate::observe::labels::{OFFER_STATUSES, OTHER};
use crate::project::diff::{self, OfferChange};
use crate::write::dead_letters::{Address, DeadLetter};

/// Projected offers by the id of their job, each with the id of its recruiter.
pub(crate) type Projected = BTreeMap<JobId, (RecruiterId, Offer)>;

/// Numbers of offers written since the stages were made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteCounts {
    /// Offers that did not exist.
    pub created: u64,
    /// Existing offers that got other values; cancellations and anonymisations are among them.
    pub changed: u64,
    /// Existing offers that equal their projection. Nothing was written to them.
    pub unchanged: u64,
}

impl WriteCounts {
    /// Adds what was written between two counts.
    pub(crate) fn add_since(&mut self, before: Self, now: Self) {
        self.created += now.created.saturating_sub(before.created);
        self.changed += now.changed.saturating_sub(before.changed);
        self.unchanged += now.unchanged.saturating_sub(before.unchanged);
    }
}

/// Numbers of recruiters that the mirror wrote since the stages were made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MirrorCounts {
    /// Recruiters with changed fields of their own or of their jobs.
    pub edited: u64,
    /// Recruiters that got jobs.
    pub jobs_added: u64,
    /// Recruiters that did not exist.
    pub made: u64,
}

impl MirrorCounts {
    /// Returns what was written after `before`.
    #[must_use]
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            edited: self.edited.saturating_sub(before.edited),
            jobs_added: self.jobs_added.saturating_sub(before.jobs_added),
            made: self.made.saturating_sub(before.made),
        }
    }
}

/// Results of a dry run.
#[derive(Debug, Default, Clone)]
pub(crate) struct DryRun {
    /// True for a dry run of the mirror, which counts in [`MirrorCounts`].
    pub mirrors: bool,
    /// Offers that would be created.
    pub created: u64,
    /// Existing offers whose projection differs.
    pub changed: u64,
    /// Existing offers that equal their projection.
    pub unchanged: u64,
    /// Removed jobs, whose offers would be cancelled or anonymised if they are not yet.
    pub jobs_gone: u64,
    /// The number of offers in which each field would change.
    pub fields: BTreeMap<String, u64>,
    /// The same numbers by the reason why the field would change. Only counted if the results by offer are not wanted.
    pub reasons: FieldReasons,
    /// The number of existing offers whose status would change, by the status that stands and the new one.
    pub status_changes: BTreeMap<[&'static str; 2], u64>,
    /// Offers that somebody else closed, and whose closing would stand.
    pub closed_elsewhere: BTreeSet<JobId>,
    /// The number of dead letters that would be written, by reason.
    pub dead_letters: BTreeMap<Reason, u64>,
    /// The results by offer; `None` if only counts are wanted.
    pub offers: Option<DryRunOffers>,
}

/// Results of a dry run by offer.
#[derive(Debug, Default, Clone)]
pub(crate) struct DryRunOffers {
    /// All offers of the dry run, changed or not.
    pub looked_at: BTreeSet<JobId>,
    /// The offers that would be written.
    pub written: BTreeMap<JobId, Rewritten>,
    /// The dead letters that would be written.
    pub dead_letters: BTreeMap<Address, Reason>,
}

/// The change of one offer in a dry run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Rewritten {
    /// True if the offer does not exist yet.
    pub created: bool,
    /// The fields that would change, with their new values.
    pub fields: Document,
}

impl DryRun {
    /// Counts documents whose `_id` is no ObjectId. Each of them would have a dead letter.
    pub(crate) fn add_unusable(&mut self, documents: u64) {
        if documents > 0 {
            *self.dead_letters.entry(Reason::Undecodable).or_default() += documents;
        }
    }

    /// Counts dead letters that would be written.
    pub(crate) fn add_dead_letters(&mut self, dead_letters: &BTreeMap<Address, DeadLetter>) {
        for (address, dead_letter) in dead_letters {
            *self.dead_letters.entry(dead_letter.reason).or_default() += 1;
            if let Some(foreseen) = &mut self.offers {
                foreseen.dead_letters.insert(*address, dead_letter.reason);
            }
        }
    }

    /// The reasons by field, by their names.
    #[must_use]
    pub(crate) fn reasons_by_name(&self) -> BTreeMap<&str, BTreeMap<&'static str, u64>> {
        let names = |reasons: &BTreeMap<FieldReason, u64>| {
            reasons.iter().map(|(reason, count)| (reason.as_str(), *count)).collect()
        };
        self.reasons.iter().map(|(field, reasons)| (field.as_str(), names(reasons))).collect()
    }

    /// The reasons of one field as text, such as `2 missing, 1 other_value`.
    #[must_use]
    pub(crate) fn reasons_of(&self, field: &str) -> String {
        let reasons = self.reasons.get(field).into_iter().flatten();
        reasons.map(|(reason, count)| format!("{count} {}", reason.as_str())).collect::<Vec<_>>().join(", ")
    }

    /// The changes of the status, such as `Active -> Cancelled`.
    #[must_use]
    pub(crate) fn status_changes_by_name(&self) -> BTreeMap<String, u64> {
        self.status_changes.iter().map(|([from, to], count)| (format!("{from} -> {to}"), *count)).collect()
    }

    /// Counts the result of one comparison.
    pub(crate) fn add(&mut self, change: &OfferChange) {
        match change {
            OfferChange::Create => self.created += 1,
            OfferChange::Nothing | OfferChange::OtherLabel => self.unchanged += 1,
            OfferChange::Update { fields, status_changes, stood, .. } => {
                self.changed += 1;
                if *status_changes {
                    *self.status_changes.entry([stood, fields].map(|offer| status(offer))).or_default() += 1;
                }
                for name in diff::names(fields) {
                    *self.fields.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// The status of an offer by name. A text of a document that is no status is not shown.
fn status(offer: &RawDocument) -> &'static str {
    let stored = value::text(value::field(offer, "offer_status"));
    OFFER_STATUSES.into_iter().find(|status| Some(*status) == stored).unwrap_or(OTHER)
}
