//! The comparisons that begin at recruiters: their jobs with the offers, chunk by chunk.

use std::collections::{BTreeSet, HashSet};

use futures::try_join;
use mongodb::raw_batch_cursor::RawBatch;

use super::chunk::{Chunk, job_chunks, job_ids, read_portion};
use super::compare_jobs::Seen;
use super::compare_sides::{Comparer, Comparison};
use super::held_jobs::MOST;
use super::job_owners::{by_id, present};
use super::losses::{self, Kept, Readable};
use crate::error::Failure;
use crate::fetch::references::Keys;
use crate::model::Recruiter;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::WatchedCollection;
use crate::model::recruiter::JobFields;
use crate::model::user_id::user_id;
use crate::mongo::reads::documents;

impl Comparer {
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
        // A reader of its own, because the next chunk is read while this one is compared.
        let (mut reader, mut rest) = (self.chunks.clone(), ids.as_slice());
        let mut next = reader.read_next(&mut rest).await?;
        while let Some(chunk) = next {
            if chunk.is_light() {
                (next, ()) = try_join!(reader.read_next(&mut rest), self.chunk(chunk, &anonymized, &mut look))?;
            } else {
                self.chunk(chunk, &anonymized, &mut look).await?;
                next = reader.read_next(&mut rest).await?;
            }
        }
        self.chunks = reader;
        Ok(look)
    }

    async fn chunk(
        &mut self,
        chunk: Chunk,
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
        let seen = |(recruiter, _): &(Recruiter<'_>, _)| Seen::of(recruiter, anonymized.contains(&recruiter.id));
        let mut seen: Vec<Seen> = recruiters.iter().map(seen).collect();
        let kept = self.compare_with_offers(&recruiters, (chunk.offers, chunk.rest), &mut seen, look).await?;
        let mut right = Vec::new();
        for ((recruiter, document), mut seen) in recruiters.into_iter().zip(seen) {
            seen.sides.add_recruiter(document);
            if seen.findings.is_empty() {
                look.sides.extend(seen.sides);
                right.push((recruiter, document));
            } else {
                look.wrong.insert(recruiter.id.0, seen.into_mismatch());
            }
        }
        let room = MOST.saturating_sub(look.held.len());
        look.held.extend(right.iter().flat_map(|(recruiter, _)| recruiter.job_ids()).take(room));
        self.losses(&right, kept, look).await
    }

    /// Compares the jobs of these recruiters with their offers, portion by portion. `first` has the offers of the first portion, and the jobs of
    /// the first job chunk whose offers are not read yet.
    async fn compare_with_offers(
        &mut self,
        recruiters: &Readable<'_>,
        first: (Vec<RawBatch>, Vec<JobId>),
        seen: &mut [Seen],
        look: &mut Comparison,
    ) -> Result<Kept, Failure> {
        let (mut first, mut kept) = (Some(first), Kept::default());
        // A repeated `_id` may stand in two job chunks, and its offer is read with each.
        let mut counted = HashSet::new();
        for mut jobs in job_chunks(recruiters) {
            let mut ids = job_ids(&jobs);
            let mut read = None;
            if let Some((offers, rest)) = first.take() {
                (read, ids) = (Some(offers), rest);
            }
            let mut rest = ids.as_slice();
            while !jobs.is_empty() {
                let batches = match read.take() {
                    Some(offers) => offers,
                    None => read_portion(&mut self.offers, &mut rest).await?,
                };
                let next = rest.first().copied();
                // A job without a readable `_id` has no offer, and belongs to the first portion.
                let portion: Vec<_> = jobs.extract_if(.., |(_, job)| next.is_none() || job.id < next).collect();
                let offers = by_id(&batches)?;
                counted.extend(offers.keys().copied());
                self.job_chunk(recruiters, &portion, &offers, seen, look).await?;
                if self.losses.is_some() {
                    let described = losses::described(portion.iter().map(|(recruiter, job)| (recruiter.id, *job)));
                    kept.add_offers(offers.into_values(), &described, &self.settings.partner_label);
                }
            }
        }
        self.settle(recruiters, seen).await?;
        look.offers += counted.len() as u64;
        Ok(kept)
    }

    /// Finds what exists in these recruiters alone, if anybody asks.
    async fn losses(
        &mut self,
        recruiters: &Readable<'_>,
        mut kept: Kept,
        look: &mut Comparison,
    ) -> Result<(), Failure> {
        let Some(finder) = self.losses.clone() else { return Ok(()) };
        let mut keys = Keys::default();
        losses::with_named_contact(recruiters).for_each(|recruiter| keys.add_recruiter(&recruiter.fields));
        let answers = self.references.look_up(keys).await?;
        let known = losses::with_named_contact(recruiters)
            .filter(|recruiter| !answers.of(&recruiter.fields, &JobFields::default()).user_is_unknown);
        kept.users.extend(known.filter_map(|recruiter| user_id(recruiter.fields.managed_by)));
        finder.chunk(recruiters, &kept, &self.dead_letters, &mut look.only_in_recruiters).await
    }
}
