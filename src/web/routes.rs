//! The HTTP routes. Each route answers from memory, because a probe must not wait for MongoDB.

use std::sync::Arc;

use askama::Template as _;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bson::DateTime;
use serde::Serialize;
use serde_json::json;
use tower_http::compression::CompressionLayer;

use super::metrics_format::MetricsFormat;
use super::page::Page;
use super::runbook;
use crate::clock;
use crate::context::Context;
use crate::model::time::seconds;
use crate::observe::health::Role;
use crate::observe::readiness::Readiness;
use crate::status::document::{Status, judged};
use crate::status::survey::{ServiceFacts, Survey};
use crate::status::verdict::{Verdict, verdict};
use crate::status::verdict_state::VerdictState;

/// The headers of every answer. A browser may load nothing from elsewhere, send nothing elsewhere and store nothing.
const HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cache-control", "no-store"),
];

/// The sources of the answers.
#[derive(Debug, Clone)]
pub(crate) struct WebState {
    context: Context,
    survey: Arc<Survey>,
    started: DateTime,
}

impl WebState {
    /// The state of an instance that starts now.
    #[must_use]
    pub(crate) fn of(context: &Context, survey: &Arc<Survey>) -> Self {
        Self { context: context.clone(), survey: Arc::clone(survey), started: clock::now() }
    }

    fn status(&self) -> Status {
        Status::now(&self.context, &self.survey, self.started)
    }
}

pub(crate) fn router(shown: WebState) -> Router {
    let style = text("text/css; charset=utf-8", include_str!("style.css"));
    let script = text("text/javascript; charset=utf-8", include_str!("script.js"));
    Router::new()
        .route("/", get(page))
        .route("/style.css", get(style))
        .route("/script.js", get(script))
        .route("/icon/{level}", get(icon))
        .route("/runbook", get(text("text/html; charset=utf-8", &runbook::PAGE)))
        .route("/api/status", get(status))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/healthcheck", get(readyz))
        .with_state(shown)
        .layer(map_response(with_headers))
        .layer(CompressionLayer::new())
}

async fn with_headers(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(kind: &'static str, text: &'static str) -> impl Fn() -> std::future::Ready<Response> + Clone {
    move || std::future::ready(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// All metrics, in the format that the client asks for.
async fn metrics(State(shown): State<WebState>, headers: HeaderMap) -> Response {
    set_gauges(&shown);
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = MetricsFormat::wanted(&accept.collect::<Vec<_>>().join(","));
    let metrics = &shown.context.metrics;
    let text = match format {
        MetricsFormat::Classic => metrics.text(),
        MetricsFormat::OpenMetrics => Ok(metrics.openmetrics_text()),
    };
    let headers = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
    match text {
        Ok(text) => (headers, text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Sets the gauges that must be right at each scrape.
fn set_gauges(shown: &WebState) {
    let Context { metrics, health, .. } = &shown.context;
    // Lag and age grow while nothing moves. An unknown value is NaN, not 0
    // (spec 03, "Lag").
    metrics.lag.set(health.lag().unwrap_or(f64::NAN));
    metrics.checkpoint_age.set(health.checkpoint_age().unwrap_or(f64::NAN));
    metrics.leader.set(i64::from(health.role() == Role::Leader));
    metrics.ready.set(i64::from(health.readiness().ready));
    metrics.catching_up.set(i64::from(health.is_catching_up()));
    metrics.sources_dropped.set(i64::try_from(health.dropped_sources()).unwrap_or(i64::MAX));
    let state = verdict(&judged(&shown.context, &shown.survey)).state;
    metrics.set_verdict(VerdictState::ALL.map(|other| (other.word(), other == state)));
    let facts = shown.survey.fresh_facts();
    let pause_limit = |facts: &ServiceFacts| facts.pause.as_ref().map_or(0.0, |pause| seconds(pause.limit_at));
    metrics.pause_limit.set(facts.as_deref().map_or(f64::NAN, pause_limit));
    let keeps_backup = shown.context.settings.phase.keep_recruiters_backup;
    let mirrors = facts.as_ref().is_some_and(|facts| facts.phase.phase.mirrors(keeps_backup));
    metrics.mirroring.set(i64::from(mirrors));
    metrics.oplog_window.set(facts.as_ref().and_then(|facts| facts.oplog_window()).unwrap_or(f64::NAN));
    metrics.token_headroom.set(facts.and_then(|facts| facts.headroom()).unwrap_or(f64::NAN));
}

/// 200 while all loops of the process give signs of life; otherwise 503 with the dead ones.
async fn livez(State(shown): State<WebState>) -> Response {
    let dead = shown.context.health.dead();
    let status = if dead.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": dead.is_empty(), "dead": dead }))).into_response()
}

/// 200 while the instance is ready; otherwise 503 with the reasons. The verdict says more, and may name damage beside a
/// ready instance.
async fn readyz(State(shown): State<WebState>) -> Response {
    let readiness = shown.context.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verdict = verdict(&judged(&shown.context, &shown.survey));
    (status, Json(Answer { readiness, verdict })).into_response()
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Answer {
    #[serde(flatten)]
    readiness: Readiness,
    verdict: Verdict,
}

/// The status document, with everything that the page shows.
async fn status(State(shown): State<WebState>) -> Json<Status> {
    Json(shown.status())
}

/// The status page for people.
async fn page(State(shown): State<WebState>) -> Response {
    let status = shown.status();
    match Page::of(&status).render() {
        Ok(page) => Html(page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The icon of the page in a browser tab, in the colour of the level.
async fn icon(Path(level): Path<String>) -> Response {
    let colour = match level.as_str() {
        "ok.svg" => "#0b8a4a",
        "warn.svg" => "#e08700",
        "bad.svg" => "#d0262c",
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"7\" \
         fill=\"{colour}\"/></svg>"
    );
    ([(header::CONTENT_TYPE, "image/svg+xml")], image).into_response()
}
