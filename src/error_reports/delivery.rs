//! Brings reports to Sentry on a thread of its own, so that neither a slow server nor a busy runtime waits for the other.
//! The queue is bounded; a report that finds it full is dropped.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{Method, Request};
use sentry_core::types::Dsn;
use sentry_core::{Envelope, Transport};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::clock;
use crate::outgoing::{Answer, Caller};

/// The capacity of the queue, in reports.
const WAITING: usize = 32;
/// The time limit of one call.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause after an answer 429 that names none.
const PAUSE: Duration = Duration::from_mins(1);
/// The longest pause that an answer can ask for.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);
/// The name of the thread.
const THREAD: &str = "error-reports";

/// The entrance of the queue.
#[derive(Debug)]
pub(super) struct Delivery {
    queue: mpsc::Sender<Envelope>,
    unsent: Arc<Unsent>,
}

/// The number of reports that are queued or on their way.
#[derive(Debug, Default)]
struct Unsent {
    number: Mutex<usize>,
    changed: Condvar,
}

impl Unsent {
    fn change(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.number.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there is none; false if there still is one after `timeout`.
    fn until_none(&self, timeout: Duration) -> bool {
        let number = self.number.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(number, timeout, |number| *number > 0);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

impl Delivery {
    /// Starts the thread; `None` if the system gives no thread.
    pub(super) fn start(dsn: &Dsn) -> Option<Self> {
        let (queue, reports) = mpsc::channel(WAITING);
        let unsent = Arc::new(Unsent::default());
        let courier = Courier {
            url: dsn.envelope_api_url().to_string(),
            key: dsn.to_auth(Some(concat!("stream-processor/", env!("CARGO_PKG_VERSION")))).to_string(),
            unsent: Arc::clone(&unsent),
            silent_until: None,
            fails: false,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        thread::Builder::new().name(THREAD.to_owned()).spawn(move || runtime.block_on(courier.run(reports))).ok()?;
        Some(Self { queue, unsent })
    }
}

impl Transport for Delivery {
    fn send_envelope(&self, envelope: Envelope) {
        self.unsent.change(|number| *number += 1);
        if self.queue.try_send(envelope).is_err() {
            self.unsent.change(|number| *number -= 1);
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        self.unsent.until_none(timeout)
    }
}

/// The other end of the queue.
struct Courier {
    url: String,
    /// The value of the header `X-Sentry-Auth`, with the public key of the DSN.
    key: String,
    unsent: Arc<Unsent>,
    /// The time until which the server wants no report.
    silent_until: Option<Instant>,
    /// True if the last call failed.
    fails: bool,
}

impl Courier {
    async fn run(mut self, mut reports: mpsc::Receiver<Envelope>) {
        let caller = Caller::new(PATIENCE);
        while let Some(report) = reports.recv().await {
            let is_silent = self.silent_until.is_some_and(|until| clock::instant() < until);
            if let (Ok(caller), false) = (&caller, is_silent) {
                let outcome = self.call(caller, &report).await;
                self.tell(outcome);
            }
            self.unsent.change(|number| *number -= 1);
        }
    }

    /// Sends a report. The error is the reason why the server does not have it.
    async fn call(&mut self, caller: &Caller, report: &Envelope) -> Result<(), String> {
        let mut body = Vec::new();
        report.to_writer(&mut body).map_err(|error| error.to_string())?;
        let mut key = HeaderValue::from_str(&self.key).map_err(|error| error.to_string())?;
        key.set_sensitive(true);
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.url)
            .header(CONTENT_TYPE, "application/x-sentry-envelope")
            .header(HeaderName::from_static("x-sentry-auth"), key);
        let answer = caller.call(request, Bytes::from(body)).await.map_err(|error| format!("the server {error}"))?;
        if let Some(pause) = asked_pause(&answer) {
            self.silent_until = Some(clock::instant() + pause.min(LONGEST_PAUSE));
        }
        if answer.status < 300 { Ok(()) } else { Err(format!("the server answers {}", answer.status)) }
    }

    /// Logs the first failure of a series, and its end.
    fn tell(&mut self, outcome: Result<(), String>) {
        let failed = std::mem::replace(&mut self.fails, outcome.is_err());
        match outcome {
            Err(error) if !failed => warn!(error, "error reports cannot be sent to sentry.dsn; they are dropped"),
            Ok(()) if failed => info!("error reports can be sent again"),
            Ok(()) | Err(_) => {}
        }
    }
}

/// The pause that the server asks for. `X-Sentry-Rate-Limits` may also come with an accepted report, and goes before
/// `Retry-After` (<https://develop.sentry.dev/sdk/expected-features/rate-limiting/>).
fn asked_pause(answer: &Answer) -> Option<Duration> {
    let limits = answer.headers.get_all("x-sentry-rate-limits").iter().filter_map(|limits| limits.to_str().ok());
    let pause = limits.flat_map(|limits| limits.split(',')).filter_map(pause_of_limit).max();
    pause.or_else(|| (answer.status == 429).then(|| answer.retry_after().unwrap_or(PAUSE)))
}

/// The pause of one limit, `seconds:categories:…`; `None` for one that is not about reports of errors. A limit without
/// categories is about all.
fn pause_of_limit(limit: &str) -> Option<Duration> {
    let mut parts = limit.trim().split(':');
    let seconds: f64 = parts.next()?.trim().parse().ok()?;
    let categories = parts.next().unwrap_or_default();
    let is_ours = categories.is_empty() || categories.split(';').any(|category| category.trim() == "error");
    is_ours.then(|| Duration::try_from_secs_f64(seconds.ceil()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn the_pause_is_that_of_the_limits_about_errors() {
        let answer = |status, headers: &[(&'static str, &str)]| {
            let mut all = HeaderMap::new();
            for (name, value) in headers {
                all.append(HeaderName::from_static(name), value.parse().unwrap());
            }
            asked_pause(&Answer { status, headers: all, body: Vec::new() }).map(|pause| pause.as_secs())
        };
        let [limits, later] = ["x-sentry-rate-limits", "retry-after"];
        assert_eq!(answer(200, &[]), None);
        assert_eq!(answer(429, &[]), Some(60));
        assert_eq!(answer(429, &[(later, "7")]), Some(7));
        assert_eq!(answer(200, &[(limits, "30:transaction:key, 2700:default;error:organization")]), Some(2_700));
        assert_eq!(answer(200, &[(limits, "90::organization")]), Some(90));
        assert_eq!(answer(429, &[(limits, "30:transaction:key"), (later, "7")]), Some(7));
        assert_eq!(answer(200, &[(limits, "30:transaction:key"), (limits, "8:error:key")]), Some(8));
        assert_eq!(answer(200, &[(limits, "x:error, -1:error, 1e300:error")]), None);
        assert_eq!(answer(429, &[(limits, "x:error")]), Some(60));
    }
}
