//! Carries out one replay, part by part beside the live stream. A replay does not hold the live stream up, and does not
//! move its position. The progress is stored, so that a crash costs one part.

use std::time::Duration;

use bson::{DateTime, Timestamp, doc, oid::ObjectId};

use super::stored_commands::{Span, StoredCommand, count, counted};
use crate::apply::dry_run::WriteCounts;
use crate::apply::executor::Apply;
use crate::apply::stages::Stages;
use crate::clock;
use crate::error::Failure;
use crate::fetch::references::anonymized_users;
use crate::interruption::Unfinished;
use crate::model::ids::UserId;
use crate::model::names::WatchedCollection;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::Oplog;
use crate::mongo::reads::collection;
use crate::observe::facts::TouchOrigin;
use crate::phase::Phase;
use crate::plan::{Plan, plan};
use crate::source::cursor::operation_time;
use crate::source::event::Event;
use crate::source::replay::{Replay, SpanPart};
use crate::write::dead_letters::EventPosition;

/// The field of the progress that is true when a resync was requested, because events do not tell what changed.
pub(crate) const RESYNC: &str = "resync";
/// The field of the progress with the least number of events that could not be read or delivered.
pub(crate) const UNDELIVERABLE: &str = "undeliverable";
/// The field of the progress that is true when all parts are applied. A requested resync may still run.
pub(crate) const ENDED: &str = "ended";
/// The field of the progress with the cluster time up to which the replay has come.
const REACHED: &str = "reached";
/// The field of the progress with the cluster time at which the replay ends.
const UNTIL: &str = "until";

/// The longest wait for a part. The live stream waits meanwhile.
const PATIENCE: Duration = Duration::from_millis(20);

/// A running replay.
#[derive(Debug)]
pub(crate) struct Replaying {
    /// The id of its stored command.
    pub(super) command: ObjectId,
    source: Replay,
    /// The events that are read and wait for their step, because a ceiling makes steps small.
    rest: Option<SpanPart>,
}

/// The result of one step of a replay.
#[derive(Debug, Default)]
pub(crate) struct ReplayStep {
    /// True if the whole span is read and applied.
    pub(super) ended: bool,
    /// True if a resync is needed, because the events do not tell what changed.
    pub(super) everything: bool,
}

/// Adds the offers that were written since `before` to the counts in a command's progress.
pub(crate) fn add_written(stored: &mut StoredCommand, before: WriteCounts, stages: &Stages) {
    let write_counts = stages.write_counts;
    for (field, done) in [
        ("created", write_counts.created - before.created),
        ("changed", write_counts.changed - before.changed),
        ("unchanged", write_counts.unchanged - before.unchanged),
    ] {
        add(stored, field, done);
    }
}

fn add(stored: &mut StoredCommand, field: &str, done: u64) {
    let so_far = count(&stored.progress, field);
    stored.progress.insert(field, counted(so_far + done));
}

impl Replaying {
    /// Opens the stream at the stored progress, or at the start of the span.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn begin(stored: &mut StoredCommand, span: &Span, stages: &Stages) -> Result<Self, Failure> {
        if !stored.progress.contains_key(UNTIL) {
            let now = operation_time(&stages.database).await?;
            stored.progress.insert(UNTIL, span.until.unwrap_or(now));
        }
        let until = stored.progress.get_timestamp(UNTIL).unwrap_or(span.from);
        let watched = watched(stages.phase, span.collection.as_deref());
        let source = Replay::open(&stages.database, watched, reached(stored, span.from), until);
        Ok(Self { command: stored.id, source, rest: None })
    }

    /// Applies the next part if it is there.
    ///
    /// # Errors
    /// As [`Replay::next`] and [`Apply::plan`]. The replay must then begin again at the stored progress.
    pub(crate) async fn step(
        &mut self,
        stored: &mut StoredCommand,
        apply: &mut Apply,
    ) -> Result<ReplayStep, Unfinished> {
        let part = match self.rest.take() {
            None => self.source.next(PATIENCE).await?,
            rest => rest,
        };
        let Some(mut part) = part else {
            return Ok(ReplayStep::default());
        };
        let most = apply.stages.throttle.step_size(u32::MAX);
        self.rest = part.cut_after(usize::try_from(most).unwrap_or(usize::MAX));
        let before = apply.stages.write_counts;
        let touched = part_applied(&part, apply).await?;
        apply.stages.metrics.touched(TouchOrigin::Replay, touched.recruiters);
        stored.progress.insert(REACHED, part.reached);
        add(stored, "events", part.events.len() as u64);
        add(stored, UNDELIVERABLE, part.passed_over);
        add(stored, "recruiters", touched.recruiters);
        add_written(stored, before, &apply.stages);
        Ok(ReplayStep { ended: part.ended, everything: touched.everything })
    }
}

