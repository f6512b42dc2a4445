//! The scan of both sides by `_id`, in constant memory. It fills a report with the differences that stayed after
//! rechecks. It only reads.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use indicatif::ProgressBar;

use super::held_jobs::HeldJobs;
use super::loss_scan::LossScan;
use super::recheck::{Rechecker, Side};
use super::report::VerificationReport;
use crate::error::Failure;
use crate::fetch::links;
use crate::maintenance::other_ids;
use crate::model::ids::{JobId, RecruiterId, typed};
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::mongo::reads::{collection, documents};
use crate::phase::sides::Sides;
use crate::source::scan;

/// The number of mismatches that wait for a recheck. Their ids and signatures take less than a megabyte.
const WAITING: usize = 20_000;

/// The filter of all documents that a full verification compares on a side.
#[must_use]
pub(super) fn all(side: Side, partner_label: &str) -> Document {
    match side {
        Side::Offers => doc! { "partner_label": partner_label },
        Side::Recruiters | Side::Anonymized => Document::new(),
    }
}

/// One scan, and the report that it fills.
#[derive(Debug)]
pub(crate) struct Scan {
    pub rechecker: Rechecker,
    /// The label of our offers.
    pub partner_label: String,
    pub report: VerificationReport,
    /// The jobs of the recruiters that were compared and had no mismatch.
    pub(super) held: HeldJobs,
    /// Counts what exists in `recruiters` alone; `None` where nobody asks.
    pub(super) losses: Option<LossScan>,
    /// Counts the documents of all sides; hidden where nobody looks.
    pub bar: ProgressBar,
}

impl Scan {
    /// Compares all recruiters, all our offers and all anonymised recruiters.
    ///
    /// # Errors
    /// A [`Failure`] that a retry does not cure.
    pub(crate) async fn everything(&mut self) -> Result<(), Failure> {
        for collection in other_ids::COLLECTIONS {
            self.others(collection).await?;
        }
        for side in Side::ALL {
            self.side(side, &all(side, &self.partner_label)).await?;
        }
        Ok(())
    }

    /// Compares the documents of one side that `filter` selects.
    ///
    /// # Errors
    /// As [`Self::everything`].
    pub(super) async fn side(&mut self, side: Side, filter: &Document) -> Result<(), Failure> {
        let database = self.rechecker.database.clone();
        let (mut after, mut waiting) = (None, BTreeMap::new());
        while !self.rechecker.stop.is_cancelled() {
            let ids = scan::ids_after(&database, side.collection(), filter, after, scan::STEP).await?;
            after = ids.last().copied();
            if after.is_none() {
                break;
            }
            let unheld = if side == Side::Offers { self.held.without(&ids) } else { ids.clone() };
            self.first_look(side, &unheld, &mut waiting).await?;
            if side == Side::Offers && self.report.full {
                // The others were compared with their recruiters.
                self.report.offers += (ids.len() - unheld.len()) as u64;
            }
            self.bar.inc(ids.len() as u64);
            if waiting.len() >= WAITING {
                self.settle(side, std::mem::take(&mut waiting)).await?;
            }
        }
        self.settle(side, waiting).await
    }

    /// Compares the recruiters and our offers that changed since this time, by their own dates, and the recruiters of
    /// these offers.
    ///
    /// # Errors
    /// As [`Self::everything`].
    pub(super) async fn since(&mut self, time: DateTime) -> Result<(), Failure> {
        let changed = scan::changed_since(time);
        self.side(Side::Recruiters, &changed).await?;
        let offers = doc! { "partner_label": &self.partner_label, "updated_at": { "$gte": time } };
        self.side(Side::Offers, &offers).await?;
        let database = self.rechecker.database.clone();
        let (mut after, mut seen) = (None, BTreeSet::new());
        while !self.rechecker.stop.is_cancelled() {
            let ids = scan::ids_after(&database, Side::Offers.collection(), &offers, after, scan::STEP).await?;
            after = ids.last().copied();
            if after.is_none() {
                break;
            }
            let owners = links::owners(&database, &ids.into_iter().map(JobId).collect()).await?;
            let new: Vec<RecruiterId> = owners.into_values().flatten().filter(|owner| seen.insert(*owner)).collect();
            // The first pass has compared the changed ones.
            let others = doc! { "_id": { "$in": new }, "$nor": [&changed] };
            self.side(Side::Recruiters, &others).await?;
        }
        Ok(())
    }

