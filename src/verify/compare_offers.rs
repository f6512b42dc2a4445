//! The comparisons that begin at offers and at anonymised recruiters: offers whose job no recruiter has, and contacts that
//! must be gone. They write nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bson::{Bson, RawDocument, doc, oid::ObjectId};

use super::compare::{self, Finding};
use super::compare_sides::{Comparer, Comparison};
use super::job_owners::{OwnerRecord, by_id, establishments, held, jobs, present, read_managed, read_offers};
use crate::apply::affected_recruiters;
use crate::error::Failure;
use crate::fetch::IDS_PER_READ;
use crate::fetch::references::anonymized_users;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::model::user_id::user_id;
use crate::model::value;
use crate::write::dead_letters::Address;

/// A field that recruiters, their anonymised copies and offers have.
const ESTABLISHMENT: &str = "establishment_id";

impl Comparer {
    /// Checks our offers and finds faults of offers whose job no recruiter has.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn at_offers(&mut self, ids: &[JobId]) -> Result<Comparison, Failure> {
        let batches = read_managed(&self.database, ids).await?;
        let offers = by_id(&batches)?;
        let mut look = Comparison { offers: offers.len() as u64, ..Comparison::default() };
        let user = |offer: &RawDocument| user_id(value::field(offer, "managed_by"));
        let users = offers.values().filter_map(|offer| user(offer)).collect();
        let anonymized = anonymized_users(&self.database, users).await?;
        let is_anonymized = |offer: &RawDocument| user(offer).is_some_and(|user| anonymized.contains(&user));
        let asked = offers.values().copied().filter(|offer| compare::lives(offer) || is_anonymized(offer));
        let held = held(&self.database, &asked.collect::<Vec<_>>()).await?;
        let unheld: Vec<_> = offers.iter().filter(|(id, _)| !held.contains(id)).collect();
        let there = establishments(&self.database, &unheld).await?;
        for (id, offer) in unheld {
            let establishment = value::text(value::field(offer, "establishment_id")).unwrap_or_default();
            let mut findings: Vec<Finding> =
                compare::without_job(*id, offer, there.contains(establishment)).into_iter().collect();
            // The server refused to change this offer, so the offer itself has a dead letter.
            let refused = Address::Offer(*id);
            findings.retain(|_| !self.dead_letters.contains_refusal(&refused));
            if is_anonymized(offer) {
                findings.extend(compare::contact_left(*id, offer, &self.settings.anonymized_email, false));
            }
            insert(&mut look, id.0, findings, offer);
        }
        Ok(look)
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
        let mut look = Comparison::default();
        let named = copies.iter().flat_map(|copy| copy.jobs.iter().copied());
        let all: BTreeSet<JobId> = named.chain(shown.values().flatten().copied()).collect();
        let all: Vec<JobId> = all.into_iter().collect();
        for jobs in all.chunks(IDS_PER_READ) {
            self.contacts_left(&copies, &shown, jobs, &mut look).await?;
        }
        Ok(look)
    }

    /// Finds offers of some of these jobs that still have the contact of an anonymised recruiter. `shown` names the offers that show
    /// the recruiter's establishment.
    async fn contacts_left(
        &self,
        copies: &[OwnerRecord],
        shown: &BTreeMap<RecruiterId, BTreeSet<JobId>>,
        jobs: &[JobId],
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let batches = read_offers(&self.database, jobs).await?;
        let mut offers = by_id(&batches)?;
        let label = self.settings.partner_label.as_str();
        offers.retain(|_, offer| value::text(value::field(offer, "partner_label")) == Some(label));
        let left = |id: JobId, offer| compare::contact_left(id, offer, &self.settings.anonymized_email, true);
        offers.retain(|id, offer| !left(*id, offer).is_empty());
        if offers.is_empty() {
            return Ok(());
        }
        let held = held(&self.database, &offers.values().copied().collect::<Vec<_>>()).await?;
        for copy in copies {
            // A job may have moved to another recruiter and disappeared there. Its offer then shows that recruiter.
            let shows_another = |job: &JobId| {
                let shown = offers.get(job).and_then(|offer| value::text(value::field(offer, ESTABLISHMENT)));
                shown.zip(copy.establishment.as_deref()).is_some_and(|(shown, own)| shown != own)
            };
            let jobs = copy.jobs.iter().filter(|job| !held.contains(job) && !shows_another(job));
            let jobs: BTreeSet<JobId> = jobs.chain(shown.get(&copy.id).into_iter().flatten()).copied().collect();
            for job in jobs {
                let refused = Address::of(copy.id, Some(job));
                if let Some(offer) = offers.get(&job).filter(|_| !self.dead_letters.contains_refusal(&refused)) {
                    insert(look, copy.id.0, left(job, offer), offer);
                }
            }
        }
        Ok(())
    }
}

fn insert(look: &mut Comparison, id: ObjectId, findings: Vec<Finding>, offer: &RawDocument) {
    if findings.is_empty() {
        return;
    }
    let seen = look.wrong.entry(id).or_default();
    let mut signature = DefaultHasher::new();
    (seen.signature, offer.as_bytes()).hash(&mut signature);
    seen.signature = signature.finish();
    seen.findings.extend(findings);
}
