//! Retries dead letters. Each retry repeats the action that failed, as far as it is still needed.
//! The present documents decide that: a recruiter is projected as it is now, and an offer that a recruiter holds is not
//! cancelled.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, doc, oid::ObjectId};

use super::other_ids;
use super::stored_commands::{CommandOutcome, StoredCommand, count, counted};
use crate::apply::affected_recruiters;
use crate::apply::executor::{Apply, Dated};
use crate::apply::removal::RemovedJob;
use crate::error::Failure;
use crate::fetch::links;
use crate::interruption::Unfinished;
use crate::model::dead_letter::Action;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::DEAD_LETTERS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::facts::TouchOrigin;
use crate::phase::StreamWrites;
use crate::plan::Touch;
use crate::source::scan::STEP;
use crate::write::dead_letters::{Address, EventPosition};
use crate::write::selected_dead_letters::{self, SelectedDeadLetters};

/// The field of the progress with the present part: 0 for recruiters, 1 for offers, then one part for each collection.
const PART: &str = "part";
/// The field of the progress with the last id or key that is done in this part.
const AFTER: &str = "after";

/// The dead letters that a retry is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    /// Only those with these `_id`s; empty for all.
    pub ids: &'a [String],
    /// Only those that are due at this time; `None` for all.
    pub due_at: Option<DateTime>,
}

impl Selection<'_> {
    /// The selected documents; `None` for all.
    async fn documents(&self, apply: &Apply) -> Result<Option<SelectedDeadLetters>, Failure> {
        match self.due_at {
            Some(time) => selected_dead_letters::due(&apply.stages.database, time).await.map(Some),
            None if self.ids.is_empty() => Ok(None),
            None => Ok(Some(SelectedDeadLetters::of(self.ids.iter().map(String::as_str)))),
        }
    }

    /// The number of dead letters that stand: of the named ones where some are named, otherwise of all.
    async fn standing(&self, apply: &Apply) -> Result<u64, Failure> {
        if self.ids.is_empty() {
            return Ok(apply.stages.dead_letters.counts().values().map(|count| *count as u64).sum());
        }
        let stored = collection(&apply.stages.database, DEAD_LETTERS);
        let counting = stored.count_documents(doc! { "_id": { "$in": self.ids } });
        with_deadline(counting).await.map_err(Failure::Read)
    }
}

/// Does the next step of a retry of the selected dead letters. Returns the outcome when the retry is finished.
///
/// # Errors
/// As [`Apply::plan`]. The step can be repeated.
pub(crate) async fn step(
    stored: &mut StoredCommand,
    apply: &mut Apply,
    selection: Selection<'_>,
) -> Result<Option<CommandOutcome>, Unfinished> {
    if !stored.progress.contains_key("before") {
        stored.progress.insert("before", counted(selection.standing(apply).await?));
    }
    let due = selection.documents(apply).await?;
    let position = EventPosition::of_scan(stored.requested_at);
    let part = usize::try_from(count(&stored.progress, PART)).unwrap_or_default();
    if part < 2 {
        let after = stored.progress.get_object_id(AFTER).ok();
        let last = match part {
            0 => recruiters_step(apply, due.as_ref(), after.map(RecruiterId), &position).await?.map(ObjectId::from),
            _ => offers_step(apply, due.as_ref(), after.map(JobId), &position).await?.map(ObjectId::from),
        };
        let Some(last) = last else {
            next_part(stored, part);
            return Ok(None);
        };
        apply.stages.count_dead_letters();
        stored.progress.insert(AFTER, last);
        return Ok(None);
    }
    let Some(collection) = other_ids::COLLECTIONS.get(part - 2).copied() else {
        let after = counted(selection.standing(apply).await?);
        let details = doc! { "before": stored.progress.get("before").cloned(), "after": after };
        return Ok(Some(CommandOutcome { done: true, details }));
    };
    let after = stored.progress.get_str(AFTER).ok().map(str::to_owned);
    let prefix = format!("{}/", collection.name());
    let wanted =
        |key: &str| due.as_ref().is_none_or(|due: &SelectedDeadLetters| due.others.contains(&format!("{prefix}{key}")));
    // Such a document cannot be projected, so its dead letter ends only with the document. Until then it is renewed.
    let rechecked = apply.recheck_others(collection, after.as_deref(), wanted).await?;
    apply.stages.dead_letters.write_unusable(collection, rechecked.stand, &position).await?;
    apply.stages.count_dead_letters();
    match rechecked.last {
        Some(last) => drop(stored.progress.insert(AFTER, last)),
        None => next_part(stored, part),
    }
    Ok(None)
}

