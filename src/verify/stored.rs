//! The result of a full verification, as it is stored for the conditions of the phases (spec 04) and for the leader's
//! metrics. [`StoredVerification`] is the document.

use std::collections::BTreeMap;

use bson::DateTime;
use mongodb::Database;

use super::compare::DifferenceKind;
use super::report::VerificationReport;
use crate::error::Failure;
use crate::model::timeline::TimelineEvent;
use crate::phase::stored_verification::StoredVerification;

/// The part of the stored result that the leader shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The end of the last full verification without differences; `None` when there was none.
    pub last_success: Option<DateTime>,
    /// The number of differing offers of the last full verification, by kind.
    pub divergent_offers: BTreeMap<DifferenceKind, i64>,
}

/// Stores the result of a full verification, unless a later result is stored.
///
/// # Errors
/// [`Failure::Write`].
pub async fn store(database: &Database, report: &VerificationReport) -> Result<(), Failure> {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let divergent = report.divergent_offers.iter().map(|(kind, offers)| (kind.as_str().to_owned(), count(*offers)));
    let result = StoredVerification {
        began: Some(report.began),
        ended: Some(report.ended),
        phase: Some(report.phase.clone()),
        differences: Some(count(report.differences)),
        divergent_offers: divergent.collect(),
        full: report.full,
        jobs_without_offer: Some(count(report.jobs_without_offer)),
        only_in_recruiters: report.only_in_recruiters.as_ref().map(|alone| {
            alone.counts().map(|(kind, documents)| (kind.as_str().to_owned(), count(documents))).collect()
        }),
        unsettled: Some(count(report.unsettled)),
        sides: Some(report.sides.clone()),
        last_success: (report.differences == 0).then_some(report.ended),
    };
    result.store(database).await.map_err(Failure::Write)
}

/// Makes the event of the timeline about a verification.
pub(super) fn event(report: &VerificationReport) -> TimelineEvent {
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let seconds = (report.ended.timestamp_millis() - report.began.timestamp_millis()) / 1_000;
    TimelineEvent::Verified { differences: count(report.differences), unsettled: count(report.unsettled), seconds }
}

/// Reads the stored result. It is empty before the first full verification.
///
/// # Errors
/// [`Failure::Read`].
pub async fn load(database: &Database) -> Result<Stored, Failure> {
    let stored = StoredVerification::read(database).await.map_err(Failure::Read)?.unwrap_or_default();
    let offers = |kind: DifferenceKind| stored.divergent_offers.iter().find(|(name, _)| name == kind.as_str());
    Ok(Stored {
        last_success: stored.last_success,
        divergent_offers: DifferenceKind::ALL.into_iter().filter_map(|kind| Some((kind, offers(kind)?.1))).collect(),
    })
}
