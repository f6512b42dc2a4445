//! Watches `recruiters` after the step to `retired` (spec 10, "After `retired`"), with a thin cursor of its own. Nothing
//! is read or changed but the document of the counts. The watch never ends a leadership: after a failure it is retried.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Database;
use resume_tokens::ResumeToken;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::reader::EVENTS_PER_REPLY;
use crate::clock;
use crate::context::Context;
use crate::error::{Directive, Failure};
use crate::interruption::Unfinished;
use crate::model::names::state_id::LATE_WRITES;
use crate::model::names::{STATE, WatchedCollection};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::primary_changes::PrimaryChanges;
use crate::observe::metrics::Metrics;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::phase::late_writes::{LATE, LateWrites, Retirement};
use crate::phase::state::Current;
use crate::retry::Delays;
use crate::source::aggregation::Watched;
use crate::source::cursor::{Cursor, StreamPosition, operation_time};
use crate::tasks::pause;
use crate::write::{Writer, update_command};

const WATCHED: [WatchedCollection; 1] = [WatchedCollection::Recruiters];

/// The watch of one leadership.
pub(super) struct LateWriteWatch {
    /// A database with a floor and a continuity of its own: this cursor says nothing about the caches of the pipeline.
    database: CausalDatabase,
    writer: Writer,
    term: i64,
    /// The phase at the beginning of the leadership. A leadership ends when another phase needs other streams.
    current: Current,
    await_time: Duration,
    /// The interval at which the position is saved while nothing is written, so that it does not age out of the oplog.
    idle_interval: Duration,
    primary_changes: PrimaryChanges,
    metrics: Arc<Metrics>,
    /// True after a failure at a position that the next attempt may get past.
    stumbled: bool,
    failed: RepeatedFailure,
    stop: CancellationToken,
}

impl LateWriteWatch {
    pub(super) fn new(context: &Context, writer: Writer, term: i64, current: Current, stop: CancellationToken) -> Self {
        Self {
            database: CausalDatabase::new(Database::clone(&context.database)),
            writer,
            term,
            current,
            await_time: context.settings.stream.await_time,
            idle_interval: context.settings.tokens.idle_interval,
            primary_changes: context.primary_changes.clone(),
            metrics: Arc::clone(&context.metrics),
            stumbled: false,
            failed: RepeatedFailure::default(),
            stop,
        }
    }

    /// Watches until `stop`. In other phases than `retired` there is nothing to watch.
    ///
    /// # Errors
    /// None.
    pub(super) async fn run(mut self) -> Result<(), Failure> {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.watch() => stop.cancelled().await,
        }
        self.metrics.late_writes.last.set(f64::NAN);
        Ok(())
    }

    /// Watches until `recruiters` is gone, or the lease is lost.
    async fn watch(&mut self) {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        loop {
            match self.follow(&mut delays).await {
                Ok(()) | Err(Unfinished::Interrupted(_)) => return,
                Err(Unfinished::Failed(failure)) if self.failed.is_new(&failure) => {
                    warn!(error = %failure, advice = failure.advice(), "the watch for late writes failed; retrying");
                }
                Err(Unfinished::Failed(_)) => {}
            }
            pause(&self.stop, delays.next_delay()).await;
        }
    }

    /// Continues where the stored counts end.
    async fn follow(&mut self, delays: &mut Delays) -> Result<(), Unfinished> {
        let Some(mut late) = self.load().await? else {
            return Ok(());
        };
        self.tell(&late);
        if late.ended.is_some() {
            return Ok(());
        }
        let failure = match self.read(&mut late, delays).await {
            Err(Unfinished::Failed(failure)) => failure,
            ended => return ended,
        };
        let is_lost = match failure.directive() {
            Directive::Resync => true,
            // The event is at fault only if it fails again.
            Directive::PassOver => std::mem::replace(&mut self.stumbled, true),
            _ => false,
        };
        if is_lost {
            late.skip_to(operation_time(&self.database).await?);
            self.save(&late).await?;
            self.stumbled = false;
        }
        Err(failure.into())
    }

    /// The stored counts; without any, the beginning of the watch at the position of the step.
    async fn load(&self) -> Result<Option<LateWrites>, Unfinished> {
        let Some(retirement) = Retirement::read(&self.database, &self.current).await? else {
            return Ok(None);
        };
        if let Some(stored) = LateWrites::of_retirement(&self.database, &retirement).await? {
            return Ok(Some(stored));
        }
        let from = match retirement.position {
            Some(position) => position,
            None => operation_time(&self.database).await?,
        };
        let late = LateWrites::none(retirement.at, from);
        self.save(&late).await?;
        info!("recruiters is watched for late writes");
        Ok(Some(late))
    }

    /// Reads with one cursor until something fails, or `recruiters` is gone.
    async fn read(&mut self, late: &mut LateWrites, delays: &mut Delays) -> Result<(), Unfinished> {
        let primary = self.primary_changes.found();
        let position = match late.token.as_ref().map(ResumeToken::from_document) {
            Some(Ok(token)) => StreamPosition::After(token),
            Some(Err(_)) | None => StreamPosition::At(late.counted_to),
        };
        let size = u32::try_from(EVENTS_PER_REPLY).unwrap_or(u32::MAX);
        let watched = Watched { collections: &WATCHED, own_label: None, omits_foreign: false };
        let mut cursor = Cursor::open(&self.database, watched, &position, self.await_time, size).await?;
        let mut saved = clock::instant();
        while self.primary_changes.found() == primary {
            let reply = cursor.next(|_| {}).await?;
            if reply.invalidates() {
                // The whole database is gone, and the counts with it. The leadership begins anew.
                return Ok(());
            }
            let mut next = late.clone();
            next.note(&reply.events);
            next.token = Some(reply.position.to_document());
            next.counted_to = reply.position.cluster_time();
            let moves = next.total() != late.total() || next.ended != late.ended;
            if moves || saved.elapsed() >= self.idle_interval {
                self.save(&next).await?;
                saved = clock::instant();
            }
            self.count(late, &next);
            *late = next;
            self.stumbled = false;
            delays.reset();
            if let Some(ended) = self.failed.end() {
                info!(failures = ended.failures, seconds = ended.seconds, "the watch for late writes works again");
            }
            if late.ended.is_some() {
                info!("recruiters is gone: the watch for late writes has ended");
                return Ok(());
            }
        }
        Err(Failure::NewPrimary.into())
    }

    /// Stores the counts together with their position: each write counts once, also after a restart.
    async fn save(&self, late: &LateWrites) -> Result<(), Unfinished> {
        let filter = bson::doc! { "_id": LATE_WRITES, "term": { "$not": { "$gt": self.term } } };
        let mut fields = late.to_document();
        fields.insert("term", self.term);
        update_command::record(&self.writer, STATE, filter, bson::doc! { "$set": fields }).await
    }

    fn count(&self, before: &LateWrites, after: &LateWrites) {
        if after.total() == before.total() {
            return;
        }
        for operation in LATE {
            let of = |late: &LateWrites| late.counts.get(operation.name()).copied().unwrap_or_default();
            self.metrics.late_source_writes(operation, (of(after) - of(before)).unsigned_abs());
        }
        let writes = after.total() - before.total();
        warn!(writes, total = after.total(), "recruiters is still written although the database is retired");
        self.tell(after);
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of this century")]
    fn tell(&self, late: &LateWrites) {
        let last = late.last.first().map_or(0, |write| write.at.timestamp_millis());
        self.metrics.late_writes.last.set(last as f64 / 1_000.0);
    }
}
