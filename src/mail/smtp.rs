//! SMTP: connections that are kept between messages, STARTTLS or TLS from the start, login, time-outs and a rate. Each
//! step of the dialogue is a command of its own: a failure before the content means that the message was not delivered,
//! and a failure at the content leaves that open. The pool of the library is not used. It keeps a connection whose
//! dialogue was broken off, and takes a late reply for the next one.

use std::time::Duration;

use lettre::Address;
use lettre::address::Envelope;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;
use url::Url;

use super::delivery::Delivery;
use super::reply::{SmtpReply, SmtpStage};
use crate::config::SmtpSettings;
use crate::outgoing::Pace;

/// The causes of [`Delivery::Unreachable`].
const CUT: &str = "the connection ended";
const NO_CONNECTION: &str = "no connection";
const NO_TLS: &str = "no encrypted connection";
const SILENT: &str = "no answer in time";

/// A client of one mail server. `idle` has the connections that no message uses now.
pub(super) struct Smtp {
    host: String,
    port: u16,
    encryption: Encryption,
    login: Option<Credentials>,
    hello: ClientId,
    connect_timeout: Duration,
    send_timeout: Duration,
    pace: Pace,
    idle: Mutex<Vec<AsyncSmtpConnection>>,
}

enum Encryption {
    None,
    /// STARTTLS where the server offers it, no encryption otherwise.
    Opportunistic(TlsParameters),
    /// STARTTLS. Without it, no message is sent.
    Required(TlsParameters),
    /// TLS before the dialogue (`smtps://`).
    FromTheStart(TlsParameters),
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

impl Smtp {
    /// A client for `smtp.url`; the configuration has checked the form of the URL. Opens no connection. The error is a
    /// sentence that names the faulty setting.
    pub(super) fn new(url: &SecretString, settings: &SmtpSettings) -> Result<Self, String> {
        let url = Url::parse(url.expose_secret()).map_err(|error| format!("smtp.url: {error}"))?;
        // A URL has an IPv6 address in brackets.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let asked = url.query_pairs().find(|(option, _)| option == "tls").map(|(_, value)| value.into_owned());
        let (encryption, usual_port) = match (url.scheme(), asked.as_deref()) {
            ("smtps", _) => (Encryption::FromTheStart(tls(&host, settings)?), 465),
            (_, Some("required")) => (Encryption::Required(tls(&host, settings)?), 587),
            (_, Some(_)) => (Encryption::Opportunistic(tls(&host, settings)?), 587),
            (_, None) => (Encryption::None, 25),
        };
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = url.password().map(|password| Credentials::new(decoded(url.username()), decoded(password)));
        Ok(Self {
            port: url.port().unwrap_or(usual_port),
            host,
            encryption,
            login,
            hello: ClientId::Domain(gethostname::gethostname().to_string_lossy().into_owned()),
            connect_timeout: settings.connect_timeout,
            send_timeout: settings.send_timeout,
            pace: Pace::per_second(settings.rate),
            idle: Mutex::new(Vec::new()),
        })
    }

    pub(super) async fn deliver(&self, envelope: &Envelope, message: &[u8]) -> Delivery {
        self.pace.wait().await;
        let kept = self.idle.lock().await.pop();
        if let Some(mut kept) = kept {
            let delivery = self.hand_over(&mut kept, envelope, message).await;
            if !is_about_the_connection(delivery) {
                return self.keep(kept, delivery).await;
            }
        }
        match self.connect().await {
            Ok(mut connection) => {
                let delivery = self.hand_over(&mut connection, envelope, message).await;
                self.keep(connection, delivery).await
            }
            Err(unreachable) => unreachable,
        }
    }

    pub(super) async fn close(&self) {
        for mut connection in std::mem::take(&mut *self.idle.lock().await) {
            // A server that does not answer is not waited for.
            drop(timeout(Duration::from_secs(1), connection.quit()).await);
        }
    }

    /// Keeps a connection for the next message if the dialogue succeeded, or never began. On any other connection, a
    /// late reply would be taken for the next one.
    async fn keep(&self, connection: AsyncSmtpConnection, delivery: Delivery) -> Delivery {
        if matches!(delivery, Delivery::Accepted | Delivery::Unsendable(_)) {
            self.idle.lock().await.push(connection);
        }
        delivery
    }

    /// Connects, encrypts, logs in and names the sender, as for a message, and closes the connection. At the step of
    /// the sender, only a negative reply counts as a failure.
    pub(super) async fn test(&self, sender: &Address) -> Result<(), Delivery> {
        let mut connection = self.connect().await?;
        let named = connection.command(Mail::new(Some(sender.clone()), Vec::new()));
        let refusal = match timeout(self.connect_timeout, named).await {
            Ok(Err(error)) => no(SmtpStage::Sender, &error),
            Ok(Ok(_)) | Err(_) => None,
        };
        drop(timeout(Duration::from_secs(1), connection.quit()).await);
        refusal.map_or(Ok(()), Err)
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Delivery> {
        let mut stage = SmtpStage::Greeting;
        match timeout(self.connect_timeout, Box::pin(self.begin(&mut stage))).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(no(stage, &error).unwrap_or_else(|| match (&self.encryption, stage) {
                // The library does not tell a connection from its handshake.
                (Encryption::FromTheStart(_), SmtpStage::Greeting) => Delivery::Unreachable(NO_TLS),
                _ => failed(stage, &error),
            })),
            Err(_) => Err(Delivery::Unreachable(SILENT)),
        }
    }

