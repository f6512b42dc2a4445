//! The outbox: one entry per message in `stream_processor_outbox` (spec 05, "E-mail"). An entry is written before the
//! dialogue with the mail server and after it, so that a crash neither loses a message nor sends it three times. An
//! entry has ids and times, never an address, a name or a content.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use bson::raw::cstr;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use futures::TryStreamExt as _;
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use super::reply::SmtpReply;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, UserId};
use crate::model::names::OUTBOX;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::write::statements::Statement;
use crate::write::{Writer, update_command};

/// The time for which an entry is kept, the same as for runs in the ledger.
const KEPT: Duration = Duration::from_hours(90 * 24);
/// The maximal number of copies of a message that may be delivered (spec 05), and of times that one run sends its
/// content.
pub(super) const COPIES: u32 = 2;
/// The number of runs that try a message which the mail server refuses.
const REFUSALS: u32 = 3;
/// The maximal number of messages to one user about one threshold in a day. Later messages are about later offers.
const MESSAGES: u32 = 3;

/// The state of a message in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxState {
    /// The dialogue is under way, or its end is unknown.
    Sending,
    /// The mail server has the message.
    Sent,
    /// The mail server refused the message, and the refusal is about the recipient.
    Refused,
    /// The address or the content is not valid for sending.
    Unsendable,
    /// The mail server does not have the message. A later run sends it.
    Deferred,
}

/// The entry of one message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub state: OutboxState,
    /// The number of copies that may have been delivered.
    pub copies: u32,
    /// The number of runs in which the message was refused or unsendable.
    pub refusals: u32,
    /// The run that claimed the message last.
    pub run: ObjectId,
    /// The offers that the message is about.
    pub offers: Vec<JobId>,
}

/// The next action for a message, according to its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxAction {
    /// The message is to be sent.
    Send,
    /// The message was sent before.
    Done,
    /// Two copies may have been delivered, so the message is not sent again.
    Unconfirmed,
    /// The message was refused in enough runs.
    Refused,
    /// The message was unsendable in enough runs.
    Unsendable,
}

/// The end of a dialogue, as it is noted in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// The mail server has the message.
    Sent,
    /// The mail server refused the message, and the refusal is about the recipient.
    Refused(SmtpReply),
    /// The message cannot be sent as it is; the faulty part is `address` or `content`.
    Unsendable(&'static str),
    /// The mail server cannot be reached, or takes no mail from us. The recipient has nothing to do with it.
    Untried(Option<SmtpReply>),
    /// The mail server does not take the message now, or it is undecided whom its refusal is about.
    Deferred(Option<SmtpReply>),
}

/// A division of the offers of one user: sent before, to be sent now, or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Share {
    /// The offers of messages that were sent.
    pub done: Vec<JobId>,
    /// The `_id` of the next message, and its offers; `None` where no message is to be sent.
    pub message: Option<(String, Vec<JobId>)>,
    /// The offers that are left out, because the user got enough messages on this day.
    pub left: Vec<JobId>,
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
    /// The entry in a document. A document of another shape was not written by this service: it counts as missing, and
    /// a claim does not overwrite it.
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
            offers: offers.iter().filter_map(Bson::as_object_id).map(JobId).collect(),
        })
    }
}

/// The next action for the message of this entry; a message without an entry is to be sent. Pure.
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

/// The ids in the outbox of the messages to one user about one threshold in a day, in the order of sending.
#[must_use]
pub fn ids(base: &str) -> Vec<String> {
    (1..=MESSAGES).map(|number| if number == 1 { base.to_owned() } else { format!("{base}/{number}") }).collect()
}

