//! Serves HTTP on the one listening socket, with bounds on everything that a client decides: how many
//! connections, how slowly, how long, how much. What is over them is cut off; probes go on being answered.

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

/// Connections at one time; one more cuts off the oldest, so that a probe is always answered.
const CONNECTIONS: usize = 64;
/// From the first byte of a request, or the end of the one before, to the end of its headers. Longer than the
/// usual interval of a scraper, so that its connection stays.
const HEADERS: Duration = Duration::from_secs(20);
/// The most bytes that are kept of what a client sends: a request line with its headers.
const BUFFER: usize = 16 * 1024;
/// The longest that one connection may live, whatever it does.
const CONNECTION: Duration = Duration::from_secs(300);
/// After a failed accept, which is mostly a lack of file descriptors.
const BREATH: Duration = Duration::from_millis(200);

/// Serves until `stop`.
///
/// # Errors
/// Never: a server that cannot accept goes on trying.
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
            // Cut off or not, it is over.
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
        Err(_) => debug!("an HTTP connection was cut off after {} s", CONNECTION.as_secs()),
    }
}
