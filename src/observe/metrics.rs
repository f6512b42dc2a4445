//! The definition of every metric (spec 06, "Metrics"). Each name stands here once. The registry is not global.

use prometheus::process_collector::ProcessCollector;
use std::collections::BTreeMap;

use prometheus::core::Collector as _;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

use super::exemplar::HistogramWithExemplars;
use super::labels::{JOB_STATUSES, OFFER_STATUSES, OTHER};
use super::openmetrics;
use super::other_writers_metrics::{ForeignWriteMetrics, LateWriteMetrics};
use super::registration::{KnownLabel, Make};
use crate::config::Phase;
use crate::model::names::WatchedCollection;
use crate::model::recruiter::OFFERED_FIELDS;
use crate::version;

/// Buckets in seconds, from a millisecond to a minute.
const SECONDS: [f64; 14] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0];
/// Buckets in seconds for runs of time-based jobs, from a hundredth of a second to an hour.
const JOB_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// Buckets in events, for the size of a batch.
const SIZES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

const WINNERS: KnownLabel<'_> = KnownLabel { name: "winner", values: &["offer", "projection", "closing"] };
/// The measures of the pressure on the server.
pub(super) const PRESSURES: [&str; 2] = ["replication_lag", "write_latency"];
const MIRRORED: KnownLabel<'_> = KnownLabel { name: "kind", values: &["edited", "job_added", "recruiter_made"] };
const COMPARED: KnownLabel<'_> = KnownLabel { name: "result", values: &["equal", "differs", "missing"] };

/// The service's metrics.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    /// Events read, by collection and operation.
    pub(super) events: IntCounterVec,
    /// Touches, by origin.
    pub(super) touches: IntCounterVec,
    /// Jobs projected into offers.
    pub jobs_projected: IntCounter,
    /// Jobs that were not projected and have no dead letter, by reason.
    pub(super) jobs_skipped: IntCounterVec,
    /// Offers, by the result of the write: created, changed or unchanged.
    pub(super) offers_written: IntCounterVec,
    /// Offers that differed from their projection in `dual-write`, by the side that won.
    pub(super) conflicts: IntCounterVec,
    /// Offers compared in `shadow`, by result.
    pub(super) shadow_offers: IntCounterVec,
    pub late_writes: LateWriteMetrics,
    pub(super) foreign_writes: ForeignWriteMetrics,
    pub(super) throttle: ThrottleMetrics,
    build: IntGaugeVec,
    /// 1 for the present verdict, 0 for the other ones.
    verdict: IntGaugeVec,
    /// The time at which the limit of the pause is over, in seconds since 1970; 0 while the service is not paused, NaN
    /// while unknown.
    pub pause_limit: Gauge,
    pub(super) mirror: MirrorMetrics,
    /// 1 while the phase of the database and the configuration turn the mirror on.
    pub mirroring: IntGauge,
    /// 1 for the phase of the database, 0 for the other phases.
    pub(super) phase: IntGaugeVec,
    /// Offers anonymised.
    pub offers_anonymized: IntCounter,
    /// Users found deactivated after a change of their status.
    pub users_deactivated: IntCounter,
    /// Events per batch.
    pub batch_events: Histogram,
    /// The time from the planning of a batch to its checkpoint, in seconds.
    pub batch_duration: HistogramWithExemplars,
    /// The duration of a stage for one chunk, in seconds.
    pub(super) stage_duration: HistogramVec,
    /// The lag in seconds, by the server's clocks; NaN while unknown.
    pub lag: Gauge,
    /// The time from the wall time of an event to its effect, in seconds, for the first and the last event of a batch.
    pub end_to_end: HistogramWithExemplars,
    /// The time since the last checkpoint was saved, in seconds; NaN while unknown.
    pub checkpoint_age: Gauge,
    /// The cluster time of the checkpoint, in seconds since 1970.
    pub checkpoint_timestamp: Gauge,
    /// The time that the oplog holds, in seconds; NaN while unknown.
    pub oplog_window: Gauge,
    /// The time until the checkpoint falls off the oplog, in seconds; NaN while unknown.
    pub token_headroom: Gauge,
    /// Jobs in `recruiters`, by status.
    pub(super) source_jobs: GaugeVec,
    /// Our offers, by status.
    pub(super) target_offers: GaugeVec,
    /// 1 while `/readyz` answers with success.
    pub ready: IntGauge,
    /// 1 while the stream is read far behind the server's time.
    pub catching_up: IntGauge,
    /// Watched collections that were dropped or renamed and are not repaired yet.
    pub sources_dropped: IntGauge,
    /// Resyncs begun.
    pub resyncs: IntCounter,
    /// Repeated openings of the stream, by the code of the failure before.
    pub(super) stream_restarts: IntCounterVec,
    /// Failed writes, by code.
    pub(super) write_errors: IntCounterVec,
    /// Attempts after a failure.
    pub retries: IntCounter,
    /// Stored dead letters, by reason.
    pub(super) dead_letters: IntGaugeVec,
    /// Offers with a known difference, by kind of difference.
    pub(super) divergent_offers: IntGaugeVec,
    /// The end of the last full verification without differences, in seconds since 1970; 0 when there was none, NaN
    /// while unknown.
    pub verify_last_success: Gauge,
    pub target: TargetMetrics,
    /// Recruiters compared by the continuous verification.
    pub verify_sampled: IntCounter,
    pub jobs: JobMetrics,
    /// 1 while this instance leads.
    pub leader: IntGauge,
    /// The term of the lease that this instance last held.
    pub lease_term: IntGauge,
}

