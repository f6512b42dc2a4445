//! What a verification found: counts, kinds, fields and ids, never values of documents. Its size does
//! not grow with the number of differences.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, oid::ObjectId};
use serde::{Serialize, Serializer};

use super::compare::{DifferenceKind, Finding};
use crate::model::names::WatchedCollection;

/// So many ids are told of each kind and of each field.
const IDS: usize = 20;

/// How often, and where for example.
#[derive(Debug, Default, Serialize)]
pub struct DifferenceCount {
    /// How often.
    pub count: u64,
    /// The first of the offers.
    pub ids: Vec<String>,
}

impl DifferenceCount {
    fn add(&mut self, id: impl FnOnce() -> String) {
        self.count += 1;
        if self.ids.len() < IDS {
            self.ids.push(id());
        }
    }
}

/// The report of one verification.
#[derive(Debug, Serialize)]
pub struct VerificationReport {
    /// When it began.
    #[serde(serialize_with = "rfc3339")]
    pub began: DateTime,
    /// When it ended.
    #[serde(serialize_with = "rfc3339")]
    pub ended: DateTime,
    /// The phase in which it ran (spec 04).
    pub phase: String,
    /// All recruiters and all our offers were looked at, not a sample.
    pub full: bool,
    /// Recruiters looked at.
    pub recruiters: u64,
    /// Their jobs.
    pub jobs: u64,
    /// Offers looked at: all of ours, or those of the sample.
    pub offers: u64,
    /// Jobs compared with their offers.
    pub compared: u64,
    /// Jobs not compared: dead letters, or their recruiter has no address.
    pub explained: u64,
    /// Recruiters and offers that changed each time they were looked at again: no differences.
    pub unsettled: u64,
    /// Differences, one for each field.
    pub differences: u64,
    /// Offers that differ, by kind; one that differs in several ways is among several.
    pub divergent_offers: BTreeMap<DifferenceKind, u64>,
    /// Differences by kind.
    pub kinds: BTreeMap<DifferenceKind, DifferenceCount>,
    /// Differences by field.
    pub fields: BTreeMap<&'static str, DifferenceCount>,
    /// What is wrong in `recruiters` already, so that the offer is as it must be: no differences.
    pub source_faults: BTreeMap<DifferenceKind, DifferenceCount>,
    /// The differences before the repair, if there was one.
    pub before_repair: Option<u64>,
}

impl VerificationReport {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(began: DateTime, phase: String, full: bool) -> Self {
        Self {
            began,
            ended: began,
            phase,
            full,
            recruiters: 0,
            jobs: 0,
            offers: 0,
            compared: 0,
            explained: 0,
            unsettled: 0,
            differences: 0,
            divergent_offers: BTreeMap::new(),
            kinds: BTreeMap::new(),
            fields: BTreeMap::new(),
            source_faults: BTreeMap::new(),
            before_repair: None,
        }
    }

    /// Counts what was found about one document: a recruiter with its offers, or an offer.
    pub fn add(&mut self, findings: &[Finding]) {
        findings.iter().for_each(|finding| self.add_one(finding));
        for (kind, _) in divergent(findings) {
            *self.divergent_offers.entry(kind).or_default() += 1;
        }
    }

    /// Counts a document of `collection` whose `_id` is no ObjectId, told by its key.
    pub fn add_unusable(&mut self, collection: WatchedCollection, key: &str) {
        let kind = match collection {
            // No job has such an id, so no recruiter holds it.
            WatchedCollection::Offers => DifferenceKind::Orphan,
            _ => DifferenceKind::Undecodable,
        };
        self.differences += 1;
        *self.divergent_offers.entry(kind).or_default() += 1;
        self.kinds.entry(kind).or_default().add(|| format!("{}/{key}", collection.name()));
    }

    fn add_one(&mut self, finding: &Finding) {
        if finding.in_source {
            return self.source_faults.entry(finding.kind).or_default().add(|| finding.offer.to_hex());
        }
        self.differences += 1;
        self.kinds.entry(finding.kind).or_default().add(|| finding.offer.to_hex());
        if let Some(field) = finding.field {
            self.fields.entry(field).or_default().add(|| finding.offer.to_hex());
        }
    }

    /// For a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let scope = if self.full { "all" } else { "a sample" };
        let mut lines = vec![format!(
            "{scope}: {} recruiters, {} jobs, {} offers; {} compared, {} explained, {} still changing",
            self.recruiters, self.jobs, self.offers, self.compared, self.explained, self.unsettled
        )];
        let row = |name: &str, found: &DifferenceCount| {
            let ids = found.ids.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" ");
            let more = if found.ids.len() > 3 { " …" } else { "" };
            format!("  {name:<34} {:>8}  {ids}{more}", found.count)
        };
        lines.extend(self.before_repair.map(|before| format!("{before} differences before the repair")));
        lines.push(format!("{} differences", self.differences));
        lines.extend(self.kinds.iter().map(|(kind, found)| row(kind.as_str(), found)));
        if !self.fields.is_empty() {
            lines.push("by field".to_owned());
            lines.extend(self.fields.iter().map(|(field, found)| row(field, found)));
        }
        if !self.source_faults.is_empty() {
            lines.push("wrong in recruiters already, to be put right there".to_owned());
            lines.extend(self.source_faults.iter().map(|(kind, found)| row(kind.as_str(), found)));
        }
        lines.join("\n")
    }
}

/// The offers that differ, each once for each kind.
#[must_use]
pub(crate) fn divergent(findings: &[Finding]) -> BTreeSet<(DifferenceKind, ObjectId)> {
    findings.iter().filter(|finding| !finding.in_source).map(|finding| (finding.kind, finding.offer)).collect()
}

fn rfc3339<S: Serializer>(date: &DateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&date.try_to_rfc3339_string().unwrap_or_default())
}
