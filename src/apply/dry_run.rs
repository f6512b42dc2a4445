//! What was written, and what a dry run would have written. A backfill counts; a replay keeps what each offer
//! would get, as the server itself says of a statement that is not sent.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, oid::ObjectId};

use crate::model::dead_letter::Reason;
use crate::project::diff::{self, OfferChange};
use crate::write::dead_letters::{Address, DeadLetter};

/// Offers by what was done with them since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteCounts {
    /// Created.
    pub created: u64,
    /// Changed.
    pub changed: u64,
    /// Stood as projected.
    pub unchanged: u64,
}

/// Counts of a dry run.
#[derive(Debug, Default, Clone)]
pub struct DryRun {
    /// Offers that would be created.
    pub created: u64,
    /// Offers that would be changed.
    pub changed: u64,
    /// Offers that stand as they should.
    pub unchanged: u64,
    /// Jobs that are gone: their offers would be cancelled where they are not.
    pub jobs_gone: u64,
    /// How often each field would be changed.
    pub fields: BTreeMap<String, u64>,
    /// Jobs that would be dead letters, by reason.
    pub dead_letters: BTreeMap<Reason, u64>,
    /// Offer by offer, where that is asked for.
    pub offers: Option<Rehearsed>,
}

/// What each offer would come to.
#[derive(Debug, Default, Clone)]
pub struct Rehearsed {
    /// Offers that were looked at.
    pub looked_at: BTreeSet<ObjectId>,
    /// Those of them that would be written.
    pub written: BTreeMap<ObjectId, Rewritten>,
    /// What would be dead letters.
    pub dead_letters: BTreeMap<Address, Reason>,
}

/// What one offer would get.
#[derive(Debug, Default, Clone)]
pub struct Rewritten {
    /// There is none yet.
    pub created: bool,
    /// The fields that would have another value, with that value.
    pub fields: Document,
}

impl DryRun {
    /// Counts documents whose `_id` is no ObjectId.
    pub(crate) fn add_unusable(&mut self, documents: u64) {
        if documents > 0 {
            *self.dead_letters.entry(Reason::Undecodable).or_default() += documents;
        }
    }

    /// Counts what would be dead letters.
    pub(crate) fn add_letters(&mut self, dead_letters: BTreeMap<Address, DeadLetter>) {
        dead_letters.values().for_each(|dead_letter| *self.dead_letters.entry(dead_letter.reason).or_default() += 1);
        if let Some(foreseen) = &mut self.offers {
            foreseen
                .dead_letters
                .extend(dead_letters.into_iter().map(|(address, dead_letter)| (address, dead_letter.reason)));
        }
    }

    /// Counts one offer.
    pub fn add(&mut self, change: &OfferChange) {
        match change {
            OfferChange::Create => self.created += 1,
            OfferChange::Nothing => self.unchanged += 1,
            OfferChange::Update { fields, .. } => {
                self.changed += 1;
                for name in diff::names(fields) {
                    *self.fields.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
}
