//! The comparison of the jobs of a job chunk with their offers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bson::raw::cstr;
use bson::{RawBsonRef, RawDocument};

use super::chunk::OwnedJob;
use super::compare::{self, ComparisonContext, Finding};
use super::compare_sides::{Comparer, Comparison, Mismatch};
use super::job_owners::{contenders, establishment};
use super::losses::Readable;
use crate::error::Failure;
use crate::fetch::references::{Answers, Keys};
use crate::model::ids::{JobId, RecruiterId};
use crate::model::job_owner::JobOwner;
use crate::model::recruiter::{Job, JobFields, RecruiterFields};
use crate::model::{Offer, OfferStatus, Recruiter, References, value};
use crate::phase::sides::{Pair, Sides};
use crate::project::closing::{closing_stands, if_deleted};
use crate::project::project;
use crate::project::written_fields::{has_same_bytes, is_repetition};
use crate::write::dead_letters::Address;

/// The number of jobs after which a read in progress gets its turn. They take about two milliseconds.
const TURN: usize = 24;

/// What is found about one recruiter. It grows with each job chunk that has jobs of the recruiter.
pub(super) struct Seen {
    pub findings: Vec<Finding>,
    pub sides: Sides,
    /// A sum, because the portions that the jobs come in, and so their order, depend on the weight of other offers.
    signature: u64,
    /// As in [`Recruiter::repeated`]: over all jobs, whatever job chunk they are in.
    repeated: BTreeMap<JobId, [usize; 2]>,
    has_address: bool,
    is_anonymized: bool,
    unsettled: Unsettled,
}

/// What is found about offers of which it is not known yet whose they are.
#[derive(Default)]
struct Unsettled {
    /// Findings with the positions of their jobs.
    findings: Vec<(usize, Finding)>,
    /// The pairs with findings.
    pairs: Vec<(JobId, Pair)>,
    /// The establishments that these offers show.
    shown: BTreeSet<String>,
}

impl Seen {
    pub(super) fn of(recruiter: &Recruiter<'_>, is_anonymized: bool) -> Self {
        Self {
            findings: Vec::new(),
            sides: Sides::default(),
            signature: 0,
            repeated: recruiter.repeated(),
            has_address: value::non_empty(recruiter.fields.address).is_some(),
            is_anonymized,
            unsettled: Unsettled::default(),
        }
    }

    pub(super) fn into_mismatch(self) -> Mismatch {
        Mismatch { findings: self.findings, signature: self.signature, sides: self.sides }
    }

    fn is_first(&self, id: &JobId, position: usize) -> bool {
        self.repeated.get(id).is_none_or(|[first, _]| *first == position)
    }

    fn settle(&mut self, is_outranked: impl Fn(&JobId) -> bool) {
        let Unsettled { mut findings, pairs, .. } = std::mem::take(&mut self.unsettled);
        // The order of the jobs, whatever portions their offers came in.
        findings.sort_by_key(|(position, _)| *position);
        let findings = findings.into_iter().map(|(_, finding)| finding);
        // The offer belongs to another recruiter, which is compared by itself.
        self.findings.extend(findings.filter(|finding| !is_outranked(&finding.offer)));
        let faulty = pairs.into_iter().filter(|(job, _)| !is_outranked(job));
        faulty.for_each(|(_, pair)| self.sides.add_faulty(pair));
    }
}

/// Existing offers of a job chunk, and the references of its jobs.
struct Fetched<'o> {
    offers: &'o HashMap<JobId, &'o RawDocument>,
    answers: Answers,
}

