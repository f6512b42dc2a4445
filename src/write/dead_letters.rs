//! Stores dead letters (spec 03, "Dead letters"): records of documents that could not be projected or written.
//! A dead letter never blocks the stream. It carries ids, codes and field names, never values.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, DateTime, doc, oid::ObjectId, rawdoc};

pub(crate) use super::dead_letter::{Address, DeadLetter, KnownDeadLetter};
use super::statements::Statement;
use super::{Writer, update_command};
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::dead_letter::{Action, Reason};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::DEAD_LETTERS;
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};

/// The exponent of the longest delay before a retry. The delay begins with one minute and doubles up to 2^10 minutes.
const LONGEST_DELAY_EXPONENT: i32 = 10;
/// The longest delay, plus an hour for clocks that differ.
pub(super) const LONGEST_DELAY_MILLISECONDS: i64 = (1_024 + 60) * 60_000;
const LOWEST: ObjectId = ObjectId::from_bytes([0; 12]);

/// The position at which a batch or a scan is applied. A dead letter stores it.
#[derive(Debug, Clone)]
pub(crate) struct EventPosition {
    /// The resume token, as `{_data}`; null for a scan.
    pub token: Bson,
    /// The cluster time of the token; null for a scan.
    pub cluster_time: Bson,
    /// The wall time of the batch's last event; for a scan, the time of its start.
    pub wall_time: DateTime,
}

impl EventPosition {
    /// True for the position of a scan: a backfill, a resync, a retry or a replay.
    #[must_use]
    pub(crate) fn is_scan(&self) -> bool {
        self.token == Bson::Null
    }

    /// Makes the position of a scan, which has no place in the stream.
    #[must_use]
    pub(crate) fn of_scan(began: DateTime) -> Self {
        Self { token: Bson::Null, cluster_time: Bson::Null, wall_time: began }
    }
}

/// All dead letters. Their addresses are kept in memory, so that a success costs no query.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    /// `None` in a dry run. Then nothing is written or removed.
    writer: Option<Writer>,
    known: BTreeMap<Address, KnownDeadLetter>,
    /// Pairs of job and recruiter with a dead letter that says: another job has the same `_id`.
    shared: BTreeSet<(JobId, RecruiterId)>,
    /// Dead letters about documents whose `_id` is no ObjectId, by the `_id` of the dead letter.
    others: BTreeMap<String, Reason>,
}

