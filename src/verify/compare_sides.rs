//! One comparison of some documents of one side: it reads them with their references and offers, and finds mismatches.
//! It writes nothing. The recheck (`settle`) decides whether a mismatch is a difference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use bson::raw::cstr;
use bson::{RawBsonRef, RawDocument, oid::ObjectId};
use futures::try_join;
use mongodb::raw_batch_cursor::RawBatch;

use super::compare::{self, ComparisonContext, Finding};
use super::held_jobs::MOST;
use super::job_owners::{by_id, contenders, present, read_offers};
use super::losses::{self, Kept, LossFinder, Readable};
use super::mirror_rules::MirrorRules;
use super::only_in_recruiters::OnlyInRecruiters;
use super::report::DifferenceCount;
use crate::context::Context;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::references::{Answers, Keys, ReferenceCaches};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::model::names::WatchedCollection;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::user_id::user_id;
use crate::model::{Offer, OfferStatus, Recruiter, References, value};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::documents;
use crate::phase::sides::{Pair, Sides};
use crate::project::closing::{closing_stands, if_deleted};
use crate::project::written_fields::{has_same_bytes, is_repetition};
use crate::project::{ProjectionSettings, project};
use crate::target::Target;
use crate::write::dead_letters::{Address, DeadLetters};

/// The greatest weight of a chunk, in bytes, beside which the next one is read: about twice that of a usual chunk with its offers. Two
/// heavy chunks must not be in memory at the same time.
const LIGHT: usize = 6 * 1024 * 1024;
/// The number of recruiters after which a read in progress gets its turn. Eight with three jobs each take about two milliseconds.
const TURN: usize = 8;

/// The findings about one document and its offers. Two comparisons with the same signature read the same documents.
#[derive(Debug, Default)]
pub(crate) struct Mismatch {
    pub findings: Vec<Finding>,
    /// A digest of the projections and of the existing offers.
    pub signature: u64,
    /// What this recruiter adds to the sums of both sides.
    pub sides: Sides,
    /// The pairs with findings. They are no part of `sides` before it is known whose the offers are.
    pairs: Vec<(JobId, Pair)>,
}

/// The result of one comparison.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The mismatches, by the `_id` of the compared document.
    pub wrong: BTreeMap<ObjectId, Mismatch>,
    /// The number of jobs that were read.
    pub jobs: u64,
    /// The number of offers that were read.
    pub offers: u64,
    /// The number of jobs that were compared.
    pub compared: u64,
    /// The number of jobs that were not compared: see `VerificationReport::explained`.
    pub explained: u64,
    /// The number of jobs without an offer that cannot be projected or written: see
    /// `VerificationReport::jobs_without_offer`.
    pub jobs_without_offer: u64,
    /// Offers that a closing by somebody else keeps closed.
    pub closed_elsewhere: DifferenceCount,
    /// The sums over the recruiters that are not in `wrong`.
    pub sides: Sides,
    /// The jobs of the recruiters that are not in `wrong`. No recruiter needs to be searched for their offers.
    pub held: Vec<JobId>,
    /// What exists in the recruiters alone that are not in `wrong`; empty where [`Comparer::losses`] is `None`.
    pub only_in_recruiters: OnlyInRecruiters,
}

/// Compares documents of one database.
#[derive(Debug)]
pub(crate) struct Comparer {
    pub(super) database: CausalDatabase,
    pub(super) settings: ProjectionSettings,
    target: Target,
    /// True in `dual-write`, where an offer may be newer than its projection (spec 04).
    newest_wins: bool,
    pub(super) mirror: MirrorRules,
    recruiters: ChunkReader,
    references: ReferenceCaches,
    pub(super) dead_letters: DeadLetters,
    /// Finds what exists in recruiters alone while they are compared.
    pub(super) losses: Option<Arc<LossFinder>>,
}

/// Recruiters as they were read, with the offers of their jobs.
struct Chunk {
    recruiters: Vec<RawBatch>,
    offers: Vec<RawBatch>,
}

