//! Counts what exists in `recruiters` alone, without a comparison: of all recruiters by `_id` in chunks, or of some that a
//! comparison found different. It reads their offers and users by `_id`, and writes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bson::{Document, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use super::losses::{Kept, LossFinder, Readable, described, unreadable, with_named_contact};
use super::only_in_recruiters::OnlyInRecruiters;
use crate::context::Context;
use crate::error::Failure;
use crate::fetch::chunks::ChunkReader;
use crate::model::ids::{JobId, RecruiterId, UserId, typed};
use crate::model::names::WatchedCollection;
use crate::model::recruiter::Recruiter;
use crate::model::user_id::user_id;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::source::scan;
use crate::write::dead_letters::DeadLetters;

/// Fields of a job that may be long and hold nothing that would be lost.
const NOT_READ: [&str; 4] = ["jobs.rome_detail", "jobs.competences_rome", "jobs.delegations", "jobs.job_description"];

/// Counts what exists in `recruiters` alone. A scan that `stop` ends early has counted a part.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn look(context: &Context, stop: &CancellationToken) -> Result<OnlyInRecruiters, Failure> {
    let mut scan = LossScan::prepare(context, stop).await?;
    let (database, name) = (&context.database, WatchedCollection::Recruiters.name());
    let mut after = None;
    while !stop.is_cancelled() {
        let ids = scan::ids_after(database, name, &Document::new(), after, scan::STEP).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        scan.step(&typed(&ids)).await?;
    }
    Ok(scan.end())
}

#[derive(Debug)]
pub(super) struct LossScan {
    database: CausalDatabase,
    partner_label: String,
    recruiters: ChunkReader,
    offers: ChunkReader,
    dead_letters: DeadLetters,
    /// Shared with a comparison.
    pub finder: Arc<LossFinder>,
    pub found: OnlyInRecruiters,
}

impl LossScan {
    /// Begins a count with the recruiters whose `_id` is no ObjectId.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn prepare(context: &Context, stop: &CancellationToken) -> Result<Self, Failure> {
        let database = &context.database;
        let (finder, mut found) = (LossFinder::prepare(context).await?, OnlyInRecruiters::default());
        finder.others(stop, &mut found).await?;
        Ok(Self {
            database: database.clone(),
            partner_label: context.settings.target.partner_label.clone(),
            recruiters: ChunkReader::of_recruiters_without(database, &NOT_READ),
            offers: ChunkReader::of_offer_fields(database, &["partner_label", "workplace_description"]),
            dead_letters: DeadLetters::load(database, None).await?,
            finder: Arc::new(finder),
            found,
        })
    }

    /// Counts recruiters whose comparison waited. The dead letters may have changed meanwhile. A count that `stop` ends
    /// early has counted a part.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(super) async fn after_recheck(&mut self, ids: &[RecruiterId], stop: &CancellationToken) -> Result<(), Failure> {
        if ids.is_empty() || stop.is_cancelled() {
            return Ok(());
        }
        self.dead_letters = DeadLetters::load(&self.database, None).await?;
        for ids in ids.chunks(scan::STEP as usize) {
            if stop.is_cancelled() {
                break;
            }
            self.step(ids).await?;
        }
        Ok(())
    }

    /// The result, with what could not be looked at.
    pub(super) fn end(mut self) -> OnlyInRecruiters {
        self.finder.say_what_was_not_looked_at(&mut self.found);
        self.found
    }

    async fn step(&mut self, ids: &[RecruiterId]) -> Result<(), Failure> {
        let mut rest = ids;
        while let Some(batches) = self.recruiters.read_next(&mut rest).await? {
            let mut recruiters = Vec::new();
            for document in documents(&batches) {
                let document = document?;
                match Recruiter::read(document) {
                    Ok(recruiter) => recruiters.push((recruiter, document)),
                    Err(_) => unreadable(document, &mut self.found),
                }
            }
            let kept = self.kept(&recruiters).await?;
            self.finder.chunk(&recruiters, &kept, &self.dead_letters, &mut self.found).await?;
        }
        Ok(())
    }

    /// Reads the offers and the users of these recruiters.
    async fn kept(&mut self, recruiters: &Readable<'_>) -> Result<Kept, Failure> {
        let mut kept = Kept::default();
        let jobs = recruiters.iter().flat_map(|(recruiter, _)| recruiter.jobs.iter().map(|job| (recruiter.id, job)));
        let described = described(jobs);
        let ids: BTreeSet<JobId> = recruiters.iter().flat_map(|(recruiter, _)| recruiter.job_ids()).collect();
        let ids: Vec<JobId> = ids.into_iter().collect();
        let mut rest = ids.as_slice();
        while let Some(batches) = self.offers.read_next(&mut rest).await? {
            let offers = documents(&batches).collect::<Result<Vec<_>, _>>()?;
            kept.add_offers(offers.into_iter(), &described, &self.partner_label);
        }
        let named = with_named_contact(recruiters).filter_map(|recruiter| user_id(recruiter.fields.managed_by));
        let users: BTreeSet<ObjectId> = named.map(|user| user.0).collect();
        let users: Vec<ObjectId> = users.into_iter().collect();
        for users_of in [WatchedCollection::Users, WatchedCollection::AnonymizedUsers] {
            if !users.is_empty() {
                let filter = doc! { "_id": { "$in": &users } };
                let batches = find(&self.database, users_of.name(), filter, doc! { "_id": 1 }).await?;
                for user in documents(&batches) {
                    kept.users.extend(user?.get_object_id("_id").ok().map(UserId));
                }
            }
        }
        Ok(kept)
    }
}