/// Divides these offers by the entries of the messages to their user. `base` is the first id, see [`ids`]. Pure.
#[must_use]
pub fn share(base: &str, entries: &HashMap<String, OutboxEntry>, offers: &[JobId]) -> Share {
    let mut share = Share::default();
    let mut rest: BTreeSet<JobId> = offers.iter().copied().collect();
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

/// The `Message-ID` for an `_id` of the outbox, without the angle brackets. Every copy of the message has the same one.
#[must_use]
pub fn message_id(id: &str, domain: &str) -> String {
    format!("{}@{domain}", id.replace('/', "."))
}

/// Creates the indexes of the outbox: one by which the server deletes old entries, and one by user.
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

/// The entries of these messages, by `_id`. A message without an entry is not in the result.
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

/// The offers of all messages that were sent, or may have been delivered often enough, and whose ids begin with one of
/// these prefixes and a slash.
///
/// # Errors
/// [`Failure::Read`].
pub async fn sent_about(database: &Database, prefixes: &[String]) -> Result<HashSet<JobId>, Failure> {
    if prefixes.is_empty() {
        return Ok(HashSet::new());
    }
    // In the order of texts, the zero is the character after the slash.
    let begins = |prefix: &String| doc! { "_id": { "$gte": format!("{prefix}/"), "$lt": format!("{prefix}0") } };
    let filter = doc! { "$or": prefixes.iter().map(begins).collect::<Vec<Document>>() };
    let found = with_deadline(collection(database, OUTBOX).find(filter)).await.map_err(Failure::Read)?;
    let found: Vec<Document> = with_deadline(found.try_collect()).await.map_err(Failure::Read)?;
    let is_over = |entry: &OutboxEntry| entry.state == OutboxState::Sent || entry.copies >= COPIES;
    let entries = found.iter().filter_map(OutboxEntry::read).filter(is_over);
    Ok(entries.flat_map(|entry| entry.offers).collect())
}

/// The users, of these, whose last message was deferred, each with the time of that message.
///
/// # Errors
/// [`Failure::Read`].
pub async fn put_off(database: &Database, users: &[UserId]) -> Result<HashMap<UserId, DateTime>, Failure> {
    let outbox = collection(database, OUTBOX);
    let found = outbox.find(of_users(users)).projection(doc! { "user": 1, "state": 1, "at": 1 });
    let found = with_deadline(found).await.map_err(Failure::Read)?;
    let found: Vec<Document> = with_deadline(found.try_collect()).await.map_err(Failure::Read)?;
    let mut last: HashMap<UserId, (DateTime, OutboxState)> = HashMap::new();
    for document in &found {
        let (Ok(user), Ok(at)) = (document.get_object_id("user").map(UserId), document.get_datetime("at")) else {
            continue;
        };
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

/// A filter of the entries of messages to these users.
#[must_use]
pub fn of_users(users: &[UserId]) -> Document {
    doc! { "user": { "$in": users } }
}

/// The outbox for one run of a job, with writes under the lease.
#[derive(Debug, Clone)]
pub struct Outbox {
    pub database: Database,
    pub writer: Writer,
    /// The id of this run, made for the outbox.
    pub run: ObjectId,
}

impl Outbox {
    /// Notes that a dialogue begins: from now on, one more copy may be delivered. False when another run has claimed
    /// the message.
    ///
    /// # Errors
    /// As [`update_command::update`]; the note may have been written.
    pub async fn claim(
        &self,
        id: &str,
        entry: Option<&OutboxEntry>,
        offers: &[JobId],
        message_id: &str,
    ) -> Result<bool, Unfinished> {
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

    /// True when this run has claimed the message and has not settled it.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn holds(&self, id: &str) -> Result<bool, Failure> {
        let entries = read(&self.database, &[id.to_owned()]).await?;
        Ok(entries.get(id).is_some_and(|entry| entry.run == self.run && entry.state == OutboxState::Sending))
    }

    /// Notes the end of the dialogue about a message to `user`. False when another run has claimed the message.
    ///
    /// # Errors
    /// As [`update_command::update`]; the note may have been written.
    pub async fn settle(&self, id: &str, user: UserId, settled: Settled) -> Result<bool, Unfinished> {
        // Every end but `Sent` means that nothing was delivered, so the copy of the claim is taken back.
        let (state, returned, refusals) = match settled {
            Settled::Sent => (OutboxState::Sent, 0, 0),
            Settled::Refused(_) => (OutboxState::Refused, -1, 1),
            Settled::Unsendable(_) => (OutboxState::Unsendable, -1, 1),
            Settled::Untried(_) | Settled::Deferred(_) => (OutboxState::Deferred, -1, 0),
        };
        let mut set = rawdoc! { "state": state.as_str() };
        // Without the user, a message that was not even tried does not put the user off in the next run.
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

    /// Notes that a refusal of this run is about its recipient; until now it was noted as deferred. False when another
    /// run has claimed the message.
    ///
    /// # Errors
    /// As [`update_command::update`]; the note may have been written.
    pub async fn refuse(&self, id: &str) -> Result<bool, Unfinished> {
        let filter = rawdoc! { "_id": id, "run": self.run, "state": OutboxState::Deferred.as_str() };
        let set = rawdoc! { "state": OutboxState::Refused.as_str() };
        self.write(
            rawdoc! { "q": filter, "u": { "$set": set, "$inc": { "refusals": 1 }, "$currentDate": { "at": true } } },
        )
        .await
    }

    async fn write(&self, body: RawDocumentBuf) -> Result<bool, Unfinished> {
        let outcome = update_command::update(&self.writer, OUTBOX, vec![Statement { id: None, body }]).await?;
        Ok(outcome.created + outcome.changed > 0)
    }
}

fn number(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
