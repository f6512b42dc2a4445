//! What dead letters are about, tried again: each repeats the action that failed, as far as it is still called for.
//! What is there says more than a letter: a recruiter is projected as it is now, an offer that is held is not cancelled.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, doc, oid::ObjectId};

use super::queue::{CommandOutcome, StoredCommand, count, counted};
use super::unusable;
use crate::apply::affected_recruiters;
use crate::apply::executor::{Apply, Dated};
use crate::apply::removal::RemovedJob;
use crate::error::Failure;
use crate::fetch::links;
use crate::model::dead_letter::Action;
use crate::observe::facts::TouchOrigin;
use crate::phase::StreamWrites;
use crate::plan::Touch;
use crate::source::scan::STEP;
use crate::write::dead_letters::{self, Address, DueDeadLetters, EventPosition};

/// In the progress of a retry: which part it is in, and after which id or key of it.
const PART: &str = "part";
const AFTER: &str = "after";

/// The next part of a retry of all letters; of those that are due, where a time is given.
///
/// # Errors
/// As [`Apply::plan`]; the step may be done again.
pub(crate) async fn step(
    request: &mut StoredCommand,
    apply: &mut Apply,
    due_at: Option<DateTime>,
) -> Result<Option<CommandOutcome>, Failure> {
    let stand = |apply: &Apply| apply.stages.dead_letters.counts().values().map(|count| *count as u64).sum::<u64>();
    if !request.progress.contains_key("before") {
        request.progress.insert("before", counted(stand(apply)));
    }
    let due = match due_at {
        Some(time) => Some(dead_letters::due(&apply.stages.database, time).await?),
        None => None,
    };
    let position = EventPosition::of_scan(request.requested_at);
    let part = usize::try_from(count(&request.progress, PART)).unwrap_or_default();
    if part < 2 {
        let after = request.progress.get_object_id(AFTER).ok();
        let ids = match part {
            0 => {
                let wanted = |id| due.as_ref().is_none_or(|due: &DueDeadLetters| due.recruiters.contains(&id));
                apply.stages.dead_letters.recruiters_after(after, STEP as usize, |id, _| wanted(id))
            }
            _ => {
                let wanted = |id| due.as_ref().is_none_or(|due: &DueDeadLetters| due.offers.contains(&id));
                apply.stages.dead_letters.offers_after(after, STEP as usize, wanted)
            }
        };
        let Some(last) = ids.last().copied() else {
            next_part(request, part);
            return Ok(None);
        };
        let ids: Vec<ObjectId> = ids.into_iter().collect();
        match part {
            0 => recruiters(apply, &ids, &position).await?,
            _ => offers(apply, &ids, &position).await?,
        }
        apply.stages.count_dead_letters();
        request.progress.insert(AFTER, last);
        return Ok(None);
    }
    let Some(collection) = unusable::COLLECTIONS.get(part - 2).copied() else {
        let details = doc! { "before": request.progress.get("before").cloned(), "after": counted(stand(apply)) };
        return Ok(Some(CommandOutcome { done: true, details }));
    };
    let after = request.progress.get_str(AFTER).ok().map(str::to_owned);
    let prefix = format!("{}/", collection.name());
    let wanted =
        |key: &str| due.as_ref().is_none_or(|due: &DueDeadLetters| due.others.contains(&format!("{prefix}{key}")));
    let rechecked = apply.recheck_others(collection, after.as_deref(), wanted).await?;
    apply.stages.dead_letters.write_unusable(collection, rechecked.stand, &position).await?;
    apply.stages.count_dead_letters();
    match rechecked.last {
        Some(last) => drop(request.progress.insert(AFTER, last)),
        None => next_part(request, part),
    }
    Ok(None)
}

fn next_part(request: &mut StoredCommand, part: usize) {
    request.progress.insert(PART, counted(part as u64 + 1));
    request.progress.remove(AFTER);
}

/// The next recruiters after `after` that are gone and of which something failed.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn of_recruiters_gone(apply: &Apply, after: Option<ObjectId>) -> Result<Vec<ObjectId>, Failure> {
    let mut after = after;
    loop {
        let dead_letters = &apply.stages.dead_letters;
        let ids: Vec<ObjectId> = dead_letters.recruiters_after(after, STEP as usize, |_, _| true).into_iter().collect();
        after = ids.last().copied();
        let present = apply.present(&ids).await?;
        let absent: Vec<ObjectId> = ids.into_iter().filter(|id| !present.contains(id)).collect();
        if !absent.is_empty() || after.is_none() {
            return Ok(absent);
        }
    }
}

/// The next offers after `after` that letters stand about in their own name.
#[must_use]
pub(crate) fn of_offers(apply: &Apply, after: Option<ObjectId>) -> Vec<ObjectId> {
    apply.stages.dead_letters.offers_after(after, STEP as usize, |_| true).into_iter().collect()
}

/// Tries again what failed of these recruiters: those that are there are touched, and anonymised where a copy still says
/// so. Of those that are gone the offers are anonymised where a letter or a copy says so, else cancelled.
///
/// # Errors
/// As [`Apply::plan`].
pub(crate) async fn recruiters(apply: &mut Apply, ids: &[ObjectId], position: &EventPosition) -> Result<(), Failure> {
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
                // Nobody is anonymised who is there again, and of whom no copy is left.
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

/// Tries again what failed of these offers, of which it is not known whose they are. A letter of 1.0.0 does not tell
/// what it was: what the offer's user asks for is done.
///
/// # Errors
/// As [`Apply::plan`].
pub(crate) async fn offers(apply: &mut Apply, ids: &[ObjectId], position: &EventPosition) -> Result<(), Failure> {
    let managed = affected_recruiters::offers_of_gone_users(&apply.stages.database, ids).await?;
    let of = |offers: Vec<ObjectId>| -> BTreeSet<ObjectId> { offers.into_iter().collect() };
    let (anonymized, deactivated) = (of(managed.anonymized), of(managed.deactivated));
    let present = of(managed.present);
    let held = links::owners(&apply.stages.database, &ids.iter().copied().collect()).await?;
    let (mut to_anonymize, mut to_cancel, mut orphans) = (Vec::new(), Vec::new(), Vec::new());
    let mut moot = BTreeSet::new();
    for id in ids {
        let address = Address::Offer(*id);
        let Some(known) = apply.stages.dead_letters.get(&address) else { continue };
        let (is_anonymized, is_deactivated) = (anonymized.contains(id), deactivated.contains(id));
        let is_orphan = !held.contains_key(id) && apply.stages.phase.stream() == StreamWrites::Always;
        let date = known.date.unwrap_or(position.wall_time);
        match known.action {
            // The contact of a user who is nowhere goes too, as it did at the deletion.
            Action::AnonymizeUser if is_anonymized || !present.contains(id) => to_anonymize.push(*id),
            Action::CancelOfUser if is_deactivated => to_cancel.push(*id),
            Action::Cancel if is_orphan => orphans.push(RemovedJob::offer(*id, date)),
            Action::Project if is_anonymized => to_anonymize.push(*id),
            Action::Project if is_deactivated => to_cancel.push(*id),
            Action::Project if is_orphan => orphans.push(RemovedJob::offer(*id, date)),
            _ => drop(moot.insert(address)),
        }
    }
    apply.stages.dead_letters.remove(&moot).await?;
    apply.anonymize_managed(to_anonymize, position).await?;
    apply.stages.cancel_deactivated(to_cancel, position).await?;
    apply.stages.cancel(&orphans, position).await.map(drop)
}
