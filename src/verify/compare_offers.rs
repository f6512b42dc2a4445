//! The comparisons that begin at offers and at anonymised recruiters: offers whose job no recruiter has, and contacts that
//! must be gone. They write nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bson::{Bson, RawDocument, doc, oid::ObjectId};

use super::chunk::read_portion;
use super::compare::{self, Finding};
use super::compare_sides::{Comparer, Comparison};
use super::job_owners::{OwnerRecord, ShownOffer, by_id, establishments, held, jobs, present};
use crate::apply::affected_recruiters;
use crate::error::Failure;
use crate::fetch::references::anonymized_users;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::model::user_id::user_id;
use crate::model::value;
use crate::write::dead_letters::Address;

/// A field that recruiters, their anonymised copies and offers have.
const ESTABLISHMENT: &str = "establishment_id";
/// The number of offers with a contact from which on their jobs are searched. There may be a portion more.
const LEFT: usize = 20_000;

impl Comparer {
    /// Checks our offers and finds faults of offers whose job no recruiter has. The ids are sorted.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn at_offers(&mut self, ids: &[JobId]) -> Result<Comparison, Failure> {
        let mut look = Comparison::default();
        let (mut rest, mut reader) = (ids, self.managed.clone());
        while !rest.is_empty() {
            let batches = read_portion(&mut reader, &mut rest).await?;
            self.find_without_job(&by_id(&batches)?, &mut look).await?;
        }
        self.managed = reader;
        Ok(look)
    }

    async fn find_without_job(
        &self,
        offers: &HashMap<JobId, &RawDocument>,
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        look.offers += offers.len() as u64;
        let user = |offer: &RawDocument| user_id(value::field(offer, "managed_by"));
        let users = offers.values().filter_map(|offer| user(offer)).collect();
        let anonymized = anonymized_users(&self.database, users).await?;
        let is_anonymized = |offer: &RawDocument| user(offer).is_some_and(|user| anonymized.contains(&user));
        let asked = offers.iter().filter(|(_, offer)| compare::lives(offer) || is_anonymized(offer));
        let asked: Vec<ShownOffer> = asked.map(|(id, offer)| ShownOffer::new(*id, offer)).collect();
        let held = held(&self.database, &asked).await?;
        let unheld: Vec<ShownOffer> = asked.into_iter().filter(|offer| !held.contains(&offer.id)).collect();
        let there = establishments(&self.database, &unheld).await?;
        for ShownOffer { id, establishment } in unheld {
            let Some(offer) = offers.get(&id) else { continue };
            let is_there = there.contains(establishment.as_deref().unwrap_or_default());
            let mut findings: Vec<Finding> = compare::without_job(id, offer, is_there).into_iter().collect();
            // The server refused to change this offer, so the offer itself has a dead letter.
            let refused = Address::Offer(id);
            findings.retain(|_| !self.dead_letters.contains_refusal(&refused));
            if is_anonymized(offer) {
                findings.extend(compare::contact_left(id, offer, &self.settings.anonymized_email, false));
            }
            insert(look, id.0, findings, digest(offer));
        }
        Ok(())
    }

    /// Checks anonymised recruiters: their offers must have no contact.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn at_anonymized(&mut self, ids: &[RecruiterId]) -> Result<Comparison, Failure> {
        let there = present(&self.database, WatchedCollection::Recruiters, ids).await?;
        let gone: Vec<Bson> = ids.iter().copied().filter(|id| !there.contains(id)).map(Bson::from).collect();
        let filter = doc! { "_id": { "$in": gone } };
        let fields = doc! { "jobs._id": 1, ESTABLISHMENT: 1 };
        let copies = jobs(&self.database, WatchedCollection::AnonymizedRecruiters, filter, fields).await?;
        let shown = affected_recruiters::shown(&self.database, &self.settings.partner_label, ids).await?;
        let copies = Copies::new(&copies, &shown);
        let ids = copies.ids();
        let (mut look, mut rest, mut left) = (Comparison::default(), ids.as_slice(), Vec::new());
        while !rest.is_empty() {
            let batches = read_portion(&mut self.offers, &mut rest).await?;
            left.extend(self.contacts_left(&by_id(&batches)?));
            // The search for their jobs may read all recruiters, so it is for many offers at once.
            if left.len() >= LEFT || rest.is_empty() && !left.is_empty() {
                self.add_contacts(&copies, std::mem::take(&mut left), &mut look).await?;
            }
        }
        Ok(look)
    }

    /// Those of our offers that still have the contact of a recruiter, in the order of their ids.
    fn contacts_left(&self, offers: &HashMap<JobId, &RawDocument>) -> Vec<ContactLeft> {
        let (label, email) = (self.settings.partner_label.as_str(), &self.settings.anonymized_email);
        let ours = offers.iter().filter(|(_, offer)| value::text(value::field(offer, "partner_label")) == Some(label));
        let left = ours.filter_map(|(id, offer)| {
            let findings = compare::contact_left(*id, offer, email, true);
            let is_left = !findings.is_empty();
            is_left.then(|| ContactLeft { offer: ShownOffer::new(*id, offer), findings, digest: digest(offer) })
        });
        let mut left: Vec<ContactLeft> = left.collect();
        left.sort_unstable_by_key(|left| left.offer.id);
        left
    }

    async fn add_contacts(
        &self,
        copies: &Copies<'_>,
        left: Vec<ContactLeft>,
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let offers: Vec<ShownOffer> = left.iter().map(|left| left.offer.clone()).collect();
        let held = held(&self.database, &offers).await?;
        for ContactLeft { offer, findings, digest } in left {
            for recruiter in copies.of(&offer, held.contains(&offer.id)) {
                if !self.dead_letters.contains_refusal(&Address::of(recruiter, Some(offer.id))) {
                    insert(look, recruiter.0, findings.clone(), digest);
                }
            }
        }
        Ok(())
    }
}

