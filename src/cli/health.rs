//! The command `health`: asks the instance of this machine over HTTP, so that a container without a shell
//! can check itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;

use super::Exit;
use crate::app::Refusal;

/// A probe answers from memory; one that takes longer is no answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `health`.
#[derive(Debug, Args)]
pub struct HealthArguments {
    /// Ask /readyz instead: whether it does what it should. A restart does not help then.
    #[arg(long)]
    pub ready: bool,
}

/// Asks; prints the answer.
///
/// # Errors
/// A [`Refusal`] when nobody answers.
#[expect(clippy::print_stdout, reason = "what the command is asked for")]
pub async fn run(arguments: &HealthArguments, listen: SocketAddr) -> Result<Exit, Refusal> {
    let path = if arguments.ready { "readyz" } else { "livez" };
    let address = reachable(listen);
    let silent = |error: reqwest::Error| {
        let message = format!("no answer from {address} ({error}); is an instance running with this http.listen?");
        Refusal::new(Exit::Found, message)
    };
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().map_err(silent)?;
    let answer = client.get(format!("http://{address}/{path}")).send().await.map_err(silent)?;
    let is_well = answer.status().is_success();
    println!("{}", answer.text().await.map_err(silent)?);
    Ok(if is_well { Exit::Done } else { Exit::Found })
}

/// Where to ask an instance that listens there: every address of a machine is none to connect to.
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
