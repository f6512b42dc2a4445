//! The checks of `doctor` that connect to other servers than MongoDB: the mail server, the company
//! directory, the geocoding service, Sentry, the receiver of traces.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use url::Url;

use super::Check;
use crate::config::Environment;
use crate::context::Context;
use crate::mail::delivery::Delivery;
use crate::mail::reply::SmtpStage;
use crate::mail::transport::Transport;
use crate::service::{MAIL_SERVER, missing_mail_server};

/// The longest time for connecting to the company directory, the geocoding service or Sentry.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn smtp(context: &Context) -> Check {
    let Some(url) = &context.settings.smtp.url else {
        if let Some(missing) = missing_mail_server(&context.settings) {
            return Check::failed("smtp", missing, MAIL_SERVER);
        }
        let folder = context.settings.mail.outbox_directory.display();
        let found = format!("no server is configured: messages are written to {folder}");
        return match context.settings.environment {
            Environment::Production => Check::warning("smtp", found, "set smtp.url, or SMTP_URL"),
            Environment::Staging | Environment::Development => Check::ok("smtp", found),
        };
    };
    // Only host and port are printed: the URL has a password.
    let place = Url::parse(url.expose_secret()).ok().and_then(|url| {
        let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{}{port}", url.host_str()?))
    });
    let place = place.unwrap_or_else(|| "smtp.url".to_owned());
    let transport = match Transport::new(&context.settings.smtp, &context.settings.mail) {
        Ok(transport) => transport,
        Err(reason) => return Check::failed("smtp", reason, "correct the setting, see deploy/stream-processor.toml"),
    };
    match transport.test_connection().await {
        Ok(()) => Check::ok("smtp", format!("{place} accepts the connection")),
        Err(delivery) => {
            let found = match delivery {
                Delivery::Refused(reply) | Delivery::Deferred(reply) => format!("{place} answers {reply}"),
                failure => format!("{place}: {failure}"),
            };
            Check::failed("smtp", found, mail_remedy(delivery))
        }
    }
}

/// The remedy for a mail server that does not take mail from us. It fits the stage of the dialogue.
fn mail_remedy(delivery: Delivery) -> &'static str {
    let (Delivery::Refused(reply) | Delivery::Deferred(reply)) = delivery else {
        return match delivery {
            Delivery::Unfit(_) => "smtp.url and smtp.from must fit what the mail server offers",
            _ => "check host and port in smtp.url, that the mail server runs, and the network in between",
        };
    };
    match reply.stage {
        _ if matches!(delivery, Delivery::Deferred(_)) => {
            "a 4xx code may pass: wait, then ask the mail server's operator"
        }
        SmtpStage::Greeting => {
            "the mail server turns this host away: check that smtp.url names the right server, and that it takes this \
             host and its name"
        }
        SmtpStage::Encryption => {
            "the mail server refuses STARTTLS: check `tls` in smtp.url and the server's certificate"
        }
        SmtpStage::Sender if reply.asks_for_login() => {
            "the mail server asks for a login or for encryption: check the user, the password and `tls` in smtp.url"
        }
        SmtpStage::Login => "the mail server refuses the login: check the user and the password in smtp.url",
        SmtpStage::Sender | SmtpStage::Recipient | SmtpStage::Data | SmtpStage::Content => {
            "the mail server does not take the address of smtp.from: correct it, or let the server allow it (SPF, DKIM, \
             the rights of the login)"
        }
    }
}

/// Says which links e-mails have: without a signing key, the one to the log-in page only.
pub(super) fn mail_links(context: &Context) -> Check {
    if context.settings.mail.links.key.is_some() {
        return Check::ok("mail links", "e-mails have links to cancel an offer and to declare it filled");
    }
    let found = "no signing key: e-mails have the link to the log-in page only";
    match context.settings.environment {
        Environment::Production => Check::warning("mail links", found, "set mail.links.jwt_secret_file"),
        Environment::Staging | Environment::Development => Check::ok("mail links", found),
    }
}

pub(super) async fn directory(context: &Context) -> Check {
    let directory = &context.settings.directory;
    let Some(base) = &directory.base_url else {
        return Check::ok("directory", "none is configured: only the collection cache_siret is read");
    };
    match answers(base).await {
        Ok(address) if directory.token.is_none() => {
            Check::failed("directory", format!("{address} answers, but there is no token"), "set directory.token_file")
        }
        Ok(address) => Check::ok("directory", format!("{address} answers")),
        Err(found) => Check::failed("directory", found, "check directory.base_url and the network"),
    }
}

/// Checks the geocoding service. Without one, an establishment that has no point yet stays pending.
pub(super) async fn geocoding(context: &Context) -> Check {
    match &context.settings.directory.geocoding_url {
        None => Check::ok("geocoding", "none is configured: a pending establishment without a point stays pending"),
        Some(url) => match answers(url).await {
            Ok(address) => Check::ok("geocoding", format!("{address} answers")),
            Err(found) => Check::failed("geocoding", found, "check directory.geocoding_url and the network"),
        },
    }
}

/// Checks the server that gets the reports of errors. The service works without it, so its absence is no failure.
pub(super) async fn sentry(context: &Context) -> Check {
    let Some(dsn) = &context.settings.sentry.dsn else {
        return Check::ok("sentry", "no sentry.dsn is set: errors are not reported");
    };
    // Only host and port are printed: the DSN has a key.
    match answers(dsn.expose_secret()).await {
        Ok(address) => Check::ok("sentry", format!("{address} answers")),
        Err(found) => Check::warning("sentry", found, "check sentry.dsn and the network; errors are not reported"),
    }
}

/// Checks the receiver of traces. The service works without it.
pub(super) async fn traces(context: &Context) -> Check {
    match &context.settings.traces.endpoint {
        None => Check::ok("traces", "no traces.endpoint is set: no traces are made"),
        Some(url) => match answers(url).await {
            Ok(address) => Check::ok("traces", format!("{address} answers")),
            Err(found) => Check::warning("traces", found, "check traces.endpoint and the network; traces are dropped"),
        },
    }
}

/// Connects to the host of a URL. Returns its address, or what went wrong.
async fn answers(url: &str) -> Result<String, String> {
    let address = address(url).ok_or("the setting is no URL, write https://host/path")?;
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await;
    match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
        Ok(_) => Ok(address),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// Host and port of a URL. A URL without a port has the default port of its scheme. `None` for any other text.
fn address(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_that_of_the_scheme_unless_it_is_named() {
        assert_eq!(address("https://directory.example.com/v3").as_deref(), Some("directory.example.com:443"));
        assert_eq!(address("http://directory.example.com:8080").as_deref(), Some("directory.example.com:8080"));
        assert_eq!(address("directory.example.com"), None);
    }
}