/// Retries the next dead letters of recruiters after `after`. If `due` is given, only these are retried. Returns the
/// last recruiter; `None` when there are no more.
async fn recruiters_step(
    apply: &mut Apply,
    due: Option<&SelectedDeadLetters>,
    after: Option<RecruiterId>,
    position: &EventPosition,
) -> Result<Option<RecruiterId>, Unfinished> {
    let wanted = |id| due.is_none_or(|due| due.recruiters.contains(&id));
    let ids = apply.stages.dead_letters.recruiters_after(after, STEP as usize, |id, _| wanted(id));
    let ids: Vec<RecruiterId> = ids.into_iter().collect();
    if !ids.is_empty() {
        recruiters(apply, &ids, position).await?;
    }
    Ok(ids.last().copied())
}

/// Retries the next dead letters of offers without a recruiter, otherwise as [`recruiters_step`].
async fn offers_step(
    apply: &mut Apply,
    due: Option<&SelectedDeadLetters>,
    after: Option<JobId>,
    position: &EventPosition,
) -> Result<Option<JobId>, Unfinished> {
    let wanted = |id| due.is_none_or(|due| due.offers.contains(&id));
    let ids: Vec<JobId> = apply.stages.dead_letters.offers_after(after, STEP as usize, wanted).into_iter().collect();
    if !ids.is_empty() {
        offers(apply, &ids, position).await?;
    }
    Ok(ids.last().copied())
}

fn next_part(stored: &mut StoredCommand, part: usize) {
    stored.progress.insert(PART, counted(part as u64 + 1));
    stored.progress.remove(AFTER);
}

/// Finds the next recruiters after `after` that have dead letters and are deleted.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn of_removed_recruiters(
    apply: &Apply,
    after: Option<RecruiterId>,
) -> Result<Vec<RecruiterId>, Failure> {
    let mut after = after;
    loop {
        let dead_letters = &apply.stages.dead_letters;
        let ids: Vec<RecruiterId> =
            dead_letters.recruiters_after(after, STEP as usize, |_, _| true).into_iter().collect();
        after = ids.last().copied();
        let present = apply.present(&ids).await?;
        let absent: Vec<RecruiterId> = ids.into_iter().filter(|id| !present.contains(id)).collect();
        if !absent.is_empty() || after.is_none() {
            return Ok(absent);
        }
    }
}

/// Returns the next offers after `after` that have a dead letter without a recruiter.
#[must_use]
pub(crate) fn of_offers(apply: &Apply, after: Option<JobId>) -> Vec<JobId> {
    apply.stages.dead_letters.offers_after(after, STEP as usize, |_| true).into_iter().collect()
}

