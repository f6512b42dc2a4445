//! A web server that answers what a test tells it to, over real HTTP, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub path: String,
    pub query: String,
    pub authorization: Option<String>,
    pub headers: HeaderMap,
    pub body: String,
    /// The body as it came, which need not be text.
    pub bytes: Vec<u8>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a body.
    Say(u16, String),
    /// The same with `Retry-After` in seconds.
    Later(u16, u64),
    /// A status and a header.
    With(u16, (&'static str, &'static str)),
    /// Nothing.
    Stall,
}

type Script = dyn Fn(&Asked, usize) -> Answer + Send + Sync;

/// The server; it ends with the test.
pub(crate) struct WebServer {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

#[derive(Clone)]
struct Shared {
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Script>,
}

impl WebServer {
    /// One that follows a script: given a request, and how often its path was asked for before.
    pub(crate) async fn start(script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let shared = Shared { asked: Arc::clone(&asked), script: Arc::new(script) };
        let router = Router::new().fallback(answer).with_state(shared);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1_000_000).await.unwrap();
    let asked = Asked {
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        authorization: head.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned()),
        headers: head.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
        bytes: body.to_vec(),
    };
    let before = {
        let mut all = shared.asked.lock().unwrap();
        let before = all.iter().filter(|earlier| earlier.path == asked.path).count();
        all.push(asked.clone());
        before
    };
    match (shared.script)(&asked, before) {
        Answer::Say(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Answer::Later(status, seconds) => {
            (StatusCode::from_u16(status).unwrap(), [("retry-after", seconds.to_string())]).into_response()
        }
        Answer::With(status, header) => (StatusCode::from_u16(status).unwrap(), [header]).into_response(),
        Answer::Stall => std::future::pending().await,
    }
}
