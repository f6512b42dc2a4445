//! The time-based jobs, one file each: a pure plan and a short run. This file maps each job to its run.

pub mod analyze_closed_companies;
pub mod anonymize_inactive_users;
pub mod anonymize_orphans;
pub mod anonymize_user;
pub mod cancel_expired_offers;
pub mod cap_offer_expirations;
mod emails;
mod establishment_plan;
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
mod unsettled;
mod verify;

use futures::future::BoxFuture;

use self::remind_expiring_offers::Threshold;
use super::job::TimedJob;
use super::job_context::JobContext;
use crate::interruption::Unfinished;

/// Runs a job. Counts and lines go to `job.report`, also when the run fails.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document. The run can be made again.
pub(crate) fn run(timed_job: TimedJob, job: &mut JobContext) -> BoxFuture<'_, Result<(), Unfinished>> {
    match timed_job {
        TimedJob::RemindExpiringOffersJ7 => Box::pin(remind_expiring_offers::run(job, Threshold::J7)),
        TimedJob::RemindExpiringOffersJ1 => Box::pin(remind_expiring_offers::run(job, Threshold::J1)),
        TimedJob::RefreshPendingEstablishments => Box::pin(refresh_pending_establishments::run(job)),
        TimedJob::SendIntroductions => Box::pin(send_introductions::run(job)),
        TimedJob::CancelExpiredOffers => Box::pin(cancel_expired_offers::run(job)),
        TimedJob::CapOfferExpirations => Box::pin(cap_offer_expirations::run(job)),
        TimedJob::FillMissingStartDates => Box::pin(fill_missing_start_dates::run(job)),
        TimedJob::RepairOfferData => Box::pin(repair_offer_data::run(job)),
        TimedJob::ReportDuplicateRecruiters => Box::pin(report_duplicate_recruiters::run(job)),
        TimedJob::FullSync => Box::pin(full_sync::run(job)),
        TimedJob::AnonymizeInactiveUsers => Box::pin(anonymize_inactive_users::run(job)),
        TimedJob::AnalyzeClosedCompanies => Box::pin(analyze_closed_companies::run(job)),
        TimedJob::SyncRecruiterStatus => Box::pin(sync_recruiter_status::run(job)),
        TimedJob::RetryDeadLetters => Box::pin(retry_dead_letters::run(job)),
        TimedJob::Verify => Box::pin(verify::run(job)),
    }
}
