//! Finds what exists in `recruiters` alone (spec 09, "Before `retired`"), chunk by chunk, beside a comparison or in a scan of
//! its own. It gets the offers and users of a chunk, and looks up contacts of delegated establishments itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bson::raw::cstr;
use bson::{Bson, Document, RawBsonRef, RawDocument, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use super::only_in_recruiters::{LossKind, OnlyInRecruiters};
use super::texts_without_offer::{texts_of_job, texts_of_recruiter};
use crate::context::Context;
use crate::error::{Failure, command_code};
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::names::{DELEGATED, ESTABLISHMENTS, WatchedCollection};
use crate::model::other_id::OtherId;
use crate::model::recruiter::{Job, Recruiter};
use crate::model::user_id::user_id;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{self, documents, find};
use crate::source::scan;
use crate::write::dead_letters::{Address, DeadLetters};

/// Recruiters that could be read, each with its document.
pub(super) type Readable<'a> = [(Recruiter<'a>, &'a RawDocument)];

/// What a chunk of recruiters is compared with.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The jobs with an offer of ours.
    pub offers: HashSet<JobId>,
    /// The jobs whose description of the employer is in the offer of ours, by the recruiter and the position in `jobs[]`.
    pub descriptions: HashSet<(RecruiterId, usize)>,
    /// The users of these recruiters that exist or were anonymised.
    pub users: HashSet<UserId>,
}

impl Kept {
    /// Adds those of these offers that are ours. `described` comes from [`described`].
    pub(super) fn add_offers<'a>(
        &mut self,
        offers: impl Iterator<Item = &'a RawDocument>,
        described: &Described<'_>,
        partner_label: &str,
    ) {
        for offer in offers {
            let id = offer.get_object_id("_id").ok().map(JobId);
            let is_ours = value::text(value::field(offer, "partner_label")) == Some(partner_label);
            if let Some(id) = id.filter(|_| is_ours) {
                self.offers.insert(id);
                // To look for a field costs time, and only a job with such a text needs it.
                for (job, text) in described.get(&id).into_iter().flatten() {
                    if value::field(offer, "workplace_description") == Some(*text) {
                        self.descriptions.insert(*job);
                    }
                }
            }
        }
    }
}

/// The descriptions of employers, by the `_id` of the job, each with the recruiter and the position in `jobs[]`.
pub(super) type Described<'a> = BTreeMap<JobId, Vec<((RecruiterId, usize), RawBsonRef<'a>)>>;

/// The descriptions of employers of these jobs.
pub(super) fn described<'r, 'a: 'r>(jobs: impl Iterator<Item = (RecruiterId, &'r Job<'a>)>) -> Described<'a> {
    let mut described = Described::new();
    for (recruiter, job) in jobs {
        if let (Some(id), Some(text)) = (job.id, employer_description(job)) {
            described.entry(id).or_default().push(((recruiter, job.position), text));
        }
    }
    described
}

fn employer_description<'a>(job: &Job<'a>) -> Option<RawBsonRef<'a>> {
    value::non_empty(job.field(cstr!("job_employer_description")))
}

/// Finds losses. Its callers read the recruiters, offers and users.
#[derive(Debug)]
pub(super) struct LossFinder {
    database: CausalDatabase,
    lookup: DelegatedLookup,
}

impl LossFinder {
    /// Looks which collections of contacts can be read.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn prepare(context: &Context) -> Result<Self, Failure> {
        let database = context.database.clone();
        Ok(Self { lookup: DelegatedLookup::prepare(&database).await?, database })
    }

    /// Counts the recruiters whose `_id` is no ObjectId.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn others(&self, stop: &CancellationToken, found: &mut OnlyInRecruiters) -> Result<(), Failure> {
        let name = WatchedCollection::Recruiters.name();
        let mut after: Option<OtherId> = None;
        while !stop.is_cancelled() {
            let others = scan::others_after(&self.database, name, &Document::new(), after.as_ref()).await?;
            for other in &others {
                found.add(LossKind::UnreadableRecruiters, || format!("{name}/{}", other.text()));
            }
            after = others.into_iter().last();
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Adds the losses of a chunk of recruiters to `found`.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn chunk(
        &self,
        recruiters: &Readable<'_>,
        kept: &Kept,
        dead_letters: &DeadLetters,
        found: &mut OnlyInRecruiters,
    ) -> Result<(), Failure> {
        for (recruiter, document) in recruiters {
            losses(recruiter, document, kept, dead_letters, found);
        }
        self.delegated(recruiters, found).await?;
        contacts(recruiters, &kept.users, found);
        Ok(())
    }

    async fn delegated(&self, recruiters: &Readable<'_>, found: &mut OnlyInRecruiters) -> Result<(), Failure> {
        let has_contact =
            |document: &RawDocument| CONTACT.iter().any(|name| value::text(value::field(document, name)).is_some());
        let delegated =
            recruiters.iter().filter(|(recruiter, document)| is_delegated(recruiter) && has_contact(document));
        let wanted: Vec<(RecruiterId, [Option<&str>; 2])> = delegated
            .map(|(recruiter, _)| {
                let fields = &recruiter.fields;
                (recruiter.id, [fields.establishment_siret, fields.cfa_delegated_siret].map(value::text))
            })
            .collect();
        let kept = self.lookup.kept(&self.database, &wanted).await?;
        for (id, _) in wanted.iter().filter(|(id, _)| !kept.contains(id)) {
            found.add(LossKind::DelegatedContacts, || format!("{}/{id}", collection()));
        }
        Ok(())
    }

    /// Adds the collections that could not be looked at, where that matters.
    pub(super) fn say_what_was_not_looked_at(&self, found: &mut OnlyInRecruiters) {
        if found.count(LossKind::DelegatedContacts) == 0 {
            return;
        }
        found.not_looked_at.extend(self.lookup.missing.iter().map(|(name, why)| {
            format!("{name} {why}: no contact of a delegated establishment could be looked up, so each one counts")
        }));
    }
}

