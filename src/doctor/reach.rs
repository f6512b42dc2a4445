//! What `doctor` tries to reach over the network besides MongoDB: the mail server, the company directory.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::Check;
use crate::app::App;
use crate::config::Environment;

/// A server that takes longer is not there.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn smtp(app: &App) -> Check {
    let Some(url) = &app.settings.smtp.url else {
        let folder = app.settings.mail.outbox_directory.display();
        let found = format!("no server is configured: messages are written to {folder}");
        return match app.settings.environment {
            Environment::Production => Check::warning("smtp", found, "set smtp.url, or SMTP_URL"),
            Environment::Staging | Environment::Development => Check::ok("smtp", found),
        };
    };
    let remedy = "check smtp.url, and that the network lets us through";
    let Some((url, address)) = address(url.expose_secret(), [("smtp", 587), ("smtps", 465)]) else {
        return Check::failed("smtp", "smtp.url cannot be understood", "write smtp://user:password@host:587");
    };
    let greeted = tokio::time::timeout(PATIENCE, greeting(&address, url.scheme() == "smtps"));
    match greeted.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(said) => Check::ok("smtp", format!("{address} {said}")),
        Err(error) => Check::failed("smtp", format!("{address}: {error}"), remedy),
    }
}

/// Says EHLO and reads what the server says to it; behind TLS, only that it is there.
async fn greeting(address: &str, is_encrypted: bool) -> std::io::Result<&'static str> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    if is_encrypted {
        return Ok("answers");
    }
    expect(&mut stream, "220").await?;
    stream.write_all(b"EHLO stream-processor\r\n").await?;
    expect(&mut stream, "250").await?;
    stream.write_all(b"QUIT\r\n").await?;
    Ok("greets us")
}

/// Reads one reply, of one line or several (RFC 5321, "4.2.1").
async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other("the connection was closed instead of a greeting"));
        }
        if !line.starts_with(code) {
            return Err(std::io::Error::other(format!("it does not answer {code} as a mail server does")));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

pub(super) async fn directory(app: &App) -> Check {
    let directory = &app.settings.directory;
    let Some(base) = &directory.base_url else {
        return Check::ok("directory", "none is configured: only the collection cache_siret is asked");
    };
    let Some((_, address)) = address(base, [("https", 443), ("http", 80)]) else {
        return Check::failed("directory", "directory.base_url is no address", "write https://host/path");
    };
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(_) if directory.token.is_none() => {
            Check::failed("directory", format!("{address} answers, but there is no token"), "set directory.token_file")
        }
        Ok(_) => Check::ok("directory", format!("{address} answers")),
        Err(error) => Check::failed(
            "directory",
            format!("{address}: {error}"),
            "check directory.base_url, and that the network lets us through",
        ),
    }
}

/// Host and port of a URL, with the port of its scheme where it names none.
fn address(url: &str, ports: [(&str, u16); 2]) -> Option<(Url, String)> {
    let url = Url::parse(url).ok()?;
    let (_, port) = ports.into_iter().find(|(scheme, _)| *scheme == url.scheme())?;
    let address = format!("{}:{}", url.host_str()?, url.port().unwrap_or(port));
    Some((url, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_scheme_unless_it_is_named() {
        let ports = [("smtp", 587), ("smtps", 465)];
        let of = |url| address(url, ports).map(|(_, address)| address);
        assert_eq!(of("smtp://user:hunter2@mail.example.com?tls=required").as_deref(), Some("mail.example.com:587"));
        assert_eq!(of("smtps://mail.example.com:2465").as_deref(), Some("mail.example.com:2465"));
        assert_eq!(of("http://mail.example.com"), None);
    }
}
