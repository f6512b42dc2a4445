//! What the stages share between chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::oid::ObjectId;

use super::dry_run::{DryRun, WriteCounts};
use super::preemption::PreemptionCheck;
use super::sampler::Sampler;
use crate::context::Context;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::references::ReferenceCaches;
use crate::model::job_owner::JobOwner;
use crate::model::recruiter::Job;
use crate::model::{Offer, Recruiter};
use crate::mongo::causal::CausalDatabase;
use crate::observe::metrics::Metrics;
use crate::phase::Phase;
use crate::project::ProjectionSettings;
use crate::source::cursor::operation_time;
use crate::write::Writer;
use crate::write::dead_letters::{Address, DeadLetter, DeadLetters};

/// At most this many jobs that are gone are handled at a time: a statement that cancels or anonymises is a kilobyte or two.
pub(crate) const REMOVALS_AT_A_TIME: usize = 1_000;

/// Projected offers by job, each with its recruiter.
pub(crate) type Projected = BTreeMap<ObjectId, (ObjectId, Offer)>;

/// What the stages share between portions.
#[derive(Debug)]
pub struct Stages {
    /// Where everything is.
    pub database: CausalDatabase,
    /// What may write there.
    pub writer: Writer,
    /// What the projection takes from the configuration.
    pub settings: ProjectionSettings,
    /// The caches.
    pub references: ReferenceCaches,
    /// Reader of the offers that stand.
    pub offers: ChunkReader,
    /// The dead letters that stand.
    pub dead_letters: DeadLetters,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What may be written (spec 04).
    pub phase: Phase,
    /// What writing came to so far.
    pub write_counts: WriteCounts,
    /// Set in a dry run: nothing is written, and what would be is counted here.
    pub dry_run: Option<DryRun>,
    /// Asked between portions whether to go on; a command without a lease to lose has none.
    pub preemption: Option<PreemptionCheck>,
    /// Told what was written, for the continuous verification.
    pub sampler: Option<Arc<Sampler>>,
}

impl Stages {
    /// The stages after planning, with what they must know before the first portion.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub async fn new(context: &Context, phase: Phase, writer: Writer) -> Result<Self, Failure> {
        // No read of this leadership or command may show less than what was there when it began.
        context.database.advance(operation_time(&context.database).await?);
        let stages = Self {
            database: context.database.clone(),
            settings: context.projection_settings(),
            references: ReferenceCaches::new(&context.database),
            offers: ChunkReader::of_offers(&context.database),
            dead_letters: DeadLetters::load(&context.database, &writer).await?,
            writer,
            metrics: Arc::clone(&context.metrics),
            phase,
            write_counts: WriteCounts::default(),
            dry_run: None,
            preemption: None,
            sampler: None,
        };
        stages.count_dead_letters();
        Ok(stages)
    }
}

/// A recruiter with the jobs that its touch asks for.
pub(crate) struct TouchedRecruiter<'a> {
    pub(crate) recruiter: Recruiter<'a>,
    /// Not decoded: a recruiter may have very many.
    pub(crate) jobs: Vec<Job<'a>>,
    /// All its jobs were asked for, so removed ones are looked for too.
    pub(crate) whole: bool,
    /// What each of its offers may repeat of it, in bytes.
    pub(crate) weight: usize,
    /// See [`Recruiter::repeated`].
    pub(crate) repeated: BTreeMap<ObjectId, [usize; 2]>,
}

impl TouchedRecruiter<'_> {
    pub(crate) fn owner(&self) -> JobOwner {
        JobOwner::new(self.recruiter.id, self.recruiter.fields.updated_at)
    }
}

/// What is to be told about recruiters or jobs.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) dead_letters: BTreeMap<Address, DeadLetter>,
    /// What was looked at: a letter that stands about it is healed unless it is in `dead_letters` again.
    pub(crate) looked_at: BTreeSet<Address>,
}