impl DeadLetters {
    /// Reads all stored dead letters. `writer` changes them; without a writer none is changed.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn load(database: &CausalDatabase, writer: Option<&Writer>) -> Result<Self, Failure> {
        let wanted = doc! { "reason": 1, "action": 1, "date": 1 };
        let batches = find(database, DEAD_LETTERS, doc! {}, wanted).await?;
        let mut dead_letters =
            Self { writer: writer.cloned(), known: BTreeMap::new(), shared: BTreeSet::new(), others: BTreeMap::new() };
        for document in documents(&batches) {
            let document = document?;
            let text = |name| value::text(value::field(document, name)).unwrap_or_default();
            let reason = Reason::from_stored(text("reason"));
            let date = value::field(document, "date").and_then(bson::RawBsonRef::as_datetime);
            let action = Action::from_stored(text("action"));
            match Address::from_stored(text("_id")) {
                Some(address) => dead_letters.know(address, KnownDeadLetter { reason, action, date }),
                None => {
                    dead_letters.others.insert(text("_id").to_owned(), reason);
                }
            }
        }
        Ok(dead_letters)
    }

    fn know(&mut self, address: Address, known: KnownDeadLetter) {
        if let Address::Job { recruiter, job } = address {
            match known.reason {
                Reason::DuplicateJobId => self.shared.insert((job, recruiter)),
                _ => self.shared.remove(&(job, recruiter)),
            };
        }
        self.known.insert(address, known);
    }

    /// True if some recruiter has a dead letter that says: another job has the `_id` of this one.
    #[must_use]
    pub(crate) fn is_shared(&self, job: JobId) -> bool {
        let first = (job, RecruiterId(LOWEST));
        self.shared.range(first..).next().is_some_and(|(shared, _)| *shared == job)
    }

    /// Counts the dead letters by reason. Each reason is in the result, also with 0.
    #[must_use]
    pub(crate) fn counts(&self) -> BTreeMap<Reason, usize> {
        let mut counts: BTreeMap<Reason, usize> = Reason::ALL.into_iter().map(|reason| (reason, 0)).collect();
        for reason in self.known.values().map(|known| &known.reason).chain(self.others.values()) {
            *counts.entry(*reason).or_default() += 1;
        }
        counts
    }

    #[must_use]
    pub(crate) fn get(&self, address: &Address) -> Option<KnownDeadLetter> {
        self.known.get(address).copied()
    }

    /// True if a successful projection ends the dead letter of this address. One of an anonymisation stays.
    #[must_use]
    pub(crate) fn is_of_projection(&self, address: &Address) -> bool {
        self.get(address).is_some_and(|known| !known.action.outlives(Action::Project))
    }

    /// True if this address has a dead letter because the server refused a write.
    #[must_use]
    pub(crate) fn contains_refusal(&self, address: &Address) -> bool {
        self.get(address).is_some_and(|known| known.reason.is_refusal())
    }

    /// True if this job of this recruiter cannot be projected, as far as is known. It then does not compete for the offer.
    #[must_use]
    pub(crate) fn is_unprojected(&self, recruiter: RecruiterId, job: JobId) -> bool {
        self.get(&Address::of(recruiter, Some(job))).is_some_and(|known| known.reason.is_of_no_projection())
    }

    /// Returns the addresses of this recruiter and its jobs that have a dead letter.
    pub(crate) fn of_recruiter(&self, recruiter: RecruiterId) -> impl Iterator<Item = Address> + '_ {
        let whole = Address::Recruiter(recruiter);
        let whole = self.known.contains_key(&whole).then_some(whole);
        let jobs = self.jobs_from(recruiter).take_while(move |(address, _)| address.recruiter() == Some(recruiter));
        whole.into_iter().chain(jobs.map(|(address, _)| *address))
    }

    /// Returns the jobs of this recruiter whose offers could not be anonymised with the recruiter.
    #[must_use]
    pub(crate) fn to_anonymize(&self, recruiter: RecruiterId) -> BTreeSet<JobId> {
        let jobs = self.jobs_from(recruiter).take_while(|(address, _)| address.recruiter() == Some(recruiter));
        let jobs = jobs.filter(|(_, known)| known.action == Action::AnonymizeRecruiter);
        jobs.filter_map(|(address, _)| match address {
            Address::Job { job, .. } => Some(*job),
            Address::Recruiter(_) | Address::Offer(_) => None,
        })
        .collect()
    }

    fn jobs_from(&self, recruiter: RecruiterId) -> impl Iterator<Item = (&Address, &KnownDeadLetter)> {
        let first = Address::Job { recruiter, job: JobId(LOWEST) };
        self.known.range(first..).take_while(|(address, _)| matches!(address, Address::Job { .. }))
    }

    /// Returns the first `limit` recruiters after `after` with a dead letter that `wanted` selects, also for a job.
    pub(crate) fn recruiters_after(
        &self,
        after: Option<RecruiterId>,
        limit: usize,
        wanted: impl Fn(RecruiterId, &KnownDeadLetter) -> bool,
    ) -> BTreeSet<RecruiterId> {
        let first = after.unwrap_or(RecruiterId(LOWEST));
        let whole = self.known.range(Address::Recruiter(first)..);
        let whole = whole.take_while(|(address, _)| matches!(address, Address::Recruiter(_)));
        let some = |dead_letters: &mut dyn Iterator<Item = (&Address, &KnownDeadLetter)>| {
            let mut recruiters = BTreeSet::new();
            for (address, known) in dead_letters {
                let recruiter = address.recruiter().filter(|recruiter| after.is_none_or(|after| *recruiter > after));
                recruiters.extend(recruiter.filter(|recruiter| wanted(*recruiter, known)));
                if recruiters.len() >= limit {
                    break;
                }
            }
            recruiters
        };
        let mut recruiters = some(&mut whole.into_iter());
        recruiters.append(&mut some(&mut self.jobs_from(first)));
        recruiters.into_iter().take(limit).collect()
    }

    /// Returns the first `limit` offers after `after` that `wanted` selects and that have a dead letter of their own.
    pub(crate) fn offers_after(
        &self,
        after: Option<JobId>,
        limit: usize,
        wanted: impl Fn(JobId) -> bool,
    ) -> BTreeSet<JobId> {
        let first = Address::Offer(after.unwrap_or(JobId(LOWEST)));
        let offers = self.known.range(first..).filter_map(|(address, _)| match address {
            Address::Offer(offer) => Some(*offer),
            _ => None,
        });
        offers.filter(|offer| after.is_none_or(|after| *offer > after) && wanted(*offer)).take(limit).collect()
    }

    /// Writes dead letters. The next failure of a document overwrites its dead letter. But the action and the date of a
    /// failed anonymisation stay when a projection fails later.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn write(
        &mut self,
        mut dead_letters: BTreeMap<Address, DeadLetter>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        if dead_letters.is_empty() {
            return Ok(());
        }
        let Some(writer) = self.writer.clone() else { return Ok(()) };
        for (address, dead_letter) in &mut dead_letters {
            if let Some(standing) = self.get(address).filter(|known| known.action.outlives(dead_letter.action)) {
                (dead_letter.action, dead_letter.date) = (standing.action, standing.date);
            }
        }
        let addressed = dead_letters.iter().map(|(address, dead_letter)| (address.to_string(), dead_letter));
        store(&writer, addressed, position).await?;
        let again = dead_letters.keys().filter(|address| self.known.contains_key(*address));
        let old: Vec<String> = again.flat_map(|address| address.stored().into_iter().skip(1)).collect();
        self.delete(&old).await?;
        let known = |DeadLetter { reason, action, date, .. }| KnownDeadLetter { reason, action, date };
        dead_letters.into_iter().for_each(|(address, dead_letter)| self.know(address, known(dead_letter)));
        Ok(())
    }

    async fn delete(&self, ids: &[String]) -> Result<(), Unfinished> {
        let Some(writer) = &self.writer else { return Ok(()) };
        for ids in ids.chunks(1_000) {
            update_command::delete(writer, DEAD_LETTERS, doc! { "_id": { "$in": ids } }).await?;
        }
        Ok(())
    }

    /// Removes the dead letter about a deleted document whose `_id` is no ObjectId.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn remove_unusable(&mut self, collection: WatchedCollection, key: &str) -> Result<(), Unfinished> {
        let id = unusable(collection, key);
        if self.others.contains_key(&id) {
            self.delete(std::slice::from_ref(&id)).await?;
            self.others.remove(&id);
        }
        Ok(())
    }

    /// Writes dead letters about documents whose `_id` is no ObjectId.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn write_unusable(
        &mut self,
        collection: WatchedCollection,
        keys: impl IntoIterator<Item = String>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        let dead_letter = DeadLetter::of_projection(Reason::Undecodable, "`_id` is no ObjectId".to_owned());
        let ids: Vec<String> = keys.into_iter().map(|key| unusable(collection, &key)).collect();
        let Some(writer) = &self.writer else { return Ok(()) };
        store(writer, ids.iter().map(|id| (id.clone(), &dead_letter)), position).await?;
        self.others.extend(ids.into_iter().map(|id| (id, dead_letter.reason)));
        Ok(())
    }

    /// Returns the first `limit` keys after `after` of documents of this collection whose `_id` is no ObjectId and that
    /// have a dead letter. [`crate::model::other_id::key_text`] makes these keys.
    #[must_use]
    pub(crate) fn unusable_after(
        &self,
        collection: WatchedCollection,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<String> {
        let prefix = unusable(collection, "");
        let first = unusable(collection, after.unwrap_or_default());
        let dead_letters = self.others.range(first..).map_while(|(id, _)| id.strip_prefix(&prefix));
        dead_letters.filter(|key| after != Some(key)).take(limit).map(str::to_owned).collect()
    }

    /// Removes the dead letters with these `_id`s, because an operator drops them. Returns the number of removed ones.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn drop_named(&mut self, ids: &[String]) -> Result<u64, Unfinished> {
        let known = |id: &&String| match Address::from_stored(id) {
            Some(address) => self.known.contains_key(&address),
            None => self.others.contains_key(*id),
        };
        let ids: Vec<&String> = ids.iter().filter(known).collect::<BTreeSet<_>>().into_iter().collect();
        let dropped = ids.len() as u64;
        for id in ids {
            match Address::from_stored(id) {
                Some(address) => self.remove(&BTreeSet::from([address])).await?,
                None => {
                    self.delete(std::slice::from_ref(id)).await?;
                    self.others.remove(id);
                }
            }
        }
        Ok(dropped)
    }

    /// Removes the dead letters of these addresses, after a success or because the document is gone.
    ///
    /// # Errors
    /// As [`update_command::update`].
    pub(crate) async fn remove(&mut self, healed: &BTreeSet<Address>) -> Result<(), Unfinished> {
        let ids: Vec<String> = healed.iter().flat_map(Address::stored).collect();
        self.delete(&ids).await?;
        for address in healed {
            self.known.remove(address);
            if let Address::Job { recruiter, job } = address {
                self.shared.remove(&(*job, *recruiter));
            }
        }
        Ok(())
    }
}

