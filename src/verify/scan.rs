//! Walks both sides by `_id` in constant memory, and looks at every difference again after a settle
//! delay: only what stands still and still differs counts. Reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{Document, Timestamp, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::Database;
use tokio_util::sync::CancellationToken;

use super::look::{Look, Looker};
use super::report::Report;
use crate::error::{Directive, Failure};
use crate::fetch::{documents, raw};
use crate::retry::Delays;
use crate::run::lease::{self, STATE};
use crate::source::cursor::operation_time;
use crate::source::event::Collection as Watched;
use crate::source::{OFFERS, scan};

/// How long a difference must stand before it counts.
const SETTLE: Duration = Duration::from_secs(2);
/// A running instance that is behind is waited for, so many times [`POLL`].
const POLLS: u32 = 240;
const POLL: Duration = Duration::from_millis(250);
/// What changes this often while it is looked at is not called a difference.
const LOOKS: u32 = 5;
/// So many documents wait for their second look: their ids and signatures take less than a megabyte.
const WAITING: usize = 20_000;

/// A side that is walked by its `_id`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Recruiters,
    Offers,
    Anonymized,
}

impl Side {
    const ALL: [Self; 3] = [Self::Recruiters, Self::Offers, Self::Anonymized];

    fn collection(self) -> &'static str {
        match self {
            Self::Recruiters => Watched::Recruiters.name(),
            Self::Offers => OFFERS,
            Self::Anonymized => Watched::AnonymizedRecruiters.name(),
        }
    }
}

/// One walk, filling a report.
#[derive(Debug)]
pub struct Scan {
    /// What reads and compares.
    pub looker: Looker,
    /// Where everything is.
    pub database: Database,
    /// Our offers are those with this label.
    pub partner_label: String,
    /// This process holds the lease itself: there is no instance to wait for.
    pub is_alone: bool,
    /// What was found so far.
    pub report: Report,
    /// Ends the walk early.
    pub stop: CancellationToken,
}

impl Scan {
    /// All recruiters, all our offers, all anonymised recruiters.
    ///
    /// # Errors
    /// A [`Failure`] that trying again does not mend.
    pub async fn everything(&mut self) -> Result<(), Failure> {
        for side in Side::ALL {
            let filter = match side {
                Side::Offers => doc! { "partner_label": &self.partner_label },
                Side::Recruiters | Side::Anonymized => Document::new(),
            };
            let (mut after, mut waiting) = (None, BTreeMap::new());
            while !self.stop.is_cancelled() {
                let ids = scan::ids_after(&self.database, side.collection(), &filter, after).await?;
                after = ids.last().copied();
                if after.is_none() {
                    break;
                }
                self.first_look(side, &ids, &mut waiting).await?;
                if waiting.len() >= WAITING {
                    self.settle(side, std::mem::take(&mut waiting)).await?;
                }
            }
            self.settle(side, waiting).await?;
        }
        Ok(())
    }

    /// So many recruiters, chosen at random by the server, with their offers.
    ///
    /// # Errors
    /// As [`Self::everything`].
    pub async fn sample(&mut self, count: u32) -> Result<(), Failure> {
        let pipeline = [doc! { "$sample": { "size": i64::from(count) } }, doc! { "$project": { "_id": 1 } }];
        let recruiters = raw(&self.database, Watched::Recruiters.name());
        let chosen = recruiters.aggregate(pipeline).allow_disk_use(true).batch().await.map_err(Failure::Read)?;
        let batches: Vec<_> = chosen.try_collect().await.map_err(Failure::Read)?;
        let ids: Result<Vec<_>, Failure> =
            documents(&batches).map(|document| Ok(document?.get_object_id("_id").ok())).collect();
        let ids: Vec<ObjectId> = ids?.into_iter().flatten().collect();
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
        let look = self.look(side, ids).await?;
        let report = &mut self.report;
        report.jobs += look.jobs;
        report.compared += look.compared;
        report.explained += look.explained;
        match side {
            Side::Recruiters => report.recruiters += ids.len() as u64,
            Side::Offers | Side::Anonymized => {}
        }
        // In a full verification all offers are walked; those of recruiters are among them.
        if report.full == (side == Side::Offers) {
            report.offers += look.offers;
        }
        waiting.extend(look.wrong.into_iter().map(|(id, seen)| (id, seen.signature)));
        Ok(())
    }

    /// Looks again at what was wrong until it is right or stands still.
    async fn settle(&mut self, side: Side, mut waiting: BTreeMap<ObjectId, u64>) -> Result<(), Failure> {
        for _ in 0..LOOKS {
            if waiting.is_empty() || self.stop.is_cancelled() {
                return Ok(());
            }
            self.wait().await?;
            self.looker.forget().await?;
            let ids: Vec<ObjectId> = waiting.keys().copied().collect();
            let mut moving = BTreeMap::new();
            for ids in ids.chunks(scan::STEP as usize) {
                for (id, seen) in self.look(side, ids).await?.wrong {
                    match waiting.get(&id) == Some(&seen.signature) {
                        true => seen.findings.iter().for_each(|finding| self.report.add(finding)),
                        false => drop(moving.insert(id, seen.signature)),
                    }
                }
            }
            waiting = moving;
        }
        self.report.unsettled += waiting.len() as u64;
        Ok(())
    }

    /// The settle delay, and then until a running instance has applied what happened before it.
    async fn wait(&self) -> Result<(), Failure> {
        let seen = operation_time(&self.database).await?;
        self.pause(SETTLE).await;
        for _ in 0..POLLS {
            let leads = !self.is_alone && lease::current(&self.database).await?.is_some();
            // Without one in the database, checkpoints are in files: the delay has to do.
            let behind = checkpoint(&self.database).await?.is_some_and(|checkpoint| checkpoint < seen);
            if !leads || !behind || self.stop.is_cancelled() {
                break;
            }
            self.pause(POLL).await;
        }
        Ok(())
    }

    async fn pause(&self, time: Duration) {
        tokio::select! { () = self.stop.cancelled() => {}, () = tokio::time::sleep(time) => {} }
    }

    async fn look(&mut self, side: Side, ids: &[ObjectId]) -> Result<Look, Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            let look = match side {
                Side::Recruiters => self.looker.at_recruiters(ids).await,
                Side::Offers => self.looker.at_offers(ids).await,
                Side::Anonymized => self.looker.at_anonymized(ids).await,
            };
            match look {
                Err(failure) if failure.directive() == Directive::Retry && !self.stop.is_cancelled() => {
                    tracing::warn!(error = %failure, "tried again");
                    self.pause(delays.next_delay()).await;
                }
                look => return look,
            }
        }
    }
}

async fn checkpoint(database: &Database) -> Result<Option<Timestamp>, Failure> {
    let checkpoint = raw(database, STATE).find_one(doc! { "_id": "checkpoint" }).await.map_err(Failure::Read)?;
    Ok(checkpoint.and_then(|checkpoint| checkpoint.get_timestamp("cluster_time").ok()))
}
