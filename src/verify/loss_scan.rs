//! The scan of `recruiters` for what exists there alone (spec 09, "Before `retired`"). It goes by `_id` in chunks, and
//! reads everything else by indexed fields: offers and users by `_id`, establishments and CFAs by SIRET. It only reads.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bson::{Bson, Document, RawBsonRef, RawDocument, doc, oid::ObjectId};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::only_in_recruiters::{LossKind, OnlyInRecruiters};
use super::texts_without_offer::{texts_of_job, texts_of_recruiter};
use crate::context::Context;
use crate::error::{Failure, command_code};
use crate::fetch::chunks::ChunkReader;
use crate::model::dead_letter::Reason;
use crate::model::ids::{JobId, RecruiterId, typed};
use crate::model::names::{DELEGATED, ESTABLISHMENTS, WatchedCollection};
use crate::model::other_id::OtherId;
use crate::model::recruiter::Recruiter;
use crate::model::user_id::user_id;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{self, documents, find};
use crate::source::scan;
use crate::write::dead_letters::{Address, DeadLetters};

/// Fields of a job that may be long and hold nothing that would be lost.
const NOT_READ: [&str; 4] = ["jobs.rome_detail", "jobs.competences_rome", "jobs.delegations", "jobs.job_description"];

/// Counts what exists in `recruiters` alone, and each recruiter on `bar`. A scan that `stop` ends early has counted a part.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn look(
    context: &Context,
    stop: &CancellationToken,
    bar: &ProgressBar,
) -> Result<OnlyInRecruiters, Failure> {
    let database = &context.database;
    let mut scan = LossScan {
        database: database.clone(),
        partner_label: context.settings.target.partner_label.clone(),
        recruiters: ChunkReader::of_recruiters_without(database, &NOT_READ),
        offers: ChunkReader::of_offer_fields(database, &["partner_label", "workplace_description"]),
        dead_letters: DeadLetters::load(database, None).await?,
        lookup: DelegatedLookup::prepare(database).await?,
        found: OnlyInRecruiters::default(),
    };
    scan.others(stop).await?;
    let name = WatchedCollection::Recruiters.name();
    let mut after = None;
    while !stop.is_cancelled() {
        let ids = scan::ids_after(database, name, &Document::new(), after, scan::STEP).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        let ids: Vec<RecruiterId> = typed(&ids);
        let mut rest = ids.as_slice();
        while let Some(batches) = scan.recruiters.read_next(&mut rest).await? {
            let chunk = documents(&batches).collect::<Result<Vec<_>, _>>()?;
            scan.chunk(&chunk).await?;
        }
        bar.inc(ids.len() as u64);
    }
    scan.say_what_was_not_looked_at();
    Ok(scan.found)
}

struct LossScan {
    database: CausalDatabase,
    partner_label: String,
    recruiters: ChunkReader,
    offers: ChunkReader,
    dead_letters: DeadLetters,
    lookup: DelegatedLookup,
    found: OnlyInRecruiters,
}

impl LossScan {
    /// Counts the recruiters whose `_id` is no ObjectId.
    async fn others(&mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let name = WatchedCollection::Recruiters.name();
        let mut after: Option<OtherId> = None;
        while !stop.is_cancelled() {
            let others = scan::others_after(&self.database, name, &Document::new(), after.as_ref()).await?;
            for other in &others {
                self.found.add(LossKind::UnreadableRecruiters, || format!("{name}/{}", other.text()));
            }
            after = others.into_iter().last();
            if after.is_none() {
                break;
            }
        }
        Ok(())
    }

    async fn chunk(&mut self, documents: &[&RawDocument]) -> Result<(), Failure> {
        let mut recruiters = Vec::new();
        for document in documents {
            match Recruiter::read(document) {
                Ok(recruiter) => recruiters.push((recruiter, *document)),
                Err(_) => {
                    let id = || OtherId::of(document).text();
                    self.found.add(LossKind::UnreadableRecruiters, || format!("{}/{}", collection(), id()));
                }
            }
        }
        let held = self.held(&recruiters).await?;
        for (recruiter, document) in &recruiters {
            self.recruiter(recruiter, document, &held);
        }
        self.delegated(&recruiters).await?;
        self.contacts(&recruiters).await
    }