/// Makes the `_id` of the dead letter about a document whose `_id` is no ObjectId.
fn unusable(collection: WatchedCollection, key: &str) -> String {
    format!("{}/{key}", collection.name())
}

async fn store<'a>(
    writer: &Writer,
    dead_letters: impl Iterator<Item = (String, &'a DeadLetter)>,
    position: &EventPosition,
) -> Result<(), Unfinished> {
    let statements = dead_letters.map(|(id, dead_letter)| statement(&id, dead_letter, position)).collect();
    let outcome = update_command::update(writer, DEAD_LETTERS, statements).await?;
    match outcome.refused.first() {
        Some(refused) => Err(Failure::Statement(refused.code).into()),
        None => Ok(()),
    }
}

fn statement(id: &str, dead_letter: &DeadLetter, position: &EventPosition) -> Statement {
    let literal = |value: &Bson| doc! { "$literal": value.clone() };
    let exponent = doc! { "$min": [{ "$subtract": ["$attempts", 1] }, LONGEST_DELAY_EXPONENT] };
    let delay = doc! { "$multiply": [60_000, { "$pow": [2, exponent] }] };
    let stages = [
        doc! { "$set": {
            "reason": dead_letter.reason.as_str(),
            "detail": literal(&Bson::String(dead_letter.detail.clone())),
            "action": dead_letter.action.as_str(),
            "date": dead_letter.date.map_or(Bson::Null, Bson::DateTime),
            "first_seen": { "$ifNull": ["$first_seen", "$$NOW"] },
            "last_seen": "$$NOW",
            "attempts": { "$add": [{ "$ifNull": ["$attempts", 0] }, 1] },
            "token": literal(&position.token),
            "cluster_time": literal(&position.cluster_time),
        } },
        doc! { "$set": { "next_retry": { "$add": ["$$NOW", delay] } } },
    ];
    let stages: bson::raw::RawArrayBuf = stages
        .iter()
        // The stages have only texts, dates and numbers, so encoding cannot fail.
        .filter_map(|stage| bson::RawDocumentBuf::try_from(stage).ok())
        .collect();
    let body = rawdoc! { "q": { "_id": id }, "u": stages, "upsert": true };
    Statement { id: None, body }
}