/// Counts a recruiter that cannot be read.
pub(super) fn unreadable(document: &RawDocument, found: &mut OnlyInRecruiters) {
    found.add(LossKind::UnreadableRecruiters, || format!("{}/{}", collection(), OtherId::of(document).text()));
}

/// Counts the losses of one recruiter that its own document and its offers show.
fn losses(
    recruiter: &Recruiter<'_>,
    document: &RawDocument,
    kept: &Kept,
    dead_letters: &DeadLetters,
    found: &mut OnlyInRecruiters,
) {
    let id = recruiter.id;
    if recruiter.jobs.is_empty() {
        found.add(LossKind::RecruitersWithoutJobs, || format!("{}/{id}", collection()));
    }
    found.add_texts(texts_of_recruiter(document), || format!("{}/{id}", collection()));
    let repeated = recruiter.repeated();
    for job in &recruiter.jobs {
        let named = || match job.id {
            Some(job) => format!("{}/{id}/{job}", collection()),
            None => format!("{}/{id}/jobs.{}", collection(), job.position),
        };
        let has_offer = job.id.is_some_and(|job| kept.offers.contains(&job));
        let is_first = job.id.and_then(|id| repeated.get(&id)).is_none_or(|[first, _]| *first == job.position);
        if !has_offer || !is_first || shows_another(dead_letters, id, job.id) {
            found.add(LossKind::JobsWithoutOffer, named);
        }
        if employer_description(job).is_some() && !kept.descriptions.contains(&(id, job.position)) {
            found.add(LossKind::EmployerDescriptions, named);
        }
        found.add_texts(texts_of_job(job.document()), named);
    }
}

/// True when the offer with the job's `_id` shows the job of another recruiter.
fn shows_another(dead_letters: &DeadLetters, recruiter: RecruiterId, job: Option<JobId>) -> bool {
    let known = dead_letters.get(&Address::of(recruiter, job));
    job.is_some() && known.is_some_and(|known| known.reason == Reason::DuplicateJobId)
}

/// The recruiters whose contact has a name and is that of a user, not of a delegated establishment.
pub(super) fn with_named_contact<'r, 'a>(recruiters: &'r Readable<'a>) -> impl Iterator<Item = &'r Recruiter<'a>> {
    let has_name = |document: &RawDocument| {
        ["first_name", "last_name"].iter().any(|name| value::text(value::field(document, name)).is_some())
    };
    let named = recruiters.iter().filter(move |(recruiter, document)| !is_delegated(recruiter) && has_name(document));
    named.map(|(recruiter, _)| recruiter)
}

/// Counts the names of contacts whose user does not exist. An address and a telephone number are in the offer.
fn contacts(recruiters: &Readable<'_>, users: &HashSet<UserId>, found: &mut OnlyInRecruiters) {
    for recruiter in with_named_contact(recruiters) {
        if !user_id(recruiter.fields.managed_by).is_some_and(|user| users.contains(&user)) {
            found.add(LossKind::ContactsWithoutUser, || format!("{}/{}", collection(), recruiter.id));
        }
    }
}

/// The fields of a recruiter with its contact.
const CONTACT: [&str; 4] = ["first_name", "last_name", "phone", "email"];

fn collection() -> &'static str {
    WatchedCollection::Recruiters.name()
}

fn is_delegated(recruiter: &Recruiter<'_>) -> bool {
    recruiter.fields.is_delegated.and_then(RawBsonRef::as_bool) == Some(true)
}

/// The lookup of contacts in `entreprise_managed_by_cfa`, where the platform keeps them by the `_id`s of the
/// establishment and of the CFA.
#[derive(Debug)]
struct DelegatedLookup {
    /// The collections that are needed and cannot be read, each with the reason.
    missing: BTreeMap<&'static str, &'static str>,
}

