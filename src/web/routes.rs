//! The routes. Each answers from memory: a probe must not wait for MongoDB.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use crate::observe::health::Health;
use crate::observe::metrics::Metrics;

/// What the routes show.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Roles, lag, troubles.
    pub health: Arc<Health>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

/// All routes.
pub fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/healthcheck", get(readyz))
        .with_state(shown)
}

async fn metrics(State(shown): State<Shown>) -> Response {
    // Asked here, so that they grow while nothing moves; unknown is not 0 (spec 03, "Lag").
    shown.metrics.lag.set(shown.health.lag().unwrap_or(f64::NAN));
    shown.metrics.checkpoint_age.set(shown.health.checkpoint_age().unwrap_or(f64::NAN));
    match shown.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// 200 while the loops of the process give signs of life.
async fn livez(State(shown): State<Shown>) -> Response {
    let dead = shown.health.dead();
    let status = if dead.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "alive": dead.is_empty(), "dead": dead }))).into_response()
}

/// 200 while the instance does what it should; else 503 with the reasons.
async fn readyz(State(shown): State<Shown>) -> Response {
    let readiness = shown.health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness)).into_response()
}

/// For people who open the address: what the instance does, and where the rest is.
async fn page(State(shown): State<Shown>) -> Html<String> {
    let readiness = shown.health.readiness();
    let role = format!("{:?}", readiness.role).to_lowercase();
    let lag = readiness.lag_seconds.map_or_else(|| "unknown".to_owned(), |lag| format!("{lag:.0} s"));
    let ready = if readiness.ready { "ready" } else { "not ready" };
    let version = env!("CARGO_PKG_VERSION");
    // Nothing here comes from a document, so nothing needs escaping.
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>stream-processor: {ready}</title>\
         <h1>stream-processor {version}</h1><p>{role}, {ready}, lag {lag}</p>\
         <ul><li><a href=\"/metrics\">metrics</a><li><a href=\"/readyz\">readiness, with reasons</a>\
         <li><a href=\"/livez\">liveness</a></ul></html>"
    ))
}
