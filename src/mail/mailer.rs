//! The mailer: sends the messages of one run, several at a time. Each message is looked up in the outbox, noted there,
//! delivered, and noted again. A deferred message is retried after a delay. A message that cannot be sent does not stop
//! the others. A mail server that cannot be reached, or that takes no mail from us (`standing`), ends the run.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{DateTime, oid::ObjectId};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lettre::Address;
use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::compose::{Composed, compose};
use super::delivery::{Dealt, Delivery, DeliveryOutcome};
use super::email::Email;
use super::outbox::{COPIES, Outbox, OutboxAction, OutboxEntry, OutboxState, Settled, message_id, step};
use super::reply::{SmtpReply, SmtpStage};
use super::server_standing::{HeldRefusal, Standing};
use super::transport::{OutgoingEmail, Transport};
use crate::config::Environment;
use crate::context::Context;
use crate::error::Directive;
use crate::failpoint;
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, UserId};
use crate::observe::metrics::Metrics;
use crate::retry::Delays;
use crate::tasks::pause;
use crate::write::Writer;

/// The number of attempts at one message in a run, and at one note in the outbox. The delays between them grow, so all
/// attempts together take several seconds.
const ATTEMPTS: u32 = 8;

/// A message to send.
#[derive(Debug)]
pub(crate) struct MailItem {
    /// The `_id` of the message in the outbox.
    pub id: String,
    /// The entry of the outbox before this run; `None` for a new message.
    pub entry: Option<OutboxEntry>,
    /// The user who gets the message.
    pub user: UserId,
    /// The address of the user.
    pub to: Address,
    pub email: Email,
    /// The offers that the message is about.
    pub offers: Vec<JobId>,
}

/// The mailer of one run. `judged` collects messages whose refusal was undecided at first and is decided now.
#[derive(Debug)]
pub(crate) struct Mailer {
    transport: Transport,
    outbox: Outbox,
    now: DateTime,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    at_a_time: usize,
    standing: Mutex<Standing>,
    judged: Mutex<Vec<Dealt>>,
}

