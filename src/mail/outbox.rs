//! What is remembered of each message, in `stream_processor_outbox` (spec 05, "E-mail"): stored before the dialogue with the
//! mail server and after it, so that a crash neither loses one nor sends it three times. Holds ids and times, never an
//! address, a name or a content.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bson::raw::cstr;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use futures::TryStreamExt as _;
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use super::reply::SmtpReply;
use crate::error::Failure;
use crate::model::names::OUTBOX;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::statements::Statement;
use crate::write::{Writer, command};

/// A message is remembered for 90 days, as the runs of the jobs are.
const KEPT: Duration = Duration::from_hours(90 * 24);
/// So many copies of a message may be on their way, at most (spec 05), and so often one run sends its content.
pub(super) const COPIES: u32 = 2;
/// So many runs try a message that the server refuses.
const REFUSALS: u32 = 3;
/// So many messages to one user about one threshold in a day: the second one is about offers that came later.
const MESSAGES: u32 = 3;

/// What is known of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxState {
    /// Its dialogue may be under way, or have ended in whatever way.
    Sending,
    /// The server has it.
    Sent,
    /// The server refused it.
    Refused,
    /// It cannot be sent as it is.
    Unsendable,
    /// The server does not have it.
    Deferred,
}

/// A message, as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// What is known.
    pub state: OutboxState,
    /// How many copies may have been delivered.
    pub copies: u32,
    /// In how many runs it was refused, or could not be sent as it is.
    pub refusals: u32,
    /// The run that had it last.
    pub run: ObjectId,
    /// The offers that it is about.
    pub offers: Vec<ObjectId>,
}

/// What is to be done about a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxAction {
    /// Send it.
    Send,
    /// It was sent.
    Done,
    /// Two copies may have been delivered; nobody knows.
    Unconfirmed,
    /// It was refused often enough.
    Refused,
    /// It could not be sent as it is often enough.
    Unsendable,
}

/// How a dialogue ended, for the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The server has it.
    Sent,
    /// The server refused it, and that is about its recipient.
    Refused(SmtpReply),
    /// It cannot be sent as it is: because of its `address`, or its `content`.
    Unsendable(&'static str),
    /// The server does not have it, and that is not about its recipient: it cannot be reached, or does not want us.
    Untried(Option<SmtpReply>),
    /// The server does not have it: not now, or nobody knows yet whom its refusal is about.
    Deferred(Option<SmtpReply>),
}

/// What is to be sent to one user about some offers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// These were in a message that was sent.
    pub done: Vec<ObjectId>,
    /// This message is to be sent, about these.
    pub message: Option<(String, Vec<ObjectId>)>,
    /// These are left out: the user got enough messages.
    pub left: Vec<ObjectId>,
}

impl OutboxState {
    const ALL: [Self; 5] = [Self::Sending, Self::Sent, Self::Refused, Self::Unsendable, Self::Deferred];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Sent => "sent",
            Self::Refused => "refused",
            Self::Unsendable => "unsendable",
            Self::Deferred => "deferred",
        }
    }

    fn read(document: &Document) -> Option<Self> {
        let state = document.get_str("state").ok()?;
        Self::ALL.into_iter().find(|known| known.as_str() == state)
    }
}

impl OutboxEntry {
    /// A document that nobody but this service wrote; another one counts as not there, and is then not written over.
    fn read(document: &Document) -> Option<Self> {
        let state = OutboxState::read(document)?;
        let count =
            |field| document.get_i32(field).ok().and_then(|count| u32::try_from(count).ok()).unwrap_or_default();
        let offers = document.get_array("offers").map(Vec::as_slice).unwrap_or_default();
        Some(Self {
            state,
            copies: count("copies"),
            refusals: count("refusals"),
            run: document.get_object_id("run").ok()?,
            offers: offers.iter().filter_map(Bson::as_object_id).collect(),
        })
    }
}

/// What the memory tells to do. Pure.
#[must_use]
pub fn step(entry: Option<&OutboxEntry>) -> OutboxAction {
    match entry {
        Some(OutboxEntry { state: OutboxState::Sent, .. }) => OutboxAction::Done,
        Some(OutboxEntry { copies, .. }) if *copies >= COPIES => OutboxAction::Unconfirmed,
        Some(OutboxEntry { state: OutboxState::Refused, refusals, .. }) if *refusals >= REFUSALS => {
            OutboxAction::Refused
        }
        Some(OutboxEntry { state: OutboxState::Unsendable, refusals, .. }) if *refusals >= REFUSALS => {
            OutboxAction::Unsendable
        }
        _ => OutboxAction::Send,
    }
}

