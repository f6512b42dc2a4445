//! The status document of `/api/status` and the status page (spec 06, "HTTP"): the state of this instance and of the
//! whole service, built from memory. It has ids, counts and times, and no personal data.

use std::collections::BTreeMap;

use bson::{DateTime, Timestamp};
use serde::Serialize;

use super::conditions::{PauseCondition, ServiceCondition};
use super::counts::Counts;
use super::events::ShownEvent;
use super::instances::InstanceStatus;
use super::job_status::JobStatus;
use super::running::RunningWork;
use super::survey::ServiceFacts;
use super::survey::Survey;
use super::time::text;
use super::verdict::{Problem, Verdict, VerdictFacts, problem_texts, problems, time_left, verdict};
use crate::clock;
use crate::context::Context;
use crate::leader::foreign_minutes::ForeignWritesReport;
use crate::observe::health::Role;
use crate::observe::latency::Percentiles;
use crate::observe::recent_history::{self, Series, last_minute};
use crate::phase::Phase;
use crate::phase::late_writes::LateWritesReport;
use crate::phase::step_conditions::Condition;
use crate::version;
use crate::write::throttle::Slowed;

/// The status document.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    /// The present time, by the clock of this machine (RFC 3339).
    pub at: String,
    pub verdict: Verdict,
    /// The problems, each with advice, the cause of the verdict first; empty when there are none.
    pub problems: Vec<String>,
    /// The same with the sections of the runbook, for the page.
    #[serde(skip)]
    pub told_problems: Vec<Problem>,
    /// The time zone of the time-based jobs. The page shows times in it.
    pub time_zone: &'static str,
    pub instance: Instance,
    /// The fields that offers are written without, because the target's validator does not allow them.
    pub target_fields_omitted: Vec<&'static str>,
    /// The server's time minus the cluster time of the last applied position, in seconds; null while unknown and on a
    /// standby.
    pub lag_seconds: Option<f64>,
    /// The mean rates of the last minute.
    pub last_minute: Rates,
    pub since_start: SinceStart,
    /// The state of the whole service, read from the database; null before the first answer.
    pub service: Option<Service>,
    /// Numbers of documents, jobs and offers; null before the first count.
    pub counts: Option<Counts>,
    /// The last hour, in seconds where this instance led, and in minutes where another one did.
    pub history: Series,
}

/// This process.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Instance {
    /// The name of the instance.
    pub name: String,
    /// `environment` of the configuration.
    pub environment: &'static str,
    pub database: String,
    /// The replica set; empty for a router of a sharded cluster.
    pub replica_set: String,
    pub role: Role,
    /// True when `/readyz` answers with success.
    pub ready: bool,
    /// The start of the process (RFC 3339).
    pub started: String,
    pub version: &'static str,
    pub commit: &'static str,
    /// The version of the IANA time zones that are built in.
    pub time_zones: &'static str,
}

/// Rates per second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rates {
    /// Events read; null before the first sample.
    pub events: Option<f64>,
    /// Offers created or changed; null before the first sample.
    pub offers: Option<f64>,
    /// The time from an event to its effect; null without an event in the last minute.
    pub latency: Option<Percentiles>,
}

/// Counters of this process since its start.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SinceStart {
    /// Events read.
    pub events: u64,
    /// Events read, by collection. The name of events of the whole database is empty.
    pub events_by_collection: BTreeMap<String, u64>,
    /// Offers created or changed.
    pub offers: u64,
    /// Attempts that followed a failure.
    pub retries: u64,
    /// Resyncs begun.
    pub resyncs: u64,
    /// Recruiters that the mirror wrote.
    pub mirrored: u64,
}

