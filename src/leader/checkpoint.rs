//! Saves checkpoints (spec 03, "Checkpoints"). [`super::start_position`] reads them, and the crate `resume_tokens` stores
//! them.
//! A checkpoint is saved after the writes of its batch are acknowledged, never before (spec 00, guarantee 1). When the
//! stream is idle, one is saved from time to time. Some checkpoints are also copied to the history.
//! The tokens of the old worker, which this service replaces, are kept current too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{DateTime, doc, rawdoc};
use resume_tokens::{Checkpoint, History, OLD_WORKER_COLLECTION, ResumeToken, Store};
use tracing::warn;

use super::checkpoint_origin;
use crate::clock;
use crate::config::TokensSettings;
use crate::error::Failure;
use crate::failpoint;
use crate::interruption::Unfinished;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::state_id::BEGINNING;
use crate::mongo::deadline::with_deadline;
use crate::observe::metrics::Metrics;
use crate::source::event::Event;
use crate::write::statements::Statement;
use crate::write::{Writer, update_command};

/// The shortest interval between two writes of the old worker's tokens (spec 03).
const OLD_WORKER_INTERVAL: Duration = Duration::from_secs(1);

/// The collections for which the old worker stores a token.
pub(crate) const OLD_WORKER_COLLECTIONS: [WatchedCollection; 2] =
    [WatchedCollection::Recruiters, WatchedCollection::AnonymizedRecruiters];

/// The checkpoints of one leadership.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    store: Store,
    writer: Writer,
    settings: TokensSettings,
    metrics: Arc<Metrics>,
    term: i64,
    fingerprint: String,
    history: History,
    /// True after a drop, until the next save: the database may have begun a new history.
    is_in_doubt: bool,
    /// The number of events that were applied up to the last checkpoint, in all terms.
    events: i64,
    saved_at: Option<Instant>,
    /// The time of the last copy to the history.
    remembered_at: Option<Instant>,
    /// Tokens for the old worker that are not stored yet.
    unsaved_tokens: BTreeMap<WatchedCollection, ResumeToken>,
    tokens_saved_at: Option<Instant>,
}

/// The term, pipeline and history of new checkpoints.
#[derive(Debug)]
pub(crate) struct CheckpointTerm {
    pub(super) term: i64,
    /// The fingerprint of the pipeline.
    pub(super) fingerprint: String,
    pub(super) history: History,
    /// The number of events in the checkpoint before.
    pub(super) events: i64,
}

/// The position up to which everything is applied.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    pub(super) token: ResumeToken,
    /// The wall time of the last event; `None` for a position without an event.
    pub(super) wall_time: Option<DateTime>,
    /// The number of events that were applied since the last save.
    pub(super) events: usize,
}

impl Checkpoints {
    /// Makes the checkpoints of one term.
    #[must_use]
    pub(crate) fn new(
        store: Store,
        writer: Writer,
        settings: TokensSettings,
        metrics: Arc<Metrics>,
        CheckpointTerm { term, fingerprint, history, events }: CheckpointTerm,
    ) -> Self {
        Self {
            store,
            writer,
            settings,
            metrics,
            term,
            fingerprint,
            history,
            is_in_doubt: false,
            events,
            saved_at: None,
            remembered_at: None,
            unsaved_tokens: BTreeMap::new(),
            tokens_saved_at: None,
        }
    }

    /// True if the position of an idle stream must be saved again, so that it does not age out of the oplog.
    #[must_use]
    pub(crate) fn idle_save_is_due(&self) -> bool {
        is_due(self.saved_at, self.settings.idle_interval)
    }

    /// Saves a checkpoint. Every `tokens.history_interval` the checkpoint is also copied to the history.
    ///
    /// # Errors
    /// [`Failure::Store`], for instance when a newer term has saved a checkpoint. A lost lease, or [`Failure::Overdue`]
    /// when the save comes too late for the lease.
    pub(crate) async fn save(&mut self, applied: &Applied) -> Result<(), Unfinished> {
        let checkpoint = Checkpoint {
            token: applied.token.clone(),
            cluster_time: applied.token.cluster_time(),
            wall_time: applied.wall_time,
            term: self.term,
            fingerprint: self.fingerprint.clone(),
            events: self.events.saturating_add(i64::try_from(applied.events).unwrap_or(i64::MAX)),
            updated_at: clock::now(),
            history: Some(self.history.clone()),
        };
        checkpoint_origin::record(&self.writer, &self.store, checkpoint.cluster_time, self.term).await?;
        // The stored term is not enough as a fence: a successor stores its term only with its first checkpoint.
        self.store.set_variables(self.writer.variables().await?);
        failpoint::passed("saving");
        with_deadline(self.store.save(&checkpoint)).await?;
        if self.saved_at.is_none() {
            update_command::delete(&self.writer, STATE, doc! { "_id": BEGINNING }).await?;
        }
        if self.is_in_doubt {
            // If the collection was dropped, the save has created it again with a new UUID.
            self.history = checkpoint_origin::current(self.writer.database()).await?;
            self.is_in_doubt = false;
        }
        self.events = checkpoint.events;
        self.saved_at = Some(clock::instant());
        self.metrics.checkpoint_timestamp.set(f64::from(checkpoint.cluster_time.time));
        if is_due(self.remembered_at, self.settings.history_interval) {
            // The save took time, so the lease is checked again.
            self.store.set_variables(self.writer.variables().await?);
            // The checkpoint is saved already. A failure to write the history must not hold up the stream.
            match with_deadline(self.store.remember(&checkpoint, self.settings.history_keep)).await {
                Ok(()) => self.remembered_at = Some(clock::instant()),
                Err(error) => {
                    let failure = Failure::from(error);
                    warn!(error = %failure, "the history of checkpoints could not be written; retrying");
                }
            }
        }
        Ok(())
    }

    /// Records a drop, before a checkpoint moves past it. The collection may get a new UUID then, although the position
    /// is still good. So the next checkpoint names no UUID.
    pub(crate) fn note_drop(&mut self) {
        self.history.collection = None;
        self.is_in_doubt = true;
    }

    /// Keeps the tokens of applied events for the old worker.
    pub(crate) fn note(&mut self, events: &[Event]) {
        for event in events {
            let collection = event.collection.filter(|collection| OLD_WORKER_COLLECTIONS.contains(collection));
            if let Some(collection) = collection {
                self.unsaved_tokens.insert(collection, event.token.clone());
            }
        }
    }

    /// Writes the old worker's tokens if they are due, and always `at_end`.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn save_old_worker_tokens(&mut self, at_end: bool) -> Result<(), Unfinished> {
        if self.unsaved_tokens.is_empty() || !(at_end || is_due(self.tokens_saved_at, OLD_WORKER_INTERVAL)) {
            return Ok(());
        }
        let statement = |(collection, token): (&WatchedCollection, &ResumeToken)| {
            // This is the write of `OldWorkerTokens::save`, but fenced by the lease.
            let token = bson::RawDocumentBuf::try_from(&token.to_document()).unwrap_or_default();
            let set = rawdoc! { "resumeTokenData": token, "updatedAt": clock::now() };
            let body = rawdoc! { "q": { "collection": collection.name() }, "u": { "$set": set }, "upsert": true };
            Statement { id: None, body }
        };
        let statements = self.unsaved_tokens.iter().map(statement).collect();
        update_command::update(&self.writer, OLD_WORKER_COLLECTION, statements).await?;
        self.unsaved_tokens.clear();
        self.tokens_saved_at = Some(clock::instant());
        Ok(())
    }
}

fn is_due(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}