    /// Counts the documents whose `_id` is no ObjectId. They cannot be compared, and they must not go unnoticed.
    async fn others(&mut self, collection: WatchedCollection) -> Result<(), Failure> {
        let filter = other_ids::filter(collection, &self.partner_label);
        let mut after = None;
        while !self.rechecker.stop.is_cancelled() {
            let database = &self.rechecker.database;
            let others = scan::others_after(database, collection.name(), &filter, after.as_ref()).await?;
            others.iter().for_each(|other| self.report.add_unusable(collection, &other.text()));
            after = others.into_iter().last();
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Compares `count` recruiters with their offers. The server chooses the recruiters at random.
    ///
    /// # Errors
    /// As [`Self::everything`].
    pub(crate) async fn sample(&mut self, count: u32) -> Result<(), Failure> {
        let pipeline = [doc! { "$sample": { "size": i64::from(count) } }, doc! { "$project": { "_id": 1 } }];
        let recruiters = collection(&self.rechecker.database, WatchedCollection::Recruiters.name());
        let chosen = recruiters.aggregate(pipeline).allow_disk_use(true).batch().await.map_err(Failure::Read)?;
        let batches: Vec<_> = chosen.try_collect().await.map_err(Failure::Read)?;
        let mut ids = Vec::new();
        for document in documents(&batches) {
            let document = document?;
            match document.get_object_id("_id") {
                Ok(id) => ids.push(id),
                Err(_) => self.report.add_unusable(WatchedCollection::Recruiters, &OtherId::of(document).text()),
            }
        }
        let mut waiting = BTreeMap::new();
        for ids in ids.chunks(scan::STEP as usize) {
            self.first_look(Side::Recruiters, ids, &mut waiting).await?;
        }
        self.settle(Side::Recruiters, waiting).await
    }

    async fn first_look(
        &mut self,
        side: Side,
        ids: &[ObjectId],
        waiting: &mut BTreeMap<ObjectId, u64>,
    ) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let look = self.rechecker.look(side, ids).await?;
        self.held.extend(look.held);
        let report = &mut self.report;
        report.jobs += look.jobs;
        report.compared += look.compared;
        report.explained += look.explained;
        if side == Side::Recruiters {
            report.jobs_without_offer += look.jobs_without_offer;
        }
        report.closed_elsewhere.extend(look.closed_elsewhere);
        report.sides.extend(look.sides);
        if let Some(losses) = &mut self.losses {
            losses.found.extend(look.only_in_recruiters);
        }
        match side {
            Side::Recruiters => report.recruiters += ids.len() as u64,
            Side::Offers | Side::Anonymized => {}
        }
        // A full verification scans all offers. The offers of recruiters are among them and must not count twice.
        if report.full == (side == Side::Offers) {
            report.offers += look.offers;
        }
        waiting.extend(look.wrong.into_iter().map(|(id, seen)| (id, seen.signature)));
        Ok(())
    }

    async fn settle(&mut self, side: Side, waiting: BTreeMap<ObjectId, u64>) -> Result<(), Failure> {
        // A recheck waits until an instance that is behind has written its offers. Before that they are no losses.
        let waited: Vec<ObjectId> = waiting.keys().copied().collect();
        let finder = self.rechecker.comparer.losses.take();
        let report = &mut self.report;
        let (mut right, mut standing) = (Sides::default(), Sides::default());
        let settling = self.rechecker.settle(side, waiting, &mut right, |_, seen| {
            report.add(&seen.findings);
            standing.extend(seen.sides);
        });
        let moving = settling.await?;
        // What still changes is in neither sum: the two sides were not read at the same instant.
        report.sides.extend(right);
        report.sides.extend(standing);
        report.unsettled += moving.len() as u64;
        self.rechecker.comparer.losses = finder;
        if let (Side::Recruiters, Some(losses)) = (side, &mut self.losses) {
            losses.after_recheck(&typed(&waited), &self.rechecker.stop).await?;
        }
        Ok(())
    }
}
