//! By which jobs the links of a portion's recruiters grow and shrink. Pure; [`crate::write::links`] says in
//! which order that is written, and why.

use std::collections::{BTreeSet, HashMap};

use bson::oid::ObjectId;

use super::stages::Projected;
use super::stages::TouchedRecruiter;
use crate::fetch::links::Link;
use crate::model::OfferStatus;
use crate::project::diff::OfferChange;
use crate::write::dead_letters::Address;
use crate::write::links::Jobs;

/// The jobs by which links grow and shrink. Only whole touches know all jobs. What links have set aside counts as lost once
/// offers can be cancelled.
pub(crate) fn moved(touched: &[TouchedRecruiter<'_>], links: &HashMap<ObjectId, Link>, cancels: bool) -> (Jobs, Jobs) {
    let (mut grown, mut shrunk) = (Jobs::new(), Jobs::new());
    let nothing = Link::default();
    for touched in touched.iter().filter(|touched| touched.whole) {
        let link = links.get(&touched.recruiter.id).unwrap_or(&nothing);
        let now: BTreeSet<ObjectId> = touched.recruiter.job_ids().collect();
        let add = |jobs: &mut Jobs, difference: BTreeSet<ObjectId>| {
            if !difference.is_empty() {
                jobs.insert(touched.recruiter.id, difference);
            }
        };
        add(&mut grown, now.difference(&link.jobs).copied().collect());
        let set_aside = link.removed.iter().filter(|_| cancels);
        add(&mut shrunk, link.jobs.iter().chain(set_aside).filter(|job| !now.contains(job)).copied().collect());
    }
    (grown, shrunk)
}

/// Jobs that a touch of single positions brings to life. It may have met them before the event that put
/// them there; should they be gone again by then, only the link tells that their offers are to be cancelled.
pub(crate) fn links_ahead(
    touched: &[TouchedRecruiter<'_>],
    offers: &Projected,
    changes: &[(ObjectId, OfferChange)],
) -> Jobs {
    let lives = |id: &ObjectId| offers.get(id).is_some_and(|(_, offer)| offer.status != OfferStatus::Cancelled);
    let begins =
        |change: &OfferChange| matches!(change, OfferChange::Create | OfferChange::Update { status_changes: true, .. });
    let begin: BTreeSet<ObjectId> =
        changes.iter().filter(|(id, change)| begins(change) && lives(id)).map(|(id, _)| *id).collect();
    let mut met = Jobs::new();
    if begin.is_empty() {
        return met;
    }
    for touched in touched.iter().filter(|touched| !touched.whole) {
        let jobs: BTreeSet<ObjectId> =
            touched.jobs.iter().filter_map(|job| job.id).filter(|id| begin.contains(id)).collect();
        if !jobs.is_empty() {
            met.insert(touched.recruiter.id, jobs);
        }
    }
    met
}

/// The link keeps the job whose cancellation was refused, so that the next touch tries again.
pub(crate) fn keep_in_link(refused: &Address, lost: &mut Jobs) {
    if let Address::Job { recruiter, job } = refused
        && let Some(jobs) = lost.get_mut(recruiter)
    {
        jobs.remove(job);
    }
}
