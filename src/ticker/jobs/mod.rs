//! The time-based jobs, one file each: a pure plan and a short run. This file maps each job to its run.

pub mod analyze_closed_companies;
pub mod anonymize_inactive_users;
pub mod anonymize_user;
pub mod cancel_expired_offers;
pub mod cap_offer_expirations;
mod emails;
pub mod fill_missing_start_dates;
mod full_sync;
pub(crate) mod obfuscate;
pub mod refresh_pending_establishments;
pub(crate) mod remind_expiring_offers;
pub mod repair_offer_data;
pub mod report_duplicate_recruiters;
mod retry_dead_letters;
pub mod send_introductions;
mod sync_recruiter_status;
mod verify;

use futures::future::BoxFuture;

use self::remind_expiring_offers::Threshold;
use super::job::TimedJob;
use super::job_context::JobContext;
use crate::interruption::Unfinished;

/// Runs a job. Counts and lines go to `work.report`, also when the run fails.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document. The run can be made again.
pub(crate) fn run(job: TimedJob, work: &mut JobContext) -> BoxFuture<'_, Result<(), Unfinished>> {
    match job {
        TimedJob::RemindExpiringOffersJ7 => Box::pin(remind_expiring_offers::run(work, Threshold::J7)),
        TimedJob::RemindExpiringOffersJ1 => Box::pin(remind_expiring_offers::run(work, Threshold::J1)),
        TimedJob::RefreshPendingEstablishments => Box::pin(refresh_pending_establishments::run(work)),
        TimedJob::SendIntroductions => Box::pin(send_introductions::run(work)),
        TimedJob::CancelExpiredOffers => Box::pin(cancel_expired_offers::run(work)),
        TimedJob::CapOfferExpirations => Box::pin(cap_offer_expirations::run(work)),
        TimedJob::FillMissingStartDates => Box::pin(fill_missing_start_dates::run(work)),
        TimedJob::RepairOfferData => Box::pin(repair_offer_data::run(work)),
        TimedJob::ReportDuplicateRecruiters => Box::pin(report_duplicate_recruiters::run(work)),
        TimedJob::FullSync => Box::pin(full_sync::run(work)),
        TimedJob::AnonymizeInactiveUsers => Box::pin(anonymize_inactive_users::run(work)),
        TimedJob::AnalyzeClosedCompanies => Box::pin(analyze_closed_companies::run(work)),
        TimedJob::SyncRecruiterStatus => Box::pin(sync_recruiter_status::run(work)),
        TimedJob::RetryDeadLetters => Box::pin(retry_dead_letters::run(work)),
        TimedJob::Verify => Box::pin(verify::run(work)),
    }
}
