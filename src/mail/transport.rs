//! The transport of messages: to a mail server (`smtp`), or into a folder as `.eml` files. The result of a delivery
//! says exactly whether the message may be sent again. The transport itself decides nothing.

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

/// The maximal length of a word in a name, in octets. A name with a longer word is encoded.
const LONGEST_WORD: usize = 60;

/// The sender address, and the route of all messages.
#[derive(Debug)]
pub(crate) struct Transport {
    from: Mailbox,
    /// The public address, for answers.
    reply_to: Mailbox,
    /// The URI of the header `List-Unsubscribe`.
    unsubscribe: Option<String>,
    way: MailRoute,
}

#[derive(Debug)]
enum MailRoute {
    Server(Box<Smtp>),
    Folder(PathBuf),
}

/// A message with its recipient and its headers.
#[derive(Debug)]
pub(crate) struct OutgoingEmail<'a> {
    /// The name of the recipient.
    pub name: &'a str,
    /// The address of the recipient.
    pub to: &'a Address,
    pub composed: &'a Composed,
    /// The `Message-ID` without the angle brackets. Every copy of a message has the same one.
    pub message_id: &'a str,
    /// The header `Date`: the time of the run.
    pub date: DateTime,
}

impl Transport {
    /// The transport that the settings ask for. Opens no connection.
    ///
    /// # Errors
    /// A sentence that names the faulty setting.
    pub(crate) fn new(smtp: &SmtpSettings, mail: &MailSettings) -> Result<Self, String> {
        let from: Mailbox = smtp.from.parse().map_err(|error| format!("smtp.from: {error}"))?;
        let email = sendable(&from.email).ok_or("smtp.from: its domain is not valid")?;
        let from = Mailbox::new(from.name, email);
        let contact: Mailbox = mail.contact.parse().map_err(|error| format!("mail.contact: {error}"))?;
        let email = sendable(&contact.email).ok_or("mail.contact: its domain is not valid")?;
        let reply_to = Mailbox::new(contact.name, email);
        let way = match &smtp.url {
            Some(url) => MailRoute::Server(Box::new(Smtp::new(url, smtp)?)),
            None => MailRoute::Folder(mail.outbox_directory.clone()),
        };
        Ok(Self { from, reply_to, unsubscribe: mail.unsubscribe.clone(), way })
    }

    /// True where messages go into a folder, so that nobody gets them.
    #[must_use]
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self.way, MailRoute::Folder(_))
    }

    /// The domain of the sender, for the `Message-ID`.
    #[must_use]
    pub(crate) fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Makes one attempt to deliver a message.
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
                    Delivery::Unreachable("the folder cannot be written to")
                }
            },
        }
    }

    /// Connects to the mail server, logs in and names the sender, as for a message. Nothing happens where messages go
    /// to a folder.
    ///
    /// # Errors
    /// The [`Delivery`] that a message would have.
    pub(crate) async fn test_connection(&self) -> Result<(), Delivery> {
        match &self.way {
            MailRoute::Server(server) => server.test(&self.from.email).await,
            MailRoute::Folder(_) => Ok(()),
        }
    }

    /// Closes the connections to the mail server.
    pub(crate) async fn close(&self) {
        if let MailRoute::Server(server) = &self.way {
            server.close().await;
        }
    }

    fn encode(&self, email: &OutgoingEmail<'_>) -> Result<(Envelope, Vec<u8>), &'static str> {
        let Composed { subject, html, text } = email.composed;
        let name = Some(clean(email.name)).filter(|name| !name.is_empty());
        let to = Mailbox::new(name, sendable(email.to).ok_or("address")?);
        // Without an envelope, the library would parse the headers, and it knows fewer forms of addresses there.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()]).map_err(|_| "address")?;
        let mut message = Message::builder()
            .envelope(envelope.clone())
            .from(self.from.clone())
            .to(to.clone())
            .reply_to(self.reply_to.clone())
            .date(email.date.to_system_time())
            .message_id(Some(format!("<{}>", email.message_id)))
            .subject(subject.as_str())
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
            .map_err(|_| "content")?;
        if let Some(uri) = &self.unsubscribe {
            // RFC 2369, 3.2. The configuration takes URIs without spaces, brackets and line breaks only.
            let name = HeaderName::new_from_ascii_str("List-Unsubscribe");
            message.headers_mut().insert_raw(HeaderValue::new(name, format!("<{uri}>")));
        }
        for (header, mailbox) in [("From", &self.from), ("To", &to)] {
            if let Some(folded) = folded(header, mailbox) {
                message.headers_mut().insert_raw(folded);
            }
        }
        Ok((envelope, message.formatted()))
    }
}

/// The text as an address; `None` where the text is not a valid address.
#[must_use]
pub(crate) fn address(text: &str) -> Option<Address> {
    Address::from_str(text.trim()).ok()
}

/// The address with its domain in ASCII (RFC 5891), which every mail server takes; `None` for an invalid domain.
fn sendable(address: &Address) -> Option<Address> {
    if address.domain().is_ascii() {
        return Some(address.clone());
    }
    match url::Host::parse(address.domain()).ok()? {
        url::Host::Domain(domain) => Address::new(address.user(), domain).ok(),
        url::Host::Ipv4(_) | url::Host::Ipv6(_) => None,
    }
}

/// The header with an encoded name; `None` where every word of the name is short. The library does not fold a long
/// word, and a line may have 998 octets at most (RFC 5322, 2.1.1).
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

/// Writes a message to a file with the name of its `Message-ID`. The file appears in one step, and a second copy
/// replaces the first.
fn write(folder: &PathBuf, message_id: &str, message: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let unfinished = folder.join(format!(".{message_id}"));
    fs::write(&unfinished, message)?;
    fs::File::open(&unfinished)?.sync_all()?;
    fs::rename(unfinished, folder.join(format!("{message_id}.eml")))
}

/// The header `Auto-Submitted: auto-generated`, so that no absence notice is sent back (RFC 3834, section 5).
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
