//! The dead letters: what could not be projected or written, with its reason, never blocking the
//! stream (spec 03, "Dead letters"). They carry ids, codes and field names, never values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bson::{Bson, DateTime, doc, oid::ObjectId, rawdoc};

use super::statements::Statement;
use super::{Writer, command};
use crate::error::Failure;
use crate::fetch::causal::CausalDatabase;
use crate::fetch::{documents, find};
use crate::model::dead_letter::Reason;
use crate::model::value;
use crate::source::event::Collection as Watched;

/// The collection.
pub const DEAD_LETTERS: &str = "stream_processor_dead_letters";
/// The delay before a dead letter is tried again doubles from one minute up to 2^10 of them.
const LONGEST_DELAY_EXPONENT: i32 = 10;
/// The longest delay, and an hour.
const LONGEST_DELAY_MILLISECONDS: i64 = (1_024 + 60) * 60_000;

/// Which document a letter is about: a recruiter, or one of its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The recruiter.
    pub recruiter: ObjectId,
    /// The job; `None` stands for the whole recruiter.
    pub job: Option<ObjectId>,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", Watched::Recruiters.name(), self.recruiter)?;
        match self.job {
            Some(job) => write!(formatter, "/{job}"),
            None => Ok(()),
        }
    }
}

impl Address {
    fn from_stored(id: &str) -> Option<Self> {
        let mut parts = id.split('/');
        let collection = parts.next()?;
        let recruiter = ObjectId::parse_str(parts.next()?).ok()?;
        let job = parts.next().map(ObjectId::parse_str).transpose().ok()?;
        (collection == Watched::Recruiters.name()).then_some(Self { recruiter, job })
    }
}

/// A letter to write.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Why.
    pub reason: Reason,
    /// More of why, without personal data: a code, the name of a field.
    pub detail: String,
}

/// The position of the stream when a letter was written.
#[derive(Debug, Clone)]
pub struct Place {
    /// The resume token, as `{_data}`; null for a scan.
    pub token: Bson,
    /// Its cluster time; null for a scan.
    pub cluster_time: Bson,
    /// The wall time of the batch's last event; for a scan, when it began.
    pub wall_time: DateTime,
    /// Now.
    pub now: DateTime,
}

impl Place {
    /// The place of a scan: not in the stream.
    #[must_use]
    pub fn of_scan(began: DateTime, now: DateTime) -> Self {
        Self { token: Bson::Null, cluster_time: Bson::Null, wall_time: began, now }
    }
}

/// The letters that stand, known in memory so that a success costs no look-up (a pair of ids each).
#[derive(Debug)]
pub struct DeadLetters {
    writer: Writer,
    known: BTreeMap<Address, Reason>,
    /// Letters about documents that are no recruiters with a usable id.
    others: BTreeMap<String, Reason>,
}

impl DeadLetters {
    /// Reads which letters stand; `writer` will change them.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn load(database: &CausalDatabase, writer: &Writer) -> Result<Self, Failure> {
        let batches = find(database, DEAD_LETTERS, doc! {}, doc! { "reason": 1 }).await?;
        let mut letters = Self { writer: writer.clone(), known: BTreeMap::new(), others: BTreeMap::new() };
        for document in documents(&batches) {
            let document = document?;
            let id = value::text(value::field(document, "_id")).unwrap_or_default();
            let reason = Reason::from_stored(value::text(value::field(document, "reason")).unwrap_or_default());
            match Address::from_stored(id) {
                Some(address) => letters.known.insert(address, reason),
                None => letters.others.insert(id.to_owned(), reason),
            };
        }
        Ok(letters)
    }

    /// How many letters stand, by reason.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Reason, usize> {
        let mut counts: BTreeMap<Reason, usize> = Reason::ALL.into_iter().map(|reason| (reason, 0)).collect();
        for reason in self.known.values().chain(self.others.values()) {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }

    /// True when a letter stands about this document.
    #[must_use]
    pub fn contains(&self, address: &Address) -> bool {
        self.known.contains_key(address)
    }

    /// True when a letter stands about this document because the server refused a write.
    #[must_use]
    pub fn contains_refusal(&self, address: &Address) -> bool {
        self.known.get(address).is_some_and(|reason| reason.is_refusal())
    }

    /// The letters that stand about this recruiter and its jobs.
    pub fn of_recruiter(&self, recruiter: ObjectId) -> impl Iterator<Item = Address> + '_ {
        let first = Address { recruiter, job: None };
        self.known.range(first..).map(|(address, _)| *address).take_while(move |address| address.recruiter == recruiter)
    }

    /// The recruiters that letters stand about, after `after`, in their order; each as often as it has letters.
    pub fn recruiters(&self, after: Option<ObjectId>) -> impl Iterator<Item = ObjectId> + '_ {
        let ids = self.known.keys().map(|address| address.recruiter);
        ids.filter(move |recruiter| after.is_none_or(|after| *recruiter > after))
    }

    /// Writes letters; one that stands is overwritten by its next failure.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn write(&mut self, letters: BTreeMap<Address, Letter>, place: &Place) -> Result<(), Failure> {
        if letters.is_empty() {
            return Ok(());
        }
        let addressed = letters.iter().map(|(address, letter)| (address.to_string(), letter));
        store(&self.writer, addressed, place).await?;
        self.known.extend(letters.into_iter().map(|(address, letter)| (address, letter.reason)));
        Ok(())
    }

    /// Removes the letter about a document whose `_id` is no ObjectId, after its deletion.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn remove_unusable(&mut self, collection: Watched, key: &str) -> Result<(), Failure> {
        let id = format!("{}/{key}", collection.name());
        if self.others.contains_key(&id) {
            command::delete(&self.writer, DEAD_LETTERS, doc! { "_id": &id }).await?;
            self.others.remove(&id);
        }
        Ok(())
    }

    /// Writes a letter about a document whose `_id` is no ObjectId.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn write_unusable(&mut self, collection: Watched, key: &str, place: &Place) -> Result<(), Failure> {
        let id = format!("{}/{key}", collection.name());
        let letter = Letter { reason: Reason::Undecodable, detail: "`_id` is no ObjectId".to_owned() };
        store(&self.writer, [(id.clone(), &letter)].into_iter(), place).await?;
        self.others.insert(id, letter.reason);
        Ok(())
    }

    /// Removes the letters with these `_id`s, because an operator wants it; gives back how many there were.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn drop_named(&mut self, ids: &[String]) -> Result<u64, Failure> {
        let known = |id: &&String| match Address::from_stored(id) {
            Some(address) => self.known.contains_key(&address),
            None => self.others.contains_key(*id),
        };
        let ids: Vec<&String> = ids.iter().filter(known).collect::<BTreeSet<_>>().into_iter().collect();
        let dropped = ids.len() as u64;
        command::delete(&self.writer, DEAD_LETTERS, doc! { "_id": { "$in": &ids } }).await?;
        for id in ids {
            match Address::from_stored(id) {
                Some(address) => drop(self.known.remove(&address)),
                None => drop(self.others.remove(id)),
            }
        }
        Ok(dropped)
    }

    /// Removes letters after a success, or because their document is gone.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn remove(&mut self, healed: &BTreeSet<Address>) -> Result<(), Failure> {
        if healed.is_empty() {
            return Ok(());
        }
        let ids: Vec<String> = healed.iter().map(Address::to_string).collect();
        for ids in ids.chunks(1_000) {
            command::delete(&self.writer, DEAD_LETTERS, doc! { "_id": { "$in": ids } }).await?;
        }
        for address in healed {
            self.known.remove(address);
        }
        Ok(())
    }
}