/// The state of the whole service, read from the database.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Service {
    /// The time of the read, by the server's clock (RFC 3339).
    pub asked: String,
    pub phase: PhaseStatus,
    /// The pause; null while the service is not paused.
    pub pause: Option<PauseStatus>,
    /// The leader; null when no instance leads.
    pub leader: Option<Leader>,
    /// The time since the read, in seconds, by the clock of this process.
    pub read_seconds_ago: u64,
    /// All instances, the leader first.
    pub instances: Vec<InstanceStatus>,
    /// The work that runs now: a resync or the first fill, stored commands, time-based jobs.
    pub running: Vec<RunningWork>,
    /// The checkpoint; null before the first one, and where this instance cannot read it.
    pub checkpoint: Option<CheckpointStatus>,
    /// The time that the oplog holds, in seconds; null where the oplog may not be read.
    pub oplog_window_seconds: Option<f64>,
    /// The time until the checkpoint falls off the oplog, in seconds; null without a checkpoint, and where the oplog
    /// may not be read.
    pub token_headroom_seconds: Option<f64>,
    /// The number of stored dead letters.
    pub dead_letters: u64,
    pub dead_letters_by_reason: BTreeMap<String, u64>,
    /// The last full verification; null when there was none.
    pub verification: Option<VerificationStatus>,
    /// Writes to `recruiters` since the step to `retired`; null in other phases.
    pub late_writes: Option<LateWritesReport>,
    /// The ceiling of writes per second that an operator ordered; null where the configuration decides.
    pub ordered_max_writes_per_second: Option<u32>,
    /// Why work is slowed, in words; null while it is not.
    pub slowed: Option<String>,
    /// The writes of others to our offers in the last hour; `None` where the configuration turns the watch off.
    pub foreign_writes: Option<ForeignWritesReport>,
    /// The time-based jobs.
    pub jobs: Vec<JobStatus>,
    /// The last events of the timeline, whichever instance led then; the newest first.
    pub events: Vec<ShownEvent>,
}

/// The phase of the database.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PhaseStatus {
    pub name: &'static str,
    /// The time at which the phase was entered (RFC 3339); null when no phase has been entered yet.
    pub since: Option<String>,
    /// The collection or collections that are the authority.
    pub authority: &'static str,
    /// A description of the stream's writes in this phase.
    pub stream: &'static str,
    /// True while the mirror keeps `recruiters` in step; null outside the phase `shadow`.
    pub mirror: Option<bool>,
    /// The next phase; null after the last.
    pub next: Option<&'static str>,
    /// The conditions for the step to the next phase.
    pub conditions: Vec<Condition>,
}

/// The pause. Who gave the command, and why, is for the command `status`.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PauseStatus {
    /// The beginning (RFC 3339).
    pub since: String,
    /// The time from which an alert fires (RFC 3339).
    pub limit_at: String,
}

/// The leader.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Leader {
    /// The name of the instance that has the lease.
    pub name: String,
    /// The term of the lease.
    pub term: i64,
    /// The lag of the leader at its last renewal of the lease; null while unknown, and when that is too long ago.
    pub lag_seconds: Option<f64>,
}

/// The checkpoint.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckpointStatus {
    /// The position as a time (RFC 3339).
    pub cluster_time: String,
    /// The server's time minus `cluster_time`.
    pub age_seconds: u64,
    /// Events applied up to the position, by all instances.
    pub events: u64,
}

/// A full verification.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VerificationStatus {
    /// The end of the verification (RFC 3339).
    pub ended: String,
    /// The phase in which the verification ran.
    pub phase: String,
    /// The number of differences.
    pub differences: i64,
}

impl Status {
    /// Builds the status document of this moment. `started` is the start of the process.
    #[must_use]
    pub(crate) fn now(context: &Context, survey: &Survey, started: DateTime) -> Self {
        let readiness = context.health.readiness();
        let history = survey.history.series();
        let facts = survey.facts();
        let judged = judged(context, survey);
        let minutes = facts.as_ref().map(|facts| facts.minutes.clone()).unwrap_or_default();
        Self {
            at: text(clock::now()),
            verdict: verdict(&judged),
            problems: problem_texts(&judged),
            told_problems: problems(&judged),
            time_zone: context.time_zone.name(),
            instance: Instance {
                name: context.deployment.instance.clone(),
                environment: context.deployment.environment,
                database: context.deployment.database.clone(),
                replica_set: context.deployment.replica_set.clone(),
                role: readiness.role,
                ready: readiness.ready,
                started: text(started),
                version: version::VERSION,
                commit: version::COMMIT,
                time_zones: version::TIME_ZONES,
            },
            target_fields_omitted: context.target.schema().omitted().to_vec(),
            lag_seconds: readiness.lag_seconds.map(tenth),
            last_minute: Rates {
                events: last_minute(&history.events_per_second),
                offers: last_minute(&history.offers_per_second),
                latency: context.health.latencies.last_minute(),
            },
            since_start: since_start(context),
            service: facts.map(|facts| Service::of(&facts, context.settings.phase.keep_recruiters_backup)),
            counts: survey.counts().map(|counts| (*counts).clone()),
            history: history.with_minutes(&minutes),
        }
    }
}