/// Metrics of the mirror.
#[derive(Debug, Clone)]
pub(super) struct MirrorMetrics {
    /// Recruiters that the mirror wrote, by kind of write.
    pub(super) writes: IntCounterVec,
    /// Times that offers disagreed on a field of their recruiter, by field.
    pub(super) disagreements: IntCounterVec,
}

impl MirrorMetrics {
    fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let fields = [OFFERED_FIELDS.as_slice(), &[OTHER]].concat();
        let fields = KnownLabel { name: "field", values: &fields };
        Ok(Self {
            writes: make.counters_of("mirror_writes_total", "Recruiters that the mirror wrote", MIRRORED)?,
            disagreements: make.counters_of("mirror_disagreements_total", "Offers disagreed on a field", fields)?,
        })
    }
}

/// Metrics of the throttle.
#[derive(Debug, Clone)]
pub(super) struct ThrottleMetrics {
    /// 1 while work is slowed, by the measure that is above its limit.
    pub(super) slowed: IntGaugeVec,
    /// The time that a majority is behind the primary, in seconds; NaN while unknown.
    pub(super) replication_lag: Gauge,
    /// The time of a small write until a majority has it, in seconds; NaN while unknown.
    pub(super) write_latency: Gauge,
    /// The ceiling of writes per second; NaN without one.
    pub(super) ceiling: Gauge,
}

impl ThrottleMetrics {
    fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let slowed = make.gauges("slowed", "1 while work is slowed", &["pressure"])?;
        PRESSURES.iter().for_each(|pressure| slowed.with_label_values(&[*pressure]).set(0));
        Ok(Self {
            slowed,
            replication_lag: make.unknown_gauge("replication_lag_seconds", "Majority behind the primary")?,
            write_latency: make.unknown_gauge("write_latency_seconds", "Time of a small majority write")?,
            ceiling: make.unknown_gauge("throttle_max_writes_per_second", "Ceiling of writes per second")?,
        })
    }
}

/// Metrics of the target's schema.
#[derive(Debug, Clone)]
pub struct TargetMetrics {
    /// 1 for each field that offers are written without, because the target's validator does not allow it.
    pub(super) fields_omitted: IntGaugeVec,
    /// Changes of the target's schema and indexes that were seen at run time.
    pub schema_changes: IntCounter,
}

impl TargetMetrics {
    fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            fields_omitted: make.gauges(
                "target_fields_omitted",
                "Fields that offers are written without",
                &["field"],
            )?,
            schema_changes: make
                .counter("target_schema_changes_total", "Changes of the target's schema and indexes")?,
        })
    }
}

