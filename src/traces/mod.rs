//! Traces (OpenTelemetry): a batch of the stream, a run of a time-based job and a command are a trace each, whose spans
//! are the stages of the work. Spans carry names, counts and durations, never a value of a document. Without
//! `traces.endpoint` no span is made.

mod export;

use opentelemetry::KeyValue;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use secrecy::ExposeSecret as _;
use std::time::Duration;
use tracing::level_filters::LevelFilter;
use tracing::{Span, Subscriber, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use self::export::Exporter;
use crate::config::{TracesSettings, headers};
use crate::outgoing::Caller;
use crate::version;

/// The target of the spans of this file. The log leaves it out.
pub(crate) const TARGET: &str = "otel_spans";
/// The most spans that wait to be sent. Others are dropped.
const WAITING: usize = 2_048;
/// The most spans in one call.
const SPANS_PER_CALL: usize = 512;
/// The longest time that a span waits.
const INTERVAL: Duration = Duration::from_secs(2);
/// The time limit of one call.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time that the spans which are left have at the end of the process.
const AT_THE_END: Duration = Duration::from_secs(2);

/// The traces of this process.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send traces; `None` without an endpoint. `instance` is the name of this process.
    #[must_use]
    pub fn start(settings: &TracesSettings, environment: &'static str, instance: &str) -> Option<Self> {
        let url = settings.endpoint.clone()?;
        let resource = Resource::builder_empty()
            .with_service_name("stream-processor")
            .with_attributes([
                KeyValue::new("service.version", version::VERSION),
                KeyValue::new("service.instance.id", instance.to_owned()),
                KeyValue::new("deployment.environment.name", environment),
            ])
            .build();
        // The headers were checked with the configuration.
        let headers = settings.headers.as_ref().map(|text| headers::parse(text.expose_secret())).transpose().ok()?;
        let exporter = Exporter::new(url, headers.unwrap_or_default(), Caller::new(PATIENCE).ok()?, &resource)?;
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(SPANS_PER_CALL)
            .with_scheduled_delay(INTERVAL)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(settings.sampled()))))
            .with_resource(resource)
            .with_span_processor(BatchSpanProcessor::builder(exporter).with_batch_config(bounds).build())
            .build();
        Some(Self(provider))
    }

    /// The layer of `tracing` that makes traces of the spans of this file, and of no others.
    #[must_use]
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(&self) -> Box<dyn Layer<S> + Send + Sync> {
        let own = Targets::new().with_target(TARGET, LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("stream-processor"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(own)
            .boxed()
    }

    /// Sends the spans that are left, for two seconds at most.
    pub fn finish(&self) {
        // What could not be sent by then is lost, and nobody rests on it.
        let _ = self.0.shutdown_with_timeout(AT_THE_END);
    }
}

/// The trace of a batch of the stream, in a phase.
pub(crate) fn batch(phase: &'static str) -> Span {
    info_span!(target: TARGET, parent: None, "batch", phase, events = tracing::field::Empty, touches = tracing::field::Empty)
}

/// The trace of a run of a time-based job.
pub(crate) fn job(job: &'static str) -> Span {
    info_span!(target: TARGET, parent: None, "job", otel.name = job, outcome = tracing::field::Empty,
        matched = tracing::field::Empty, changed = tracing::field::Empty, failed = tracing::field::Empty)
}

/// The trace of a command that the pipeline carries out in steps.
pub(crate) fn command(order: &'static str) -> Span {
    info_span!(target: TARGET, parent: None, "command", otel.name = order)
}

/// The span of a stage of the current trace.
pub(crate) fn stage(stage: &'static str) -> Span {
    info_span!(target: TARGET, "stage", otel.name = stage)
}

/// The id of the trace of `span`; `None` without one, and where it is not among those that are sent.
pub(crate) fn id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then(|| context.trace_id().to_string())
}
