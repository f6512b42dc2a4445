//! Handles removals: the offer of a removed job is cancelled, or anonymised with its recruiter.
//! An offer that the server refuses to change has a dead letter and stays in its link, so that it is retried.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::DateTime;

use super::affected_recruiters::anonymized_jobs;
use super::stages::{REMOVALS_AT_A_TIME, Stages};
use crate::error::Failure;
use crate::fetch::links;
use crate::interruption::Unfinished;
use crate::model::dead_letter::Action;
use crate::model::ids::{JobId, RecruiterId};
use crate::observe::facts::WriteResult;
use crate::phase::StreamWrites;
use crate::write::anonymize::{self, AnonymizedUser};
use crate::write::dead_letters::{Address, EventPosition, KnownDeadLetter};
use crate::write::links::Jobs;
use crate::write::statements;
use crate::write::statements::Statement;
use crate::write::update_reply::Refused;

/// A job that its recruiter lost, or whose recruiter is deleted or anonymised.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemovedJob {
    /// The recruiter that held the job; `None` if it is unknown.
    pub(super) recruiter: Option<RecruiterId>,
    /// The id of the job and of its offer.
    pub(super) job: JobId,
    /// The date of the entry in the offer's history.
    pub(super) date: DateTime,
    /// The latest possible time of the removal. In `dual-write`, an offer that is newer stays.
    pub(super) removed_by: DateTime,
}

/// The jobs that recruiters lost in one batch.
#[derive(Debug, Default)]
pub(crate) struct LostJobs {
    /// All of them. The links of their recruiters shrink by them at the end.
    pub(super) all: Jobs,
    /// Those that another recruiter holds by its link. Its projection makes the offer its own.
    pub(super) moved: Vec<RemovedJob>,
}

impl RemovedJob {
    fn address(&self) -> Address {
        match self.recruiter {
            Some(recruiter) => Address::Job { recruiter, job: self.job },
            None => Address::Offer(self.job),
        }
    }

    /// Makes the removal of an offer whose recruiter is unknown.
    #[must_use]
    pub(crate) fn offer(offer: JobId, date: DateTime) -> Self {
        Self { recruiter: None, job: offer, date, removed_by: date }
    }
}

