//! The outcome of the delivery of an e-mail.

use super::email::Template;
use super::reply::{SmtpReply, SmtpStage};
use crate::observe::labels::LabelValue;

/// What became of a message, for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The server has it.
    Sent,
    /// The server refused it, or its address, in this run or in earlier ones.
    Refused,
    /// It cannot be sent as it is: its address, or its content.
    Unsendable,
    /// The server does not have it; a later run tries again.
    Deferred,
    /// It may have been delivered, twice at most, and is not sent again.
    Unconfirmed,
    /// Another instance has it.
    Taken,
}

impl DeliveryOutcome {
    /// The value of the label `outcome` of `stream_processor_emails_total`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Unsendable => "unsendable",
            Self::Deferred => "deferred",
            Self::Unconfirmed => "unconfirmed",
            Self::Taken => "taken",
        }
    }
}

/// Every message with every outcome, so that a count of nothing is there from the start.
pub(crate) fn labels() -> impl Iterator<Item = (Template, DeliveryOutcome)> {
    let outcomes = [
        DeliveryOutcome::Sent,
        DeliveryOutcome::Refused,
        DeliveryOutcome::Unsendable,
        DeliveryOutcome::Deferred,
        DeliveryOutcome::Unconfirmed,
    ];
    Template::ALL.into_iter().flat_map(move |template| outcomes.map(|outcome| (template, outcome)))
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The server has it.
    Accepted,
    /// The server does not want it (reply code 5xx): trying again is of no use.
    Refused(SmtpReply),
    /// The server does not want it now (reply code 4xx).
    Deferred(SmtpReply),
    /// The connection ended, or the server said nothing, after its recipient was named and before its content was sent.
    Broken(SmtpStage),
    /// It was not handed over: there is no connection, or it ended before a recipient was named.
    Unreachable(&'static str),
    /// The server does not know us, or its settings are wrong: that does not pass by itself.
    NotLetIn,
    /// No server, or not this one, can take it as it is: a word that says because of what.
    Unsendable(&'static str),
    /// It is not known: the connection ended, or the server said nothing, after its content was sent.
    Uncertain,
}

impl Delivery {
    /// The last step that went well.
    #[must_use]
    pub(crate) fn passed(self) -> Option<SmtpStage> {
        match self {
            Self::Accepted => Some(SmtpStage::Content),
            Self::Uncertain => Some(SmtpStage::Data),
            Self::Refused(SmtpReply { stage, .. }) | Self::Deferred(SmtpReply { stage, .. }) | Self::Broken(stage) => {
                stage.before()
            }
            Self::Unreachable(_) | Self::NotLetIn | Self::Unsendable(_) => None,
        }
    }

    /// True where it is about us, whoever the recipient is.
    #[must_use]
    pub(crate) fn is_about_us(self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NotLetIn => true,
            Self::Refused(reply) | Self::Deferred(reply) => reply.is_about_us(),
            Self::Accepted | Self::Broken(_) | Self::Unsendable(_) | Self::Uncertain => false,
        }
    }
}

impl LabelValue for DeliveryOutcome {
    fn label(self) -> &'static str {
        self.name()
    }
}
