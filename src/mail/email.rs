//! The values of an e-mail, from which `compose` makes the message. Pure.

use bson::DateTime;

use crate::observe::labels::LabelValue;

/// The kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// The first reminder of offers that expire, by default in seven days.
    RemindJ7,
    /// The last reminder of offers that expire, by default in a day.
    RemindJ1,
    /// A message about training centres near an offer.
    Introduction,
}

/// A message to one user about that user's offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email {
    pub template: Template,
    /// The first and last name of the user.
    pub person: String,
    /// The offers of the message, grouped by establishment.
    pub establishments: Vec<Establishment>,
    /// The URL of the recruiter's space.
    pub space: String,
    /// The time of sending, from which the subject counts the days to the first expiration.
    pub now: DateTime,
    pub footer: Footer,
}

/// What every message says about its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// The sender's identity.
    pub sender: String,
    /// The public address, for answers and objections.
    pub contact: String,
    /// The link to the privacy policy.
    pub privacy: String,
}

/// An establishment and its offers in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Establishment {
    pub name: String,
    /// The offers, at least one.
    pub offers: Vec<EmailOffer>,
}

/// The texts about one offer in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmailOffer {
    pub title: String,
    /// The name of the occupation; `None` where the offer has none.
    pub appellation: Option<String>,
    /// The types of contract, separated by commas.
    pub contracts: String,
    /// The level of the diploma.
    pub level: String,
    /// The start of the contract, as DD/MM/YYYY or `Non précisé`.
    pub start: String,
    /// The day of publication, as DD/MM/YYYY; empty where it is unknown.
    pub published: String,
    /// The time at which the offer expires; `None` where the offer has none.
    pub expires: Option<DateTime>,
    /// The link to the offer; `None` where the offer has no valid link.
    pub url: Option<String>,
    /// The link that cancels the offer; `None` without a signing key.
    pub cancel: Option<String>,
    /// The link that declares the offer filled; `None` without a signing key.
    pub provided: Option<String>,
    /// The link that shares the offer with training centres; `None` without a signing key or an establishment.
    pub introduction: Option<String>,
}

impl Template {
    pub const ALL: [Self; 3] = [Self::RemindJ7, Self::RemindJ1, Self::Introduction];

    /// The name on the command line, in metrics and in the outbox.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RemindJ7 => "remind-J7",
            Self::RemindJ1 => "remind-J1",
            Self::Introduction => "introduction",
        }
    }

    /// The template of this name, in upper or lower case; `None` for an unknown name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name().eq_ignore_ascii_case(name))
    }
}

impl LabelValue for Template {
    fn label(self) -> &'static str {
        self.name()
    }
}
