//! What a run of a job found and did: counts, and lines that name documents by id and fields by name. Pure.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use serde::Serialize;

/// So many lines of a run are kept in its history.
const KEPT_LINES: usize = 100;

/// The result of a run, so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
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
    pub lines: Vec<Line>,
    /// How many lines there were in all.
    pub told: u64,
}

/// One thing that a run has to tell about a document. Without personal data: ids, names of fields, words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The document.
    pub id: String,
    /// What is the matter with it, a word such as `changed`, `no_user`, `invalid`.
    pub what: &'static str,
    /// The fields that it is about.
    pub fields: Vec<String>,
}

impl Line {
    /// A line about a document and some of its fields.
    pub fn new<F: Into<String>>(id: ObjectId, what: &'static str, fields: impl IntoIterator<Item = F>) -> Self {
        Self { id: id.to_hex(), what, fields: fields.into_iter().map(Into::into).collect() }
    }
}

impl Report {
    /// Counts some that were left as they are.
    pub fn skip(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.skipped.entry(reason).or_default() += count;
        }
    }

    /// Keeps a line, if there are not too many of them yet.
    pub fn keep(&mut self, line: Line) {
        self.told += 1;
        if self.lines.len() < KEPT_LINES {
            self.lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_bounded_and_counted_all_the_same() {
        let mut report = Report::default();
        for _ in 0..KEPT_LINES + 5 {
            report.keep(Line::new(ObjectId::new(), "changed", ["offer_status"]));
        }
        assert_eq!((report.lines.len(), report.told), (KEPT_LINES, 105));
    }
}
