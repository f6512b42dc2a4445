//! The jobs, one file each: a pure plan plus a thin run. Here: which file runs which.

pub mod analyze_closed_companies;
pub mod anonymize_inactive_users;
pub mod anonymize_user;
pub mod cancel_expired_offers;
pub mod cap_offer_expirations;
mod emails;
pub mod fill_missing_start_dates;
mod full_sync;
pub mod obfuscate;
pub mod refresh_pending_establishments;
pub mod remind_expiring_offers;
pub mod repair_offer_data;
pub mod report_duplicate_recruiters;
mod retry_dead_letters;
pub mod send_introductions;
mod sync_recruiter_status;
mod verify;

use futures::future::BoxFuture;

use self::remind_expiring_offers::Threshold;
use super::job::Job;
use super::work::JobContext;
use crate::error::Failure;

/// Runs a job. Counts and lines are in `work.report`, also of a run that fails.
///
/// # Errors
/// A [`Failure`] that is not about one document. The run may be done again.
pub fn run(job: Job, work: &mut JobContext) -> BoxFuture<'_, Result<(), Failure>> {
    match job {
        Job::RemindExpiringOffersJ7 => Box::pin(remind_expiring_offers::run(work, Threshold::J7)),
        Job::RemindExpiringOffersJ1 => Box::pin(remind_expiring_offers::run(work, Threshold::J1)),
        Job::RefreshPendingEstablishments => Box::pin(refresh_pending_establishments::run(work)),
        Job::SendIntroductions => Box::pin(send_introductions::run(work)),
        Job::CancelExpiredOffers => Box::pin(cancel_expired_offers::run(work)),
        Job::CapOfferExpirations => Box::pin(cap_offer_expirations::run(work)),
        Job::FillMissingStartDates => Box::pin(fill_missing_start_dates::run(work)),
        Job::RepairOfferData => Box::pin(repair_offer_data::run(work)),
        Job::ReportDuplicateRecruiters => Box::pin(report_duplicate_recruiters::run(work)),
        Job::FullSync => Box::pin(full_sync::run(work)),
        Job::AnonymizeInactiveUsers => Box::pin(anonymize_inactive_users::run(work)),
        Job::AnalyzeClosedCompanies => Box::pin(analyze_closed_companies::run(work)),
        Job::SyncRecruiterStatus => Box::pin(sync_recruiter_status::run(work)),
        Job::RetryDeadLetters => Box::pin(retry_dead_letters::run(work)),
        Job::Verify => Box::pin(verify::run(work)),
    }
}
