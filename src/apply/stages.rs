//! The state that the stages (fetch, project, compare, write) share between chunks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::dry_run::{MirrorCounts, WriteCounts};
use super::offers_ahead::WrittenOffers;
use super::output::Output;
use super::preemption::PreemptionCheck;
use super::sampler::Sampler;
use crate::context::Context;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::links;
use crate::fetch::references::ReferenceCaches;
use crate::interruption::Unfinished;
use crate::lease::Completeness;
use crate::model::Recruiter;
use crate::model::dead_letter::Reason;
use crate::model::ids::JobId;
use crate::model::job_owner::JobOwner;
use crate::model::recruiter::Job;
use crate::mongo::causal::CausalDatabase;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::phase::Phase;
use crate::project::ProjectionSettings;
use crate::source::cursor::operation_time;
use crate::target::Target;
use crate::write::dead_letters::{Address, DeadLetter, DeadLetters};
use crate::write::statements::Statement;
use crate::write::stored_throttle::StoredThrottle;
use crate::write::throttle::Throttle;
use crate::write::update_reply::WriteOutcome;

/// The greatest number of removals handled at once. The statement of one removal has one or two kilobytes.
pub(crate) const REMOVALS_AT_A_TIME: usize = 1_000;

/// The stages with the state that they keep between chunks.
#[derive(Debug)]
pub(crate) struct Stages {
    /// The database of sources and offers; no read is older than the last position of the stream.
    pub database: CausalDatabase,
    /// Where all writes go: into the database, or into the results of a dry run.
    pub output: Output,
    /// The part of the configuration that decides what is projected.
    pub settings: ProjectionSettings,
    /// Caches of the references that projections look up.
    pub references: ReferenceCaches,
    /// The schema of the target; `settings` has the one for which offers are made.
    pub(crate) target: Target,
    /// Reader of existing offers.
    pub(super) offers: ChunkReader,
    /// All dead letters, as they are stored.
    pub dead_letters: DeadLetters,
    /// Counters of jobs, offers and dead letters.
    pub metrics: Arc<Metrics>,
    /// The health of the process, which knows the position up to which everything is applied.
    pub health: Arc<Health>,
    /// The phase decides which writes are allowed (spec 04).
    pub phase: Phase,
    /// Numbers of offers written since these stages were made.
    pub write_counts: WriteCounts,
    /// The check between chunks whether work may go on; `None` in a command that holds no lease.
    pub preemption: Option<PreemptionCheck>,
    /// The number of coming events that an earlier attempt may have applied in part, before a crash or a failure. Links
    /// may have grown then, so a link that knows a job does not tell that the job was looked at.
    pub repeated_events: usize,
    /// The ceiling of writes, and the waits under pressure.
    pub(crate) throttle: Throttle,
    /// The sample of touched recruiters for the continuous verification.
    pub sampler: Option<Arc<Sampler>>,
    /// The setting `phase.keep_recruiters_backup`: it turns the mirror on in `shadow`.
    pub keeps_backup: bool,
    /// False while a resync has not completed the links. A job without a link may then exist all the same.
    pub links_are_complete: bool,
    /// The offers that were written since the chunk began.
    pub(super) written: WrittenOffers,
    /// Offers that differ from their projections, for the mirror.
    pub(super) to_mirror: BTreeSet<JobId>,
    pub(crate) mirror_counts: MirrorCounts,
    /// Reader of our offers with all their fields, for the mirror.
    pub(super) own_offers: ChunkReader,
    /// Reader of the recruiters that the mirror writes.
    pub(super) holders: ChunkReader,
}