/// The recruiters that letters are about which are due at this time.
///
/// # Errors
/// [`Failure::Read`].
pub async fn due(database: &CausalDatabase, time: DateTime) -> Result<BTreeSet<ObjectId>, Failure> {
    // What seems to be due later than ever is of a clock that was ahead.
    let latest = DateTime::from_millis(time.timestamp_millis().saturating_add(LONGEST_DELAY_MILLISECONDS));
    let due = doc! { "$or": [{ "next_retry": { "$lte": time } }, { "next_retry": { "$gt": latest } }] };
    let batches = find(database, DEAD_LETTERS, due, doc! { "_id": 1 }).await?;
    let mut recruiters = BTreeSet::new();
    for document in documents(&batches) {
        let address = value::text(value::field(document?, "_id")).and_then(Address::from_stored);
        recruiters.extend(address.map(|address| address.recruiter));
    }
    Ok(recruiters)
}

async fn store<'a>(
    writer: &Writer,
    letters: impl Iterator<Item = (String, &'a Letter)>,
    place: &Place,
) -> Result<(), Failure> {
    let statements: Vec<Statement> = letters.map(|(id, letter)| statement(&id, letter, place)).collect();
    let outcome = command::update(writer, DEAD_LETTERS, statements).await?;
    match outcome.refused.first() {
        Some(refused) => Err(Failure::Statement(refused.code)),
        None => Ok(()),
    }
}

fn statement(id: &str, letter: &Letter, place: &Place) -> Statement {
    let literal = |value: &Bson| doc! { "$literal": value.clone() };
    let exponent = doc! { "$min": [{ "$subtract": ["$attempts", 1] }, LONGEST_DELAY_EXPONENT] };
    let delay = doc! { "$multiply": [60_000, { "$pow": [2, exponent] }] };
    let stages = [
        doc! { "$set": {
            "reason": letter.reason.as_str(),
            "detail": literal(&Bson::String(letter.detail.clone())),
            "first_seen": { "$ifNull": ["$first_seen", "$$NOW"] },
            "last_seen": "$$NOW",
            "attempts": { "$add": [{ "$ifNull": ["$attempts", 0] }, 1] },
            "token": literal(&place.token),
            "cluster_time": literal(&place.cluster_time),
        } },
        doc! { "$set": { "next_retry": { "$add": ["$$NOW", delay] } } },
    ];
    let stages: bson::raw::RawArrayBuf = stages
        .iter()
        // A document built here of texts, dates and numbers always encodes.
        .filter_map(|stage| bson::RawDocumentBuf::try_from(stage).ok())
        .collect();
    let body = rawdoc! { "q": { "_id": id }, "u": stages, "upsert": true };
    Statement { id: None, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_from_its_text() {
        let recruiter = ObjectId::new();
        for job in [None, Some(ObjectId::new())] {
            let address = Address { recruiter, job };
            assert_eq!(Address::from_stored(&address.to_string()), Some(address));
        }
        for id in ["", "recruiters", "recruiters/x", "cfas/65102a7347a6ef7545b05ef0"] {
            assert_eq!(Address::from_stored(id), None, "{id}");
        }
    }
}