/// The touches of one part.
#[derive(Debug)]
pub(crate) struct ReplayTouches {
    /// The number of touched recruiters.
    recruiters: u64,
    /// True if a resync is needed, because the events do not tell what changed.
    pub everything: bool,
}

/// Plans a part and carries it out.
///
/// # Errors
/// As [`Apply::plan`].
pub(crate) async fn part_applied(part: &SpanPart, apply: &mut Apply) -> Result<ReplayTouches, Unfinished> {
    let mut plan = plan(&part.events);
    leave_present_users(&apply.stages.database, &mut plan).await?;
    let last = part.events.last().map_or_else(clock::now, |event: &Event| event.wall_time);
    let recruiters = Box::pin(apply.plan(&plan, &EventPosition::of_scan(last))).await?;
    Ok(ReplayTouches { recruiters: recruiters as u64, everything: plan.requires_resync() || part.passed_over > 0 })
}

/// Takes users who exist now out of the anonymised users of a plan. Such a user was deleted in the span and inserted
/// again later, and the live stream has seen both events.
async fn leave_present_users(database: &CausalDatabase, plan: &mut Plan) -> Result<(), Failure> {
    if plan.anonymized_users.is_empty() {
        return Ok(());
    }
    let anonymized = anonymized_users(database, plan.anonymized_users.clone()).await?;
    let ids: Vec<UserId> = plan.anonymized_users.difference(&anonymized).copied().collect();
    let users = collection(database, WatchedCollection::Users.name());
    let present = with_deadline(users.distinct("_id", doc! { "_id": { "$in": ids } })).await.map_err(Failure::Read)?;
    for user in present.iter().filter_map(bson::Bson::as_object_id).map(UserId) {
        plan.anonymized_users.remove(&user);
    }
    Ok(())
}

/// Returns the collections whose events a replay reads: those that the phase watches and the offers, or one of them.
#[must_use]
pub(crate) fn watched(phase: Phase, only: Option<&str>) -> Vec<WatchedCollection> {
    let all = phase.watched(false).iter().copied().chain([WatchedCollection::Offers]);
    all.filter(|collection| only.map_or(*collection != WatchedCollection::Canary, |only| collection.name() == only))
        .collect()
}

/// Returns the cluster time up to which a replay of a span from `from` has come.
#[must_use]
pub(crate) fn reached(stored: &StoredCommand, from: Timestamp) -> Timestamp {
    stored.progress.get_timestamp(REACHED).unwrap_or(from)
}

/// Returns the cluster time at which a replay ends; `None` before it begins.
#[must_use]
pub(crate) fn until(stored: &StoredCommand) -> Option<Timestamp> {
    stored.progress.get_timestamp(UNTIL).ok()
}

/// Writes the reason why a replay from this position is impossible, and what to do instead.
#[must_use]
pub(crate) fn too_old(position: Timestamp, oplog: Option<&Oplog>) -> String {
    let begins = oplog.map_or_else(
        || "whose beginning the user of mongodb.uri may not read".to_owned(),
        |oplog| format!("which begins at {} and is {} long", time_text(oplog.first), length_text(oplog.window())),
    );
    format!(
        "{} is no longer in the oplog, {begins}: the events in between are lost; `stream-processor backfill` \
         projects every recruiter instead",
        time_text(position)
    )
}

/// Writes a cluster time for people, in RFC 3339.
#[must_use]
pub(crate) fn time_text(time: Timestamp) -> String {
    DateTime::from_millis(i64::from(time.time) * 1000).try_to_rfc3339_string().unwrap_or_default()
}

/// Writes a duration for people, in whole seconds.
#[must_use]
pub(crate) fn length_text(length: Duration) -> String {
    humantime::format_duration(Duration::from_secs(length.as_secs())).to_string()
}
