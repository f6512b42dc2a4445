//! The report of `status`: the state of the whole service, read from the database.

use std::collections::BTreeMap;
use std::time::Duration;

use bson::{DateTime, Document, Timestamp, doc};
use mongodb::Database;
use resume_tokens::{Checkpoint, HistoryEntry};
use serde::Serialize;

use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::foreign_minutes::ForeignWritesReport;
use crate::leader::halt::StoredHalt;
use crate::leader::lead::store;
use crate::leader::pause::StoredPause;
use crate::lease::{self, Holder};
use crate::maintenance::repairs;
use crate::maintenance::replay::{length_text, time_text};
use crate::maintenance::resync::StoredResync;
use crate::maintenance::unfinished_commands::{self, UnfinishedCommand};
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::Oplog;
use crate::mongo::server_clock::server_time;
use crate::phase::late_writes::{LateWrites, LateWritesReport};
use crate::phase::state;
use crate::phase::stored_verification::StoredVerification;
use crate::source::cursor::operation_time;
use crate::status::conditions::{LeaderCondition, PauseCondition, ServiceCondition};
use crate::status::events;
use crate::status::instances::{self, InstanceStatus};
use crate::status::running::{RunningWork, running};
use crate::status::verdict::{Verdict, VerdictFacts, problem_texts, verdict};
use crate::ticker::stored_run::{self, StoredRun};
use crate::write::stored_dead_letter;
use crate::write::stored_throttle::StoredThrottle;
use crate::write::throttle::Slowed;

/// The number of events of the timeline that `--watch` shows.
const EVENTS: u32 = 10;

