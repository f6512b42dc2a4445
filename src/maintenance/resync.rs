//! The resync (spec 03) notes documents whose `_id` is no ObjectId, touches every recruiter, and then handles removals.
//! A resync runs in steps beside the live stream, through the same pipeline, and needs constant memory. Its progress is
//! stored, so a crash costs one step.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use mongodb::Database;
use tracing::info;

use super::gaps;
use super::resync_stage::ResyncStage;
use super::{other_ids, retry_dead_letters};
use crate::apply::affected_recruiters;
use crate::apply::executor::{Apply, Dated};
use crate::apply::removal::RemovedJob;
use crate::clock;
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::links;
use crate::interruption::{Interruption, Unfinished};
use crate::model::ids::{JobId, RecruiterId, typed};
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::state_id::RESYNC;
use crate::model::other_id::OtherId;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::observe::facts::TouchOrigin;
use crate::observe::metrics::Metrics;
use crate::phase::StreamWrites;
use crate::plan::Touch;
use crate::source::scan;
use crate::write::dead_letters::EventPosition;
use crate::write::{Writer, update_command};

/// The cause of the resync at the very first start.
pub(crate) const FIRST_START: &str = "first start";

/// The position inside [`ResyncStage::Others`].
#[derive(Debug)]
enum Other {
    /// Scans the documents after this `_id`.
    Scan(Option<OtherId>),
    /// Rechecks the documents of dead letters after this key.
    Recheck(Option<String>),
}

/// The document `resync`. It exists until the resync is finished. Every field may be missing: other versions wrote other
/// ones.
#[derive(Debug)]
pub(crate) struct StoredResync {
    /// The name of the stage.
    pub stage: Option<String>,
    /// The last `_id` that is done in this stage.
    pub after: Option<Bson>,
    pub began: Option<DateTime>,
    cause: Option<String>,
    id: Option<ObjectId>,
    again: bool,
}

impl StoredResync {
    /// Reads the resync that is not finished; `None` if no resync is running.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn read(database: &Database) -> Result<Option<Self>, Failure> {
        let state = collection(database, STATE);
        let stored = with_deadline(state.find_one(doc! { "_id": RESYNC })).await.map_err(Failure::Read)?;
        Ok(stored.as_ref().map(Self::of))
    }

    /// True for the resync of the very first start, which fills `jobs_partners`.
    #[must_use]
    pub(crate) fn is_first_fill(&self) -> bool {
        self.is_of(FIRST_START)
    }

    fn is_of(&self, cause: &str) -> bool {
        self.cause.as_deref() == Some(cause)
    }

    /// The collection whose documents the present stage goes through; `None` before the first stage.
    #[must_use]
    pub(crate) fn collection(&self) -> Option<&'static str> {
        ResyncStage::all().find(|stage| Some(stage.name()) == self.stage).map(ResyncStage::collection)
    }

    fn of(stored: &Document) -> Self {
        Self {
            stage: stored.get_str("stage").ok().map(ToOwned::to_owned),
            after: stored.get("after").cloned(),
            began: stored.get_datetime("began").ok().copied(),
            cause: stored.get_str("cause").ok().map(ToOwned::to_owned),
            id: stored.get_object_id("id").ok(),
            again: stored.get_bool("again").unwrap_or_default(),
        }
    }
}

/// A resync that is not finished.
#[derive(Debug)]
pub struct Resync {
    stage: ResyncStage,
    /// The last id that is done in this stage; `None` at the start of a stage.
    after: Option<ObjectId>,
    /// The position in [`ResyncStage::Others`], which goes by other ids.
    other: Other,
    /// The time of the start by the server's clock.
    pub(super) began: DateTime,
    /// The id by which gaps name the resync that repairs them.
    id: ObjectId,
    /// True if another resync must follow this one.
    again: bool,
    /// The term of the lease. An instance that lost the lease must not move the progress of its successor.
    term: i64,
}

impl Resync {
    /// Stores a new resync. A resync that is running is replaced, so it begins again.
    ///
    /// # Errors
    /// As [`update_command::record`].
    pub(crate) async fn request(
        writer: &Writer,
        metrics: &Metrics,
        cause: &str,
        term: i64,
    ) -> Result<Self, Unfinished> {
        let resync = Self::begin(writer, cause, term).await?;
        metrics.resyncs.inc();
        info!(cause, "the resync starts: every recruiter is projected again");
        Ok(resync)
    }