impl Comparer {
    /// Compares some jobs of a job chunk with their `offers`. `seen` is about `recruiters`, in their order. What it finds is unsettled
    /// until [`Self::settle`].
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn job_chunk(
        &mut self,
        recruiters: &Readable<'_>,
        jobs: &[OwnedJob<'_, '_>],
        offers: &HashMap<JobId, &RawDocument>,
        seen: &mut [Seen],
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let answers = self.references.look_up(keys(recruiters, jobs, offers)).await?;
        let fetched = Fetched { offers, answers };
        let mut jobs = jobs.iter().enumerate().peekable();
        for ((recruiter, _), seen) in recruiters.iter().zip(seen) {
            while let Some((number, (_, job))) = jobs.next_if(|(_, (owner, _))| owner.id == recruiter.id) {
                self.job(recruiter, job, &fetched, seen, look);
                if number % TURN == TURN - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Leaves out the findings about offers that belong to other recruiters. It comes after all jobs of the chunk, so that the weight of
    /// offers does not decide which establishments are searched.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn settle(&self, recruiters: &Readable<'_>, seen: &mut [Seen]) -> Result<(), Failure> {
        let unsettled = seen.iter().flat_map(|seen| &seen.unsettled.findings);
        let unsettled = unsettled.map(|(_, finding)| finding.offer).collect();
        let shown = seen.iter_mut().flat_map(|seen| std::mem::take(&mut seen.unsettled.shown)).collect();
        let contenders = contenders(&self.database, &unsettled, shown).await?;
        for ((recruiter, _), seen) in recruiters.iter().zip(seen) {
            let own = JobOwner::new(recruiter.id, recruiter.fields.updated_at);
            let outranks = |job: &JobId, owner: &JobOwner| {
                *owner > own && !self.dead_letters.is_unprojected(owner.recruiter(), *job)
            };
            seen.settle(|job| {
                contenders.get(job).is_some_and(|owners| owners.iter().any(|owner| outranks(job, owner)))
            });
        }
        Ok(())
    }

    fn job(
        &self,
        recruiter: &Recruiter<'_>,
        job: &Job<'_>,
        fetched: &Fetched<'_>,
        seen: &mut Seen,
        look: &mut Comparison,
    ) {
        let answers = &fetched.answers;
        look.jobs += 1;
        let is_first = |id: &JobId| seen.is_first(id, job.position);
        let (Some(id), Ok(fields)) = (job.id.filter(is_first), job.fields()) else {
            look.explained += 1;
            let is_second = job.id.as_ref().is_some_and(|id| !is_first(id));
            look.jobs_without_offer += u64::from(!is_second);
            return;
        };
        let standing = fetched.offers.get(&id).copied();
        let references = answers.of(&recruiter.fields, &fields);
        let is_refused = self.is_refused(recruiter.id, id);
        let mut signature = DefaultHasher::new();
        id.hash(&mut signature);
        let projected = project(&recruiter.fields, id, &fields, &references, &self.settings);
        let is_deleted =
            |offer: &Offer| self.mirror.deletes && standing.is_none() && offer.status == OfferStatus::Cancelled;
        let found = match projected {
            Ok(offer) if is_deleted(&offer) => {
                look.explained += 1;
                Vec::new()
            }
            Ok(offer) if seen.has_address && !is_refused => {
                look.compared += 1;
                let offer = standing.and_then(|standing| if_deleted(&offer, standing)).unwrap_or(&offer);
                offer.fields.as_bytes().hash(&mut signature);
                let known = self.known(&recruiter.fields, &references, standing, answers, seen.is_anonymized);
                let differing = standing.filter(|standing| !has_same_bytes(offer, standing));
                if differing.is_some_and(|standing| closing_stands(offer, standing)) {
                    look.closed_elsewhere.add(|| id.to_string());
                }
                let mut found = compare::held(offer, standing, &known);
                found.retain(|finding| self.counts(finding));
                match Pair::of(offer, standing) {
                    pair if found.is_empty() => seen.sides.add(pair),
                    pair => seen.unsettled.pairs.push((id, pair)),
                }
                found
            }
            _ => {
                look.explained += 1;
                look.jobs_without_offer += u64::from(seen.has_address && standing.is_none());
                self.contact_left(id, standing, answers)
            }
        };
        standing.map(RawDocument::as_bytes).hash(&mut signature);
        seen.signature = seen.signature.wrapping_add(signature.finish());
        if !found.is_empty() {
            seen.unsettled.shown.extend(standing.and_then(establishment));
        }
        seen.unsettled.findings.extend(found.into_iter().map(|finding| (job.position, finding)));
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
}

fn keys(recruiters: &Readable<'_>, jobs: &[OwnedJob<'_, '_>], offers: &HashMap<JobId, &RawDocument>) -> Keys {
    let mut keys = Keys::default();
    recruiters.iter().for_each(|(recruiter, _)| keys.add_recruiter(&recruiter.fields));
    for (_, job) in jobs {
        keys.add_job(&JobFields { rome_code: job.field(cstr!("rome_code")), ..JobFields::default() });
    }
    offers.values().for_each(|offer| keys.add_recruiter(&naming(value::field(offer, "managed_by"))));
    keys
}

/// Fields of a recruiter with `managed_by` alone, to look that user up.
fn naming(managed_by: Option<RawBsonRef<'_>>) -> RecruiterFields<'_> {
    RecruiterFields { managed_by, ..RecruiterFields::default() }
}