/// The facts on which the verdict of this moment rests.
#[must_use]
pub(crate) fn judged(context: &Context, survey: &Survey) -> VerdictFacts {
    let health = &context.health;
    let readiness = health.readiness();
    let mut troubles = health.troubles();
    // The reasons of `/readyz` already name the lasting troubles.
    troubles.retain(|trouble| !readiness.reasons.contains(trouble));
    troubles.extend(survey.problem().map(|problem| format!("the values below may be old: {problem}")));
    let lags = survey.history.series().lag_seconds;
    VerdictFacts {
        role: Some(readiness.role),
        halted: health.halted(),
        no_database: health.reachability.problem(),
        is_catching_up: health.is_catching_up(),
        lag: readiness.lag_seconds,
        reasons: readiness.reasons,
        troubles,
        seconds_left: time_left(&lags, recent_history::INTERVAL.as_secs()),
        service: survey.facts().map(|facts| ServiceCondition {
            phase: facts.phase.phase,
            is_halted: facts.is_halted,
            pause: facts.pause.as_ref().map(|pause| PauseCondition::of(pause, facts.at)),
            leader: facts.leader_condition(),
            is_position_lost: facts.is_position_lost(),
            repair: facts.repair,
            slowed: facts.throttle.slowed,
            dead_letters: facts.dead_letters.values().sum(),
            differences: facts.verification.as_ref().map(|last| last.differences),
            late_writes: facts.late_writes.as_ref().map_or(0, |late| u64::try_from(late.total).unwrap_or_default()),
        }),
    }
}

fn since_start(context: &Context) -> SinceStart {
    SinceStart {
        events: context.metrics.events_read(),
        events_by_collection: context.metrics.events_by_collection(),
        offers: context.metrics.offers_changed(),
        retries: context.metrics.retries.get(),
        resyncs: context.metrics.resyncs.get(),
        mirrored: context.metrics.mirrored_recruiters(),
    }
}

impl Service {
    fn of(facts: &ServiceFacts, keeps_backup: bool) -> Self {
        let row = facts.phase.phase.row();
        Self {
            asked: text(facts.at),
            phase: PhaseStatus {
                name: facts.phase.phase.word(),
                since: facts.phase.since.map(text),
                authority: row.authority,
                stream: row.stream,
                mirror: (facts.phase.phase == Phase::Shadow).then(|| facts.phase.phase.mirrors(keeps_backup)),
                next: facts.phase.phase.next().map(Phase::word),
                conditions: facts.conditions.clone(),
            },
            pause: facts
                .pause
                .as_ref()
                .map(|pause| PauseStatus { since: text(pause.since), limit_at: text(pause.limit_at) }),
            leader: facts.leader.as_ref().map(|leader| Leader {
                name: leader.name.clone(),
                term: leader.term,
                lag_seconds: facts.leader_condition().and_then(|leader| leader.lag).map(tenth),
            }),
            read_seconds_ago: facts.age().as_secs(),
            instances: facts.instances.iter().map(|instance| instance.aged(facts.age())).collect(),
            running: facts.running.clone(),
            checkpoint: facts.checkpoint.as_ref().map(|checkpoint| CheckpointStatus {
                cluster_time: time(checkpoint.cluster_time),
                age_seconds: facts.checkpoint_age().unwrap_or_default(),
                events: u64::try_from(checkpoint.events).unwrap_or_default(),
            }),
            oplog_window_seconds: facts.oplog_window(),
            token_headroom_seconds: facts.headroom().map(f64::round),
            dead_letters: facts.dead_letters.values().sum(),
            dead_letters_by_reason: facts.dead_letters.clone(),
            verification: facts.verification.as_ref().map(|last| VerificationStatus {
                ended: text(last.ended),
                phase: last.phase.clone(),
                differences: last.differences,
            }),
            late_writes: facts.late_writes.clone(),
            ordered_max_writes_per_second: facts.throttle.ordered,
            slowed: facts.throttle.slowed.map(Slowed::text),
            foreign_writes: facts.foreign_writes.clone(),
            jobs: facts.jobs.iter().map(JobStatus::from).collect(),
            events: facts.events.clone(),
        }
    }
}

/// Rounds to a tenth of a second; more digits say nothing about a lag.
fn tenth(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn time(cluster_time: Timestamp) -> String {
    text(DateTime::from_millis(i64::from(cluster_time.time) * 1_000))
}
