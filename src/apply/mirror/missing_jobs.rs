//! Mirrors offers without a job: their establishment's recruiter gets the job, and a recruiter is made if there is none.
//! Links grow before jobs are added: a deletion of the offer then finds the recruiter, whenever a crash happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::raw::{RawArrayBuf, cstr};
use bson::{Bson, DateTime, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};
use mongodb::raw_batch_cursor::RawBatch;

use super::derived_id::{manager, recruiter_id};
use super::edits::is_anonymised;
use super::existing_jobs::{ATTEMPTS, Touched};
use crate::apply::stages::{Findings, Stages};
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::references::Keys;
use crate::interruption::Unfinished;
use crate::model::OfferStatus;
use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::job_owner::JobOwner;
use crate::model::names::WatchedCollection;
use crate::model::recruiter::{JobFields, Recruiter};
use crate::model::user_id::user_id;
use crate::model::value;
use crate::mongo::reads::{documents, find};
use crate::observe::facts::MirrorWrite;
use crate::project::{is_active, new_job, new_recruiter};
use crate::write::dead_letters::Address;
use crate::write::links::Jobs;
use crate::write::statements::{Statement, still};

/// Offers without a job, by `_id`.
type MissingJobs<'a> = BTreeMap<JobId, &'a RawDocument>;

impl Stages {
    /// Gives each of these offers a job. A cancelled or anonymised offer needs none: a job that does not exist says the
    /// same. While a resync has not completed the links, nobody knows that a job does not exist. The resync then mirrors
    /// the offer.
    ///
    /// # Errors
    /// [`Unfinished`]: an interruption, or a failure that is not about one document.
    pub(super) async fn mirror_missing_jobs(
        &mut self,
        missing: &BTreeSet<JobId>,
        offers: &Touched<'_>,
        date: DateTime,
        told: &mut Findings,
    ) -> Result<(), Unfinished> {
        let email = &self.settings.anonymized_email;
        let status = |offer: &RawDocument| value::text(value::field(offer, "offer_status")).and_then(OfferStatus::read);
        let needs_job = |offer: &RawDocument| {
            status(offer).is_some_and(|status| status != OfferStatus::Cancelled) && !is_anonymised(offer, email)
        };
        let offer = |id: &JobId| Some((*id, offers.get(id).copied().flatten().filter(|offer| needs_job(offer))?));
        let wanted: MissingJobs<'_> = missing.iter().filter_map(offer).collect();
        // These have nothing to bring back.
        told.looked_at.extend(missing.iter().filter(|id| !wanted.contains_key(id)).map(|id| Address::Offer(*id)));
        if wanted.is_empty() || !self.links_are_complete {
            return Ok(());
        }
        let mut homes = self.homes(&wanted).await?;
        let at_home: BTreeSet<JobId> = homes.values().flatten().copied().collect();
        let homeless: MissingJobs<'_> =
            wanted.iter().filter(|(id, _)| !at_home.contains(id)).map(|(id, it)| (*id, *it)).collect();
        for (recruiter, jobs) in self.make_recruiters(&homeless, told).await? {
            homes.entry(recruiter).or_default().extend(jobs);
        }
        let refused = self.output.grow_links(&homes).await?;
        told.dead_letters.extend(self.unlinked(&refused));
        refused.iter().filter_map(|it| it.statement.id).for_each(|id| drop(homes.remove(&RecruiterId(id))));
        failpoint::passed("mirror-linked");
        let held = self.add_jobs(&homes, &wanted, told).await?;
        // A recruiter may have the job already: its link did not tell yet.
        self.mirror_existing_jobs(&held, offers, date, told).await.map(drop)
    }

    /// Finds the recruiters of these offers: by `establishment_id`, else by establishment and user. Of several ones the
    /// owner is taken, as for shared jobs.
    async fn homes(&self, offers: &MissingJobs<'_>) -> Result<Jobs, Failure> {
        let by_form = |offer: &RawDocument| value::text(value::field(offer, "establishment_id")).map(str::to_owned);
        let by_siret = |offer: &RawDocument, siret: &str| {
            let siret = value::text(value::field(offer, siret))?;
            Some(format!("{siret}/{}", manager(value::field(offer, "managed_by"))?))
        };
        let forms = self.owners_by("establishment_id", offers.values().filter_map(|it| by_form(it)), by_form).await?;
        let sirets =
            offers.values().filter_map(|it| value::text(value::field(it, "workplace_siret")).map(str::to_owned));
        let of_recruiter = |recruiter: &RawDocument| by_siret(recruiter, "establishment_siret");
        let sirets = self.owners_by("establishment_siret", sirets, of_recruiter).await?;
        let mut homes = Jobs::new();
        for (id, offer) in offers {
            let of_form = by_form(offer).and_then(|form| forms.get(&form));
            let of_siret = || by_siret(offer, "workplace_siret").and_then(|siret| sirets.get(&siret));
            if let Some(owner) = of_form.or_else(of_siret) {
                homes.entry(owner.recruiter()).or_default().insert(*id);
            }
        }
        Ok(homes)
    }

