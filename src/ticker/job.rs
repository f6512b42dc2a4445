//! The time-based jobs: their names, and where they apply.

use crate::phase::Phase;

/// The jobs of spec 05, in the order of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TimedJob {
    /// E-mail about offers that expire in seven days.
    RemindExpiringOffersJ7,
    /// E-mail about offers that expire tomorrow.
    RemindExpiringOffersJ1,
    /// Cancels offers past their expiration.
    CancelExpiredOffers,
    /// Brings expirations back to two months from now.
    CapOfferExpirations,
    /// Gives active offers without a start date one.
    FillMissingStartDates,
    /// Repairs what is safe to repair, reports the rest.
    RepairOfferData,
    /// Looks pending establishments up in the company directory.
    RefreshPendingEstablishments,
    /// Tells users of training centres near their offer.
    SendIntroductions,
    /// Reports recruiters with the same siret and e-mail address.
    ReportDuplicateRecruiters,
    /// Looks at every recruiter again.
    FullSync,
    /// Anonymises users inactive for two years.
    AnonymizeInactiveUsers,
    /// Reports active offers of closed companies.
    AnalyzeClosedCompanies,
    /// Copies the status of recruiters to their offers.
    SyncRecruiterStatus,
    /// Looks at dead letters again when they are due.
    RetryDeadLetters,
    /// Compares all offers with their recruiters.
    Verify,
}

impl TimedJob {
    /// All of them.
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

    /// Its name in the configuration, on the command line and in the history.
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

    /// The job of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|job| job.name() == name)
    }

    /// Whether it has anything to do in this phase (spec 04, spec 05).
    #[must_use]
    pub fn applies_in(self, phase: Phase) -> bool {
        match self {
            Self::ReportDuplicateRecruiters | Self::FullSync | Self::SyncRecruiterStatus => phase.writes_offers(),
            // Nothing is projected or compared any more.
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

    /// Whether it writes nothing but what it has found into its history.
    #[must_use]
    pub fn only_reads(self) -> bool {
        matches!(self, Self::ReportDuplicateRecruiters | Self::AnalyzeClosedCompanies)
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
