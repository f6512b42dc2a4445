//! A TCP proxy between one service and its server, to be put out of order: the faults of a network, which no command
//! of MongoDB can make. The test's own client does not go through it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::waiting::{PATIENCE, eventually};

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Passes everything on.
    Passes,
    /// Closes every connection, and each new one at once.
    IsCut,
    /// Keeps every connection and passes nothing on, in neither direction, until it passes again.
    Stalls,
    /// Passes requests on and swallows the answers: what the server did, the client never hears. The connections
    /// that carried them stay open and silent for ever, also when the line passes again.
    LosesAnswers,
}

/// A proxy in front of one server.
pub(crate) struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    count: Arc<Count>,
}

#[derive(Default)]
struct Count {
    ever: AtomicUsize,
    open: AtomicUsize,
}

impl Proxy {
    /// A proxy to the server at `host` (`address:port`), which passes.
    pub(crate) async fn start(host: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (line, state) = watch::channel(Line::Passes);
        let count = Arc::new(Count::default());
        let (counts, host) = (Arc::clone(&count), host.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counts, host, state) = (Arc::clone(&counts), host.clone(), state.clone());
                counts.ever.fetch_add(1, Ordering::Relaxed);
                counts.open.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    carry(client, host, state).await;
                    counts.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, line, count }
    }

    /// The connection string of the server behind it: this one alone, whatever set it is in.
    pub(crate) fn uri(&self) -> String {
        format!("mongodb://{}/?directConnection=true", self.address)
    }

    /// From now on the line is so, for the connections that stand as well.
    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Closes every connection; new ones are let through.
    pub(crate) async fn cut(&self) {
        self.set(Line::IsCut);
        eventually(PATIENCE, "all connections are closed", async || {
            (self.count.open.load(Ordering::Relaxed) == 0).then_some(())
        })
        .await;
        self.set(Line::Passes);
    }

    /// How many connections were ever opened.
    pub(crate) fn connections(&self) -> usize {
        self.count.ever.load(Ordering::Relaxed)
    }
}

async fn carry(client: TcpStream, host: String, line: watch::Receiver<Line>) {
    let mut cut = line.clone();
    let both_ways = async {
        let server = TcpStream::connect(host).await?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let requests = pump(from_client, to_server, line.clone(), false);
        let answers = pump(from_server, to_client, line, true);
        // A side that ends, ends both; unless it lost an answer, then it stays silent.
        tokio::select! { ended = requests => ended, ended = answers => ended }
    };
    tokio::select! {
        _ = both_ways => {}
        _ = cut.wait_for(|line| *line == Line::IsCut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut line: watch::Receiver<Line>,
    answers: bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if answers && *line.borrow() == Line::LosesAnswers {
            std::future::pending::<()>().await;
        }
        // The sender lives as long as the proxy; without it the test is over.
        if line.wait_for(|line| *line != Line::Stalls).await.is_err() || read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).await?;
    }
}
