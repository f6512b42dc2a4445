//! What the comparisons of all sides share, and what they result in. They write nothing. The recheck (`settle`) decides whether a
//! mismatch is a difference.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::oid::ObjectId;

use super::chunk::ChunksReader;
use super::compare::Finding;
use super::job_owners::{managed_reader, offer_reader};
use super::losses::LossFinder;
use super::mirror_rules::MirrorRules;
use super::only_in_recruiters::OnlyInRecruiters;
use super::report::DifferenceCount;
use crate::context::Context;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::fetch::references::ReferenceCaches;
use crate::model::ids::JobId;
use crate::mongo::causal::CausalDatabase;
use crate::phase::sides::Sides;
use crate::project::ProjectionSettings;
use crate::target::Target;
use crate::write::dead_letters::DeadLetters;

/// The findings about one document and its offers. Two comparisons with the same signature read the same documents.
#[derive(Debug, Default)]
pub(crate) struct Mismatch {
    pub findings: Vec<Finding>,
    /// A digest of the projections and of the existing offers.
    pub signature: u64,
    /// What this recruiter adds to the sums of both sides.
    pub sides: Sides,
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
    pub(super) target: Target,
    /// True in `dual-write`, where an offer may be newer than its projection (spec 04).
    pub(super) newest_wins: bool,
    pub(super) mirror: MirrorRules,
    pub(super) chunks: ChunksReader,
    /// Reads existing offers in portions; see [`offer_reader`].
    pub(super) offers: ChunkReader,
    /// Reads what shows whether an offer without a job is right; see [`managed_reader`].
    pub(super) managed: ChunkReader,
    pub(super) references: ReferenceCaches,
    pub(super) dead_letters: DeadLetters,
    /// Finds what exists in recruiters alone while they are compared.
    pub(super) losses: Option<Arc<LossFinder>>,
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
            chunks: ChunksReader::of(database),
            offers: offer_reader(database),
            managed: managed_reader(database),
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
}
