//! The report of a run: counts, and lines that name documents by id and fields by name. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bson::oid::ObjectId;
use serde::Serialize;

/// The number of lines of a run that the ledger keeps.
const KEPT_LINES: usize = 100;

/// The result of a run so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReport {
    /// The number of selected documents: offers, recruiters or users, according to the job.
    pub matched: u64,
    /// The number of changed documents; in a dry run, of documents that would be changed.
    pub changed: u64,
    /// Of the changed documents, the numbers by kind, where a job counts some of them apart: a label such as
    /// `archived_closed`.
    pub changed_as: BTreeMap<&'static str, u64>,
    /// The number of documents that could not be changed, because MongoDB or the mail server refused.
    pub failed: u64,
    /// The numbers of documents that were left unchanged, by reason: a label such as `no_user`.
    pub skipped: BTreeMap<&'static str, u64>,
    /// The reason why the run ended early: a word such as `directory_down`, for some words with more after a colon. It
    /// has no personal data. Such a run has failed; its changes stay.
    pub gave_up: Option<Cow<'static, str>>,
    /// The first hundred lines.
    pub lines: Vec<ReportLine>,
    /// The number of all lines, the dropped ones included.
    pub told: u64,
}

/// One line about a document. The line has no personal data: only ids, names of fields, labels and sirets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportLine {
    /// The `_id` of the document, as text.
    pub id: String,
    /// The finding, a label such as `changed`, `no_user` or `broken`.
    pub what: &'static str,
    /// The names of the fields; for some labels, the id of another document or a siret.
    pub fields: Vec<String>,
}

impl ReportLine {
    pub fn new<F: Into<String>>(
        id: impl Into<ObjectId>,
        what: &'static str,
        fields: impl IntoIterator<Item = F>,
    ) -> Self {
        Self { id: id.into().to_hex(), what, fields: fields.into_iter().map(Into::into).collect() }
    }
}

impl JobReport {
    /// Counts documents that were left unchanged for this reason.
    pub fn skip(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    /// Counts a changed document apart, under this kind too.
    pub fn change_as(&mut self, kind: &'static str) {
        *self.changed_as.entry(kind).or_default() += 1;
    }

    /// Counts a line, and keeps it if it is one of the first hundred.
    pub fn keep(&mut self, line: ReportLine) {
        self.told += 1;
        if self.lines.len() < KEPT_LINES {
            self.lines.push(line);
        }
    }
}

/// The text of the notice about a run; `None` when the run changed nothing, failed nothing and has no error.
/// `error` is the reason why the run failed.
#[must_use]
pub(crate) fn notice(job: &str, report: &JobReport, error: Option<&str>) -> Option<String> {
    if report.changed == 0 && report.failed == 0 && error.is_none() {
        return None;
    }
    let mut line = format!("{job}: {} matched, {} changed, {} failed", report.matched, report.changed, report.failed);
    for (kind, count) in report.changed_as.iter().chain(&report.skipped) {
        line.push_str(&format!(", {count} {kind}"));
    }
    if let Some(error) = error {
        line.push_str(&format!("; failed: {error}"));
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_bounded_and_counted_all_the_same() {
        let mut report = JobReport::default();
        for _ in 0..KEPT_LINES + 5 {
            report.keep(ReportLine::new(ObjectId::new(), "changed", ["offer_status"]));
        }
        assert_eq!((report.lines.len(), report.told), (KEPT_LINES, 105));
    }

    #[test]
    fn a_run_that_changed_and_failed_nothing_is_not_worth_a_line() {
        let mut report = JobReport { matched: 5, ..JobReport::default() };
        report.skip("no_user", 5);
        assert_eq!(notice("cancel-expired-offers", &report, None), None);
    }

    #[test]
    fn a_line_has_counts_and_words_only() {
        let mut report = JobReport { matched: 7, changed: 3, failed: 1, ..JobReport::default() };
        report.skip("no_user", 2);
        let told = notice("remind-expiring-offers-j7", &report, None).unwrap();
        let wanted = "remind-expiring-offers-j7: 7 matched, 3 changed, 1 failed, 2 no_user";
        assert_eq!(told, wanted);
        let told = notice("remind-expiring-offers-j7", &report, Some("mail_server_down")).unwrap();
        assert_eq!(told, format!("{wanted}; failed: mail_server_down"));
    }
}