/// A note for the outbox.
enum Note<'a> {
    Begin { item: &'a MailItem, entry: Option<&'a OutboxEntry>, message_id: &'a str },
    End { item: &'a MailItem, settled: Settled },
    Refuse { id: &'a str },
}

/// The state of a message whose dialogue has ended.
#[derive(Debug, Clone, Copy)]
enum DialogueEnd {
    Known(DeliveryOutcome),
    /// The message was refused, and it is not known yet whether the refusal is about us or the recipient.
    Open,
}

/// The result of writing a note.
#[derive(Debug, Clone, Copy)]
struct Noted {
    /// True where this call wrote the note; false where its condition did not hold.
    stands: bool,
    /// True where an earlier attempt failed, so it may have written the note.
    repeated: bool,
}

impl Mailer {
    /// A mailer for one run; `now` is the date of its messages.
    ///
    /// # Errors
    /// A sentence that names the faulty setting.
    pub(crate) fn open(
        context: &Context,
        writer: Writer,
        now: DateTime,
        stop: CancellationToken,
    ) -> Result<Self, String> {
        let settings = &context.settings;
        if settings.environment == Environment::Production && settings.smtp.url.is_none() {
            return Err("smtp.url is not set, and in production messages in a folder reach nobody".to_owned());
        }
        Ok(Self {
            transport: Transport::new(&settings.smtp, &settings.mail)?,
            outbox: Outbox { database: Database::clone(&context.database), writer, run: ObjectId::new() },
            now,
            metrics: Arc::clone(&context.metrics),
            stop,
            at_a_time: settings.smtp.connections,
            standing: Mutex::default(),
            judged: Mutex::default(),
        })
    }

    /// Sends messages. Returns the outcomes that are known now, in no order: of these messages, and of earlier messages
    /// whose refusal was undecided.
    ///
    /// # Errors
    /// A failure of the database, or a lost lease. A message that was sent is noted, or may be sent once more.
    pub(crate) async fn send(&self, items: Vec<MailItem>) -> Result<Vec<Dealt>, Unfinished> {
        let sending: Vec<BoxFuture<'_, _>> = items.into_iter().map(|item| self.send_counted(item).boxed()).collect();
        let sending = futures::stream::iter(sending).buffer_unordered(self.at_a_time);
        let dealt: Vec<Option<Dealt>> = sending.try_collect().await?;
        Ok(dealt.into_iter().flatten().chain(self.judged()).collect())
    }

    /// Decides the refusals that are undecided at the end of the run, and returns their outcomes.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(crate) async fn conclude(&self) -> Result<Vec<Dealt>, Unfinished> {
        let (own, ours) = self.with(Standing::end);
        self.book(own).await?;
        if let Some(first) = ours.first() {
            warn!(error = %first.reply, messages = ours.len(), "the mail server refuses all our messages; this does not count against the recipients");
        }
        for held in ours {
            self.judge(held, DeliveryOutcome::Deferred);
        }
        Ok(self.judged())
    }

    async fn send_counted(&self, item: MailItem) -> Result<Option<Dealt>, Unfinished> {
        let Some(outcome) = self.send_one(&item).await? else { return Ok(None) };
        if outcome != DeliveryOutcome::Taken && step(item.entry.as_ref()) == OutboxAction::Send {
            self.metrics.email(item.email.template, outcome);
        }
        Ok(Some(Dealt { offers: item.offers, outcome }))
    }

    /// True when the run must end.
    #[must_use]
    pub(crate) fn is_down(&self) -> bool {
        self.with(|standing| standing.is_down())
    }

    /// The reason why the run must end: the mail server cannot be reached, or takes no mail from us. `None` while it does.
    #[must_use]
    pub(crate) fn reason_of_end(&self) -> Option<String> {
        self.with(|standing| standing.reason_of_end())
    }

    /// Closes the connections to the mail server.
    pub(crate) async fn close(&self) {
        self.transport.close().await;
    }

    /// Sends one message. `None` when its refusal is undecided so far.
    async fn send_one(&self, item: &MailItem) -> Result<Option<DeliveryOutcome>, Unfinished> {
        match step(item.entry.as_ref()) {
            OutboxAction::Done => return Ok(Some(DeliveryOutcome::Sent)),
            OutboxAction::Unconfirmed => return Ok(Some(DeliveryOutcome::Unconfirmed)),
            OutboxAction::Refused => return Ok(Some(DeliveryOutcome::Refused)),
            OutboxAction::Unsendable => return Ok(Some(DeliveryOutcome::Unsendable)),
            OutboxAction::Send => {}
        }
        let address = item.to.to_string().to_lowercase();
        if let Some(outcome) = self.with(|standing| standing.earlier_outcome(&address)) {
            return Ok(Some(outcome));
        }
        if self.is_down() || self.stop.is_cancelled() {
            return Ok(Some(DeliveryOutcome::Deferred));
        }
        let outcome = match compose(&item.email) {
            Ok(composed) if self.transport.is_folder() => Some(self.write(item, &composed).await),
            Ok(composed) => self.attempts(item, &address, &composed).await?,
            Err(fault) => {
                error!(id = item.id, error = %fault, "a message cannot be composed; the other messages are sent");
                Some(self.unsendable(item, "content").await?)
            }
        };
        if let Some(outcome) = outcome {
            self.with(|standing| standing.note(&address, outcome));
        }
        Ok(outcome)
    }

    /// Writes a message into the folder. The outbox does not hear of it, because nobody got the message.
    async fn write(&self, item: &MailItem, composed: &Composed) -> DeliveryOutcome {
        let message_id = message_id(&item.id, self.transport.domain());
        match self.transport.deliver(&self.outgoing(item, composed, &message_id)).await {
            Delivery::Accepted => DeliveryOutcome::Written,
            Delivery::Unsendable(_) => DeliveryOutcome::Unsendable,
            delivery => self.gives_up(item, delivery),
        }
    }

    fn outgoing<'a>(&self, item: &'a MailItem, composed: &'a Composed, message_id: &'a str) -> OutgoingEmail<'a> {
        OutgoingEmail { name: &item.email.person, to: &item.to, composed, message_id, date: self.now }
    }

    async fn attempts(
        &self,
        item: &MailItem,
        address: &str,
        composed: &Composed,
    ) -> Result<Option<DeliveryOutcome>, Unfinished> {
        let message_id = message_id(&item.id, self.transport.domain());
        let email = self.outgoing(item, composed, &message_id);
        let mut delays = Delays::up_to(Duration::from_secs(10));
        let mut entry = item.entry.clone();
        let (mut attempt, mut contents) = (0, 0);
        loop {
            attempt += 1;
            if step(entry.as_ref()) == OutboxAction::Unconfirmed {
                return Ok(Some(DeliveryOutcome::Unconfirmed));
            }
            if !self.claimed(item, entry.as_ref(), &message_id).await? {
                return Ok(Some(DeliveryOutcome::Taken));
            }
            failpoint::passed("mail_claimed");
            let delivery = self.transport.deliver(&email).await;
            failpoint::passed("mail_delivered");
            if let Some(end) = self.ended(item, address, delivery).await? {
                return Ok(match end {
                    DialogueEnd::Known(outcome) => Some(outcome),
                    DialogueEnd::Open => None,
                });
            }
            // A failure after `DATA` counts as a sent content: one run sends it `COPIES` times at most.
            contents += u32::from(delivery.passed() == Some(SmtpStage::Data));
            let patient = self.with(|standing| standing.is_patient(address)) || delivery.is_about_us();
            if attempt >= ATTEMPTS || contents >= COPIES || !patient || self.stop.is_cancelled() {
                return Ok(Some(self.gives_up(item, delivery)));
            }
            // The entry as the outbox has it now: the next claim is on condition of its values.
            let uncertain = delivery == Delivery::Uncertain;
            let state = if uncertain { OutboxState::Sending } else { OutboxState::Deferred };
            let copies = entry.as_ref().map_or(0, |entry| entry.copies) + u32::from(uncertain);
            let refusals = entry.as_ref().map_or(0, |entry| entry.refusals);
            entry = Some(OutboxEntry { state, copies, refusals, run: self.outbox.run, offers: Vec::new() });
            pause(&self.stop, delays.next_delay()).await;
        }
    }

    /// Notes the end of a delivery in the outbox and in the standing. `None` where the message may be tried again.
    async fn ended(
        &self,
        item: &MailItem,
        address: &str,
        delivery: Delivery,
    ) -> Result<Option<DialogueEnd>, Unfinished> {
        let about_us = delivery.is_about_us();
        let settled = match delivery {
            Delivery::Accepted => Some(Settled::Sent),
            Delivery::Unsendable(reason) => Some(Settled::Unsendable(reason)),
            Delivery::Refused(reply) | Delivery::Deferred(reply) if about_us => Some(Settled::Untried(Some(reply))),
            Delivery::Refused(reply) if self.with(|standing| standing.vouches_for(reply)) => {
                Some(Settled::Refused(reply))
            }
            Delivery::Refused(reply) | Delivery::Deferred(reply) => Some(Settled::Deferred(Some(reply))),
            Delivery::Broken(_) => Some(Settled::Deferred(None)),
            Delivery::Unreachable(_) | Delivery::Unfit(_) => Some(Settled::Untried(None)),
            // The entry stays `sending`, with its copy: the message may have been delivered.
            Delivery::Uncertain => None,
        };
        if let Some(settled) = settled {
            self.settled(item, settled).await?;
        }
        if delivery == Delivery::Accepted {
            failpoint::passed("mail_settled");
        }
        if let Some(stage) = delivery.passed() {
            self.book(self.with(|standing| standing.passed(stage))).await?;
        }
        Ok(match delivery {
            Delivery::Accepted => Some(DialogueEnd::Known(DeliveryOutcome::Sent)),
            Delivery::Unsendable(reason) => {
                warn!(id = item.id, error = reason, "a message cannot be sent; the other messages are sent");
                Some(DialogueEnd::Known(DeliveryOutcome::Unsendable))
            }
            Delivery::Refused(_) if about_us => Some(DialogueEnd::Known(self.gives_up(item, delivery))),
            Delivery::Unfit(_) => Some(DialogueEnd::Known(self.gives_up(item, delivery))),
            Delivery::Refused(reply) => {
                warn!(id = item.id, error = %reply, "the mail server refused a message");
                Some(self.refused(item, address, reply, settled))
            }
            Delivery::Deferred(_) | Delivery::Broken(_) | Delivery::Unreachable(_) | Delivery::Uncertain => None,
        })
    }

    fn refused(&self, item: &MailItem, address: &str, reply: SmtpReply, settled: Option<Settled>) -> DialogueEnd {
        if matches!(settled, Some(Settled::Refused(_))) {
            return DialogueEnd::Known(DeliveryOutcome::Refused);
        }
        let (id, template, offers) = (item.id.clone(), item.email.template, item.offers.clone());
        let held = HeldRefusal { id, template, offers, address: address.to_owned(), reply };
        self.with(|standing| standing.hold(held));
        DialogueEnd::Open
    }

    /// Notes that these refusals are about their recipients.
    async fn book(&self, own: Vec<HeldRefusal>) -> Result<(), Unfinished> {
        for held in own {
            self.noted(&Note::Refuse { id: &held.id }).await?;
            self.judge(held, DeliveryOutcome::Refused);
        }
        Ok(())
    }

    fn judge(&self, held: HeldRefusal, outcome: DeliveryOutcome) {
        self.metrics.email(held.template, outcome);
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).push(Dealt { offers: held.offers, outcome });
    }

    fn judged(&self) -> Vec<Dealt> {
        std::mem::take(&mut *self.judged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn unsendable(&self, item: &MailItem, reason: &'static str) -> Result<DeliveryOutcome, Unfinished> {
        let message_id = message_id(&item.id, self.transport.domain());
        if !self.claimed(item, item.entry.as_ref(), &message_id).await? {
            return Ok(DeliveryOutcome::Taken);
        }
        self.settled(item, Settled::Unsendable(reason)).await?;
        Ok(DeliveryOutcome::Unsendable)
    }

    fn gives_up(&self, item: &MailItem, delivery: Delivery) -> DeliveryOutcome {
        if delivery.is_about_us() {
            // The other messages under way fail alike, and the run ends once.
            if self.with(|standing| standing.set_down(delivery)) {
                warn!(id = item.id, error = %delivery, "the mail server refuses our messages or cannot be reached; the run ends");
            }
        } else {
            self.with(|standing| standing.failed(delivery));
            warn!(id = item.id, error = %delivery, "the mail server deferred a message; a later run retries it");
        }
        DeliveryOutcome::Deferred
    }

    /// Notes the beginning of a dialogue. False when another instance has the message. A failed attempt may have
    /// written the note: then the next attempt changes nothing, and the note itself is read.
    async fn claimed(
        &self,
        item: &MailItem,
        entry: Option<&OutboxEntry>,
        message_id: &str,
    ) -> Result<bool, Unfinished> {
        let noted = self.noted(&Note::Begin { item, entry, message_id }).await?;
        if noted.repeated && !noted.stands {
            return Ok(self.outbox.holds(&item.id).await?);
        }
        Ok(noted.stands)
    }

    /// Notes the end of a dialogue, unless another instance has the message now.
    async fn settled(&self, item: &MailItem, settled: Settled) -> Result<(), Unfinished> {
        self.noted(&Note::End { item, settled }).await.map(drop)
    }

    /// Writes a note, in several attempts where a failure of the database may pass.
    async fn noted(&self, note: &Note<'_>) -> Result<Noted, Unfinished> {
        let mut delays = Delays::up_to(Duration::from_secs(2));
        let mut attempt = 1;
        loop {
            let written = match note {
                Note::Begin { item, entry, message_id } => {
                    self.outbox.claim(&item.id, *entry, &item.offers, message_id).await
                }
                Note::End { item, settled } => self.outbox.settle(&item.id, item.user, *settled).await,
                Note::Refuse { id } => self.outbox.refuse(id).await,
            };
            match written {
                Err(Unfinished::Failed(failure)) if attempt < ATTEMPTS && failure.directive() == Directive::Retry => {}
                stands => return Ok(Noted { stands: stands?, repeated: attempt > 1 }),
            }
            attempt += 1;
            pause(&self.stop, delays.next_delay()).await;
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Standing) -> T) -> T {
        look(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
