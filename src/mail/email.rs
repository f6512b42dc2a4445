//! An e-mail as values, before it is written. Pure.

use crate::observe::labels::LabelValue;

/// The messages that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// Offers that expire in seven days.
    RemindJ7,
    /// Offers that expire tomorrow.
    RemindJ1,
    /// An offer that training centres nearby might want to see.
    Introduction,
}

/// A message to one person about offers of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Email {
    /// Which message.
    pub template: Template,
    /// First and last name.
    pub person: String,
    /// The offers, by establishment.
    pub establishments: Vec<Establishment>,
    /// The recruiter's space.
    pub space: String,
}

/// Offers of one establishment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Establishment {
    /// Its name.
    pub name: String,
    /// At least one.
    pub offers: Vec<EmailOffer>,
}

/// What is said of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EmailOffer {
    /// Its title.
    pub title: String,
    /// The name of the occupation.
    pub appellation: Option<String>,
    /// The types of contract.
    pub contracts: String,
    /// The level of the diploma.
    pub level: String,
    /// When the contract begins.
    pub start: String,
    /// When it was published.
    pub published: String,
    /// Where it is shown.
    pub url: Option<String>,
}

impl Template {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::RemindJ7, Self::RemindJ1, Self::Introduction];

    /// Its name on the command line, in metrics and in the outbox.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RemindJ7 => "remind-J7",
            Self::RemindJ1 => "remind-J1",
            Self::Introduction => "introduction",
        }
    }

    /// The one of this name, whatever the case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|template| template.name().eq_ignore_ascii_case(name))
    }

    /// Its subject (spec 05).
    #[must_use]
    pub fn subject(self) -> &'static str {
        match self {
            Self::RemindJ7 => "Votre offre expire dans 7 jours",
            Self::RemindJ1 => "Votre offre expire demain",
            Self::Introduction => "Partagez votre offre aux CFA proches de votre établissement",
        }
    }
}

impl LabelValue for Template {
    fn label(self) -> &'static str {
        self.name()
    }
}
