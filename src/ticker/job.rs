//! The time-based jobs: their names, and the phases in which they have work to do.

use crate::observe::labels::LabelValue;
use crate::phase::Phase;

/// The time-based jobs of spec 05, in the order of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimedJob {
    /// Sends e-mails about offers that expire in seven days.
    RemindExpiringOffersJ7,
    /// Sends e-mails about offers that expire tomorrow.
    RemindExpiringOffersJ1,
    /// Cancels offers past their expiration.
    CancelExpiredOffers,
    /// Limits expirations to the day two months from now.
    CapOfferExpirations,
    /// Sets the start date of active offers that have none.
    FillMissingStartDates,
    /// Repairs fields that have a safe repair, and reports the other broken fields.
    RepairOfferData,
    /// Looks up pending establishments in the company directory.
    RefreshPendingEstablishments,
    /// Sends e-mails about training centres near an offer.
    SendIntroductions,
    /// Reports recruiters with the same siret and e-mail address.
    ReportDuplicateRecruiters,
    /// Touches every recruiter, by a backfill in the pipeline.
    FullSync,
    /// Anonymises users who were inactive for two years.
    AnonymizeInactiveUsers,
    /// Reports active offers of closed companies.
    AnalyzeClosedCompanies,
    /// Copies the status of recruiters to their offers.
    SyncRecruiterStatus,
    /// Retries the dead letters that are due.
    RetryDeadLetters,
    /// Compares all offers with their recruiters.
    Verify,
}

impl TimedJob {
    /// Every job, in the order of the variants.
    pub const ALL: [Self; 15] = [
        Self::RemindExpiringOffersJ7,
        Self::RemindExpiringOffersJ1,
        Self::CancelExpiredOffers,
        Self::CapOfferExpirations,
        Self::FillMissingStartDates,
        Self::RepairOfferData,
        Self::RefreshPendingEstablishments,
        Self::SendIntroductions,
        Self::ReportDuplicateRecruiters,
        Self::FullSync,
        Self::AnonymizeInactiveUsers,
        Self::AnalyzeClosedCompanies,
        Self::SyncRecruiterStatus,
        Self::RetryDeadLetters,
        Self::Verify,
    ];

    /// The name of the job in the configuration, on the command line and in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RemindExpiringOffersJ7 => "remind-expiring-offers-j7",
            Self::RemindExpiringOffersJ1 => "remind-expiring-offers-j1",
            Self::RefreshPendingEstablishments => "refresh-pending-establishments",
            Self::SendIntroductions => "send-introductions",
            Self::CancelExpiredOffers => "cancel-expired-offers",
            Self::CapOfferExpirations => "cap-offer-expirations",
            Self::FillMissingStartDates => "fill-missing-start-dates",
            Self::RepairOfferData => "repair-offer-data",
            Self::ReportDuplicateRecruiters => "report-duplicate-recruiters",
            Self::FullSync => "full-sync",
            Self::AnonymizeInactiveUsers => "anonymize-inactive-users",
            Self::AnalyzeClosedCompanies => "analyze-closed-companies",
            Self::SyncRecruiterStatus => "sync-recruiter-status",
            Self::RetryDeadLetters => "retry-dead-letters",
            Self::Verify => "verify",
        }
    }

    /// The job of this name; `None` for an unknown name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    /// True where the job has work to do in this phase (spec 04, spec 05).
    #[must_use]
    pub fn applies_in(self, phase: Phase) -> bool {
        match self {
            Self::ReportDuplicateRecruiters | Self::FullSync | Self::SyncRecruiterStatus => phase.writes_offers(),
            // In `retired`, nothing is projected or compared any more.
            Self::RetryDeadLetters | Self::Verify => phase != Phase::Retired,
            Self::RemindExpiringOffersJ7
            | Self::RemindExpiringOffersJ1
            | Self::RefreshPendingEstablishments
            | Self::SendIntroductions
            | Self::CancelExpiredOffers
            | Self::CapOfferExpirations
            | Self::FillMissingStartDates
            | Self::RepairOfferData
            | Self::AnonymizeInactiveUsers
            | Self::AnalyzeClosedCompanies => true,
        }
    }

    /// The fields of offers without which the job cannot do its work.
    #[must_use]
    pub(crate) fn needs(self) -> &'static [&'static str] {
        match self {
            Self::RemindExpiringOffersJ7 | Self::RemindExpiringOffersJ1 | Self::SendIntroductions => &["managed_by"],
            Self::RefreshPendingEstablishments => &["recruiter_status", "establishment_id"],
            Self::CancelExpiredOffers
            | Self::CapOfferExpirations
            | Self::FillMissingStartDates
            | Self::RepairOfferData
            | Self::ReportDuplicateRecruiters
            | Self::FullSync
            | Self::AnonymizeInactiveUsers
            | Self::AnalyzeClosedCompanies
            | Self::SyncRecruiterStatus
            | Self::RetryDeadLetters
            | Self::Verify => &[],
        }
    }

    /// True for a job that sends e-mails, and so needs a mail server.
    #[must_use]
    pub fn sends_email(self) -> bool {
        matches!(self, Self::RemindExpiringOffersJ7 | Self::RemindExpiringOffersJ1 | Self::SendIntroductions)
    }

    /// True for a job that only reports: it writes nothing but its report in the ledger.
    #[must_use]
    pub fn only_reads(self) -> bool {
        matches!(self, Self::ReportDuplicateRecruiters | Self::AnalyzeClosedCompanies)
    }
}

impl LabelValue for TimedJob {
    fn label(self) -> &'static str {
        self.name()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_of_the_configuration_is_one_that_can_be_run() {
        let sections = crate::config::sections();
        let configured = sections.iter().filter_map(|section| section.path.strip_prefix("ticker.jobs."));
        assert_eq!(configured.collect::<Vec<_>>(), TimedJob::ALL.map(TimedJob::name));
    }
}