/// Retries the dead letters of these recruiters. A present recruiter is touched, and its failed anonymisations are
/// repeated if its copy still exists. The offers of a deleted recruiter are anonymised if a dead letter or a copy says
/// so, else cancelled.
///
/// # Errors
/// As [`Apply::plan`].
pub(crate) async fn recruiters(
    apply: &mut Apply,
    ids: &[RecruiterId],
    position: &EventPosition,
) -> Result<(), Unfinished> {
    let present = apply.present(ids).await?;
    let copies = affected_recruiters::anonymized_jobs(&apply.stages.database, ids).await?;
    let (mut touches, mut copied, mut absent, mut moot) =
        (BTreeMap::new(), Dated::new(), Dated::new(), BTreeSet::new());
    for id in ids {
        let dead_letters = &apply.stages.dead_letters;
        let date = dead_letters.of_recruiter(*id).filter_map(|address| dead_letters.get(&address)?.date).max();
        let date = date.unwrap_or(position.wall_time);
        let to_anonymize = dead_letters.to_anonymize(*id);
        if present.contains(id) {
            touches.insert(*id, Touch::All);
            match copies.contains_key(id) {
                true if !to_anonymize.is_empty() => drop(copied.insert(*id, date)),
                true => {}
                // A recruiter that is present again, and has no copy any more, is not anonymised.
                false => moot.extend(to_anonymize.into_iter().map(|job| Address::of(*id, Some(job)))),
            }
        } else if apply.stages.phase.writes_offers() || !to_anonymize.is_empty() {
            absent.insert(*id, date);
        }
    }
    apply.stages.dead_letters.remove(&moot).await?;
    apply.anonymize(&copied, position).await?;
    apply.stages.metrics.touched(TouchOrigin::Retry, touches.len() as u64);
    apply.touch(&touches, position).await?;
    apply.delete(&absent, position).await
}

/// Retries the dead letters of these offers, whose recruiters are unknown. A dead letter of version 1.0.0 names no
/// action. The state of the offer's user and the links then decide what is done.
///
/// # Errors
/// As [`Apply::plan`].
pub(crate) async fn offers(apply: &mut Apply, ids: &[JobId], position: &EventPosition) -> Result<(), Unfinished> {
    let managed = affected_recruiters::offers_of_gone_users(&apply.stages.database, ids).await?;
    let of = |offers: Vec<JobId>| -> BTreeSet<JobId> { offers.into_iter().collect() };
    let (anonymized, deactivated) = (of(managed.anonymized), of(managed.deactivated));
    let present = of(managed.present);
    let held = links::owners(&apply.stages.database, &ids.iter().copied().collect()).await?;
    let (mut to_anonymize, mut to_cancel, mut orphans) = (Vec::new(), Vec::new(), Vec::new());
    let (mut to_mirror, mut moot) = (BTreeSet::new(), BTreeSet::new());
    for id in ids {
        let address = Address::Offer(*id);
        let Some(known) = apply.stages.dead_letters.get(&address) else { continue };
        let (is_anonymized, is_deactivated) = (anonymized.contains(id), deactivated.contains(id));
        let is_orphan = !held.contains_key(id) && apply.stages.phase.stream() == StreamWrites::Always;
        let date = known.date.unwrap_or(position.wall_time);
        match known.action {
            // A user without account and without copy was deleted, and a deletion removes the contact too.
            Action::AnonymizeUser if is_anonymized || !present.contains(id) => to_anonymize.push(*id),
            Action::CancelOfUser if is_deactivated => to_cancel.push(*id),
            Action::Cancel if is_orphan => orphans.push(RemovedJob::offer(*id, date)),
            Action::Project if is_anonymized => to_anonymize.push(*id),
            Action::Project if is_deactivated => to_cancel.push(*id),
            Action::Project if is_orphan => orphans.push(RemovedJob::offer(*id, date)),
            Action::Mirror if apply.stages.mirrors() => drop(to_mirror.insert(*id)),
            _ => drop(moot.insert(address)),
        }
    }
    apply.stages.dead_letters.remove(&moot).await?;
    apply.anonymize_managed(to_anonymize, position).await?;
    apply.stages.cancel_deactivated(to_cancel, position).await?;
    apply.stages.cancel(&orphans, position).await.map(drop)?;
    Box::pin(apply.stages.mirror(&to_mirror, &BTreeSet::new(), position)).await
}
