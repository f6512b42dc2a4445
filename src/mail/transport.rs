//! Hands messages over: to a mail server, on connections that are kept (`smtp`), or into a folder as `.eml` files. Says what
//! became of each one so exactly that nobody has to guess whether it may be sent again. Decides nothing itself.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::str::FromStr as _;

use bson::DateTime;
use email_encoding::headers::rfc2047;
use email_encoding::headers::writer::EmailWriter;
use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};

use super::compose::{Composed, clean};
use super::delivery::Delivery;
use super::smtp::Smtp;
use crate::config::{MailSettings, SmtpSettings};

/// A longer word of a name is encoded.
const LONGEST_WORD: usize = 60;

/// Where messages go.
#[derive(Debug)]
pub(crate) struct Transport {
    from: Mailbox,
    way: MailRoute,
}

#[derive(Debug)]
enum MailRoute {
    Server(Box<Smtp>),
    Folder(PathBuf),
}

/// A message with its addresses.
#[derive(Debug)]
pub(crate) struct OutgoingEmail<'a> {
    /// The name of who gets it.
    pub name: &'a str,
    /// The address.
    pub to: &'a Address,
    /// What it says.
    pub composed: &'a Composed,
    /// Without the angle brackets: every copy has the same one.
    pub message_id: &'a str,
    /// When it was written.
    pub date: DateTime,
}

impl Transport {
    /// The one that the settings ask for. Connects to nobody yet.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be used.
    pub(crate) fn new(smtp: &SmtpSettings, mail: &MailSettings) -> Result<Self, String> {
        let from: Mailbox = smtp.from.parse().map_err(|error| format!("smtp.from: {error}"))?;
        let email = sendable(&from.email).ok_or("smtp.from: its domain is none")?;
        let from = Mailbox::new(from.name, email);
        let way = match &smtp.url {
            Some(url) => MailRoute::Server(Box::new(Smtp::new(url, smtp)?)),
            None => MailRoute::Folder(mail.outbox_directory.clone()),
        };
        Ok(Self { from, way })
    }

    /// The domain of the sender, for the `Message-ID`.
    #[must_use]
    pub(crate) fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Hands over one message.
    pub(crate) async fn deliver(&self, email: &OutgoingEmail<'_>) -> Delivery {
        let (envelope, message) = match self.encode(email) {
            Ok(encoded) => encoded,
            Err(what) => return Delivery::Unsendable(what),
        };
        match &self.way {
            MailRoute::Server(server) => server.deliver(&envelope, &message).await,
            MailRoute::Folder(folder) => match write(folder, email.message_id, &message) {
                Ok(()) => Delivery::Accepted,
                Err(error) => {
                    tracing::error!(%error, "mail.outbox_directory cannot be written to");
                    Delivery::Unreachable("folder")
                }
            },
        }
    }

    /// Connects to the mail server, logs in and names the sender, as for a message; nothing where messages go to a folder.
    ///
    /// # Errors
    /// What keeps from it.
    pub(crate) async fn test_connection(&self) -> Result<(), Delivery> {
        match &self.way {
            MailRoute::Server(server) => server.test(&self.from.email).await,
            MailRoute::Folder(_) => Ok(()),
        }
    }

    /// Takes leave of the mail server.
    pub(crate) async fn close(&self) {
        if let MailRoute::Server(server) = &self.way {
            server.close().await;
        }
    }

    fn encode(&self, email: &OutgoingEmail<'_>) -> Result<(Envelope, Vec<u8>), &'static str> {
        let Composed { subject, html, text } = email.composed;
        let name = Some(clean(email.name)).filter(|name| !name.is_empty());
        let to = Mailbox::new(name, sendable(email.to).ok_or("address")?);
        // Given, because the library would read the addresses back out of the headers, and knows fewer forms there.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]).map_err(|_| "address")?;
        let mut message = Message::builder()
            .envelope(envelope.clone())
            .from(self.from.clone())
            .to(to.clone())
            .date(email.date.to_system_time())
            .message_id(Some(format!("<{}>", email.message_id)))
            .subject(*subject)
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
            .map_err(|_| "content")?;
        for (header, mailbox) in [("From", &self.from), ("To", &to)] {
            if let Some(folded) = folded(header, mailbox) {
                message.headers_mut().insert_raw(folded);
            }
        }
        Ok((envelope, message.formatted()))
    }
}

/// The address, if it is one.
#[must_use]
pub(crate) fn address(text: &str) -> Option<Address> {
    Address::from_str(text.trim()).ok()
}

/// The address with its domain in ASCII (RFC 5891), which every server takes; `None` where the domain is none.
fn sendable(address: &Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return Some(address.clone());
    }
    match url::Host::parse(address.domain()).ok()? {
        url::Host::Domain(domain) => Address::new(address.user(), domain).ok(),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

/// The header with its name encoded, where a word of it is so long that the library would not fold it: a line has 998
/// octets at most (RFC 5322, 2.1.1).
fn folded(header: &'static str, mailbox: &Mailbox) -> Option<HeaderValue> {
    let name = mailbox.name.as_deref()?;
    if name.split(' ').all(|word| word.len() <= LONGEST_WORD) {
        return None;
    }
    let mut folded = String::new();
    let mut writer = EmailWriter::new(&mut folded, header.len() + 2, 0, false);
    rfc2047::encode(name, &mut writer).ok()?;
    writer.space();
    write!(writer, "<{}>", mailbox.email).ok()?;
    drop(writer);
    Some(HeaderValue::dangerous_new_pre_encoded(HeaderName::new_from_ascii_str(header), mailbox.to_string(), folded))
}

/// Under the name of its `Message-ID`, in one step: a second copy replaces the first.
fn write(folder: &PathBuf, message_id: &str, message: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!(".{message_id}"));
    fs::write(&unfinished, message)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(unfinished, folder.join(format!("{message_id}.eml")))
}

/// `Auto-Submitted: auto-generated`, so that no absence notice answers (RFC 3834, section 5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