    /// The recruiters whose `field` has one of these values, by the key that `key` makes of them.
    async fn owners_by(
        &self,
        field: &str,
        values: impl Iterator<Item = String>,
        key: impl Fn(&RawDocument) -> Option<String>,
    ) -> Result<HashMap<String, JobOwner>, Failure> {
        let values: BTreeSet<String> = values.collect();
        let mut owners: HashMap<String, JobOwner> = HashMap::new();
        if values.is_empty() {
            return Ok(owners);
        }
        let values: Vec<Bson> = values.into_iter().map(Bson::from).collect();
        let wanted = doc! { "updatedAt": 1, "managed_by": 1, field: 1 };
        let filter = doc! { field: { "$in": values } };
        let batches = find(&self.database, WatchedCollection::Recruiters.name(), filter, wanted).await?;
        for recruiter in documents(&batches) {
            let recruiter = recruiter?;
            let Ok(id) = recruiter.get_object_id("_id").map(RecruiterId) else { continue };
            if let Some(key) = key(recruiter) {
                let owner = JobOwner::new(id, value::field(recruiter, "updatedAt"));
                owners.entry(key).and_modify(|first| *first = owner.max(*first)).or_insert(owner);
            }
        }
        Ok(owners)
    }

    /// Makes recruiters without jobs for these offers. A recruiter that exists already stays as it is.
    async fn make_recruiters(&mut self, offers: &MissingJobs<'_>, told: &mut Findings) -> Result<Jobs, Unfinished> {
        if offers.is_empty() {
            return Ok(Jobs::new());
        }
        let users: BTreeSet<UserId> =
            offers.values().filter_map(|offer| user_id(value::field(offer, "managed_by"))).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let batches = if users.is_empty() {
            Vec::new()
        } else {
            find(&self.database, WatchedCollection::Users.name(), doc! { "_id": { "$in": users } }, doc! {}).await?
        };
        let mut known: HashMap<UserId, &RawDocument> = HashMap::new();
        for user in documents(&batches) {
            let user = user?;
            known.extend(user.get_object_id("_id").ok().map(|id| (UserId(id), user)));
        }
        let (mut made, mut statements) = (Jobs::new(), Vec::new());
        for (id, offer) in offers {
            let recruiter = recruiter_id(offer, *id);
            let jobs = made.entry(recruiter).or_default();
            if jobs.is_empty() {
                let user = user_id(value::field(offer, "managed_by")).and_then(|user| known.get(&user)).copied();
                let mut fields = new_recruiter(offer, user, &self.settings);
                fields.insert("jobs", Vec::<Bson>::new());
                statements.push(creation(recruiter, &fields));
            }
            jobs.insert(*id);
        }
        let outcome = self.write_recruiters(statements, &made, told).await?;
        self.count_mirrored(MirrorWrite::RecruiterMade, outcome.created);
        if self.output.is_dry_run() {
            // These recruiters are not there to be read, so their jobs are counted here.
            self.count_mirrored(MirrorWrite::JobAdded, outcome.created);
        }
        outcome.refused.iter().filter_map(|it| it.statement.id).for_each(|id| drop(made.remove(&RecruiterId(id))));
        failpoint::passed("mirror-made");
        Ok(made)
    }

    /// Adds jobs to recruiters. Returns the jobs that recruiters have already.
    async fn add_jobs(
        &mut self,
        homes: &Jobs,
        offers: &MissingJobs<'_>,
        told: &mut Findings,
    ) -> Result<Jobs, Unfinished> {
        let mut held = Jobs::new();
        let mut again: BTreeSet<RecruiterId> = homes.keys().copied().collect();
        for attempt in 0..ATTEMPTS {
            let ids: Vec<RecruiterId> = std::mem::take(&mut again).into_iter().collect();
            let mut rest = ids.as_slice();
            while let Some(batches) = self.holders.read_next(&mut rest).await? {
                self.check_preemption()?;
                let (statements, have) = self.additions(&batches, homes, offers).await?;
                // What an earlier attempt added is as new as its offer.
                held.extend(have.into_iter().filter(|_| attempt == 0));
                let outcome = self.write_recruiters(statements, homes, told).await?;
                self.count_mirrored(MirrorWrite::JobAdded, outcome.changed);
                if outcome.changed > 0 {
                    failpoint::passed("mirror-added");
                }
                again.extend(outcome.unsure.into_iter().map(RecruiterId));
            }
            if again.is_empty() {
                break;
            }
        }
        Ok(held)
    }