    /// The offers of these recruiters' jobs: true where `workplace_description` holds the description of the employer.
    async fn held(&mut self, recruiters: &[(Recruiter<'_>, &RawDocument)]) -> Result<HashMap<JobId, bool>, Failure> {
        let mut described: BTreeMap<JobId, Option<RawBsonRef<'_>>> = BTreeMap::new();
        for (recruiter, _) in recruiters {
            for job in &recruiter.jobs {
                let Some(id) = job.id else { continue };
                let text = job.fields().ok().and_then(|fields| fields.job_employer_description);
                described.entry(id).or_insert(text);
            }
        }
        let ids: Vec<JobId> = described.keys().copied().collect();
        let (mut held, mut rest) = (HashMap::new(), ids.as_slice());
        while let Some(batches) = self.offers.read_next(&mut rest).await? {
            for offer in documents(&batches) {
                let offer = offer?;
                let id = offer.get_object_id("_id").ok().map(JobId);
                let is_ours = value::text(value::field(offer, "partner_label")) == Some(&self.partner_label);
                if let Some(id) = id.filter(|_| is_ours) {
                    let shown = value::field(offer, "workplace_description");
                    held.insert(id, shown == described.get(&id).copied().flatten());
                }
            }
        }
        Ok(held)
    }

    fn recruiter(&mut self, recruiter: &Recruiter<'_>, document: &RawDocument, held: &HashMap<JobId, bool>) {
        let id = recruiter.id;
        if recruiter.jobs.is_empty() {
            self.found.add(LossKind::RecruitersWithoutJobs, || format!("{}/{id}", collection()));
        }
        self.found.add_texts(texts_of_recruiter(document), || format!("{}/{id}", collection()));
        let repeated = recruiter.repeated();
        for job in &recruiter.jobs {
            let named = || match job.id {
                Some(job) => format!("{}/{id}/{job}", collection()),
                None => format!("{}/{id}/jobs.{}", collection(), job.position),
            };
            let offer = job.id.and_then(|job| held.get(&job));
            let is_first = job.id.and_then(|id| repeated.get(&id)).is_none_or(|[first, _]| *first == job.position);
            if offer.is_none() || !is_first || self.shows_another(id, job.id) {
                self.found.add(LossKind::JobsWithoutOffer, named);
            }
            let text = job.fields().ok().and_then(|fields| value::non_empty(fields.job_employer_description));
            if text.is_some() && offer != Some(&true) {
                self.found.add(LossKind::EmployerDescriptions, named);
            }
            self.found.add_texts(texts_of_job(job.document()), named);
        }
    }

    /// True when the offer with the job's `_id` shows the job of another recruiter.
    fn shows_another(&self, recruiter: RecruiterId, job: Option<JobId>) -> bool {
        let known = self.dead_letters.get(&Address::of(recruiter, job));
        job.is_some() && known.is_some_and(|known| known.reason == Reason::DuplicateJobId)
    }

    async fn delegated(&mut self, recruiters: &[(Recruiter<'_>, &RawDocument)]) -> Result<(), Failure> {
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
            self.found.add(LossKind::DelegatedContacts, || format!("{}/{id}", collection()));
        }
        Ok(())
    }

    /// Counts the names of contacts whose user does not exist. An address and a telephone number are in the offer.
    async fn contacts(&mut self, recruiters: &[(Recruiter<'_>, &RawDocument)]) -> Result<(), Failure> {
        let has_name = |document: &RawDocument| {
            ["first_name", "last_name"].iter().any(|name| value::text(value::field(document, name)).is_some())
        };
        let named: Vec<&Recruiter<'_>> = recruiters
            .iter()
            .filter(|(recruiter, document)| !is_delegated(recruiter) && has_name(document))
            .map(|(recruiter, _)| recruiter)
            .collect();
        let users: BTreeSet<ObjectId> =
            named.iter().filter_map(|recruiter| user_id(recruiter.fields.managed_by)).map(|user| user.0).collect();
        let users: Vec<ObjectId> = users.into_iter().collect();
        let mut there = HashSet::new();
        for users_of in [WatchedCollection::Users, WatchedCollection::AnonymizedUsers] {
            if !users.is_empty() {
                let filter = doc! { "_id": { "$in": &users } };
                let batches = find(&self.database, users_of.name(), filter, doc! { "_id": 1 }).await?;
                for user in documents(&batches) {
                    there.extend(user?.get_object_id("_id").ok());
                }
            }
        }
        for recruiter in named {
            if !user_id(recruiter.fields.managed_by).is_some_and(|user| there.contains(&user.0)) {
                self.found.add(LossKind::ContactsWithoutUser, || format!("{}/{}", collection(), recruiter.id));
            }
        }
        Ok(())
    }

    fn say_what_was_not_looked_at(&mut self) {
        if self.found.count(LossKind::DelegatedContacts) == 0 {
            return;
        }
        let missing = std::mem::take(&mut self.lookup.missing);
        self.found.not_looked_at.extend(missing.into_iter().map(|(name, why)| {
            format!("{name} {why}: no contact of a delegated establishment could be looked up, so each one counts")
        }));
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