/// The ids under which messages to one user on one day are remembered, the first one first.
#[must_use]
pub fn ids(base: &str) -> Vec<String> {
    (1..=MESSAGES).map(|number| if number == 1 { base.to_owned() } else { format!("{base}/{number}") }).collect()
}

/// Which of these offers are in messages that were sent, and what is still to be sent. Pure.
#[must_use]
pub fn share(base: &str, entries: &HashMap<String, OutboxEntry>, offers: &[ObjectId]) -> Share {
    let mut share = Share::default();
    let mut rest: BTreeSet<ObjectId> = offers.iter().copied().collect();
    for id in ids(base) {
        match entries.get(&id) {
            Some(entry) if entry.state == OutboxState::Sent => {
                share.done.extend(entry.offers.iter().filter(|offer| rest.remove(offer)));
            }
            _ if rest.is_empty() => break,
            _ => {
                share.message = Some((id, std::mem::take(&mut rest).into_iter().collect()));
                break;
            }
        }
    }
    share.left = rest.into_iter().collect();
    share
}

/// The `Message-ID` that belongs to an `_id`, without the brackets: every copy has the same one.
#[must_use]
pub fn message_id(id: &str, domain: &str) -> String {
    format!("{}@{domain}", id.replace('/', "."))
}

/// Lets the server forget what is old, and find the messages of a user.
///
/// # Errors
/// [`Failure::Write`].
pub async fn prepare(database: &Database) -> Result<(), Failure> {
    let forget = IndexOptions::builder().expire_after(KEPT).build();
    let forget = IndexModel::builder().keys(doc! { "at": 1 }).options(forget).build();
    let find = IndexOptions::builder().sparse(true).build();
    let find = IndexModel::builder().keys(doc! { "user": 1 }).options(find).build();
    with_deadline(collection(database, OUTBOX).create_indexes([forget, find])).await.map(drop).map_err(Failure::Write)
}

/// Reads what is remembered of these messages.
///
/// # Errors
/// [`Failure::Read`].
pub async fn read(database: &Database, ids: &[String]) -> Result<HashMap<String, OutboxEntry>, Failure> {
    let outbox = collection(database, OUTBOX);
    let found = with_deadline(outbox.find(doc! { "_id": { "$in": ids } })).await.map_err(Failure::Read)?;
    let found: Vec<Document> = with_deadline(found.try_collect()).await.map_err(Failure::Read)?;
    let entry = |document: &Document| Some((document.get_str("_id").ok()?.to_owned(), OutboxEntry::read(document)?));
    Ok(found.iter().filter_map(entry).collect())
}

/// Which of these users the last message did not reach, with when that was.
///
/// # Errors
/// [`Failure::Read`].
pub async fn put_off(database: &Database, users: &[ObjectId]) -> Result<HashMap<ObjectId, DateTime>, Failure> {
    let outbox = collection(database, OUTBOX);
    let found = outbox.find(of_users(users)).projection(doc! { "user": 1, "state": 1, "at": 1 });
    let found = with_deadline(found).await.map_err(Failure::Read)?;
    let found: Vec<Document> = with_deadline(found.try_collect()).await.map_err(Failure::Read)?;
    let mut last: HashMap<ObjectId, (DateTime, OutboxState)> = HashMap::new();
    for document in &found {
        let (Ok(user), Ok(at)) = (document.get_object_id("user"), document.get_datetime("at")) else { continue };
        let Some(state) = OutboxState::read(document) else { continue };
        let known = last.entry(user).or_insert((*at, state));
        if known.0 <= *at {
            *known = (*at, state);
        }
    }
    Ok(last
        .into_iter()
        .filter(|(_, (_, state))| *state == OutboxState::Deferred)
        .map(|(user, (at, _))| (user, at))
        .collect())
}

/// The messages to these users.
#[must_use]
pub fn of_users(users: &[ObjectId]) -> Document {
    doc! { "user": { "$in": users } }
}