    /// Makes the steps before the message. `stage` is the step that is under way, also after an error.
    async fn begin(&self, stage: &mut SmtpStage) -> Result<AsyncSmtpConnection, Error> {
        let server = (self.host.as_str(), self.port);
        let at_once = match &self.encryption {
            Encryption::FromTheStart(tls) => Some(tls.clone()),
            _ => None,
        };
        let limit = Some(self.connect_timeout);
        let mut connection = AsyncSmtpConnection::connect_tokio1(server, limit, &self.hello, at_once, None).await?;
        *stage = SmtpStage::Encryption;
        match &self.encryption {
            Encryption::Required(tls) => connection.starttls(tls.clone(), &self.hello).await?,
            Encryption::Opportunistic(tls) if connection.can_starttls() => {
                connection.starttls(tls.clone(), &self.hello).await?;
            }
            _ => {}
        }
        *stage = SmtpStage::Login;
        if let Some(login) = &self.login {
            connection.auth(DEFAULT_MECHANISMS, login).await?;
        }
        Ok(connection)
    }

    async fn hand_over(&self, connection: &mut AsyncSmtpConnection, envelope: &Envelope, message: &[u8]) -> Delivery {
        let mut options = Vec::new();
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        if !envelope.from().into_iter().chain(envelope.to()).all(is_ascii) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                // With an ASCII recipient, the sender is at fault: a setting, not this message.
                return if envelope.to().iter().all(is_ascii) {
                    Delivery::Unfit("the server does not take the address of smtp.from: it lacks SMTPUTF8")
                } else {
                    Delivery::Unsendable("address")
                };
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let mut stage = SmtpStage::Sender;
        match timeout(self.send_timeout, Box::pin(announce(connection, envelope, options, &mut stage))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return no(stage, &error).unwrap_or(broken(stage, CUT)),
            Err(_) => return broken(stage, SILENT),
        }
        match timeout(self.send_timeout, Box::pin(connection.message(message))).await {
            Ok(Ok(_)) => Delivery::Accepted,
            Ok(Err(error)) => no(SmtpStage::Content, &error).unwrap_or(Delivery::Uncertain),
            Err(_) => Delivery::Uncertain,
        }
    }
}

/// Makes the steps before the content. `stage` is the step that is under way, also after an error.
async fn announce(
    connection: &mut AsyncSmtpConnection,
    envelope: &Envelope,
    options: Vec<MailParameter>,
    stage: &mut SmtpStage,
) -> Result<(), Error> {
    connection.command(Mail::new(envelope.from().cloned(), options)).await?;
    *stage = SmtpStage::Recipient;
    for address in envelope.to() {
        connection.command(Rcpt::new(address.clone(), Vec::new())).await?;
    }
    *stage = SmtpStage::Data;
    connection.command(Data).await.map(drop)
}

/// The negative reply in an error; `None` for an error without a reply.
fn no(stage: SmtpStage, error: &Error) -> Option<Delivery> {
    let code = u16::from(error.status()?);
    // The text of the reply is not passed on: it may have an address in it.
    let words = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let reply = SmtpReply::new(stage, code, &words);
    Some(if error.is_permanent() { Delivery::Refused(reply) } else { Delivery::Deferred(reply) })
}

/// The failure of a step before the message without a negative reply.
fn failed(stage: SmtpStage, error: &Error) -> Delivery {
    match stage {
        // The library refuses to go on: the server does not offer what the setting asks for.
        SmtpStage::Encryption if error.is_client() => Delivery::Unfit("the server offers no STARTTLS"),
        _ if error.is_client() => Delivery::Unfit("the server offers no login that smtp.url can use"),
        SmtpStage::Encryption => Delivery::Unreachable(NO_TLS),
        _ if error.is_tls() => Delivery::Unreachable(NO_TLS),
        SmtpStage::Greeting => Delivery::Unreachable(NO_CONNECTION),
        _ => Delivery::Unreachable(CUT),
    }
}

fn broken(stage: SmtpStage, how: &'static str) -> Delivery {
    match stage {
        SmtpStage::Greeting | SmtpStage::Encryption | SmtpStage::Login | SmtpStage::Sender => {
            Delivery::Unreachable(how)
        }
        SmtpStage::Recipient | SmtpStage::Data | SmtpStage::Content => Delivery::Broken(stage),
    }
}

/// True for a failure that may come from the age or the earlier use of a kept connection. Then the message is tried
/// again on a new connection.
fn is_about_the_connection(delivery: Delivery) -> bool {
    match delivery {
        Delivery::Unreachable(_) | Delivery::Broken(_) => true,
        Delivery::Refused(reply) | Delivery::Deferred(reply) => reply.stage <= SmtpStage::Sender || reply.code == 421,
        Delivery::Accepted | Delivery::Unfit(_) | Delivery::Unsendable(_) | Delivery::Uncertain => false,
    }
}

fn tls(host: &str, settings: &SmtpSettings) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(file) = &settings.ca_file {
        let unusable = |reason: &dyn std::fmt::Display| format!("smtp.ca_file: {}: {reason}", file.display());
        let pem = std::fs::read(file).map_err(|error| unusable(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unusable(&error))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build_rustls().map_err(|error| format!("smtp.url: no TLS to {host}: {error}"))
}
