//! The results of one delivery of an e-mail, and of all deliveries of a message in a run.

use std::fmt;

use super::email::Template;
use super::reply::{SmtpReply, SmtpStage};
use crate::model::ids::JobId;
use crate::observe::labels::LabelValue;

/// The outcome of a message in a run, for the report of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryOutcome {
    /// The mail server accepted the message, in this run or in an earlier one.
    Sent,
    /// The message is a file in a folder, and nobody got it.
    Written,
    /// The mail server refused the message or its address, in this run or in earlier ones.
    Refused,
    /// The address or the content of the message is not valid for sending.
    Unsendable,
    /// The mail server does not have the message. A later run retries it.
    Deferred,
    /// The message may have been delivered, twice at most, and is not sent again.
    Unconfirmed,
    /// Another instance sends the message.
    Taken,
}

impl DeliveryOutcome {
    /// The value of the label `outcome` of `stream_processor_emails_total`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Written => "written",
            Self::Refused => "refused",
            Self::Unsendable => "unsendable",
            Self::Deferred => "deferred",
            Self::Unconfirmed => "unconfirmed",
            Self::Taken => "taken",
        }
    }
}

/// Every template with every counted outcome, so that the metric has a zero for each pair from the start.
pub(crate) fn labels() -> impl Iterator<Item = (Template, DeliveryOutcome)> {
    let outcomes = [
        DeliveryOutcome::Sent,
        DeliveryOutcome::Written,
        DeliveryOutcome::Refused,
        DeliveryOutcome::Unsendable,
        DeliveryOutcome::Deferred,
        DeliveryOutcome::Unconfirmed,
    ];
    Template::ALL.into_iter().flat_map(move |template| outcomes.map(|outcome| (template, outcome)))
}

/// A message whose outcome in this run is known.
#[derive(Debug)]
pub(crate) struct Dealt {
    /// The offers that the message is about.
    pub offers: Vec<JobId>,
    pub outcome: DeliveryOutcome,
}

/// The result of one attempt to deliver a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The mail server has the message.
    Accepted,
    /// The mail server refused the message for good (reply code 5xx).
    Refused(SmtpReply),
    /// The mail server does not take the message now (reply code 4xx).
    Deferred(SmtpReply),
    /// The connection ended, or the server was silent, after the recipient was named and before the content was sent.
    Broken(SmtpStage),
    /// There is no connection, or it ended before the recipient was named; words for the cause.
    Unreachable(&'static str),
    /// The server gave no negative reply, but lacks what a setting asks for; words for the setting. This does not pass
    /// by itself.
    Unfit(&'static str),
    /// The message cannot be sent as it is; the faulty part is `address` or `content`.
    Unsendable(&'static str),
    /// The connection ended, or the server was silent, after the content was sent. Nobody knows whether the server has
    /// the message.
    Uncertain,
}

impl fmt::Display for Delivery {
    /// A word and the code of the server. No address, and no words of the server.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Refused(reply) => write!(f, "refused: {reply}"),
            Self::Deferred(reply) => write!(f, "deferred: {reply}"),
            Self::Broken(stage) => write!(f, "the connection ended at {}", stage.name()),
            Self::Unreachable(cause) => f.write_str(cause),
            Self::Unfit(lacking) => f.write_str(lacking),
            Self::Unsendable(part) => write!(f, "unsendable: {part}"),
            Self::Uncertain => f.write_str("the connection ended after the content was sent"),
        }
    }
}

impl Delivery {
    /// The last step of the dialogue that succeeded; `None` where no step did.
    #[must_use]
    pub(crate) fn passed(self) -> Option<SmtpStage> {
        match self {
            Self::Accepted => Some(SmtpStage::Content),
            Self::Uncertain => Some(SmtpStage::Data),
            Self::Refused(SmtpReply { stage, .. }) | Self::Deferred(SmtpReply { stage, .. }) | Self::Broken(stage) => {
                stage.before()
            }
            Self::Unreachable(_) | Self::Unfit(_) | Self::Unsendable(_) => None,
        }
    }

    /// True where the failure concerns us, whoever the recipient is.
    #[must_use]
    pub(crate) fn is_about_us(self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Unfit(_) => true,
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