/// Writes under the lease, for one run of a job.
#[derive(Debug, Clone)]
pub struct Outbox {
    /// Where it is.
    pub database: Database,
    /// The right to write.
    pub writer: Writer,
    /// Names the run.
    pub run: ObjectId,
}

impl Outbox {
    /// Notes that a dialogue begins: one more copy may be delivered from now on. False when somebody else has the
    /// message, which then goes on with it.
    ///
    /// # Errors
    /// As [`command::update`]; the note may stand.
    pub async fn claim(
        &self,
        id: &str,
        entry: Option<&OutboxEntry>,
        offers: &[ObjectId],
        message_id: &str,
    ) -> Result<bool, Failure> {
        let copies = entry.map_or(0, |entry| entry.copies) + 1;
        let filter = match entry {
            Some(entry) => {
                rawdoc! { "_id": id, "state": entry.state.as_str(), "run": entry.run, "copies": number(entry.copies) }
            }
            None => rawdoc! { "_id": id, "state": { "$exists": false } },
        };
        let mut about = bson::raw::RawArrayBuf::new();
        offers.iter().for_each(|offer| about.push(*offer));
        let set = rawdoc! {
            "state": OutboxState::Sending.as_str(), "copies": number(copies), "run": self.run,
            "message_id": message_id, "offers": about,
        };
        self.write(
            rawdoc! { "q": filter, "u": { "$set": set, "$currentDate": { "at": true } }, "upsert": entry.is_none() },
        )
        .await
    }

    /// Whether this run has the message.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn holds(&self, id: &str) -> Result<bool, Failure> {
        let entries = read(&self.database, &[id.to_owned()]).await?;
        Ok(entries.get(id).is_some_and(|entry| entry.run == self.run && entry.state == OutboxState::Sending))
    }

    /// Notes how the dialogue with, or about, a user ended. False when somebody else has the message by now.
    ///
    /// # Errors
    /// As [`command::update`]; the note may stand.
    pub async fn settle(&self, id: &str, user: ObjectId, settled: Settled) -> Result<bool, Failure> {
        // But for the first one, certainly not delivered: it does not count as a copy.
        let (state, returned, refusals) = match settled {
            Settled::Sent => (OutboxState::Sent, 0, 0),
            Settled::Refused(_) => (OutboxState::Refused, -1, 1),
            Settled::Unsendable(_) => (OutboxState::Unsendable, -1, 1),
            Settled::Untried(_) | Settled::Deferred(_) => (OutboxState::Deferred, -1, 0),
        };
        let mut set = rawdoc! { "state": state.as_str() };
        if !matches!(settled, Settled::Untried(_)) {
            set.append(cstr!("user"), user);
        }
        match settled {
            Settled::Refused(reply) | Settled::Untried(Some(reply)) | Settled::Deferred(Some(reply)) => {
                set.append(cstr!("code"), i32::from(reply.code));
                set.append(cstr!("stage"), reply.stage.name());
            }
            Settled::Unsendable(reason) => set.append(cstr!("reason"), reason),
            Settled::Sent | Settled::Untried(None) | Settled::Deferred(None) => {}
        }
        let filter = rawdoc! { "_id": id, "run": self.run, "state": OutboxState::Sending.as_str() };
        let add = rawdoc! { "copies": returned, "refusals": refusals };
        self.write(rawdoc! { "q": filter, "u": { "$set": set, "$inc": add, "$currentDate": { "at": true } } }).await
    }

    /// Notes that a refusal of this run, noted as deferred so far, is about its recipient. False when somebody else has the
    /// message by now.
    ///
    /// # Errors
    /// As [`command::update`]; the note may stand.
    pub async fn refuse(&self, id: &str) -> Result<bool, Failure> {
        let filter = rawdoc! { "_id": id, "run": self.run, "state": OutboxState::Deferred.as_str() };
        let set = rawdoc! { "state": OutboxState::Refused.as_str() };
        self.write(
            rawdoc! { "q": filter, "u": { "$set": set, "$inc": { "refusals": 1 }, "$currentDate": { "at": true } } },
        )
        .await
    }

    async fn write(&self, body: RawDocumentBuf) -> Result<bool, Failure> {
        let outcome = command::update(&self.writer, OUTBOX, vec![Statement { id: None, body }]).await?;
        Ok(outcome.created + outcome.changed > 0)
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
