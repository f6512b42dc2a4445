//! What a run of a job found and did: counts, and lines that name documents by id and fields by name. Pure.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use serde::Serialize;

/// So many lines of a run are kept in its history.
const KEPT_LINES: usize = 100;

/// The result of a run, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobReport {
    /// Documents that were selected: offers, recruiters or users, whatever the job is about.
    pub matched: u64,
    /// Those that were changed; in a dry run, that would be.
    pub changed: u64,
    /// Those that should have been and could not: the server, or a mail server, refused.
    pub failed: u64,
    /// Those that were left as they are, by reason: a word such as `no_user`.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Why the run ended before it was through, a word such as `directory_down`: it counts as failed, and what it did
    /// stays done.
    pub gave_up: Option<&'static str>,
    /// The first lines.
    pub lines: Vec<ReportLine>,
    /// How many lines there were in all.
    pub told: u64,
}

/// One thing that a run has to tell about a document. Without personal data: ids, names of fields, words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportLine {
    /// The document.
    pub id: String,
    /// What is the matter with it, a word such as `changed`, `no_user`, `invalid`.
    pub what: &'static str,
    /// The fields that it is about.
    pub fields: Vec<String>,
}

impl ReportLine {
    /// A line about a document and some of its fields.
    pub fn new<F: Into<String>>(id: ObjectId, what: &'static str, fields: impl IntoIterator<Item = F>) -> Self {
        Self { id: id.to_hex(), what, fields: fields.into_iter().map(Into::into).collect() }
    }
}

impl JobReport {
    /// Counts some that were left as they are.
    pub fn skip(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    /// Keeps a line, if there are not too many of them yet.
    pub fn keep(&mut self, line: ReportLine) {
        self.told += 1;
        if self.lines.len() < KEPT_LINES {
            self.lines.push(line);
        }
    }
}

/// The line about a run; `None` when it changed and failed nothing. `environment` tells deployments apart, `error` is why
/// the run was not done.
#[must_use]
pub fn notice(environment: &str, job: &str, report: &JobReport, error: Option<&str>) -> Option<String> {
    if report.changed == 0 && report.failed == 0 && error.is_none() {
        return None;
    }
    let mut line = format!(
        "[{environment}] {job}: {} matched, {} changed, {} failed",
        report.matched, report.changed, report.failed
    );
    for (reason, count) in &report.skipped {
        line.push_str(&format!(", {count} {reason}"));
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
        assert_eq!(notice("production", "cancel-expired-offers", &report, None), None);
    }

    #[test]
    fn a_line_has_counts_and_words_only() {
        let mut report = JobReport { matched: 7, changed: 3, failed: 1, ..JobReport::default() };
        report.skip("no_user", 2);
        let told = notice("staging", "remind-expiring-offers-j7", &report, None).unwrap();
        let wanted = "[staging] remind-expiring-offers-j7: 7 matched, 3 changed, 1 failed, 2 no_user";
        assert_eq!(told, wanted);
        let told = notice("staging", "remind-expiring-offers-j7", &report, Some("mail_server_down")).unwrap();
        assert_eq!(told, format!("{wanted}; failed: mail_server_down"));
    }
}
