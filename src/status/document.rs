//! What `/api/status` and the status page show (spec 06, "HTTP"): one picture of the instance and of the whole
//! service, put together from memory. No personal data: ids, counts and times only.

use std::collections::BTreeMap;

use bson::{DateTime, Timestamp};
use serde::Serialize;

use super::counts::Counts;
use super::survey::ServiceFacts;
use super::survey::Survey;
use super::time::text;
use crate::clock;
use crate::context::Context;
use crate::observe::health::Role;
use crate::observe::history::{Series, last_minute};
use crate::phase::Phase;
use crate::phase::guards::Condition;
use crate::ticker::overview::Overview;
use crate::version;

/// From here on the stream counts as behind; the conditions of the phases have the same bound (spec 04).
const BEHIND: f64 = 5.0;

/// How things stand, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StatusVerdict {
    /// Connecting.
    Starting,
    /// Another instance leads, and all is well.
    StandingBy,
    /// It leads and is up to date.
    InStep,
    /// It leads and has a lag.
    Behind,
    /// Something fails and is tried again.
    Retrying,
    /// It does not do what it should.
    NotReady,
    /// It waits for a person.
    Halted,
}

/// The picture.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Status {
    /// When, by this machine's clock (RFC 3339).
    pub at: String,
    /// In one word.
    pub verdict: StatusVerdict,
    /// What is wrong, each with advice; empty when nothing is.
    pub problems: Vec<String>,
    /// This instance.
    pub instance: Instance,
    /// The server's time minus the cluster time of the last applied position, in seconds; null while unknown
    /// and on a standby.
    pub lag_seconds: Option<f64>,
    /// Means of the last minute.
    pub last_minute: Rates,
    /// Counted by this instance since it began.
    pub since_start: SinceStart,
    /// The whole service, as the database has it; null before the first answer.
    pub service: Option<Service>,
    /// Documents, jobs and offers; null before the first count.
    pub counts: Option<Counts>,
    /// The last hour of this instance.
    pub history: Series,
}

/// This process.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Instance {
    /// As the lease names it.
    pub name: String,
    /// What it is doing.
    pub role: Role,
    /// As `/readyz` says.
    pub ready: bool,
    /// Since when it runs (RFC 3339).
    pub started: String,
    /// Its version.
    pub version: &'static str,
    /// The commit that it was built from.
    pub commit: &'static str,
    /// The version of the time zones that it has.
    pub time_zones: &'static str,
}

/// Per second.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Rates {
    /// Events read; null before the first sample.
    pub events: Option<f64>,
    /// Offers created or changed.
    pub offers: Option<f64>,
}

/// Counters of this process.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SinceStart {
    /// Events read.
    pub events: u64,
    /// The same, by collection.
    pub events_by_collection: BTreeMap<String, u64>,
    /// Offers created or changed.
    pub offers: u64,
    /// Attempts that followed a failure.
    pub retries: u64,
    /// Resyncs asked for.
    pub resyncs: u64,
}

/// What the database says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Service {
    /// When it was asked (RFC 3339).
    pub asked: String,
    /// The phase.
    pub phase: PhaseStatus,
    /// Who leads; null when nobody does.
    pub leader: Option<Leader>,
    /// The checkpoint; null before the first, and where this instance cannot read it.
    pub checkpoint: Option<CheckpointStatus>,
    /// How far back the oplog reaches, in seconds; null where the privileges do not allow to look.
    pub oplog_window_seconds: Option<f64>,
    /// How long until the checkpoint falls off the oplog.
    pub token_headroom_seconds: Option<f64>,
    /// Dead letters that stand.
    pub dead_letters: u64,
    /// The same, by reason.
    pub dead_letters_by_reason: BTreeMap<String, u64>,
    /// The last full verification; null when there was none.
    pub verification: Option<VerificationStatus>,
    /// The time-based jobs.
    pub jobs: Vec<JobStatus>,
}

/// The phase.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct PhaseStatus {
    /// Its name.
    pub name: &'static str,
    /// Since when (RFC 3339); null where nobody has entered one yet.
    pub since: Option<String>,
    /// Who is the authority.
    pub authority: &'static str,
    /// What the stream does with offers.
    pub stream: &'static str,
    /// The next phase; null after the last.
    pub next: Option<&'static str>,
    /// What must hold for it.
    pub conditions: Vec<Condition>,
}

/// Who leads.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Leader {
    /// As the lease names it.
    pub name: String,
    /// The term of the lease.
    pub term: i64,
    /// Its lag, as it told when it last renewed the lease.
    pub lag_seconds: Option<f64>,
}

