//! Our standing with the mail server in one run: whether the server takes mail from us at all, which refusals are about
//! their recipients, and which domains defer (docs/jobs.md, "E-mail"). Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::delivery::{Delivery, DeliveryOutcome};
use super::email::Template;
use super::reply::{SmtpReply, SmtpStage};
use crate::model::ids::JobId;

/// The number of domains in a row, without a sent message in between, after which the server takes no mail at all. Also
/// the number of held refusals from which, at the end of a run, they are about us and not about their recipients.
const IN_A_ROW: usize = 10;
/// The number of held refusals after which the server takes no mail at all, whatever their domains.
const MOST_HELD: usize = 100;
/// The number of messages in a row that a domain defers, after which each further message to it is tried once.
const PATIENCE: u32 = 3;

/// A refused message of which it is not known yet whether the refusal is about us or the recipient.
#[derive(Debug)]
pub(super) struct HeldRefusal {
    pub id: String,
    pub template: Template,
    pub offers: Vec<JobId>,
    /// The address of the recipient, in lower case.
    pub address: String,
    pub reply: SmtpReply,
}

/// The replies of the mail server in one run so far.
#[derive(Debug, Default)]
pub(super) struct Standing {
    held: Vec<HeldRefusal>,
    /// The furthest step that any message passed.
    furthest: Option<SmtpStage>,
    /// The domains that refused or deferred a message since the last sent message.
    untaken: BTreeSet<String>,
    /// The domains that defer, with the number of messages in a row.
    deferring: BTreeMap<String, u32>,
    /// The addresses with a negative reply, and the outcome of their message. Their further messages are not tried.
    turned_away: BTreeMap<String, DeliveryOutcome>,
    is_down: bool,
    /// The failure that ended the run, or the last one so far.
    cause: Option<Delivery>,
}

impl Standing {
    /// True when the run must end: the server cannot be reached, or takes no mail from us.
    pub(super) fn is_down(&self) -> bool {
        self.is_down || self.untaken.len() >= IN_A_ROW || self.held.len() >= MOST_HELD
    }

    /// Notes that the server cannot be reached, or takes no mail from us. False where the run ended before.
    pub(super) fn set_down(&mut self, cause: Delivery) -> bool {
        let is_first = !self.is_down();
        self.failed(cause);
        self.is_down = true;
        is_first
    }

    /// Notes a message that the server did not take. What ended the run stays its cause.
    pub(super) fn failed(&mut self, cause: Delivery) {
        if !self.is_down() {
            self.cause = Some(cause);
        }
    }

    /// The reason for the end of the run: whether the server was there and refused, or was not there, with the code and
    /// the stage of its reply. No address, and no words of the server. `None` while the server is not down.
    pub(super) fn reason_of_end(&self) -> Option<String> {
        let cause = self.is_down().then_some(self.cause).flatten()?;
        Some(match cause {
            Delivery::Refused(reply) | Delivery::Deferred(reply) => format!("mail_server_refuses: {reply}"),
            Delivery::Unfit(lacking) => format!("mail_server_refuses: {lacking}"),
            failure => format!("mail_server_down: {failure}"),
        })
    }

    /// The outcome of an earlier message to this address; `None` where the address had no negative reply in this run.
    pub(super) fn earlier_outcome(&self, address: &str) -> Option<DeliveryOutcome> {
        self.turned_away.get(address).copied()
    }

    /// False when the domain of this address has deferred three messages in a row. Then each message is tried once.
    pub(super) fn is_patient(&self, address: &str) -> bool {
        self.deferring.get(domain(address)).is_none_or(|messages| *messages < PATIENCE)
    }

    /// True where a refusal is certainly about its recipient: the reply says so, and the server took another recipient.
    pub(super) fn vouches_for(&self, reply: SmtpReply) -> bool {
        reply.names_the_mailbox() && self.furthest >= Some(SmtpStage::Recipient)
    }

    /// Notes that a message passed this step. Returns the held refusals at this step or before: they are about their
    /// recipients.
    pub(super) fn passed(&mut self, stage: SmtpStage) -> Vec<HeldRefusal> {
        self.furthest = self.furthest.max(Some(stage));
        let (own, held) = std::mem::take(&mut self.held).into_iter().partition(|held| held.reply.stage <= stage);
        self.held = held;
        own
    }

    /// Holds a refusal until it is known whom it is about. The address is not tried again in this run.
    pub(super) fn hold(&mut self, held: HeldRefusal) {
        self.failed(Delivery::Refused(held.reply));
        self.untaken.insert(domain(&held.address).to_owned());
        self.turned_away.insert(held.address.clone(), DeliveryOutcome::Deferred);
        self.held.push(held);
    }

    /// Notes the outcome of a message to this address.
    pub(super) fn note(&mut self, address: &str, outcome: DeliveryOutcome) {
        let domain = domain(address);
        match outcome {
            DeliveryOutcome::Sent | DeliveryOutcome::Written => {
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

    /// Decides the refusals that are held at the end of a run. Returns the refusals about their recipients, then the
    /// refusals about us. Where another message passed the step, fewer than ten held refusals are about their
    /// recipients, and ten or more are about us. Where no message passed the step, they are about us. The exception is
    /// a single refusal that names the mailbox.
    pub(super) fn end(&mut self) -> (Vec<HeldRefusal>, Vec<HeldRefusal>) {
        let (was_down, held) = (self.is_down(), std::mem::take(&mut self.held));
        let (few, alone) = (held.len() < IN_A_ROW, held.len() == 1);
        let (own, ours): (Vec<HeldRefusal>, Vec<HeldRefusal>) = held.into_iter().partition(|held| {
            let others_passed = self.furthest >= Some(held.reply.stage);
            !was_down && if others_passed { few } else { alone && held.reply.may_name_the_mailbox() }
        });
        if let Some(first) = ours.first() {
            self.failed(Delivery::Refused(first.reply));
            self.is_down = true;
        }
        (own, ours)
    }
}

/// The part of an address after its last `@`.
fn domain(address: &str) -> &str {
    address.rsplit_once('@').map_or(address, |(_, domain)| domain)
}

#[cfg(test)]
#[path = "server_standing_tests.rs"]
mod tests;
