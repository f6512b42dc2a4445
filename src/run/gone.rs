//! Offers whose job is gone: cancelled, or anonymised with their recruiter. What the server refuses to
//! change keeps a dead letter, and its link, so that it is tried again.

use std::collections::{BTreeSet, HashMap};

use bson::{DateTime, oid::ObjectId};

use super::portion::Stages;
use crate::error::Failure;
use crate::phase::StreamWrites;
use crate::source::OFFERS;
use crate::write::command::{self, Refused};
use crate::write::dead_letters::{Address, Place};
use crate::write::statements::Statement;
use crate::write::{anonymize, statements};

/// A job whose recruiter lost it or is gone.
#[derive(Debug, Clone, Copy)]
pub struct GoneJob {
    /// The recruiter that held it.
    pub recruiter: ObjectId,
    /// The job.
    pub job: ObjectId,
    /// When, for the history of its offer.
    pub date: DateTime,
}

impl Stages {
    /// Cancels the offers of jobs that disappeared (spec 02), as far as the phase allows. Gives back those
    /// that the server refused to change: they have a dead letter.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn cancel(&mut self, gone: &[GoneJob], place: &Place) -> Result<BTreeSet<Address>, Failure> {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.jobs_gone += gone.len() as u64;
        }
        if !self.phase.writes_offers() {
            return Ok(BTreeSet::new());
        }
        let unless_newer = self.phase.stream() == StreamWrites::UnlessNewer;
        let label = &self.settings.partner_label;
        let statement = |gone: &GoneJob| {
            // The job went no later than its event, whatever its recruiter's own date says.
            let latest = unless_newer.then(|| gone.date.max(place.wall_time));
            statements::cancel_removed(gone.job, label, gone.date, latest)
        };
        let statements: Vec<Statement> = gone.iter().map(statement).collect();
        if self.rehearse(&statements).await? {
            return Ok(BTreeSet::new());
        }
        let outcome = command::update(&self.writer, OFFERS, statements).await?;
        self.metrics.offers_written.with_label_values(&["changed"]).inc_by(outcome.changed);
        self.tally.changed += outcome.changed;
        self.write_refused(&outcome.refused, gone, place).await
    }

    /// Cancels these offers of deactivated users, where the configuration says so and the phase allows it.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn cancel_deactivated(&mut self, offers: Vec<ObjectId>, place: &Place) -> Result<(), Failure> {
        if !self.settings.cancels_deactivated || !self.phase.writes_offers() {
            return Ok(());
        }
        let (label, date) = (&self.settings.partner_label, place.wall_time);
        let latest = (self.phase.stream() == StreamWrites::UnlessNewer).then_some(date);
        let statements: Vec<Statement> =
            offers.iter().map(|offer| statements::cancel_of_user(*offer, label, date, latest)).collect();
        if self.rehearse(&statements).await? {
            return Ok(());
        }
        let outcome = command::update(&self.writer, OFFERS, statements).await?;
        self.metrics.offers_written.with_label_values(&["changed"]).inc_by(outcome.changed);
        self.tally.changed += outcome.changed;
        // Which recruiter it was is not known here; the offer stands for it in the letter's address.
        let gone: Vec<GoneJob> = offers.into_iter().map(|job| GoneJob { recruiter: job, job, date }).collect();
        self.write_refused(&outcome.refused, &gone, place).await.map(drop)
    }

    /// Anonymises the offers of recruiters that were (spec 03); gives back as [`Self::cancel`].
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn anonymize(&mut self, gone: &[GoneJob], place: &Place) -> Result<BTreeSet<Address>, Failure> {
        if let Some(rehearsal) = &mut self.rehearsal {
            rehearsal.jobs_gone += gone.len() as u64;
        }
        let (label, email) = (&self.settings.partner_label, &self.settings.anonymized_email);
        let statement = |gone: &GoneJob| anonymize::recruiter_offer(gone.job, label, email, gone.date);
        let statements: Vec<Statement> = gone.iter().map(statement).collect();
        if self.rehearse(&statements).await? {
            return Ok(BTreeSet::new());
        }
        let outcome = command::update(&self.writer, OFFERS, statements).await?;
        self.metrics.offers_anonymized.inc_by(outcome.changed);
        self.tally.changed += outcome.changed;
        self.write_refused(&outcome.refused, gone, place).await
    }

    /// Writes letters for what the server refused about these jobs; an earlier refusal of the others is over.
    ///
    /// # Errors
    /// As [`command::update`].
    pub async fn write_refused(
        &mut self,
        refused: &[Refused],
        gone: &[GoneJob],
        place: &Place,
    ) -> Result<BTreeSet<Address>, Failure> {
        let recruiters: HashMap<ObjectId, ObjectId> = gone.iter().map(|gone| (gone.job, gone.recruiter)).collect();
        let letters = self.refused(refused, |job| recruiters.get(&job).copied());
        let refused: BTreeSet<Address> = letters.keys().copied().collect();
        let all = recruiters.into_iter().map(|(job, recruiter)| Address { recruiter, job: Some(job) });
        let over = |address: &Address| self.dead_letters.contains_refusal(address) && !refused.contains(address);
        let healed = all.filter(over).collect();
        self.dead_letters.remove(&healed).await?;
        self.dead_letters.write(letters, place).await?;
        Ok(refused)
    }
}
