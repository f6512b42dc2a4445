//! The documents whose dead letters a retry is about: those that are due, or those that an operator names.

use std::collections::BTreeSet;

use bson::{DateTime, doc};

use super::dead_letter::Address;
use super::dead_letters::LONGEST_DELAY_MILLISECONDS;
use crate::error::Failure;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::DEAD_LETTERS;
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::mongo::server_clock::server_time;

/// The documents whose dead letters are retried.
#[derive(Debug, Default)]
pub(crate) struct SelectedDeadLetters {
    /// Recruiters with such a dead letter of their own or of one of their jobs.
    pub recruiters: BTreeSet<RecruiterId>,
    /// Offers whose recruiters are unknown.
    pub offers: BTreeSet<JobId>,
    /// The `_id`s of dead letters about documents whose `_id` is no ObjectId.
    pub others: BTreeSet<String>,
}

impl SelectedDeadLetters {
    /// The documents of the dead letters with these `_id`s.
    #[must_use]
    pub(crate) fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut selected = Self::default();
        for id in ids {
            match Address::from_stored(id) {
                Some(Address::Recruiter(recruiter) | Address::Job { recruiter, .. }) => {
                    selected.recruiters.insert(recruiter)
                }
                Some(Address::Offer(offer)) => selected.offers.insert(offer),
                None => selected.others.insert(id.to_owned()),
            };
        }
        selected
    }
}

/// Reads the dead letters that are due at this time.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn due(database: &CausalDatabase, time: DateTime) -> Result<SelectedDeadLetters, Failure> {
    // A time beyond the longest delay was stored by a clock that was ahead, so it counts as due.
    let now = server_time(database).await?;
    let latest = DateTime::from_millis(now.timestamp_millis().saturating_add(LONGEST_DELAY_MILLISECONDS));
    let filter = doc! { "$or": [{ "next_retry": { "$lte": time } }, { "next_retry": { "$gt": latest } }] };
    let batches = find(database, DEAD_LETTERS, filter, doc! { "_id": 1 }).await?;
    let mut ids = Vec::new();
    for document in documents(&batches) {
        ids.extend(value::text(value::field(document?, "_id")));
    }
    Ok(SelectedDeadLetters::of(ids))
}
