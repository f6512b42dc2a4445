//! The command `health`, which asks the instance on this machine over HTTP, so that a container without a shell can
//! check itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::uri::InvalidUri;
use clap::Args;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::refusal::Exit;
use crate::refusal::Refusal;

/// The longest time for an answer. A probe answers from memory, so a later answer counts as none.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// Ask /readyz instead. If an instance is not ready, a restart does not help.
    #[arg(long)]
    pub ready: bool,
}

/// Asks `/livez`, or `/readyz` with `--ready`, and prints the answer on standard output.
///
/// # Errors
/// A [`Refusal`] when no instance answers in time.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn run(arguments: &HealthArguments, listen: SocketAddr) -> Result<Exit, Refusal> {
    let path = if arguments.ready { "readyz" } else { "livez" };
    let (is_well, answer) = ask(listen, path).await?;
    println!("{answer}");
    Ok(if is_well { Exit::Done } else { Exit::Findings })
}

/// Asks the instance on this machine, and returns whether the status of the answer is a success, and its body.
///
/// # Errors
/// A [`Refusal`] when no instance answers in time.
pub(super) async fn ask(listen: SocketAddr, path: &str) -> Result<(bool, String), Refusal> {
    let address = reachable(listen);
    let refused = |reason: &dyn std::error::Error| {
        let message = format!("no answer from {address} ({reason}); is an instance running with this http.listen?");
        Refusal::new(Exit::Findings, message)
    };
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri = format!("http://{address}/{path}").parse().map_err(|error: InvalidUri| refused(&error))?;
    let asking = async {
        let answer = client.get(uri).await.map_err(|error| refused(&error))?;
        let is_well = answer.status().is_success();
        let body = answer.into_body().collect().await.map_err(|error| refused(&error))?.to_bytes();
        Ok::<_, Refusal>((is_well, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(PATIENCE, asking).await.map_err(|late| refused(&late))?
}

/// The address at which an instance can be asked. An instance that listens on all addresses (`0.0.0.0`, `[::]`) is
/// asked on the loopback address, because no client can connect to an unspecified address.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_that_listens_everywhere_is_asked_on_this_machine() {
        for (listen, asked) in
            [("0.0.0.0:9464", "127.0.0.1:9464"), ("[::]:9464", "[::1]:9464"), ("10.0.0.7:80", "10.0.0.7:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
