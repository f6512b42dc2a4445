//! The outcome of the delivery of an e-mail.

use super::compose::Template;

/// What became of a message, for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
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
    pub fn name(self) -> &'static str {
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
pub fn labels() -> impl Iterator<Item = [&'static str; 2]> {
    let outcomes = [
        DeliveryOutcome::Sent,
        DeliveryOutcome::Refused,
        DeliveryOutcome::Unsendable,
        DeliveryOutcome::Deferred,
        DeliveryOutcome::Unconfirmed,
    ];
    Template::ALL.into_iter().flat_map(move |template| outcomes.map(|outcome| [template.name(), outcome.name()]))
}
