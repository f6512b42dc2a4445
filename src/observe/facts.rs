//! Records facts in the metrics, with one function per fact. Values of labels come from enums, so that no text of a
//! document can become a label.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::HistogramTimer;

use super::labels::{LabelValue, OTHER};
use super::metrics::{Metrics, PRESSURES};
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::dead_letter::Reason;
use crate::model::recruiter::OFFERED_FIELDS;

/// The result of the write of a projected job's offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteResult {
    Created,
    Changed,
    /// The existing offer equals its projection.
    Unchanged,
}

/// The origin of touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TouchOrigin {
    Backfill,
    /// A change of a reference document of the recruiter.
    Reference,
    Replay,
    Resync,
    /// A retry of dead letters.
    Retry,
    Stream,
}

/// A stage of a chunk whose duration is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkStage {
    Fetch,
    Project,
    Write,
}

/// The reason why a job of a recruiter is not projected and has no dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkippedJob {
    /// The recruiter has no address.
    NoAddress,
    /// The recruiter has no list of jobs.
    NoJobs,
}

/// The side that wins when an offer and its projection differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictWinner {
    Offer,
    Projection,
    /// In every phase: a closing by somebody else, which the projection leaves (spec 09).
    Closing,
}

/// The result of a comparison in `shadow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowResult {
    Equal,
    Differs,
    Missing,
}

/// A write of the mirror to `recruiters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MirrorWrite {
    /// Fields of a recruiter and its jobs were changed.
    Edited,
    /// Jobs were added to a recruiter.
    JobAdded,
    RecruiterMade,
}

impl LabelValue for MirrorWrite {
    fn label(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::JobAdded => "job_added",
            Self::RecruiterMade => "recruiter_made",
        }
    }
}

impl LabelValue for WriteResult {
    fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }
}

impl LabelValue for TouchOrigin {
    fn label(self) -> &'static str {
        match self {
            Self::Backfill => "backfill",
            Self::Reference => "reference",
            Self::Replay => "replay",
            Self::Resync => "resync",
            Self::Retry => "retry",
            Self::Stream => "stream",
        }
    }
}

impl LabelValue for ChunkStage {
    fn label(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Project => "project",
            Self::Write => "write",
        }
    }
}

impl LabelValue for SkippedJob {
    fn label(self) -> &'static str {
        match self {
            Self::NoAddress => "no_address",
            Self::NoJobs => "no_jobs",
        }
    }
}

impl LabelValue for ConflictWinner {
    fn label(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Projection => "projection",
            Self::Closing => "closing",
        }
    }
}

impl LabelValue for ShadowResult {
    fn label(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Differs => "differs",
            Self::Missing => "missing",
        }
    }
}

impl Metrics {
    /// Counts an event that was read. `collection` is `None` for an event of the whole database.
    pub fn event_read(&self, collection: Option<impl LabelValue>, operation: impl LabelValue) {
        let collection = collection.map_or("", LabelValue::label);
        self.events.with_label_values(&[collection, operation.label()]).inc();
    }

    /// Counts touches of recruiters.
    pub fn touched(&self, origin: TouchOrigin, recruiters: u64) {
        self.touches.with_label_values(&[origin.label()]).inc_by(recruiters);
    }

    /// Starts the timer of a stage. The timer records the duration when it is told to, or when it is dropped.
    pub fn stage_timer(&self, stage: ChunkStage) -> HistogramTimer {
        self.stage_duration.with_label_values(&[stage.label()]).start_timer()
    }

    /// Counts offers that were created, changed or left as they are.
    pub fn offers_written(&self, result: WriteResult, offers: u64) {
        self.offers_written.with_label_values(&[result.label()]).inc_by(offers);
    }

    /// Counts a job that is not projected.
    pub fn job_skipped(&self, why: SkippedJob) {
        self.jobs_skipped.with_label_values(&[why.label()]).inc();
    }

    /// Counts offers that differed from their projections in `dual-write`.
    pub fn conflicts(&self, winner: ConflictWinner, offers: u64) {
        self.conflicts.with_label_values(&[winner.label()]).inc_by(offers);
    }

    /// Counts an offer that was compared in `shadow`.
    pub fn compared_in_shadow(&self, result: ShadowResult) {
        self.shadow_offers.with_label_values(&[result.label()]).inc();
    }

    /// Counts recruiters that the mirror wrote.
    pub fn mirrored(&self, write: MirrorWrite, recruiters: u64) {
        self.mirror.writes.with_label_values(&[write.label()]).inc_by(recruiters);
    }

    /// Counts a field of a recruiter on which its offers disagree. A dotted name counts as its first part.
    pub fn mirror_disagreed(&self, field: &str) {
        let first = field.split('.').next().unwrap_or_default();
        let known = OFFERED_FIELDS.into_iter().find(|name| *name == first);
        self.mirror.disagreements.with_label_values(&[known.unwrap_or(OTHER)]).inc();
    }

    /// Counts writes to `recruiters` after the step to `retired`.
    pub fn late_source_writes(&self, operation: impl LabelValue, writes: u64) {
        self.late_writes.writes.with_label_values(&[operation.label()]).inc_by(writes);
    }

