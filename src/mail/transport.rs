//! Hands messages over: to a mail server, on connections that are kept (`smtp`), or into a folder as `.eml` files. Says what
//! became of each one so exactly that nobody has to guess whether it may be sent again. Decides nothing itself.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr as _;

use bson::DateTime;
use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, Message};

use super::compose::{Composed, clean};
use super::smtp::Smtp;
use crate::config::{MailSettings, SmtpSettings};

/// Where messages go.
#[derive(Debug)]
pub struct Transport {
    from: Mailbox,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Server(Box<Smtp>),
    Folder(PathBuf),
}

/// A message with its addresses.
#[derive(Debug)]
pub struct Parcel<'a> {
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

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The server has it.
    Accepted,
    /// The server does not want it (reply code 5xx, or it cannot take such an address): trying again is of no use.
    Refused(u16),
    /// The server does not want it now (reply code 4xx).
    Deferred(u16),
    /// It was not handed over: there is no connection, no login, or the connection ended before its content was sent.
    Unreachable(&'static str),
    /// The server does not know us, or its settings are wrong: that does not pass by itself.
    NotLetIn,
    /// It is not known: the connection ended, or the server said nothing, after its content was sent.
    Uncertain,
}

impl Transport {
    /// The one that the settings ask for. Connects to nobody yet.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be used.
    pub fn new(smtp: &SmtpSettings, mail: &MailSettings) -> Result<Self, String> {
        let from = smtp.from.parse().map_err(|error| format!("smtp.from: {error}"))?;
        let way = match &smtp.url {
            Some(url) => Way::Server(Box::new(Smtp::new(url, smtp)?)),
            None => Way::Folder(mail.outbox_directory.clone()),
        };
        Ok(Self { from, way })
    }

    /// The domain of the sender, for the `Message-ID`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.from.email.domain()
    }

    /// Hands over one message.
    pub async fn deliver(&self, parcel: &Parcel<'_>) -> Delivery {
        // What cannot be encoded has a part that the address or the name must not have: nobody will ever take it.
        let Some((envelope, message)) = self.encode(parcel) else { return Delivery::Refused(553) };
        match &self.way {
            Way::Server(server) => server.deliver(&envelope, &message).await,
            Way::Folder(folder) => match write(folder, parcel.message_id, &message) {
                Ok(()) => Delivery::Accepted,
                Err(error) => {
                    tracing::error!(%error, "mail.outbox_directory cannot be written to");
                    Delivery::Unreachable("folder")
                }
            },
        }
    }

    /// Connects to the mail server and logs in, as for a message; nothing where messages go to a folder.
    ///
    /// # Errors
    /// What keeps from it.
    pub async fn test_connection(&self) -> Result<(), Delivery> {
        match &self.way {
            Way::Server(server) => server.test().await,
            Way::Folder(_) => Ok(()),
        }
    }

    /// Takes leave of the mail server.
    pub async fn close(&self) {
        if let Way::Server(server) = &self.way {
            server.close().await;
        }
    }

    fn encode(&self, parcel: &Parcel<'_>) -> Option<(Envelope, Vec<u8>)> {
        let Composed { subject, html, text } = parcel.composed;
        let name = Some(clean(parcel.name)).filter(|name| !name.is_empty());
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(name, parcel.to.clone()))
            .date(parcel.date.to_system_time())
            .message_id(Some(format!("<{}>", parcel.message_id)))
            .subject(*subject)
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(text.clone(), html.clone()))
            .ok()?;
        Some((message.envelope().clone(), message.formatted()))
    }
}

/// The address, if it is one.
#[must_use]
pub fn address(text: &str) -> Option<Address> {
    Address::from_str(text.trim()).ok()
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
