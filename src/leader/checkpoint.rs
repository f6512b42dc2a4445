//! Saves the position of the stream after its writes are acknowledged, never before (spec 00,
//! guarantee 1): after each batch, from time to time when nothing happens, and into the history. Keeps
//! the tokens of the worker that we replace current too (spec 03, "Checkpoints").

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{DateTime, doc, rawdoc};
use resume_tokens::{Checkpoint, History, OLD_WORKER_COLLECTION, ResumeToken, Store};
use tracing::warn;

use super::history;
use crate::clock;
use crate::config::TokensSettings;
use crate::error::Failure;
use crate::failpoint;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::names::state_id::BEGINNING;
use crate::mongo::deadline::with_deadline;
use crate::observe::metrics::Metrics;
use crate::source::event::Event;
use crate::write::statements::Statement;
use crate::write::{Writer, command};

/// The old worker's documents are written at most this often (spec 03).
const OLD_WORKER_INTERVAL: Duration = Duration::from_secs(1);

/// The collections of which the old worker stores a token.
pub(crate) const OLD_WORKER_COLLECTIONS: [WatchedCollection; 2] =
    [WatchedCollection::Recruiters, WatchedCollection::AnonymizedRecruiters];

/// The position of the stream and where it is saved.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    store: Store,
    writer: Writer,
    settings: TokensSettings,
    metrics: Arc<Metrics>,
    term: i64,
    fingerprint: String,
    history: History,
    /// Something was dropped, and the history may begin anew with it.
    is_in_doubt: bool,
    events: i64,
    saved_at: Option<Instant>,
    remembered_at: Option<Instant>,
    /// Tokens of the old worker that are newer than what is stored.
    unsaved_tokens: BTreeMap<WatchedCollection, ResumeToken>,
    tokens_saved_at: Option<Instant>,
}

/// Up to where everything has been applied.
#[derive(Debug, Clone)]
pub(crate) struct Applied {
    /// The token of the position.
    pub token: ResumeToken,
    /// The wall time of the last event, if there was one.
    pub wall_time: Option<DateTime>,
    /// How many events were applied since the last save.
    pub events: usize,
}

impl Checkpoints {
    /// Saves under `term`, positions of this history; `events` is the count of an earlier checkpoint.
    #[must_use]
    pub(crate) fn new(
        (store, writer): (Store, Writer),
        settings: TokensSettings,
        metrics: Arc<Metrics>,
        (term, fingerprint): (i64, String),
        (history, events): (History, i64),
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

    /// True when an idle stream's position should be saved again, so that it does not age out of the
    /// oplog.
    #[must_use]
    pub(crate) fn idle_save_is_due(&self) -> bool {
        is_due(self.saved_at, self.settings.idle_interval)
    }

    /// Saves the position; every `tokens.history_interval` it is copied to the history.
    ///
    /// # Errors
    /// [`Failure::Store`]; a newer term refuses the save. [`Failure::LeaseLost`], [`Failure::Overdue`]: it came too late for
    /// the lease.
    pub(crate) async fn save(&mut self, applied: &Applied) -> Result<(), Failure> {
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
        history::record(&self.writer, &self.store, checkpoint.cluster_time, self.term).await?;
        // No newer term is in the way before the successor has saved for the first time.
        self.store.set_variables(self.writer.variables().await?);
        failpoint::passed("saving");
        with_deadline(self.store.save(&checkpoint)).await?;
        if self.saved_at.is_none() {
            command::delete(&self.writer, STATE, doc! { "_id": BEGINNING }).await?;
        }
        if self.is_in_doubt {
            // The save has created the collection again, if it was gone.
            self.history = history::current(self.writer.database()).await?;
            self.is_in_doubt = false;
        }
        self.events = checkpoint.events;
        self.saved_at = Some(clock::instant());
        self.metrics.checkpoint_timestamp.set(f64::from(checkpoint.cluster_time.time));
        if is_due(self.remembered_at, self.settings.history_interval) {
            // The save has taken its time.
            self.store.set_variables(self.writer.variables().await?);
            // The position is saved; a history that cannot be written must not hold up the stream.
            match with_deadline(self.store.remember(&checkpoint, self.settings.history_keep)).await {
                Ok(()) => self.remembered_at = Some(clock::instant()),
                Err(error) => {
                    let failure = Failure::from(error);
                    warn!(error = %failure, "the history of checkpoints could not be written; tried again");
                }
            }
        }
        Ok(())
    }

    /// Takes note of a drop before the position after it is saved: the database may go on as another one, which this
    /// position is of all the same.
    pub(crate) fn note_drop(&mut self) {
        self.history.collection = None;
        self.is_in_doubt = true;
    }

    /// Takes note of events for the old worker's tokens.
    pub(crate) fn note(&mut self, events: &[Event]) {
        for event in events {
            let collection = event.collection.filter(|collection| OLD_WORKER_COLLECTIONS.contains(collection));
            if let Some(collection) = collection {
                self.unsaved_tokens.insert(collection, event.token.clone());
            }
        }
    }

    /// Writes the old worker's tokens if they are due, or in any case `at_end`.
    ///
    /// # Errors
    /// As [`command::update`].
    pub(crate) async fn save_old_worker_tokens(&mut self, at_end: bool) -> Result<(), Failure> {
        if self.unsaved_tokens.is_empty() || !(at_end || is_due(self.tokens_saved_at, OLD_WORKER_INTERVAL)) {
            return Ok(());
        }
        let statement = |(collection, token): (&WatchedCollection, &ResumeToken)| {
            // As `OldWorkerTokens::save` does it, but under the lease.
            let token = bson::RawDocumentBuf::try_from(&token.to_document()).unwrap_or_default();
            let set = rawdoc! { "resumeTokenData": token, "updatedAt": clock::now() };
            let body = rawdoc! { "q": { "collection": collection.name() }, "u": { "$set": set }, "upsert": true };
            Statement { id: None, body }
        };
        let statements = self.unsaved_tokens.iter().map(statement).collect();
        command::update(&self.writer, OLD_WORKER_COLLECTION, statements).await?;
        self.unsaved_tokens.clear();
        self.tokens_saved_at = Some(clock::instant());
        Ok(())
    }
}

fn is_due(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}
