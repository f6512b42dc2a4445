//! How we stand with the mail server in one run: whether it takes mail from us at all, which refusals are about their
//! recipients, whom it does not serve now (docs/jobs.md, "E-mail"). Pure.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;

use super::delivery::DeliveryOutcome;
use super::email::Template;
use super::reply::{SmtpReply, SmtpStage};

/// Messages to so many domains in a row that the server does not take mean that it takes none; so many recipients who are
/// refused after the last one who was not mean that it does not take mail from us any more.
const IN_A_ROW: usize = 10;
/// So many refusals without a message that is taken mean the same, whatever the domains.
const MOST_HELD: usize = 100;
/// After so many messages in a row that a domain defers, each further one to it is tried once.
const PATIENCE: u32 = 3;

/// A message that the server refused while it is not known whether that is about its recipient.
#[derive(Debug)]
pub(super) struct HeldRefusal {
    pub id: String,
    pub template: Template,
    pub offers: Vec<ObjectId>,
    /// The address, in lower case.
    pub address: String,
    pub reply: SmtpReply,
}

/// What a run has learned so far.
#[derive(Debug, Default)]
pub(super) struct Standing {
    held: Vec<HeldRefusal>,
    /// The last step to which any message came.
    furthest: Option<SmtpStage>,
    /// The domains of the messages since the last one that was taken.
    untaken: BTreeSet<String>,
    /// The domains that defer, with how many messages in a row.
    deferring: BTreeMap<String, u32>,
    /// The addresses that were answered with a no.
    turned_away: BTreeMap<String, DeliveryOutcome>,
    is_down: bool,
}

impl Standing {
    /// True when it is of no use to go on.
    pub(super) fn is_down(&self) -> bool {
        self.is_down || self.untaken.len() >= IN_A_ROW || self.held.len() >= MOST_HELD
    }

    /// Notes that the server cannot be reached, or does not want us.
    pub(super) fn set_down(&mut self) {
        self.is_down = true;
    }

    /// What this address was answered in this run, if that was a no.
    pub(super) fn with_deadline(&self, address: &str) -> Option<DeliveryOutcome> {
        self.turned_away.get(address).copied()
    }

    /// False when the domain of this address defers one message after the other.
    pub(super) fn is_patient(&self, address: &str) -> bool {
        self.deferring.get(domain(address)).is_none_or(|messages| *messages < PATIENCE)
    }

    /// Whether a refusal is known at once to be about its recipient: it says so, of a server that has taken other ones.
    pub(super) fn vouches_for(&self, reply: SmtpReply) -> bool {
        reply.names_the_mailbox() && self.furthest >= Some(SmtpStage::Recipient)
    }

    /// Notes that a message passed this step; gives back those that were refused there or before: that was about their
    /// recipients.
    pub(super) fn passed(&mut self, stage: SmtpStage) -> Vec<HeldRefusal> {
        self.furthest = self.furthest.max(Some(stage));
        let (own, held) = std::mem::take(&mut self.held).into_iter().partition(|held| held.reply.stage <= stage);
        self.held = held;
        own
    }

    /// Keeps a refusal until it is known whom it is about. Its address is not tried again.
    pub(super) fn hold(&mut self, held: HeldRefusal) {
        self.untaken.insert(domain(&held.address).to_owned());
        self.turned_away.insert(held.address.clone(), DeliveryOutcome::Deferred);
        self.held.push(held);
    }

    /// Notes what became of a message to this address.
    pub(super) fn note(&mut self, address: &str, outcome: DeliveryOutcome) {
        let domain = domain(address);
        match outcome {
            DeliveryOutcome::Sent => {
                self.untaken.clear();
                self.deferring.remove(domain);
            }
            DeliveryOutcome::Deferred => {
                self.untaken.insert(domain.to_owned());
                *self.deferring.entry(domain.to_owned()).or_default() += 1;
                self.turned_away.insert(address.to_owned(), outcome);
            }
            DeliveryOutcome::Refused => drop(self.turned_away.insert(address.to_owned(), outcome)),
            DeliveryOutcome::Unsendable | DeliveryOutcome::Unconfirmed | DeliveryOutcome::Taken => {}
        }
    }

    /// Judges what is still held when the run is through: first those that are about their recipients, then those that are
    /// about us. Of recipients who were refused after the last one who was not, few are refused for themselves, and many
    /// are not; where nobody ever came so far, it is about us unless there is one alone, whose mailbox is named.
    pub(super) fn end(&mut self) -> (Vec<HeldRefusal>, Vec<HeldRefusal>) {
        let (was_down, held) = (self.is_down(), std::mem::take(&mut self.held));
        let (few, alone) = (held.len() < IN_A_ROW, held.len() == 1);
        let (own, ours): (Vec<HeldRefusal>, Vec<HeldRefusal>) = held.into_iter().partition(|held| {
            let others_passed = self.furthest >= Some(held.reply.stage);
            !was_down && if others_passed { few } else { alone && held.reply.may_name_the_mailbox() }
        });
        self.is_down |= !ours.is_empty();
        (own, ours)
    }
}

/// What follows the last `@`; an address has one.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

#[cfg(test)]
#[path = "standing_tests.rs"]
mod tests;