/// Metrics of the time-based jobs.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    /// Runs, by job and outcome.
    pub(super) runs: IntCounterVec,
    /// The time at which a job was last done, in seconds since 1970; 0 when it never was.
    pub(super) last_success: GaugeVec,
    /// The first occurrence of a job that no success covers, in seconds since 1970; mostly one to come.
    pub(super) due: GaugeVec,
    /// The duration of a run, in seconds.
    pub(super) duration: HistogramVec,
    /// Documents that runs changed.
    pub(super) changed: IntCounterVec,
    /// E-mails, by template and outcome.
    pub(super) emails: IntCounterVec,
}

impl JobMetrics {
    fn new(make: &Make<'_>) -> Result<Self, prometheus::Error> {
        let emails = make.counters("emails_total", "E-mails by outcome", &["template", "outcome"])?;
        let (success, help) = ("job_last_success_timestamp_seconds", "Last time a time-based job was done");
        Ok(Self {
            runs: make.counters("job_runs_total", "Runs of time-based jobs", &["job", "outcome"])?,
            last_success: make.floats(success, help, &["job"])?,
            due: make.floats("job_due_timestamp_seconds", "First occurrence that no success covers", &["job"])?,
            duration: make.histograms("job_duration_seconds", "Duration of a run", &["job"], &JOB_SECONDS)?,
            changed: make.counters("job_changed_total", "Documents changed by time-based jobs", &["job"])?,
            emails,
        })
    }
}

