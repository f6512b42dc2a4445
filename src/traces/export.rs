//! Sends spans by OTLP over HTTP, in protobuf. It is called on the thread of OpenTelemetry's queue, which nobody waits for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::{Method, Request};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prost::Message as _;
use tokio::runtime::{Builder, Runtime};
use tracing::{info, warn};

use crate::outgoing::Caller;

/// Sends spans to one endpoint.
#[derive(Debug)]
pub(super) struct Exporter {
    url: String,
    /// The headers of the configuration.
    headers: HeaderMap,
    caller: Caller,
    /// Where calls run. The runtime of the service must not be kept busy by them, nor keep them waiting.
    runtime: Mutex<Runtime>,
    resource: ResourceAttributesWithSchema,
    /// True if the last call failed.
    fails: AtomicBool,
}

impl Exporter {
    /// `None` if the system gives no runtime.
    pub(super) fn new(url: String, headers: HeaderMap, caller: Caller, resource: &Resource) -> Option<Self> {
        let runtime = Mutex::new(Builder::new_current_thread().enable_all().build().ok()?);
        Some(Self { url, headers, caller, runtime, resource: resource.into(), fails: AtomicBool::new(false) })
    }

    fn send(&self, spans: Vec<SpanData>) -> Result<(), String> {
        let resource_spans = group_spans_by_resource_and_scope(spans, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut request = Request::builder().method(Method::POST).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.header(CONTENT_TYPE, "application/x-protobuf");
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = runtime.block_on(self.caller.call(request, Bytes::from(body)));
        let answer = answer.map_err(|error| format!("the server {error}"))?;
        if answer.status < 300 { Ok(()) } else { Err(format!("the server answers {}", answer.status)) }
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, spans: Vec<SpanData>) -> OTelSdkResult {
        let outcome = self.send(spans);
        let failed = self.fails.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(error) if !failed => warn!(error, "traces cannot be sent to traces.endpoint; they are dropped"),
            Ok(()) if failed => info!("traces can be sent again"),
            Ok(()) | Err(_) => {}
        }
        outcome.map_err(OTelSdkError::InternalFailure)
    }
}