    async fn begin(writer: &Writer, cause: &str, term: i64) -> Result<Self, Unfinished> {
        let (stage, id) = (ResyncStage::Others(WatchedCollection::Recruiters), ObjectId::new());
        let began = server_time(writer.database()).await?;
        let resync = Self { stage, after: None, other: Other::Scan(None), began, id, again: false, term };
        // A resync that begins again for the same reason is the same one to people: a step was repeated, or a leader
        // took over before its first checkpoint.
        let is_told = StoredResync::read(writer.database()).await?.is_some_and(|stored| stored.is_of(cause));
        failpoint::passed("resync");
        gaps::assign(writer, id).await?;
        let fields = doc! {
            "cause": cause, "stage": stage.name(), "after": null, "began": resync.began, "id": id, "again": false,
            "term": term,
        };
        let filter = doc! { "_id": RESYNC, "term": { "$not": { "$gt": term } } };
        // The lease fences this write. The term in the filter is not enough: when a successor finishes its resync, it
        // deletes the document, and then no term is stored.
        update_command::record(writer, STATE, filter, doc! { "$set": fields }).await?;
        if !is_told {
            writer.note(TimelineEvent::ResyncBegan { cause: cause.to_owned() });
        }
        Ok(resync)
    }

    /// Stores that another resync must follow this one.
    ///
    /// # Errors
    /// [`Failure::Write`], [`Interruption::LeaseLost`].
    pub(crate) async fn ask_again(&mut self, database: &Database) -> Result<(), Unfinished> {
        if !self.again {
            self.store(database, doc! { "again": true }).await?;
            self.again = true;
        }
        Ok(())
    }

    /// Takes over the resync that an earlier leadership did not finish, if there is one.
    ///
    /// # Errors
    /// [`Failure::Write`].
    pub(crate) async fn unfinished(database: &Database, term: i64) -> Result<Option<Self>, Failure> {
        let filter = doc! { "_id": RESYNC, "term": { "$not": { "$gt": term } } };
        let state = collection(database, STATE);
        let taken_over = state.find_one_and_update(filter, doc! { "$set": { "term": term } });
        let document = with_deadline(taken_over).await.map_err(Failure::Write)?;
        Ok(document.as_ref().map(StoredResync::of).map(|stored| {
            let stage = ResyncStage::all().find(|stage| Some(stage.name()) == stored.stage);
            Self {
                stage: stage.unwrap_or(ResyncStage::Recruiters),
                after: stored.after.as_ref().and_then(Bson::as_object_id),
                other: Other::Scan(OtherId::from_stored(stored.after.as_ref())),
                began: stored.began.unwrap_or_else(clock::now),
                id: stored.id.unwrap_or_else(ObjectId::new),
                again: stored.again,
                term,
            }
        }))
    }

    /// Stores progress. Fails with [`Interruption::LeaseLost`] if a later term has taken the resync over.
    async fn store(&self, database: &Database, fields: Document) -> Result<(), Unfinished> {
        let mine = doc! { "_id": RESYNC, "term": self.term };
        let state = collection(database, STATE);
        let stored = with_deadline(state.update_one(mine, doc! { "$set": fields })).await.map_err(Failure::Write)?;
        match stored.matched_count {
            0 => Err(Interruption::LeaseLost.into()),
            _ => Ok(()),
        }
    }

    /// True once every recruiter was touched, so that the links name every job.
    #[must_use]
    pub(crate) fn has_completed_links(&self) -> bool {
        !matches!(self.stage, ResyncStage::Others(_) | ResyncStage::Recruiters)
    }

    /// Does one step. Returns true when the resync is finished.
    ///
    /// # Errors
    /// As [`Apply::plan`]. The step can be repeated.
    pub(crate) async fn step(&mut self, apply: &mut Apply, writer: &Writer) -> Result<bool, Unfinished> {
        let database = apply.stages.database.clone();
        if let ResyncStage::Others(collection) = self.stage {
            return self.other(collection, apply, writer).await;
        }
        let filter = match self.stage {
            ResyncStage::Mirror if !apply.stages.mirrors() => return self.next_stage(writer).await,
            ResyncStage::Offers | ResyncStage::Mirror => doc! { "partner_label": &apply.stages.settings.partner_label },
            _ => Document::new(),
        };
        let ids = match self.stage {
            ResyncStage::DeadLettersOfRecruiters => {
                let gone = retry_dead_letters::of_removed_recruiters(apply, self.after.map(RecruiterId)).await?;
                gone.into_iter().map(ObjectId::from).collect()
            }
            ResyncStage::DeadLettersOfOffers => {
                let offers = retry_dead_letters::of_offers(apply, self.after.map(JobId));
                offers.into_iter().map(ObjectId::from).collect()
            }
            _ => {
                scan::ids_after(
                    &database,
                    self.stage.collection(),
                    &filter,
                    self.after,
                    apply.stages.throttle.step_size(scan::STEP),
                )
                .await?
            }
        };
        let Some(last) = ids.last() else {
            return self.next_stage(writer).await;
        };
        let last = *last;
        if self.stage == ResyncStage::Recruiters && self.after.is_none() {
            // A resync follows missed events, so cached references may be outdated.
            apply.stages.references.clear();
        }
        self.handle(&ids, apply).await?;
        self.after = Some(last);
        self.store(&database, doc! { "after": last }).await?;
        Ok(false)
    }