/// The labels of `build_info`.
const BUILD: [&str; 5] = ["version", "commit", "environment", "database", "replica_set"];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// A [`prometheus::Error`] when two metrics have the same name: a bug in this file, which every start shows.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Make(&registry);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let jobs: Vec<&str> = JOB_STATUSES.into_iter().map(|(status, _)| status).chain([OTHER]).collect();
        let offers: Vec<&str> = OFFER_STATUSES.into_iter().chain([OTHER]).collect();
        Ok(Self {
            events: make.counters("events_total", "Events of the change stream", &["collection", "operation"])?,
            touches: make.counters("touches_total", "Recruiters to project again", &["origin"])?,
            jobs_projected: make.counter("jobs_projected_total", "Jobs projected into offers")?,
            jobs_skipped: make.counters("jobs_skipped_total", "Jobs not projected", &["reason"])?,
            offers_written: make.counters("offers_written_total", "Offers by result of the write", &["result"])?,
            conflicts: make.counters_of("conflicts_total", "Offers that differed, by the side that won", WINNERS)?,
            shadow_offers: make.counters_of("shadow_offers_total", "Offers compared in shadow", COMPARED)?,
            late_writes: LateWriteMetrics::new(&make)?,
            foreign_writes: ForeignWriteMetrics::new(&make)?,
            throttle: ThrottleMetrics::new(&make)?,
            build: make.gauges("build_info", "1, with the names of build and deployment as labels", &BUILD)?,
            verdict: make.gauges("verdict", "1 for the present verdict", &["state"])?,
            pause_limit: make.unknown_gauge("pause_limit_timestamp_seconds", "End of the limit of the pause")?,
            mirror: MirrorMetrics::new(&make)?,
            mirroring: make.integer_gauge("mirroring", "1 while the mirror keeps recruiters in step")?,
            phase: make.gauges("phase", "1 for the phase of the database", &["phase"])?,
            offers_anonymized: make.counter("offers_anonymized_total", "Anonymised offers")?,
            users_deactivated: make.counter("users_deactivated_total", "Users that were deactivated")?,
            batch_events: make.histogram("batch_events", "Events per batch", &SIZES)?,
            batch_duration: make.exemplified("batch_duration_seconds", "From planning to checkpoint", &SECONDS)?,
            stage_duration: make.histograms("stage_duration_seconds", "Time per stage", &["stage"], &SECONDS)?,
            lag: make.gauge("lag_seconds", "Server time minus the cluster time of the last applied position")?,
            end_to_end: make.exemplified("end_to_end_seconds", "From an event's wall time to its effect", &SECONDS)?,
            checkpoint_age: make.gauge("checkpoint_age_seconds", "Time since the checkpoint was saved")?,
            checkpoint_timestamp: make.gauge("checkpoint_timestamp_seconds", "Cluster time of the checkpoint")?,
            oplog_window: make.gauge("oplog_window_seconds", "How far back the oplog reaches")?,
            token_headroom: make.gauge("token_headroom_seconds", "Until the checkpoint falls off the oplog")?,
            source_jobs: make.unknown("source_jobs", "Jobs in recruiters", "status", &jobs)?,
            target_offers: make.unknown("target_offers", "Our offers in jobs_partners", "status", &offers)?,
            ready: make.integer_gauge("ready", "1 while this instance is ready")?,
            catching_up: make.integer_gauge("catching_up", "1 while the stream is read far behind")?,
            sources_dropped: make.integer_gauge("sources_dropped", "Watched collections that were dropped")?,
            resyncs: make.counter("resyncs_total", "Resyncs begun")?,
            stream_restarts: make.counters("stream_restarts_total", "Times the stream was opened again", &["cause"])?,
            write_errors: make.counters("write_errors_total", "Failed writes", &["code"])?,
            retries: make.counter("retries_total", "Attempts after a failure")?,
            dead_letters: make.gauges("dead_letters", "Stored dead letters", &["reason"])?,
            divergent_offers: make.gauges("divergent_offers", "Offers with a known difference", &["kind"])?,
            verify_last_success: make.unknown_gauge(
                "verify_last_success_timestamp_seconds",
                "End of the last verification without differences",
            )?,
            target: TargetMetrics::new(&make)?,
            verify_sampled: make.counter("verify_sampled_recruiters_total", "Recruiters compared continuously")?,
            jobs: JobMetrics::new(&make)?,
            leader: make.integer_gauge("leader", "1 when this instance leads")?,
            lease_term: make.integer_gauge("lease_term", "Term of the lease")?,
            registry,
        })
    }

    /// Names the build and the deployment. As usual for such a metric, the labels carry the information and the value is
    /// always 1.
    pub(crate) fn set_build(&self, [environment, database, replica_set]: [&str; 3]) {
        let labels = [version::VERSION, version::COMMIT, environment, database, replica_set];
        self.build.with_label_values(&labels).set(1);
    }

    /// Sets the gauge of the present verdict to 1, and those of the other ones to 0.
    pub(crate) fn set_verdict(&self, states: impl IntoIterator<Item = (&'static str, bool)>) {
        for (state, is_present) in states {
            self.verdict.with_label_values(&[state]).set(i64::from(is_present));
        }
    }

    /// Sets the gauge of this phase to 1, and those of the other phases to 0.
    pub fn set_phase(&self, phase: Phase) {
        for one in Phase::ALL {
            self.phase.with_label_values(&[one.word()]).set(i64::from(one == phase));
        }
    }

    /// Events read since the process began, by collection. The name of events of the whole database is empty.
    #[must_use]
    pub fn events_by_collection(&self) -> BTreeMap<String, u64> {
        let mut read = BTreeMap::new();
        for family in self.events.collect() {
            for counter in family.get_metric() {
                let collection = counter.get_label().iter().find(|label| label.name() == "collection");
                let collection = collection.map(|label| label.value().to_owned()).unwrap_or_default();
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                let count = counter.get_counter().get_value() as u64;
                *read.entry(collection).or_default() += count;
            }
        }
        read
    }

    /// Events read since the process began, without those of the canary, which tell nothing about the platform.
    #[must_use]
    pub fn events_read(&self) -> u64 {
        let canary = WatchedCollection::Canary.name();
        self.events_by_collection().iter().filter(|(name, _)| *name != canary).map(|(_, events)| events).sum()
    }

    /// Offers created and changed since the process began.
    #[must_use]
    pub fn offers_changed(&self) -> u64 {
        ["created", "changed"].iter().map(|result| self.offers_written.with_label_values(&[*result]).get()).sum()
    }

    /// Recruiters that the mirror wrote since the process began.
    #[must_use]
    pub(crate) fn mirrored_recruiters(&self) -> u64 {
        MIRRORED.values.iter().map(|kind| self.mirror.writes.with_label_values(&[*kind]).get()).sum()
    }

    /// All metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// A [`prometheus::Error`] when a metric cannot be written as text.
    pub fn text(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// All metrics as OpenMetrics text, with exemplars.
    #[must_use]
    pub(crate) fn openmetrics_text(&self) -> String {
        let exemplars = [self.batch_duration.exemplars(), self.end_to_end.exemplars()];
        openmetrics::text(&self.registry.gather(), &exemplars)
    }
}