impl DelegatedLookup {
    async fn prepare(database: &CausalDatabase) -> Result<Self, Failure> {
        let mut missing = BTreeMap::new();
        for name in [DELEGATED, ESTABLISHMENTS] {
            // An empty answer and a missing collection are the same to a query, so the document must be asked for.
            match has_any(database, name).await {
                Ok(true) => {}
                Ok(false) => drop(missing.insert(name, "is missing or empty")),
                Err(Failure::Read(error)) if command_code(&error) == Some(13) => {
                    missing.insert(name, "may not be read by the user of mongodb.uri");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(Self { missing })
    }

    /// The recruiters whose pair of establishment and CFA is in `entreprise_managed_by_cfa`.
    async fn kept(
        &self,
        database: &CausalDatabase,
        wanted: &[(RecruiterId, [Option<&str>; 2])],
    ) -> Result<HashSet<RecruiterId>, Failure> {
        let mut kept = HashSet::new();
        if wanted.is_empty() || !self.missing.is_empty() {
            return Ok(kept);
        }
        let sirets = |place: usize| wanted.iter().filter_map(move |(_, pair)| pair.get(place).copied().flatten());
        let establishments = by_siret(database, ESTABLISHMENTS, sirets(0)).await?;
        let cfas = by_siret(database, WatchedCollection::Cfas.name(), sirets(1)).await?;
        let ids = |known: &HashMap<String, Vec<ObjectId>>| known.values().flatten().copied().collect::<Vec<_>>();
        let filter = doc! { "entreprise_id": { "$in": ids(&establishments) }, "cfa_id": { "$in": ids(&cfas) } };
        let batches = find(database, DELEGATED, filter, doc! { "entreprise_id": 1, "cfa_id": 1 }).await?;
        let mut pairs = HashSet::new();
        for pair in documents(&batches) {
            let pair = pair?;
            pairs.extend(pair.get_object_id("entreprise_id").ok().zip(pair.get_object_id("cfa_id").ok()));
        }
        for (id, pair) in wanted {
            let [establishment, cfa] = pair.map(|siret| siret.unwrap_or_default());
            let [left, right] = [(&establishments, establishment), (&cfas, cfa)]
                .map(|(known, siret)| known.get(siret).map(Vec::as_slice).unwrap_or_default());
            if left.iter().any(|left| right.iter().any(|right| pairs.contains(&(*left, *right)))) {
                kept.insert(*id);
            }
        }
        Ok(kept)
    }
}

/// True when the collection has a document.
async fn has_any(database: &CausalDatabase, name: &str) -> Result<bool, Failure> {
    let asked = reads::collection(database, name);
    let first = asked.find_one(doc! {}).projection(doc! { "_id": 1 });
    Ok(with_deadline(first).await.map_err(Failure::Read)?.is_some())
}

/// The `_id`s of the documents with these SIRETs.
async fn by_siret<'a>(
    database: &CausalDatabase,
    name: &str,
    sirets: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Vec<ObjectId>>, Failure> {
    let sirets: BTreeSet<&str> = sirets.collect();
    let sirets: Vec<Bson> = sirets.into_iter().map(Bson::from).collect();
    let batches = find(database, name, doc! { "siret": { "$in": sirets } }, doc! { "siret": 1 }).await?;
    let mut known: HashMap<String, Vec<ObjectId>> = HashMap::new();
    for document in documents(&batches) {
        let document = document?;
        if let (Some(siret), Ok(id)) = (value::text(value::field(document, "siret")), document.get_object_id("_id")) {
            known.entry(siret.to_owned()).or_default().push(id);
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn each_described_employer_must_be_in_the_offer_also_of_jobs_with_the_same_id() {
        let [id, other, first, second] = [(); 4].map(|()| ObjectId::new());
        let recruiter = |recruiter: ObjectId, jobs: [bson::RawDocumentBuf; 2]| {
            rawdoc! { "_id": recruiter, "jobs": jobs.iter().collect::<bson::raw::RawArrayBuf>() }
        };
        let bakery = |id| rawdoc! { "_id": id, "job_employer_description": "A bakery" };
        let shop = rawdoc! { "_id": id, "job_employer_description": "A shop" };
        let documents =
            [recruiter(first, [rawdoc! { "_id": id }, bakery(id)]), recruiter(second, [shop, bakery(other)])];
        let recruiters = documents.each_ref().map(|document| Recruiter::read(document).unwrap());
        let jobs = || recruiters.iter().flat_map(|recruiter| recruiter.jobs.iter().map(|job| (recruiter.id, job)));
        for (shown, of) in [("A bakery", Some((first, 1))), ("A shop", Some((second, 0))), ("", None)] {
            let offer = |id, label: &str| rawdoc! { "_id": id, "partner_label": label, "workplace_description": shown };
            let offers = [offer(id, "ours"), offer(other, "theirs"), offer(ObjectId::new(), "theirs")];
            let mut kept = Kept::default();
            kept.add_offers(offers.iter().map(|offer| &**offer), &described(jobs()), "ours");
            assert_eq!(kept.offers, HashSet::from([JobId(id)]), "{shown}");
            let descriptions = of.map(|(recruiter, position)| (RecruiterId(recruiter), position));
            assert_eq!(kept.descriptions, descriptions.into_iter().collect(), "{shown}");
        }
    }
}