    async fn other(
        &mut self,
        collection: WatchedCollection,
        apply: &mut Apply,
        writer: &Writer,
    ) -> Result<bool, Unfinished> {
        let is_read =
            collection == WatchedCollection::Offers || apply.stages.phase.watched(false).contains(&collection);
        match &self.other {
            Other::Scan(None) if !is_read => {
                return self.next_stage(writer).await;
            }
            Other::Scan(after) => {
                let filter = other_ids::filter(collection, &apply.stages.settings.partner_label);
                let position = EventPosition::of_scan(self.began);
                let (last, _) = apply.note_others(collection, &filter, after.as_ref(), &position).await?;
                let position = last.as_ref().map(OtherId::to_stored);
                self.other = last.map_or(Other::Recheck(None), |last| Other::Scan(Some(last)));
                if let Some(after) = position.filter(|position| scan::is_storable(Some(position))) {
                    self.store(&apply.stages.database, doc! { "after": after }).await?;
                }
            }
            Other::Recheck(after) => match apply.recheck_others(collection, after.as_deref(), |_| true).await?.last {
                Some(last) => self.other = Other::Recheck(Some(last)),
                None => return self.next_stage(writer).await,
            },
        }
        apply.stages.count_dead_letters();
        Ok(false)
    }

    async fn next_stage(&mut self, writer: &Writer) -> Result<bool, Unfinished> {
        let database = writer.database();
        match self.stage.after() {
            Some(stage) => {
                self.stage = stage;
                self.after = None;
                self.other = Other::Scan(None);
                self.store(database, doc! { "stage": stage.name(), "after": null }).await?;
                Ok(false)
            }
            None => {
                gaps::repair(writer, self.id, clock::now()).await?;
                if self.again {
                    *self = Self::begin(writer, "asked for while another one ran", self.term).await?;
                    return Ok(false);
                }
                let finished = doc! { "_id": RESYNC, "term": self.term };
                with_deadline(collection(database, STATE).delete_one(finished)).await.map_err(Failure::Write)?;
                Ok(true)
            }
        }
    }

    async fn handle(&self, ids: &[ObjectId], apply: &mut Apply) -> Result<(), Unfinished> {
        let position = EventPosition::of_scan(self.began);
        let phase = apply.stages.phase;
        match self.stage {
            ResyncStage::Others(_) => Ok(()),
            ResyncStage::Mirror => {
                let ids: BTreeSet<JobId> = ids.iter().copied().map(JobId).collect();
                Box::pin(apply.stages.mirror(&ids, &BTreeSet::new(), &position)).await
            }
            ResyncStage::DeadLettersOfRecruiters => retry_dead_letters::recruiters(apply, &typed(ids), &position).await,
            ResyncStage::DeadLettersOfOffers => retry_dead_letters::offers(apply, &typed(ids), &position).await,
            // In `retired` recruiters are not read any more, and the collection may be gone.
            ResyncStage::Recruiters | ResyncStage::Links if phase.stream() == StreamWrites::Closed => Ok(()),
            ResyncStage::Recruiters => {
                let touches: BTreeMap<RecruiterId, Touch> =
                    ids.iter().map(|id| (RecruiterId(*id), Touch::All)).collect();
                apply.stages.metrics.touched(TouchOrigin::Resync, touches.len() as u64);
                apply.touch(&touches, &position).await.map(drop)
            }
            ResyncStage::Links => apply.delete(&self.dated(typed(ids)), &position).await,
            ResyncStage::Anonymized => {
                let mut ids: Vec<RecruiterId> = typed(ids);
                let present = apply.present(&ids).await?;
                ids.retain(|id| !present.contains(id));
                apply.anonymize(&self.dated(ids), &position).await
            }
            ResyncStage::Offers => {
                let ids: Vec<JobId> = typed(ids);
                let managed = affected_recruiters::offers_of_gone_users(&apply.stages.database, &ids).await?;
                apply.anonymize_managed(managed.anonymized, &position).await?;
                apply.stages.cancel_deactivated(managed.deactivated, &position).await?;
                match phase.stream() {
                    StreamWrites::Always => self.cancel_orphans(&ids, apply, &position).await,
                    // Applications write offers themselves in these phases, so an offer may exist without a recruiter.
                    StreamWrites::UnlessNewer | StreamWrites::Compare | StreamWrites::Closed => Ok(()),
                }
            }
        }
    }

    /// Cancels offers that are in no link. An offer that is younger than the resync is left alone: the event of its
    /// recruiter may still come.
    async fn cancel_orphans(
        &self,
        ids: &[JobId],
        apply: &mut Apply,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let old: BTreeSet<JobId> = ids.iter().copied().filter(|id| id.0.timestamp() < self.began).collect();
        let held = links::owners(&apply.stages.database, &old).await?;
        let orphans = old.into_iter().filter(|offer| !held.contains_key(offer));
        let removals: Vec<RemovedJob> = orphans.map(|offer| RemovedJob::offer(offer, self.began)).collect();
        apply.stages.cancel(&removals, position).await.map(drop)
    }

    fn dated(&self, ids: Vec<RecruiterId>) -> Dated {
        ids.into_iter().map(|id| (id, self.began)).collect()
    }
}