    /// Counts a write of somebody else to one of our offers, and the fields that it changed.
    pub(crate) fn foreign_write(&self, operation: impl LabelValue, fields: impl Iterator<Item = impl LabelValue>) {
        self.foreign_writes.writes.with_label_values(&[operation.label()]).inc();
        for field in fields {
            self.foreign_writes.fields.with_label_values(&[field.label()]).inc();
        }
    }

    /// Counts a time without a watch for the writes of others.
    pub(crate) fn foreign_writes_unwatched(&self, time: Duration) {
        self.foreign_writes.unwatched_seconds.inc_by(time.as_secs());
    }

    /// Sets the measures of the pressure on the server; `None` where one is unknown.
    pub(crate) fn pressure(&self, replication_lag: Option<Duration>, write_latency: Option<Duration>) {
        let seconds = |value: Option<Duration>| value.map_or(f64::NAN, |value| value.as_secs_f64());
        self.throttle.replication_lag.set(seconds(replication_lag));
        // Between two small writes the last measure stands.
        if write_latency.is_some() {
            self.throttle.write_latency.set(seconds(write_latency));
        }
    }

    /// Sets the measure for which work is slowed, and the ceiling in writes per second.
    pub(crate) fn slowed(&self, pressure: Option<impl LabelValue>, ceiling: Option<u32>) {
        let slows = pressure.map(LabelValue::label);
        for name in PRESSURES {
            self.throttle.slowed.with_label_values(&[name]).set(i64::from(slows == Some(name)));
        }
        self.throttle.ceiling.set(ceiling.map_or(f64::NAN, f64::from));
    }

    /// Counts a repeated opening of the stream, by the code of the failure before.
    pub fn stream_restarted(&self, cause: &Failure) {
        self.stream_restarts.with_label_values(&[&cause.code()]).inc();
    }

    /// Counts a failed write, by the code of its cause.
    pub fn write_failed(&self, cause: &Unfinished) {
        self.write_errors.with_label_values(&[&cause.code()]).inc();
    }

    /// Counts a statement that the server refused, by the code of the server.
    pub fn statement_refused(&self, code: i32) {
        self.write_errors.with_label_values(&[&code.to_string()]).inc();
    }

    /// Sets the number of stored dead letters with this reason.
    pub fn set_dead_letters(&self, reason: Reason, count: u64) {
        self.dead_letters.with_label_values(&[reason.label()]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Sets the number of offers with a known difference of this kind.
    pub fn set_divergent_offers(&self, kind: impl LabelValue, count: i64) {
        self.divergent_offers.with_label_values(&[kind.label()]).set(count);
    }

    /// Sets the fields that offers are written without.
    pub(crate) fn target_fields_omitted(&self, fields: &[&'static str]) {
        self.target.fields_omitted.reset();
        for field in fields {
            self.target.fields_omitted.with_label_values(&[field]).set(1);
        }
    }

    /// Removes all results of verifications, for an instance that does not lead any more.
    pub fn forget_divergent_offers(&self) {
        self.divergent_offers.reset();
        self.verify_last_success.set(f64::NAN);
    }

    /// Sets the numbers of jobs in `recruiters` and of our offers, each by status.
    pub fn counted(&self, jobs: &BTreeMap<&'static str, u64>, offers: &BTreeMap<&'static str, u64>) {
        for (gauges, counted) in [(&self.source_jobs, jobs), (&self.target_offers, offers)] {
            for (status, count) in counted {
                #[expect(clippy::cast_precision_loss, reason = "a gauge; far below 2^53")]
                gauges.with_label_values(&[*status]).set(*count as f64);
            }
        }
    }

    /// Counts runs of a time-based job, by outcome. A missed or skipped occurrence counts as a run too.
    pub fn job_runs(&self, job: impl LabelValue, outcome: impl LabelValue, runs: u64) {
        self.jobs.runs.with_label_values(&[job.label(), outcome.label()]).inc_by(runs);
    }

    /// Records the duration of a run and the number of documents that it changed.
    pub fn job_ran(&self, job: impl LabelValue, took: Duration, changed: u64) {
        let job = job.label();
        self.jobs.duration.with_label_values(&[job]).observe(took.as_secs_f64());
        self.jobs.changed.with_label_values(&[job]).inc_by(changed);
    }

    /// Sets the time at which a time-based job was last done, in seconds since 1970; 0 when it never was.
    pub fn set_job_last_success(&self, job: impl LabelValue, seconds: f64) {
        self.jobs.last_success.with_label_values(&[job.label()]).set(seconds);
    }

    /// Sets the first occurrence of a job that no success covers, in seconds since 1970; NaN when the job owes none.
    pub(crate) fn set_job_due(&self, job: impl LabelValue, seconds: f64) {
        self.jobs.due.with_label_values(&[job.label()]).set(seconds);
    }

    /// Counts an e-mail, by template and outcome.
    pub fn email(&self, template: impl LabelValue, outcome: impl LabelValue) {
        self.jobs.emails.with_label_values(&[template.label(), outcome.label()]).inc();
    }

    /// Begins the counters of e-mails at 0, so that every counter exists from the start.
    pub fn begin_email_counts(&self, labels: impl Iterator<Item = (impl LabelValue, impl LabelValue)>) {
        for (template, outcome) in labels {
            self.jobs.emails.with_label_values(&[template.label(), outcome.label()]);
        }
    }
}