#[derive(Debug, Serialize)]
pub(super) struct StatusReport {
    pub verdict: Verdict,
    /// What is wrong, the cause of the verdict first.
    pub problems: Vec<String>,
    pub environment: &'static str,
    pub database: String,
    pub replica_set: String,
    pub phase: &'static str,
    pub phase_since: Option<String>,
    /// The pause; null while the service is not paused.
    pub pause: Option<PauseStatus>,
    pub leader: Option<LeaderStatus>,
    /// All instances, the leader first.
    pub instances: Vec<InstanceStatus>,
    pub position: Option<PositionStatus>,
    /// The mean rate of the last minutes, from the history of checkpoints.
    pub events_per_second: Option<f64>,
    pub oplog_window_seconds: Option<u64>,
    pub resync: Option<String>,
    pub open_gaps: u64,
    pub unfinished_commands: Vec<String>,
    /// The work that runs now, with what is known of its end.
    pub running: Vec<RunningWork>,
    pub dead_letters: BTreeMap<String, u64>,
    /// The fields that offers are written without.
    pub target_fields_omitted: Vec<&'static str>,
    pub last_verification: Option<VerificationStatus>,
    /// Writes to `recruiters` since the step to `retired`.
    pub late_writes: Option<LateWritesReport>,
    /// The ceiling of writes per second that an operator ordered; null where the configuration decides.
    pub ordered_max_writes_per_second: Option<u32>,
    /// Why work is slowed, in words; null while it is not.
    pub slowed: Option<String>,
    /// The writes of others to our offers in the last hour; `None` where the configuration turns the watch off.
    pub foreign_writes: Option<ForeignWritesReport>,
    pub jobs: Vec<JobRun>,
    /// The last events of the timeline, the oldest first; read for `--watch` as text only.
    #[serde(skip)]
    pub events: Vec<Document>,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaderStatus {
    pub name: String,
    pub term: i64,
    /// The lag when the leader was last heard; `None` while its stream has not answered, and while it is silent.
    pub lag_seconds: Option<f64>,
    /// The time since the last renewal of the lease; `None` where the lease does not tell it.
    pub last_heard_seconds: Option<u64>,
    /// True when a renewal of the lease is overdue.
    #[serde(skip)]
    pub is_silent: bool,
}

impl LeaderStatus {
    fn of(leader: Holder, now: DateTime) -> Self {
        let LeaderCondition { lag, heard, is_silent, .. } = LeaderCondition::of(&leader, now);
        let Holder { name, term, .. } = leader;
        let last_heard_seconds = heard.map(|heard| heard.as_secs());
        Self { name, term, lag_seconds: lag, last_heard_seconds, is_silent }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PauseStatus {
    pub since: Option<String>,
    pub limit_at: Option<String>,
    pub who: String,
    pub reason: String,
}

impl PauseStatus {
    fn of(StoredPause { since, limit_at, who, reason, .. }: StoredPause) -> Self {
        Self { since: date(since), limit_at: date(limit_at), who, reason }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct PositionStatus {
    pub id: String,
    pub time: String,
    pub age_seconds: u64,
    /// `None` while the oplog is young, and where it may not be read.
    pub headroom_seconds: Option<u64>,
    /// `None` where the oplog may not be read.
    pub oplog_is_young: Option<bool>,
    /// False when the position is lost; `None` where the oplog may not be read.
    pub in_oplog: Option<bool>,
    pub events: i64,
}

impl PositionStatus {
    fn of(checkpoint: &Checkpoint, oplog: Option<Oplog>, now: Timestamp) -> Self {
        let time = checkpoint.cluster_time;
        Self {
            id: checkpoint.history_id(),
            time: time_text(time),
            age_seconds: u64::from(now.time.saturating_sub(time.time)),
            headroom_seconds: oplog.and_then(|oplog| oplog.headroom(time)).map(|headroom| headroom.as_secs()),
            oplog_is_young: oplog.map(|oplog| oplog.is_young()),
            in_oplog: oplog.map(|oplog| oplog.reaches(time)),
            events: checkpoint.events,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct VerificationStatus {
    pub ended: String,
    pub differences: i64,
}

impl VerificationStatus {
    fn of(last: StoredVerification) -> Option<Self> {
        Some(Self { ended: date(last.ended?)?, differences: last.differences? })
    }
}

/// The last ended run of one time-based job.
#[derive(Debug, Serialize)]
pub(super) struct JobRun {
    pub job: String,
    pub scheduled_for: Option<String>,
    pub outcome: String,
    pub changed: Option<u64>,
    pub failed: Option<u64>,
}

impl StatusReport {
    /// Reads the report, with the last events of the timeline if `with_events`.
    pub(super) async fn read(context: &Context, with_events: bool) -> Result<Self, Failure> {
        let (database, deployment) = (&context.database, &context.deployment);
        let phase = state::load(database, context.settings.phase.initial).await?;
        let (oplog, now) = (Oplog::measure(database).await?, operation_time(database).await?);
        // A checkpoint that cannot be read counts as none here; `doctor` tells the reason.
        let checkpoint = with_deadline(store(context).load()).await.ok().flatten();
        let position = checkpoint.as_ref().map(|checkpoint| PositionStatus::of(checkpoint, oplog, now));
        let (history, leader) = (with_deadline(store(context).history(10)).await?, lease::current(database).await?);
        let dead_letters = stored_dead_letter::count_by_reason(database).await?;
        let verification = with_deadline(StoredVerification::read(database)).await.map_err(Failure::Read)?;
        let late_writes = LateWrites::read(database, &phase).await?.map(|late| late.report());
        let (halt, pause) = (StoredHalt::read(database).await?, StoredPause::read(database).await?);
        let is_held_up = halt.is_some() || pause.is_some();
        let reads = leader.is_some() && !is_held_up;
        let (server, resync) = (server_time(database).await?, StoredResync::read(database).await?);
        let repair = repairs::read(database, resync.as_ref()).await?;
        let (throttle, jobs) = (StoredThrottle::read(database).await?, jobs(context).await?);
        let judged = VerdictFacts::of_command(ServiceCondition {
            phase: phase.phase,
            is_halted: halt.is_some(),
            pause: pause.as_ref().map(|pause| PauseCondition::of(pause, server)),
            leader: leader.as_ref().map(|leader| LeaderCondition::of(leader, server)),
            is_position_lost: position.as_ref().is_some_and(|position| position.in_oplog == Some(false)),
            repair,
            slowed: throttle.slowed,
            dead_letters: dead_letters.values().sum(),
            differences: verification.as_ref().and_then(|last| last.differences),
            late_writes: late_writes.as_ref().map_or(0, |late| u64::try_from(late.total).unwrap_or_default()),
        });
        let events = if with_events { newest_events(database).await? } else { Vec::new() };
        Ok(Self {
            verdict: verdict(&judged),
            problems: problem_texts(&judged),
            environment: deployment.environment,
            database: deployment.database.clone(),
            replica_set: deployment.replica_set.clone(),
            phase: phase.phase.word(),
            phase_since: phase.since.and_then(date),
            pause: pause.map(PauseStatus::of),
            instances: instances::read(database, leader.as_ref(), server).await?,
            leader: leader.map(|leader| LeaderStatus::of(leader, server)),
            position,
            // Without a leader that reads, the history of checkpoints says nothing about the present.
            events_per_second: checkpoint.filter(|_| reads).and_then(|checkpoint| rate(&checkpoint, &history)),
            oplog_window_seconds: oplog.map(|oplog| oplog.window().as_secs()),
            running: running(context, resync.as_ref(), is_held_up).await?,
            resync: resync.map(|resync| resync.stage.unwrap_or_else(|| "begun".to_owned())),
            open_gaps: repair.open_gaps,
            unfinished_commands: unfinished(context).await?,
            dead_letters,
            target_fields_omitted: context.target.schema().omitted().to_vec(),
            last_verification: verification.and_then(VerificationStatus::of),
            late_writes,
            ordered_max_writes_per_second: throttle.ordered,
            slowed: throttle.slowed.map(Slowed::text),
            foreign_writes: ForeignWritesReport::of_last_hour(context, server).await?,
            jobs,
            events,
        })
    }
}

async fn newest_events(database: &Database) -> Result<Vec<Document>, Failure> {
    events::read(database, DateTime::from_millis(0), &[], Some(EVENTS)).await
}

/// The mean number of events per second between the oldest entry of `history` and the checkpoint. `None` when there is
/// no entry, no time in between, or a lower count of events in the checkpoint than in the entry.
#[expect(clippy::cast_precision_loss, reason = "events and milliseconds of minutes")]
fn rate(checkpoint: &Checkpoint, history: &[HistoryEntry]) -> Option<f64> {
    let oldest = &history.last()?.checkpoint;
    let millis = checkpoint.updated_at.timestamp_millis() - oldest.updated_at.timestamp_millis();
    let events = checkpoint.events.checked_sub(oldest.events).filter(|events| *events >= 0)?;
    (millis > 0).then(|| events as f64 * 1_000.0 / millis as f64)
}

async fn unfinished(context: &Context) -> Result<Vec<String>, Failure> {
    let commands = unfinished_commands::unfinished(&context.database).await?;
    let text = |UnfinishedCommand { name, state, requested_at }: &UnfinishedCommand| {
        let asked = requested_at.timestamp_millis();
        let seconds = u64::try_from(clock::now().timestamp_millis() - asked).unwrap_or_default() / 1_000;
        format!("{name}  {state}, submitted {} ago", length_text(Duration::from_secs(seconds)))
    };
    Ok(commands.iter().map(text).collect())
}

async fn jobs(context: &Context) -> Result<Vec<JobRun>, Failure> {
    let runs = stored_run::last_ended(&context.database).await?;
    let run = |run: StoredRun| {
        Some(JobRun {
            job: Some(run.job).filter(|job| !job.is_empty())?,
            scheduled_for: run.scheduled_for.and_then(date),
            outcome: run.outcome?,
            changed: run.changed,
            failed: run.failed,
        })
    };
    Ok(runs.into_iter().filter_map(run).collect())
}

fn date(date: DateTime) -> Option<String> {
    date.try_to_rfc3339_string().ok()
}