    async fn additions(
        &mut self,
        batches: &[RawBatch],
        homes: &Jobs,
        offers: &MissingJobs<'_>,
    ) -> Result<(Vec<Statement>, Jobs), Failure> {
        let (mut recruiters, mut keys) = (Vec::new(), Keys::default());
        let rome = |offer| JobFields { rome_code: value::field(offer, "offer_rome_codes"), ..JobFields::default() };
        for document in documents(batches) {
            let document = document?;
            let Ok(recruiter) = Recruiter::read(document) else { continue };
            keys.add_recruiter(&recruiter.fields);
            let jobs = homes.get(&recruiter.id).into_iter().flatten().filter_map(|id| offers.get(id));
            jobs.for_each(|offer| keys.add_job(&rome(*offer)));
            recruiters.push((recruiter, document));
        }
        let answers = self.references.look_up(keys).await?;
        let (mut statements, mut held) = (Vec::new(), Jobs::new());
        for (recruiter, document) in &recruiters {
            let have: BTreeSet<JobId> = recruiter.job_ids().collect();
            let mut jobs = BTreeMap::new();
            for id in homes.get(&recruiter.id).into_iter().flatten() {
                let Some(offer) = offers.get(id) else { continue };
                if have.contains(id) {
                    held.entry(recruiter.id).or_default().insert(*id);
                    continue;
                }
                let references = answers.of(&recruiter.fields, &rome(*offer));
                // What the job cannot bring about is told by the touch that follows the addition.
                let (job, _) = new_job(offer, &recruiter.fields, *id, &references, &self.settings);
                jobs.extend(RawDocumentBuf::try_from(&job).ok().map(|job| (*id, job)));
            }
            statements.extend(addition(recruiter, document, &jobs));
        }
        Ok((statements, held))
    }
}

/// The statement that makes a recruiter, unless it exists.
fn creation(recruiter: RecruiterId, fields: &bson::Document) -> Statement {
    let mut update = RawDocumentBuf::new();
    // The fields come from BSON and from the code, so they always encode.
    update.append(cstr!("$setOnInsert"), RawDocumentBuf::try_from(fields).unwrap_or_default());
    let body = rawdoc! { "q": { "_id": recruiter }, "u": update, "upsert": true };
    Statement { id: Some(recruiter.0), body }
}

/// The statement that adds these jobs, on condition that the recruiter has none of them; `None` without jobs.
fn addition(
    recruiter: &Recruiter<'_>,
    document: &RawDocument,
    jobs: &BTreeMap<JobId, RawDocumentBuf>,
) -> Option<Statement> {
    if jobs.is_empty() {
        return None;
    }
    let ids: RawArrayBuf = jobs.keys().copied().collect();
    let documents: RawArrayBuf = jobs.values().collect();
    let stands = document.get("jobs").ok().flatten();
    let mut filter = rawdoc! { "_id": recruiter.id, "jobs._id": { "$nin": ids } };
    let mut update = if let Some(RawBsonRef::Array(_)) = stands {
        rawdoc! { "$push": { "jobs": { "$each": documents } } }
    } else {
        // Nothing can be added to what is no list.
        filter.append(cstr!("jobs"), still(stands));
        rawdoc! { "$set": { "jobs": documents } }
    };
    let has_date = |job: &RawDocument| value::field(job, "job_update_date").and_then(value::date);
    let dated = recruiter.jobs.iter().map(|job| job.document()).chain(jobs.values().map(|job| &**job));
    let newest = jobs.values().filter_map(|job| has_date(job)).max();
    // A later `updatedAt` must not move the date of an offer (spec 09, "Dates").
    let may_move = is_active(recruiter.fields.status) && dated.into_iter().all(|job| has_date(job).is_some());
    if let Some(newest) = newest.filter(|_| may_move) {
        update.append(cstr!("$max"), rawdoc! { "updatedAt": newest });
    }
    Some(Statement { id: Some(recruiter.id.0), body: rawdoc! { "q": filter, "u": update } })
}