/// The checkpoint.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CheckpointStatus {
    /// The position as a time (RFC 3339).
    pub cluster_time: String,
    /// The server's time minus that.
    pub age_seconds: u64,
    /// Events applied up to here, by all instances.
    pub events: u64,
}

/// A full verification.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct VerificationStatus {
    /// When it ended (RFC 3339).
    pub ended: String,
    /// In which phase.
    pub phase: String,
    /// What it found.
    pub differences: i64,
}

/// A time-based job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct JobStatus {
    /// Its name.
    pub name: &'static str,
    /// Whether it runs by itself.
    pub enabled: bool,
    /// When it is due next (RFC 3339); null for one that does not run by itself.
    pub next: Option<String>,
    /// Since when a run is under way.
    pub running_since: Option<String>,
    /// Its last run that has ended.
    pub last: Option<RunStatus>,
}

/// A run of a job.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RunStatus {
    /// `done`, `failed`, `missed` or `skipped`.
    pub outcome: String,
    /// When it ended, or was due where it never began (RFC 3339).
    pub at: Option<String>,
    /// Documents that it changed.
    pub changed: u64,
    /// Documents that it could not change.
    pub failed: u64,
}

impl From<&Overview> for JobStatus {
    fn from(job: &Overview) -> Self {
        Self {
            name: job.job,
            enabled: job.enabled,
            next: job.next.map(text),
            running_since: job.running.as_ref().and_then(|run| run.started).map(text),
            last: job.last.as_ref().map(|run| RunStatus {
                outcome: run.outcome.clone().unwrap_or_default(),
                at: run.finished.or(run.scheduled_for).map(text),
                changed: run.changed,
                failed: run.failed,
            }),
        }
    }
}

impl Status {
    /// How things stand now. `name` is this instance's, `started` its beginning.
    #[must_use]
    pub(crate) fn now(context: &Context, survey: &Survey, name: &str, started: DateTime) -> Self {
        let readiness = context.health.readiness();
        let history = survey.history.series();
        let facts = survey.facts();
        let mut problems = readiness.reasons;
        let serious = !problems.is_empty();
        problems.extend(context.health.troubles().into_iter().filter(|_| !serious));
        problems.extend(survey.problem().map(|problem| format!("what follows may be old: {problem}")));
        let verdict = match (readiness.role, serious) {
            (Role::Starting, _) => StatusVerdict::Starting,
            (_, true) if context.health.halted() => StatusVerdict::Halted,
            (_, true) => StatusVerdict::NotReady,
            (_, false) if !problems.is_empty() => StatusVerdict::Retrying,
            (Role::Standby, false) => StatusVerdict::StandingBy,
            (Role::Leader, false) if readiness.lag_seconds.is_some_and(|lag| lag >= BEHIND) => StatusVerdict::Behind,
            (Role::Leader, false) => StatusVerdict::InStep,
        };
        Self {
            at: text(clock::now()),
            verdict,
            problems,
            instance: Instance {
                name: name.to_owned(),
                role: readiness.role,
                ready: readiness.ready,
                started: text(started),
                version: version::VERSION,
                commit: version::COMMIT,
                time_zones: version::TIME_ZONES,
            },
            lag_seconds: readiness.lag_seconds.map(tenth),
            last_minute: Rates {
                events: last_minute(&history.events_per_second),
                offers: last_minute(&history.offers_per_second),
            },
            since_start: since_start(context),
            service: facts.map(|facts| Service::of(&facts)),
            counts: survey.counts().map(|counts| (*counts).clone()),
            history,
        }
    }
}

fn since_start(context: &Context) -> SinceStart {
    SinceStart {
        events: context.metrics.events_read(),
        events_by_collection: context.metrics.events_by_collection(),
        offers: context.metrics.offers_changed(),
        retries: context.metrics.retries.get(),
        resyncs: context.metrics.resyncs.get(),
    }
}

impl Service {
    fn of(facts: &ServiceFacts) -> Self {
        let row = facts.phase.phase.row();
        Self {
            asked: text(facts.at),
            phase: PhaseStatus {
                name: facts.phase.phase.word(),
                since: facts.phase.since.map(text),
                authority: row.authority,
                stream: row.stream,
                next: facts.phase.phase.next().map(Phase::word),
                conditions: facts.conditions.clone(),
            },
            leader: facts.leader.as_ref().map(|leader| Leader {
                name: leader.name.clone(),
                term: leader.term,
                lag_seconds: leader.lag.map(tenth),
            }),
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
            jobs: facts.jobs.iter().map(JobStatus::from).collect(),
        }
    }
}

/// More says nothing about a lag.
fn tenth(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

fn time(cluster_time: Timestamp) -> String {
    text(DateTime::from_millis(i64::from(cluster_time.time) * 1_000))
}