impl Stages {
    /// Finds the jobs among `moved` that no recruiter holds whose job can be projected. Their offers would show the
    /// recruiter that lost the job for ever. Call it after the touches of the recruiters that hold them: only then the dead
    /// letters tell which of them can be projected.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn left_behind(&self, moved: &[RemovedJob]) -> Result<Vec<RemovedJob>, Failure> {
        let mut left = Vec::new();
        for moved in moved.chunks(REMOVALS_AT_A_TIME) {
            let jobs: BTreeSet<JobId> = moved.iter().map(|moved| moved.job).collect();
            let linked = links::owners(&self.database, &jobs).await?.into_iter().collect();
            let owned: BTreeSet<JobId> = self.owners_now(&linked).await?.into_iter().map(|(job, _)| job).collect();
            left.extend(moved.iter().filter(|moved| !owned.contains(&moved.job)));
        }
        Ok(left)
    }

    /// Cancels the offers of removed jobs, as [`Self::cancel`]. An anonymised recruiter may be inserted again without a
    /// job. The offer of the job still shows the anonymised person, so it is anonymised, not only cancelled.
    ///
    /// # Errors
    /// [`Failure::Read`], and as [`Self::cancel`].
    pub(crate) async fn cancel_or_anonymize(
        &mut self,
        removed: Vec<RemovedJob>,
        position: &EventPosition,
    ) -> Result<BTreeSet<Address>, Unfinished> {
        let mut refused = BTreeSet::new();
        if removed.is_empty() {
            return Ok(refused);
        }
        let recruiters: BTreeSet<RecruiterId> = removed.iter().filter_map(|removed| removed.recruiter).collect();
        let copies = anonymized_jobs(&self.database, &recruiters.into_iter().collect::<Vec<_>>()).await?;
        let copy = |removed: &RemovedJob| copies.get(&removed.recruiter?);
        let is_copied = |removed: &RemovedJob| copy(removed).is_some_and(|jobs| jobs.contains(&removed.job));
        let (copied, removed): (Vec<RemovedJob>, Vec<RemovedJob>) = removed.into_iter().partition(is_copied);
        for removed in copied.chunks(REMOVALS_AT_A_TIME) {
            refused.extend(self.anonymize(removed, position).await?);
        }
        for removed in removed.chunks(REMOVALS_AT_A_TIME) {
            refused.extend(self.cancel(removed, position).await?);
        }
        Ok(refused)
    }

    /// Cancels the offers of jobs that disappeared (spec 02), as far as the phase allows. Returns the addresses of the
    /// offers that the server refused to change. Each of them has a dead letter.
    ///
    /// # Errors
    /// As [`crate::write::update_command::update`].
    pub(crate) async fn cancel(
        &mut self,
        removed: &[RemovedJob],
        position: &EventPosition,
    ) -> Result<BTreeSet<Address>, Unfinished> {
        self.output.note_removals(removed.len());
        if !self.phase.writes_offers() {
            return Ok(BTreeSet::new());
        }
        let unless_newer = self.phase.stream() == StreamWrites::UnlessNewer;
        let label = &self.settings.partner_label;
        let statement = |removed: &RemovedJob| {
            // The job went no later than its event. The recruiter's date may be older or newer than that.
            let latest = unless_newer.then(|| removed.date.max(removed.removed_by));
            statements::cancel_removed(removed.job, label, removed.date, latest)
        };
        let statements: Vec<Statement> = removed.iter().map(statement).collect();
        let outcome = self.update_offers(statements).await?;
        self.metrics.offers_written(WriteResult::Changed, outcome.changed);
        self.write_counts.changed += outcome.changed;
        self.write_refused(&outcome.refused, removed, Action::Cancel, position).await
    }

    /// Cancels these offers of deactivated users, if the configuration and the phase allow it.
    ///
    /// # Errors
    /// As [`crate::write::update_command::update`].
    pub(crate) async fn cancel_deactivated(
        &mut self,
        offers: Vec<JobId>,
        position: &EventPosition,
    ) -> Result<(), Unfinished> {
        if !self.settings.cancels_deactivated || !self.phase.writes_offers() {
            return Ok(());
        }
        let (label, date) = (&self.settings.partner_label, position.wall_time);
        let latest = (self.phase.stream() == StreamWrites::UnlessNewer).then_some(date);
        let statements: Vec<Statement> =
            offers.iter().map(|offer| statements::cancel_of_user(*offer, label, date, latest)).collect();
        let outcome = self.update_offers(statements).await?;
        self.metrics.offers_written(WriteResult::Changed, outcome.changed);
        self.write_counts.changed += outcome.changed;
        let removed: Vec<RemovedJob> = offers.into_iter().map(|offer| RemovedJob::offer(offer, date)).collect();
        self.write_refused(&outcome.refused, &removed, Action::CancelOfUser, position).await.map(drop)
    }

    /// The rules for the offers of a user who was anonymised at `date`.
    pub(crate) fn anonymized_user(&self, date: DateTime) -> AnonymizedUser<'_> {
        AnonymizedUser {
            partner_label: &self.settings.partner_label,
            email: &self.settings.anonymized_email,
            date,
            clears_manager: !self.phase.writes_offers(),
        }
    }

    /// Anonymises the offers of anonymised recruiters (spec 03), in every phase. Returns the refused ones, as
    /// [`Self::cancel`] does.
    ///
    /// # Errors
    /// As [`crate::write::update_command::update`].
    pub(crate) async fn anonymize(
        &mut self,
        removed: &[RemovedJob],
        position: &EventPosition,
    ) -> Result<BTreeSet<Address>, Unfinished> {
        self.output.note_removals(removed.len());
        let (label, email) = (&self.settings.partner_label, &self.settings.anonymized_email);
        let statement = |removed: &RemovedJob| anonymize::recruiter_offer(removed.job, label, email, removed.date);
        let statements: Vec<Statement> = removed.iter().map(statement).collect();
        let outcome = self.update_offers(statements).await?;
        self.metrics.offers_anonymized.inc_by(outcome.changed);
        self.write_counts.changed += outcome.changed;
        self.write_refused(&outcome.refused, removed, Action::AnonymizeRecruiter, position).await
    }

    /// Writes dead letters for the offers of these jobs that the server refused to change, so that a retry repeats the
    /// action. Dead letters about earlier refusals of the other jobs are removed.
    ///
    /// # Errors
    /// As [`crate::write::update_command::update`].
    pub(crate) async fn write_refused(
        &mut self,
        refused: &[Refused],
        removed: &[RemovedJob],
        action: Action,
        position: &EventPosition,
    ) -> Result<BTreeSet<Address>, Unfinished> {
        let jobs: HashMap<JobId, &RemovedJob> = removed.iter().map(|removed| (removed.job, removed)).collect();
        let mut dead_letters = BTreeMap::new();
        for (job, mut dead_letter) in self.refused(refused) {
            if let Some(removed) = jobs.get(&job) {
                (dead_letter.action, dead_letter.date) = (action, Some(removed.date));
                dead_letters.insert(removed.address(), dead_letter);
            }
        }
        let refused: BTreeSet<Address> = dead_letters.keys().copied().collect();
        let over = |address: &Address| {
            let is_over = |known: KnownDeadLetter| known.reason.is_refusal() && !known.action.outlives(action);
            self.dead_letters.get(address).is_some_and(is_over) && !refused.contains(address)
        };
        let healed = jobs.values().map(|removed| removed.address()).filter(over).collect();
        self.dead_letters.remove(&healed).await?;
        self.dead_letters.write(dead_letters, position).await?;
        Ok(refused)
    }
}