/// An offer that has the contact of a recruiter.
struct ContactLeft {
    offer: ShownOffer,
    findings: Vec<Finding>,
    /// Of the offer as it was read.
    digest: u64,
}

/// Anonymised recruiters, by the jobs that their copies name and the offers that show their establishment.
struct Copies<'a> {
    copies: &'a [OwnerRecord],
    /// The jobs, sorted, each with a position in `copies`, and with true where the offer of the job shows the recruiter. Maps took
    /// 40 MB more for 100,000 jobs.
    jobs: Vec<(JobId, usize, bool)>,
}

impl<'a> Copies<'a> {
    fn new(copies: &'a [OwnerRecord], shown: &BTreeMap<RecruiterId, BTreeSet<JobId>>) -> Self {
        let mut jobs = Vec::new();
        for (number, copy) in copies.iter().enumerate() {
            jobs.extend(copy.jobs.iter().map(|job| (*job, number, false)));
            jobs.extend(shown.get(&copy.id).into_iter().flatten().map(|job| (*job, number, true)));
        }
        jobs.sort_unstable_by_key(|(job, number, is_shown)| (*job, *number, !is_shown));
        jobs.dedup_by_key(|(job, number, _)| (*job, *number));
        Self { copies, jobs }
    }

    /// Each job once, sorted.
    fn ids(&self) -> Vec<JobId> {
        let mut ids: Vec<JobId> = self.jobs.iter().map(|(job, ..)| *job).collect();
        ids.dedup();
        ids
    }

    /// The recruiters whose contact this offer may have. `is_held` is true where a recruiter has its job.
    fn of(&self, offer: &ShownOffer, is_held: bool) -> impl Iterator<Item = RecruiterId> {
        // A job may have moved to another recruiter and disappeared there. Its offer then shows that recruiter.
        let shows_another =
            |own: Option<&str>| offer.establishment.as_deref().zip(own).is_some_and(|(shown, own)| shown != own);
        let later = self.jobs.split_at(self.jobs.partition_point(|(job, ..)| *job < offer.id)).1;
        let same = later.iter().take_while(|(job, ..)| *job == offer.id);
        let copies = same.filter_map(|(_, number, is_shown)| Some((self.copies.get(*number)?, *is_shown)));
        copies
            .filter(move |(copy, is_shown)| *is_shown || !is_held && !shows_another(copy.establishment.as_deref()))
            .map(|(copy, _)| copy.id)
    }
}

fn digest(offer: &RawDocument) -> u64 {
    let mut digest = DefaultHasher::new();
    offer.as_bytes().hash(&mut digest);
    digest.finish()
}

fn insert(look: &mut Comparison, id: ObjectId, findings: Vec<Finding>, digest: u64) {
    if findings.is_empty() {
        return;
    }
    let seen = look.wrong.entry(id).or_default();
    let mut signature = DefaultHasher::new();
    (seen.signature, digest).hash(&mut signature);
    seen.signature = signature.finish();
    seen.findings.extend(findings);
}