impl Chunk {
    /// Reads the next recruiters of `rest` and their offers; `None` when `rest` is empty.
    async fn read(
        database: &CausalDatabase,
        reader: &mut ChunkReader,
        rest: &mut &[RecruiterId],
    ) -> Result<Option<Self>, Failure> {
        let Some(recruiters) = reader.read_next(rest).await? else { return Ok(None) };
        let mut jobs = Vec::new();
        for document in documents(&recruiters) {
            jobs.extend(Recruiter::read(document?).iter().flat_map(Recruiter::job_ids));
        }
        let offers = read_offers(database, &jobs).await?;
        Ok(Some(Self { recruiters, offers }))
    }

    fn is_light(&self) -> bool {
        let batches = self.recruiters.iter().chain(&self.offers);
        batches.map(|batch| batch.as_raw_document().as_bytes().len()).sum::<usize>() <= LIGHT
    }
}

impl Comparer {
    /// Reads the dead letters. The caches begin empty.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn new(context: &Context, newest_wins: bool, mirror: MirrorRules) -> Result<Self, Failure> {
        let database = &context.database;
        Ok(Self {
            database: database.clone(),
            settings: context.projection_settings(),
            target: context.target.clone(),
            newest_wins,
            mirror,
            recruiters: ChunkReader::of_recruiters(database),
            references: ReferenceCaches::new(database),
            dead_letters: DeadLetters::load(database, None).await?,
            losses: None,
        })
    }

    /// Empties the caches and reads the dead letters again, because both may have changed.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn forget(&mut self) -> Result<(), Failure> {
        self.references = ReferenceCaches::new(&self.database);
        self.dead_letters = DeadLetters::load(&self.database, None).await?;
        Ok(())
    }

    /// Compares recruiters with the offers of their jobs.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn at_recruiters(&mut self, ids: &[RecruiterId]) -> Result<Comparison, Failure> {
        let mut look = Comparison::default();
        let anonymized = present(&self.database, WatchedCollection::AnonymizedRecruiters, ids).await?;
        // A sample comes in any order, and the reader of chunks wants sorted ids.
        let ids: BTreeSet<RecruiterId> = ids.iter().copied().collect();
        let ids: Vec<RecruiterId> = ids.into_iter().collect();
        let (database, mut reader, mut rest) = (self.database.clone(), self.recruiters.clone(), ids.as_slice());
        let mut next = Chunk::read(&database, &mut reader, &mut rest).await?;
        while let Some(chunk) = next {
            if chunk.is_light() {
                // The server reads the next chunk while this one is compared.
                let ahead = Chunk::read(&database, &mut reader, &mut rest);
                (next, ()) = try_join!(ahead, self.chunk(&chunk, &anonymized, &mut look))?;
            } else {
                self.chunk(&chunk, &anonymized, &mut look).await?;
                drop(chunk);
                next = Chunk::read(&database, &mut reader, &mut rest).await?;
            }
        }
        self.recruiters = reader;
        Ok(look)
    }

    async fn chunk(
        &mut self,
        chunk: &Chunk,
        anonymized: &BTreeSet<RecruiterId>,
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let mut recruiters = Vec::new();
        for document in documents(&chunk.recruiters) {
            let document = document?;
            match Recruiter::read(document) {
                Ok(recruiter) => recruiters.push((recruiter, document)),
                // An unreadable recruiter has a dead letter, so it is no difference.
                Err(_) => {
                    look.sides.add_recruiter(document);
                    if self.losses.is_some() {
                        losses::unreadable(document, &mut look.only_in_recruiters);
                    }
                }
            }
        }
        self.settings.schema = self.target.schema();
        let offers = by_id(&chunk.offers)?;
        look.offers += offers.len() as u64;
        let answers = self.references.look_up(keys(&recruiters, &offers)).await?;
        let mut wrong = BTreeMap::new();
        for recruiters in recruiters.chunks(TURN) {
            for (recruiter, document) in recruiters {
                let mut seen = self.recruiter(recruiter, &offers, &answers, anonymized.contains(&recruiter.id), look);
                seen.sides.add_recruiter(document);
                wrong.insert(recruiter.id, seen);
            }
            tokio::task::yield_now().await;
        }
        let are_right = |seen: &Mismatch| seen.findings.is_empty();
        wrong.extract_if(.., |_, seen| are_right(seen)).for_each(|(_, seen)| look.sides.extend(seen.sides));
        let contenders = self.contenders(&wrong, &offers).await?;
        for (recruiter, _) in &recruiters {
            let own = JobOwner::new(recruiter.id, recruiter.fields.updated_at);
            let outranks = |job: &JobId, owner: &JobOwner| {
                *owner > own && !self.dead_letters.is_unprojected(owner.recruiter(), *job)
            };
            let is_outranked =
                |job: &JobId| contenders.get(job).is_some_and(|owners| owners.iter().any(|owner| outranks(job, owner)));
            if let Some(seen) = wrong.get_mut(&recruiter.id) {
                // The offer belongs to another recruiter, which is compared by itself.
                seen.findings.retain(|finding| !is_outranked(&finding.offer));
                let pairs = std::mem::take(&mut seen.pairs).into_iter().filter(|(job, _)| !is_outranked(job));
                pairs.for_each(|(_, pair)| seen.sides.add_faulty(pair));
            }
        }
        wrong.extract_if(.., |_, seen| are_right(seen)).for_each(|(_, seen)| look.sides.extend(seen.sides));
        recruiters.retain(|(recruiter, _)| !wrong.contains_key(&recruiter.id));
        let room = MOST.saturating_sub(look.held.len());
        look.held.extend(recruiters.iter().flat_map(|(recruiter, _)| recruiter.job_ids()).take(room));
        look.wrong.extend(wrong.into_iter().map(|(recruiter, seen)| (recruiter.0, seen)));
        self.losses(&recruiters, &offers, &answers, look).await
    }

    /// Finds what exists in these recruiters alone, if anybody asks.
    async fn losses(
        &self,
        recruiters: &Readable<'_>,
        offers: &HashMap<JobId, &RawDocument>,
        answers: &Answers,
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let Some(finder) = &self.losses else { return Ok(()) };
        let mut kept = Kept::default();
        let described = losses::described(recruiters);
        kept.add_offers(offers.values().copied(), &described, &self.settings.partner_label);
        let named = losses::with_named_contact(recruiters);
        let is_known = |fields: &RecruiterFields<'_>| !answers.of(fields, &JobFields::default()).user_is_unknown;
        kept.users.extend(
            named
                .filter(|recruiter| is_known(&recruiter.fields))
                .filter_map(|recruiter| user_id(recruiter.fields.managed_by)),
        );
        finder.chunk(recruiters, &kept, &self.dead_letters, &mut look.only_in_recruiters).await
    }

    fn recruiter(
        &self,
        recruiter: &Recruiter<'_>,
        offers: &HashMap<JobId, &RawDocument>,
        answers: &Answers,
        recruiter_is_anonymized: bool,
        look: &mut Comparison,
    ) -> Mismatch {
        let (mut findings, mut sides, mut pairs) = (Vec::new(), Sides::default(), Vec::new());
        let mut signature = DefaultHasher::new();
        let has_address = value::non_empty(recruiter.fields.address).is_some();
        let repeated = recruiter.repeated();
        for job in &recruiter.jobs {
            look.jobs += 1;
            let is_first = |id: &JobId| repeated.get(id).is_none_or(|[first, _]| *first == job.position);
            let (Some(id), Ok(fields)) = (job.id.filter(is_first), job.fields()) else {
                look.explained += 1;
                let is_second = job.id.as_ref().is_some_and(|id| !is_first(id));
                look.jobs_without_offer += u64::from(!is_second);
                continue;
            };
            let standing = offers.get(&id).copied();
            let references = answers.of(&recruiter.fields, &fields);
            let is_refused = self.is_refused(recruiter.id, id);
            let projected = project(&recruiter.fields, id, &fields, &references, &self.settings);
            let is_deleted =
                |offer: &Offer| self.mirror.deletes && standing.is_none() && offer.status == OfferStatus::Cancelled;
            let found = match projected {
                Ok(offer) if is_deleted(&offer) => {
                    look.explained += 1;
                    Vec::new()
                }
                Ok(offer) if has_address && !is_refused => {
                    look.compared += 1;
                    let offer = standing.and_then(|standing| if_deleted(&offer, standing)).unwrap_or(&offer);
                    offer.fields.as_bytes().hash(&mut signature);
                    let known = self.known(&recruiter.fields, &references, standing, answers, recruiter_is_anonymized);
                    let differing = standing.filter(|standing| !has_same_bytes(offer, standing));
                    if differing.is_some_and(|standing| closing_stands(offer, standing)) {
                        look.closed_elsewhere.add(|| id.to_string());
                    }
                    let mut found = compare::held(offer, standing, &known);
                    found.retain(|finding| self.counts(finding));
                    match Pair::of(offer, standing) {
                        pair if found.is_empty() => sides.add(pair),
                        pair => pairs.push((id, pair)),
                    }
                    found
                }
                _ => {
                    look.explained += 1;
                    look.jobs_without_offer += u64::from(has_address && standing.is_none());
                    self.contact_left(id, standing, answers)
                }
            };
            standing.map(RawDocument::as_bytes).hash(&mut signature);
            findings.extend(found);
        }
        Mismatch { findings, signature: signature.finish(), sides, pairs }
    }

    /// True where a dead letter explains what differs.
    fn is_refused(&self, recruiter: RecruiterId, job: JobId) -> bool {
        let of_mirror = || self.dead_letters.get(&Address::Offer(job)).is_some_and(|known| known.is_of_mirror());
        self.dead_letters.contains_refusal(&Address::of(recruiter, Some(job))) || self.mirror.explains && of_mirror()
    }

    fn counts(&self, finding: &Finding) -> bool {
        !(self.mirror.repetitions_differ && finding.field.is_some_and(is_repetition))
    }

    /// The contact in the offer of a job that cannot be projected. The offer may still show another recruiter, which had
    /// the job before. So the user that the offer names decides whether its contact must be gone.
    fn contact_left(&self, id: JobId, standing: Option<&RawDocument>, answers: &Answers) -> Vec<Finding> {
        let standing = standing.filter(|offer| {
            let named = naming(value::field(offer, "managed_by"));
            answers.of(&named, &JobFields::default()).user_is_anonymized
        });
        let email = &self.settings.anonymized_email;
        standing.map(|offer| compare::contact_left(id, offer, email, false)).unwrap_or_default()
    }

    fn known(
        &self,
        recruiter: &RecruiterFields<'_>,
        references: &References,
        standing: Option<&RawDocument>,
        answers: &Answers,
        recruiter_is_anonymized: bool,
    ) -> ComparisonContext<'_> {
        let is_nobody = |references: &References| references.user.is_none() && !references.user_is_anonymized;
        // An offer whose `managed_by` is null names no user, and that is no fault.
        let named = standing.and_then(|offer| value::non_empty(value::field(offer, "managed_by")));
        ComparisonContext {
            anonymized_email: &self.settings.anonymized_email,
            recruiter_is_anonymized,
            user_is_anonymized: references.user_is_anonymized,
            user_is_unknown: recruiter.managed_by.is_some() && is_nobody(references),
            named_user_is_unknown: named.is_some() && is_nobody(&answers.of(&naming(named), &JobFields::default())),
            newest_wins: self.newest_wins,
        }
    }

    /// The candidates for the ownership of the jobs with findings.
    async fn contenders(
        &self,
        wrong: &BTreeMap<RecruiterId, Mismatch>,
        offers: &HashMap<JobId, &RawDocument>,
    ) -> Result<HashMap<JobId, Vec<JobOwner>>, Failure> {
        let jobs: BTreeSet<JobId> =
            wrong.values().flat_map(|seen| seen.findings.iter().map(|finding| finding.offer)).collect();
        let standing: Vec<&RawDocument> = jobs.iter().filter_map(|job| offers.get(job).copied()).collect();
        contenders(&self.database, &jobs, &standing).await
    }
}

fn keys(recruiters: &[(Recruiter<'_>, &RawDocument)], offers: &HashMap<JobId, &RawDocument>) -> Keys {
    let mut keys = Keys::default();
    for (recruiter, _) in recruiters {
        keys.add_recruiter(&recruiter.fields);
        for job in &recruiter.jobs {
            keys.add_job(&JobFields { rome_code: job.field(cstr!("rome_code")), ..JobFields::default() });
        }
    }
    for offer in offers.values() {
        keys.add_recruiter(&naming(value::field(offer, "managed_by")));
    }
    keys
}

/// Fields of a recruiter with `managed_by` alone, to look that user up.
fn naming(managed_by: Option<RawBsonRef<'_>>) -> RecruiterFields<'_> {
    RecruiterFields { managed_by, ..RecruiterFields::default() }
}
