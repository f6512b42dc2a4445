//! Counts of written offers, and results of a dry run. A dry run of a backfill only counts. A dry run of a replay also
//! keeps the new values of each offer, which the server computes without writing.

use std::collections::{BTreeMap, BTreeSet};

use bson::Document;

use crate::model::Offer;
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId};
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

/// Results of a dry run.
#[derive(Debug, Default, Clone)]
pub(crate) struct DryRun {
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

    /// Counts the result of one comparison.
    pub(crate) fn add(&mut self, change: &OfferChange) {
        match change {
            OfferChange::Create => self.created += 1,
            OfferChange::Nothing | OfferChange::OtherLabel => self.unchanged += 1,
            OfferChange::Update { fields, .. } => {
                self.changed += 1;
                for name in diff::names(fields) {
                    *self.fields.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
}
