//! Serves HTTP on the one listening socket. Everything that a client decides has a bound: the number of connections,
//! their duration, the time for a request and its size. A connection over a bound is cut off, so that probes are always
//! answered.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use futures::StreamExt as _;
use futures::future::{AbortHandle, abortable};
use futures::stream::FuturesUnordered;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::error::Failure;

/// The most connections at one time. One more cuts off the oldest connection, so that a probe is always answered.
const CONNECTIONS: usize = 64;
/// The longest time until the headers of a request are complete, counted from its first byte or from the end of the
/// request before. It is longer than the usual interval of a scraper, so that the scraper keeps its connection.
const HEADERS: Duration = Duration::from_secs(20);
/// The most bytes of a request that are buffered: the request line with its headers.
const BUFFER: usize = 16 * 1024;
/// The longest life of one connection, even of a busy one.
const CONNECTION: Duration = Duration::from_secs(300);
/// The pause after a failed accept, whose cause is mostly a lack of file descriptors.
const BREATH: Duration = Duration::from_millis(200);

/// Serves the routes until `stop`.
///
/// # Errors
/// None: after a failed accept, the server goes on.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) -> Result<(), Failure> {
    let mut connections = FuturesUnordered::new();
    let mut open: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    let mut accepted = 0_u64;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(ended) = connections.next(), if !connections.is_empty() => {
                open.remove(&ended);
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "an HTTP connection could not be accepted");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            },
        };
        if open.len() >= CONNECTIONS
            && let Some((_, oldest)) = open.pop_first()
        {
            oldest.abort();
        }
        accepted += 1;
        let number = accepted;
        let (connection, handle) = abortable(connection(stream, router.clone()));
        open.insert(number, handle);
        connections.push(async move {
            // The result only tells whether the connection was cut off; it has ended in both cases.
            let _ = connection.await;
            number
        });
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(BUFFER);
    let served = server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an HTTP connection ended"),
        Err(_) => debug!(seconds = CONNECTION.as_secs(), "an HTTP connection was open for too long and is closed"),
    }
}