impl Stages {
    /// Makes the stages for `phase` and loads the dead letters. No later read shows an older state than now.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn new(context: &Context, phase: Phase, output: Output) -> Result<Self, Failure> {
        // A read on another member may be older. But this leadership or command must see everything written before now.
        context.database.advance(operation_time(&context.database).await?);
        let stages = Self {
            database: context.database.clone(),
            settings: context.projection_settings(),
            target: context.target.clone(),
            references: ReferenceCaches::new(&context.database),
            offers: ChunkReader::of_offers(&context.database),
            dead_letters: DeadLetters::load(&context.database, output.writer()).await?,
            output,
            metrics: Arc::clone(&context.metrics),
            phase,
            write_counts: WriteCounts::default(),
            preemption: None,
            repeated_events: 0,
            throttle: Throttle::of(&context.settings.throttle, StoredThrottle::read(&context.database).await?.ordered),
            sampler: None,
            health: Arc::clone(&context.health),
            keeps_backup: context.settings.phase.keep_recruiters_backup,
            links_are_complete: true,
            written: WrittenOffers::default(),
            to_mirror: BTreeSet::new(),
            mirror_counts: MirrorCounts::default(),
            own_offers: ChunkReader::of_own_offers(&context.database, &context.settings.target.partner_label),
            holders: ChunkReader::of_recruiters(&context.database),
        };
        stages.count_dead_letters();
        Ok(stages)
    }

    /// The number of documents that these stages wrote: offers, and recruiters of the mirror.
    #[must_use]
    pub(crate) fn written_documents(&self) -> u64 {
        let (offers, mirror) = (&self.write_counts, &self.mirror_counts);
        offers.created + offers.changed + mirror.edited + mirror.jobs_added + mirror.made
    }

    /// Notes that at least so many coming events may have been applied in part.
    pub(crate) fn expect_repetition(&mut self, events: usize) {
        self.repeated_events = self.repeated_events.max(events);
    }

    /// Takes over from the holders of the lease before: if they may have left a touch that is applied in part, so many
    /// coming events count as repeated. From now on the lease counts as incomplete, until [`Self::complete`].
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn take_over(&mut self, completeness: &Completeness, events: usize) -> Result<(), Failure> {
        // Without any link, no earlier attempt has grown one.
        if !completeness.get() && links::any(&self.database).await? {
            self.expect_repetition(events);
        }
        completeness.set(false);
        Ok(())
    }

    /// Notes the end of all touches. The lease is complete if nothing has to be repeated.
    pub(crate) fn complete(&self, completeness: &Completeness) {
        completeness.set(self.repeated_events == 0);
    }

    /// Sends statements about offers, as the target's schema accepts them.
    ///
    /// # Errors
    /// As [`Output::update_offers`]; [`Failure::SchemaChanged`] when an offer was refused that was made for an older
    /// schema. The work is then repeated for the new one.
    pub(super) async fn update_offers(&mut self, statements: Vec<Statement>) -> Result<WriteOutcome, Unfinished> {
        let statements = statements.into_iter().map(|statement| statement.accepted_by(&self.settings.schema));
        let statements: Vec<Statement> = statements.collect();
        self.written.note(&statements);
        let outcome = self.output.update_offers(&self.database, statements).await?;
        let is_refused = outcome.refused.iter().any(|refused| refused.reason == Reason::RefusedByValidation);
        if is_refused && self.target.differs_from(&self.settings.schema, &self.database).await? {
            // A repetition may project nothing, and it must not meet the same refusal again.
            self.settings.schema = self.target.schema();
            return Err(Failure::SchemaChanged.into());
        }
        Ok(outcome)
    }
}

/// A recruiter with those of its jobs that its touch names.
pub(crate) struct TouchedRecruiter<'a> {
    pub(super) recruiter: Recruiter<'a>,
    /// The jobs to project. They are not decoded yet, because a recruiter may have very many.
    pub(super) jobs: Vec<Job<'a>>,
    /// True if the touch names all jobs. Only then removals can be found.
    pub(super) whole: bool,
    /// The size of the recruiter without its jobs, in bytes. Each of its offers may repeat so much.
    pub(super) weight: usize,
    /// Ids that several of its jobs have, as in [`Recruiter::repeated`].
    pub(super) repeated: BTreeMap<JobId, [usize; 2]>,
}

impl TouchedRecruiter<'_> {
    pub(crate) fn owner(&self) -> JobOwner {
        JobOwner::new(self.recruiter.id, self.recruiter.fields.updated_at)
    }
}

/// Changes to the dead letters that result from a chunk.
#[derive(Default)]
pub(crate) struct Findings {
    /// The dead letters to write.
    pub(super) dead_letters: BTreeMap<Address, DeadLetter>,
    /// The recruiters and jobs that were processed. Their stored dead letters are removed, except for the addresses in
    /// `dead_letters`.
    pub(super) looked_at: BTreeSet<Address>,
}
