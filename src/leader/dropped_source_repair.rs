//! Handles dropped sources: reports them, stores them across restarts, and requests a resync when they exist again.
//! [`crate::plan::dropped_sources`] decides when the resync may run.

use bson::{Bson, doc};
use mongodb::Database;
use tracing::{error, info};

use super::stream_loop::Pipeline;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::maintenance::gaps;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::state_id::DROPPED_SOURCES;
use crate::model::timeline::TimelineEvent;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::plan::dropped_sources::Dropped;
use crate::source::cursor::operation_time;
use crate::source::event::Event;

/// Loads the dropped sources that an earlier leadership stored, adds those of `before`, which this process knows, and
/// checks which of them exist now. While a gap is open, absent `recruiters` count as dropped: see
/// [`are_recruiters_absent`].
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn load(
    database: &Database,
    watched: &[WatchedCollection],
    before: impl Iterator<Item = &'static str>,
) -> Result<Dropped, Failure> {
    let stored = with_deadline(collection(database, STATE).find_one(doc! { "_id": DROPPED_SOURCES }))
        .await
        .map_err(Failure::Read)?;
    let names = stored.as_ref().and_then(|stored| stored.get_array("names").ok()).into_iter().flatten();
    let mut names: Vec<&str> = names.filter_map(Bson::as_str).collect();
    names.extend(before.map(|name| -> &str { name }));
    if gaps::is_any_open(database).await? && are_recruiters_absent(database).await? {
        names.push(WatchedCollection::Recruiters.name());
    }
    let mut dropped = Dropped::of(names, watched);
    if dropped != Dropped::default() {
        let now = operation_time(database).await?;
        let present = with_deadline(database.list_collection_names()).await.map_err(Failure::Read)?;
        for source in watched.iter().filter(|source| **source != WatchedCollection::Canary) {
            if present.iter().any(|name| name == source.name()) {
                dropped.is_there(source.name(), now.time);
            }
        }
    }
    Ok(dropped)
}

/// True while the collection `recruiters` does not exist. After a gap this is a drop that no event told of, and a resync
/// would cancel every offer.
///
/// # Errors
/// [`Failure::Read`].
async fn are_recruiters_absent(database: &Database) -> Result<bool, Failure> {
    let named = doc! { "name": WatchedCollection::Recruiters.name() };
    let present = with_deadline(database.list_collection_names().filter(named)).await.map_err(Failure::Read)?;
    Ok(present.is_empty())
}

impl Pipeline {
    /// Records that `recruiters` were dropped in a gap, if they are absent now.
    ///
    /// # Errors
    /// [`Failure::Read`], or as [`Self::store_state`].
    pub(crate) async fn note_absent_recruiters(&mut self) -> Result<(), Unfinished> {
        let source = WatchedCollection::Recruiters;
        let is_watched = self.phase.borrow().phase.watched(false).contains(&source);
        let database = self.maintenance.fence.writer.database().clone();
        if is_watched && are_recruiters_absent(&database).await? && self.dropped.note_absent(source) {
            error!(collection = source.name(), "a watched collection was dropped while its events were not read");
            self.maintenance.held = true;
            self.maintenance.fence.writer.note(TimelineEvent::SourceDropped { collection: source.name() });
            self.store_sources().await?;
        }
        Ok(())
    }

    /// Records the drops and insertions that these events tell of. Drops are stored before a checkpoint passes them.
    pub(crate) async fn note_sources(&mut self, events: &[Event]) -> Result<(), Unfinished> {
        let mut is_dropped = false;
        for event in events {
            if self.dropped.note(event) {
                is_dropped = true;
                let collection = event.collection.or(event.renamed_to).map(WatchedCollection::name);
                error!(collection, operation = event.operation.name(), "a watched collection was dropped or replaced");
                let collection = collection.unwrap_or("the database");
                self.maintenance.fence.writer.note(TimelineEvent::SourceDropped { collection });
            }
        }
        if is_dropped {
            self.checkpoints.note_drop();
            self.store_sources().await?;
        }
        Ok(())
    }

    /// Requests a resync for dropped sources that exist again, and forgets repaired ones. `now` is the stream's time in
    /// seconds.
    pub(crate) async fn tend_sources(&mut self, now: u32) -> Result<(), Unfinished> {
        self.maintenance.held = self.dropped.is_unsettled(now);
        if self.maintenance.resync.is_none() && self.dropped.repaired() {
            info!("the resync of the dropped collections is finished");
            self.store_sources().await?;
        }
        if self.dropped.take_up(now) {
            self.resync_everything("a collection that was dropped is there again").await?;
        }
        Ok(())
    }

    async fn store_sources(&mut self) -> Result<(), Unfinished> {
        let names: Vec<&str> = self.dropped.names().collect();
        self.store_state(DROPPED_SOURCES, doc! { "names": names }).await?;
        self.health.set_dropped(self.dropped.names());
        Ok(())
    }
}
