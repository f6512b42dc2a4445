//! Computes the jobs by which the links of a chunk's recruiters grow and shrink. The code is pure.
//! [`crate::write::links`] gives the order of the writes and its reason.

use std::collections::{BTreeSet, HashMap};

use super::dry_run::Projected;
use super::stages::TouchedRecruiter;
use crate::fetch::links::Link;
use crate::model::OfferStatus;
use crate::model::ids::{JobId, RecruiterId};
use crate::project::diff::OfferChange;
use crate::write::dead_letters::Address;
use crate::write::links::Jobs;

/// The jobs by which the links of recruiters grow and shrink.
#[derive(Default)]
pub(crate) struct LinkChanges {
    pub(super) grown: Jobs,
    pub(super) shrunk: Jobs,
}

/// Returns the jobs by which the links grow, and the jobs by which they shrink. Only touches of all jobs count, because
/// other touches do not show which jobs are gone. Jobs that a link has set aside count as removals once the phase
/// `cancels` offers.
pub(crate) fn moved(
    touched: &[TouchedRecruiter<'_>],
    links: &HashMap<RecruiterId, Link>,
    cancels: bool,
) -> LinkChanges {
    let mut changes = LinkChanges::default();
    let nothing = Link::default();
    for touched in touched.iter().filter(|touched| touched.whole) {
        let link = links.get(&touched.recruiter.id).unwrap_or(&nothing);
        let now: BTreeSet<JobId> = touched.recruiter.job_ids().collect();
        let add = |jobs: &mut Jobs, difference: BTreeSet<JobId>| {
            if !difference.is_empty() {
                jobs.insert(touched.recruiter.id, difference);
            }
        };
        add(&mut changes.grown, now.difference(&link.jobs).copied().collect());
        let set_aside = link.removed.iter().filter(|_| cancels);
        add(&mut changes.shrunk, link.jobs.iter().chain(set_aside).filter(|job| !now.contains(job)).copied().collect());
    }
    changes
}

/// Returns the jobs whose offers are created or get another status through touches of single positions, and are not
/// cancelled. Such a touch reads the newest document, so it may meet a job before the event that inserted the job. If
/// the job is gone again when that event comes, only the link tells that the offer must be cancelled.
pub(crate) fn links_ahead(
    touched: &[TouchedRecruiter<'_>],
    offers: &Projected,
    changes: &[(JobId, OfferChange)],
) -> Jobs {
    let lives = |id: &JobId| offers.get(id).is_some_and(|(_, offer)| offer.status != OfferStatus::Cancelled);
    let begins =
        |change: &OfferChange| matches!(change, OfferChange::Create | OfferChange::Update { status_changes: true, .. });
    let begin: BTreeSet<JobId> =
        changes.iter().filter(|(id, change)| begins(change) && lives(id)).map(|(id, _)| *id).collect();
    let mut met = Jobs::new();
    if begin.is_empty() {
        return met;
    }
    for touched in touched.iter().filter(|touched| !touched.whole) {
        let jobs: BTreeSet<JobId> =
            touched.jobs.iter().filter_map(|job| job.id).filter(|id| begin.contains(id)).collect();
        if !jobs.is_empty() {
            met.insert(touched.recruiter.id, jobs);
        }
    }
    met
}

/// Takes a job whose cancellation was refused out of `lost`. The link then keeps the job, and the next touch retries.
pub(crate) fn keep_in_link(refused: &Address, lost: &mut Jobs) {
    if let Address::Job { recruiter, job } = refused
        && let Some(jobs) = lost.get_mut(recruiter)
    {
        jobs.remove(job);
    }
}
