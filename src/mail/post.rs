//! Sends messages, several at a time: asks the outbox, notes, hands over, notes again; tries again after a while what the
//! server does not want now. A message that cannot be sent does not keep the others from being sent; a server that cannot
//! be reached does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::{DateTime, oid::ObjectId};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use lettre::Address;
use mongodb::Database;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::compose::{Composed, Letter, Template, compose};
use super::outbox::{Entry, Outbox, Settled, State, Step, message_id, step};
use super::transport::{Delivery, Parcel, Transport};
use crate::app::App;
use crate::error::{Directive, Failure};
use crate::observe::metrics::Metrics;
use crate::retry::Delays;
use crate::run::failpoint;
use crate::write::Writer;

/// So often a message is tried in one run: for about a quarter of a minute.
const ATTEMPTS: u32 = 8;
/// So many messages in a row that the server does not want now mean that it wants none.
const IN_A_ROW: u32 = 10;

/// A message to be sent.
#[derive(Debug)]
pub struct Item {
    /// Under which it is remembered.
    pub id: String,
    /// What is remembered.
    pub entry: Option<Entry>,
    /// To whom.
    pub to: Address,
    /// What.
    pub letter: Letter,
    /// About which offers.
    pub offers: Vec<ObjectId>,
}

/// What became of a message, for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The server has it.
    Sent,
    /// The server refused it, or its address, in this run or in earlier ones.
    Refused,
    /// The server does not have it; a later run tries again.
    Deferred,
    /// It may have been delivered, twice at most, and is not sent again.
    Unconfirmed,
    /// Another instance has it.
    Taken,
}

/// Sends the messages of one run.
#[derive(Debug)]
pub struct Post {
    transport: Transport,
    outbox: Outbox,
    now: DateTime,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    at_a_time: usize,
    memory: Mutex<Memory>,
}

/// A note for the outbox.
enum Note<'a> {
    Begin { item: &'a Item, entry: Option<&'a Entry>, message_id: &'a str },
    End { item: &'a Item, settled: Settled },
}

/// What came of writing a note.
#[derive(Debug, Clone, Copy)]
struct Noted {
    stands: bool,
    repeated: bool,
}

/// What one run learns.
#[derive(Debug, Default)]
struct Memory {
    refused: BTreeSet<String>,
    deferred_in_a_row: u32,
    unreachable: bool,
}

impl Fate {
    /// As a label.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Deferred => "deferred",
            Self::Unconfirmed => "unconfirmed",
            Self::Taken => "taken",
        }
    }
}

impl Post {
    /// For one run.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be used.
    pub fn open(app: &App, writer: Writer, now: DateTime, stop: CancellationToken) -> Result<Self, String> {
        Ok(Self {
            transport: Transport::new(&app.settings.smtp, &app.settings.mail)?,
            outbox: Outbox { database: Database::clone(&app.database), writer, run: ObjectId::new() },
            now,
            metrics: Arc::clone(&app.metrics),
            stop,
            at_a_time: app.settings.smtp.connections,
            memory: Mutex::default(),
        })
    }

    /// Sends these; gives back what became of each, in no order.
    ///
    /// # Errors
    /// A [`Failure`] of the database: what was sent is noted, or may be sent once more.
    pub async fn send(&self, items: Vec<Item>) -> Result<Vec<(Item, Fate)>, Failure> {
        let sending: Vec<BoxFuture<'_, _>> = items.into_iter().map(|item| self.send_counted(item).boxed()).collect();
        futures::stream::iter(sending).buffer_unordered(self.at_a_time).try_collect().await
    }

    async fn send_counted(&self, item: Item) -> Result<(Item, Fate), Failure> {
        let fate = self.send_one(&item).await?;
        if fate != Fate::Taken && step(item.entry.as_ref()) == Step::Send {
            self.metrics.jobs.emails.with_label_values(&[item.letter.template.name(), fate.name()]).inc();
        }
        Ok((item, fate))
    }

