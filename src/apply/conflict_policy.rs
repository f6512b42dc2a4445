//! The conflict policy: the phase decides which changes of a comparison are written (spec 04).
//! In `dual-write` the newest side wins. In `shadow` differences are counted and nothing is written.

use std::collections::{BTreeMap, BTreeSet};

use mongodb::raw_batch_cursor::RawBatch;

use super::dry_run::Projected;
use super::job_chunk::JobChunk;
use super::output::Output;
use super::stages::Stages;
use crate::error::Failure;
use crate::model::dead_letter::Reason;
use crate::model::ids::JobId;
use crate::mongo::reads::documents;
use crate::observe::facts::{ConflictWinner, ShadowResult};
use crate::phase::StreamWrites;
use crate::project::closing::if_deleted;
use crate::project::diff::{OfferChange, compare_existing};
use crate::project::newest_wins::unless_newer;
use crate::write::dead_letters::{Address, DeadLetter};

impl Stages {
    /// Reduces the changes to those that the phase lets the stream write.
    pub(crate) fn keep_what_may_be_written(
        &mut self,
        changes: &mut Vec<(JobId, OfferChange)>,
        chunk: &mut JobChunk<'_, '_>,
    ) {
        match self.phase.stream() {
            StreamWrites::Always => {}
            StreamWrites::UnlessNewer => self.leave_newer(changes, &chunk.offers),
            // A dry run reports all changes itself.
            StreamWrites::Compare | StreamWrites::Closed if self.output.is_dry_run() => {}
            StreamWrites::Compare | StreamWrites::Closed => self.only_count(std::mem::take(changes), chunk),
        }
    }

    /// Drops the changes of offers whose `updated_at` is later than the projection's, and counts them: the newest wins.
    /// The contact of an anonymised user is removed all the same.
    pub(crate) fn leave_newer(&self, changes: &mut [(JobId, OfferChange)], offers: &Projected) {
        for (id, change) in changes {
            let hides = offers.get(id).is_some_and(|(_, offer)| offer.hides_contact);
            let (kept, is_newer) = unless_newer(std::mem::replace(change, OfferChange::Nothing), hides);
            *change = kept;
            self.metrics.conflicts(ConflictWinner::Offer, is_newer.into());
        }
    }

    /// Takes the changes of offers under another label out of `changes`. Each of them has a dead letter.
    pub(crate) fn refuse_other_labels(
        changes: &mut Vec<(JobId, OfferChange)>,
        offers: &Projected,
        dead_letters: &mut BTreeMap<Address, DeadLetter>,
    ) {
        for (id, _) in changes.extract_if(.., |(_, change)| *change == OfferChange::OtherLabel) {
            if let Some((recruiter, _)) = offers.get(&id) {
                let dead_letter = DeadLetter::of_projection(Reason::OtherLabel, String::new());
                dead_letters.entry(Address::of(*recruiter, Some(id))).or_insert(dead_letter);
            }
        }
    }

    /// Counts the differences and writes nothing. A dead letter about a refused write stays while the offer differs. The
    /// mirror takes the differences up: somebody else wrote the recruiter, and the offers are the authority.
    fn only_count(&mut self, changes: Vec<(JobId, OfferChange)>, chunk: &mut JobChunk<'_, '_>) {
        for (id, change) in changes {
            let result = match &change {
                OfferChange::Create => ShadowResult::Missing,
                OfferChange::Update { .. } | OfferChange::OtherLabel => ShadowResult::Differs,
                OfferChange::Nothing => ShadowResult::Equal,
            };
            self.metrics.compared_in_shadow(result);
            if matches!(change, OfferChange::Update { .. }) && self.mirrors() {
                self.to_mirror.insert(id);
            }
            let address = chunk.offers.get(&id).map(|(recruiter, _)| Address::of(*recruiter, Some(id)));
            if let Some(address) = address.filter(|_| change != OfferChange::Nothing)
                && self.dead_letters.contains_refusal(&address)
            {
                chunk.told.looked_at.remove(&address);
            }
        }
    }

    /// Compares every projected offer with the existing one. `standing` has the existing offers that are read already.
    /// The existing offers of `rest` are read here.
    pub(crate) async fn compare_all(
        &mut self,
        offers: &mut Projected,
        mut standing: Option<Vec<RawBatch>>,
        mut rest: &[JobId],
    ) -> Result<Vec<(JobId, OfferChange)>, Failure> {
        let mut changes = Vec::with_capacity(offers.len());
        let mut stands = BTreeSet::new();
        while let Some(batches) = standing {
            for document in documents(&batches) {
                let document = document?;
                let id = document.get_object_id("_id").ok().map(JobId);
                if let Some((id, (_, offer))) = id.and_then(|id| Some((id, offers.get_mut(&id)?))) {
                    stands.insert(id);
                    if let Some(deleted) = if_deleted(offer, document) {
                        *offer = deleted.clone();
                    }
                    let (change, closing_stands) = compare_existing(offer, document);
                    self.metrics.conflicts(ConflictWinner::Closing, closing_stands.into());
                    if closing_stands && let Output::DryRun(dry_run) = &mut self.output {
                        dry_run.closed_elsewhere.insert(id);
                    }
                    changes.push((id, change));
                }
            }
            // Memory is freed before the next read: light recruiters may have heavy offers.
            drop(batches);
            standing = self.offers.read_next(&mut rest).await?;
        }
        let missing = offers.iter().filter(|(id, _)| !stands.contains(id));
        changes.extend(missing.map(|(id, _)| (*id, OfferChange::Create)));
        Ok(changes)
    }
}
