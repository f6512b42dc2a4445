//! Calls to other services over HTTP or HTTPS, bounded in time, size and pace. Redirections are not followed. Errors
//! show nothing of the sent data, which may be secret.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use axum::http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// The maximal size of the body of an answer, in bytes.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// An HTTP client with one time limit for each whole call.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    client: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    patience: Duration,
}

/// The answer to a call, whatever its status code.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status code.
    pub status: u16,
    /// The headers of the answer.
    pub headers: HeaderMap,
    /// The whole body, of at most one megabyte.
    pub body: Vec<u8>,
}

impl Answer {
    /// The header `Retry-After`; `None` where it is missing or is no number of seconds.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    }
}

/// The reason why a call has no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The connection could not be opened, or ended too early.
    #[error("cannot be reached")]
    Unreachable,
    /// The answer did not come within the time limit of the [`Caller`].
    #[error("does not answer in time")]
    Silent,
    /// The body is longer than one megabyte.
    #[error("answers with more than one megabyte")]
    TooLong,
    /// The URL or a header has characters that HTTP does not allow.
    #[error("cannot be called: its address or token has characters that HTTP does not allow")]
    Unsendable,
}

impl Caller {
    /// Creates a client; `patience` is the time limit of a whole call.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(patience: Duration) -> Result<Self, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider)?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, patience })
    }

    /// Sends a GET, with `token` as the bearer token where there is one.
    ///
    /// # Errors
    /// [`NoAnswer`]; an answer with an error status is an [`Answer`].
    pub(crate) async fn get(&self, url: &str, token: Option<&SecretString>) -> Result<Answer, NoAnswer> {
        let mut request = Request::builder().method(Method::GET).uri(url);
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
            let mut bearer = bearer.map_err(|_| NoAnswer::Unsendable)?;
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        self.call(request, Bytes::new()).await
    }

    /// Sends a POST with a JSON text as its body.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn post(&self, url: &str, json: String) -> Result<Answer, NoAnswer> {
        let request = Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, "application/json");
        self.call(request, Bytes::from(json)).await
    }

    /// Sends a request with its own method and headers, and adds the name of the program.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn call(&self, request: axum::http::request::Builder, body: Bytes) -> Result<Answer, NoAnswer> {
        let request = request.header(USER_AGENT, concat!("stream-processor/", env!("CARGO_PKG_VERSION")));
        let request = request.body(Full::new(body)).map_err(|_| NoAnswer::Unsendable)?;
        timeout(self.patience, Box::pin(self.exchange(request))).await.unwrap_or(Err(NoAnswer::Silent))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
        let answer = self.client.request(request).await.map_err(|_| NoAnswer::Unreachable)?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LONGEST_ANSWER).collect().await.map_err(|error| {
            let is_too_long = error.downcast_ref::<http_body_util::LengthLimitError>().is_some();
            if is_too_long { NoAnswer::TooLong } else { NoAnswer::Unreachable }
        })?;
        let body = body.to_bytes().to_vec();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }
}

/// A limit on how often something happens per second.
#[derive(Debug)]
pub(crate) struct Pace(Mutex<Interval>);

impl Pace {
    /// A limit of `rate` per second; zero counts as one.
    #[must_use]
    pub(crate) fn per_second(rate: usize) -> Self {
        let rate = u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        let mut interval = interval(Duration::from_secs(1) / rate);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self(Mutex::new(interval))
    }

    /// Waits until the limit allows the next call. Callers wait in the order of their arrival.
    pub(crate) async fn wait(&self) {
        self.0.lock().await.tick().await;
    }
}