    /// True when it is of no use to go on now: the server cannot be reached, or wants nothing.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.with(|memory| memory.unreachable || memory.deferred_in_a_row >= IN_A_ROW)
    }

    /// Ends the connections.
    pub async fn close(&self) {
        self.transport.close().await;
    }

    async fn send_one(&self, item: &Item) -> Result<Fate, Failure> {
        match step(item.entry.as_ref()) {
            Step::Done => return Ok(Fate::Sent),
            Step::Unconfirmed => return Ok(Fate::Unconfirmed),
            Step::Refused => return Ok(Fate::Refused),
            Step::Send => {}
        }
        let address = item.to.to_string().to_lowercase();
        if self.with(|memory| memory.refused.contains(&address)) {
            return Ok(Fate::Refused);
        }
        if self.is_down() || self.stop.is_cancelled() {
            return Ok(Fate::Deferred);
        }
        let composed = match compose(&item.letter) {
            Ok(composed) => composed,
            Err(fault) => {
                error!(id = item.id, %fault, "a message cannot be written: this is a bug");
                return Ok(Fate::Deferred);
            }
        };
        let fate = self.attempts(item, &composed).await?;
        self.with(|memory| match fate {
            Fate::Sent => memory.deferred_in_a_row = 0,
            Fate::Deferred => memory.deferred_in_a_row += 1,
            Fate::Refused => drop(memory.refused.insert(address)),
            Fate::Unconfirmed | Fate::Taken => {}
        });
        Ok(fate)
    }

    async fn attempts(&self, item: &Item, composed: &Composed) -> Result<Fate, Failure> {
        let message_id = message_id(&item.id, self.transport.domain());
        let parcel =
            Parcel { name: &item.letter.person, to: &item.to, composed, message_id: &message_id, date: self.now };
        let mut delays = Delays::up_to(Duration::from_secs(10));
        let mut entry = item.entry.clone();
        let mut attempt = 0;
        loop {
            attempt += 1;
            if step(entry.as_ref()) == Step::Unconfirmed {
                return Ok(Fate::Unconfirmed);
            }
            if !self.claimed(item, entry.as_ref(), &message_id).await? {
                return Ok(Fate::Taken);
            }
            failpoint::passed("mail_claimed");
            let delivery = self.transport.deliver(&parcel).await;
            failpoint::passed("mail_delivered");
            let copies = entry.as_ref().map_or(0, |entry| entry.copies);
            let copies = match delivery {
                Delivery::Accepted => {
                    self.settled(item, Settled::Sent).await?;
                    failpoint::passed("mail_settled");
                    return Ok(Fate::Sent);
                }
                Delivery::Refused(code) => {
                    warn!(id = item.id, code, "the mail server refused a message");
                    self.settled(item, Settled::Refused(code)).await?;
                    return Ok(Fate::Refused);
                }
                Delivery::Deferred(_) | Delivery::Unreachable(_) | Delivery::NotLetIn => {
                    self.settled(item, Settled::Deferred).await?;
                    copies
                }
                Delivery::Uncertain => copies + 1,
            };
            if attempt >= ATTEMPTS || delivery == Delivery::NotLetIn || self.stop.is_cancelled() {
                return Ok(self.gives_up(item, delivery));
            }
            // As the outbox has it by now.
            let state = if delivery == Delivery::Uncertain { State::Sending } else { State::Deferred };
            let refusals = entry.as_ref().map_or(0, |entry| entry.refusals);
            entry = Some(Entry { state, copies, refusals, run: self.outbox.run, offers: Vec::new() });
            self.pause(delays.next_delay()).await;
        }
    }

    fn gives_up(&self, item: &Item, delivery: Delivery) -> Fate {
        warn!(id = item.id, ?delivery, "the mail server does not take a message now; a later run tries again");
        self.with(|memory| memory.unreachable |= matches!(delivery, Delivery::Unreachable(_) | Delivery::NotLetIn));
        Fate::Deferred
    }

    /// Notes the beginning. A failed attempt may have been written all the same: then the second one finds nothing to
    /// change, and the note is looked at.
    async fn claimed(&self, item: &Item, entry: Option<&Entry>, message_id: &str) -> Result<bool, Failure> {
        let noted = self.noted(&Note::Begin { item, entry, message_id }).await?;
        if noted.repeated && !noted.stands {
            return self.outbox.holds(&item.id).await;
        }
        Ok(noted.stands)
    }

    /// Notes the end, unless somebody else has the message by now.
    async fn settled(&self, item: &Item, settled: Settled) -> Result<(), Failure> {
        self.noted(&Note::End { item, settled }).await.map(drop)
    }

    /// Writes a note, and again while the database is in trouble that passes.
    async fn noted(&self, note: &Note<'_>) -> Result<Noted, Failure> {
        let mut delays = Delays::up_to(Duration::from_secs(2));
        let mut attempt = 1;
        loop {
            let written = match note {
                Note::Begin { item, entry, message_id } => {
                    self.outbox.claim(&item.id, *entry, &item.offers, message_id).await
                }
                Note::End { item, settled } => self.outbox.settle(&item.id, *settled).await,
            };
            match written {
                Err(failure) if attempt < ATTEMPTS && failure.directive() == Directive::Retry => {}
                stands => return Ok(Noted { stands: stands?, repeated: attempt > 1 }),
            }
            attempt += 1;
            self.pause(delays.next_delay()).await;
        }
    }

    async fn pause(&self, delay: Duration) {
        let pause = tokio::time::sleep(delay);
        tokio::select! { () = self.stop.cancelled() => {}, () = pause => {} }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Memory) -> T) -> T {
        look(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every message with every outcome, so that a count of nothing is there from the start.
pub fn labels() -> impl Iterator<Item = [&'static str; 2]> {
    let fates = [Fate::Sent, Fate::Refused, Fate::Deferred, Fate::Unconfirmed];
    Template::ALL.into_iter().flat_map(move |template| fates.map(|fate| [template.name(), fate.name()]))
}
