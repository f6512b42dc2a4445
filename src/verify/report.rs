//! The report of a verification: counts, kinds, fields and ids, never values of documents. Its size does not grow with
//! the number of differences.

use std::collections::{BTreeMap, BTreeSet};

use bson::DateTime;
use serde::{Serialize, Serializer};

use super::compare::{DifferenceKind, Finding};
use super::only_in_recruiters::OnlyInRecruiters;
use crate::config::Choice as _;
use crate::counted::counted;
use crate::model::ids::JobId;
use crate::model::names::WatchedCollection;
use crate::phase::Phase;
use crate::phase::sides::Sides;

/// The greatest number of example ids of each kind and of each field.
const IDS: usize = 20;

/// The meaning of the word for a person.
const EXPLAINED: &str = "explained: jobs that cannot be projected or written (dead letters), or whose recruiter has no \
                         address; they have no offer to compare";

/// The number of differences of one kind or field, with examples.
#[derive(Debug, Default, Serialize)]
pub struct DifferenceCount {
    pub count: u64,
    /// The ids of the first offers, 20 at most.
    pub ids: Vec<String>,
}

impl DifferenceCount {
    pub(super) fn add(&mut self, id: impl FnOnce() -> String) {
        self.count += 1;
        if self.ids.len() < IDS {
            self.ids.push(id());
        }
    }

    /// Adds the offers of another count.
    pub(super) fn extend(&mut self, other: Self) {
        self.count += other.count;
        let room = IDS.saturating_sub(self.ids.len());
        self.ids.extend(other.ids.into_iter().take(room));
    }
}

#[derive(Debug, Serialize)]
pub struct VerificationReport {
    /// The server's time at the beginning.
    #[serde(serialize_with = "rfc3339")]
    pub began: DateTime,
    /// The server's time at the end.
    #[serde(serialize_with = "rfc3339")]
    pub ended: DateTime,
    /// The phase by whose rules offers were compared (spec 04).
    pub phase: String,
    /// True when all recruiters and all our offers were compared; false for a sample.
    pub full: bool,
    /// The number of recruiters that were read.
    pub recruiters: u64,
    /// The number of jobs of these recruiters.
    pub jobs: u64,
    /// The number of offers that were read: all our offers, or the offers of the sample.
    pub offers: u64,
    /// The number of jobs that were compared with their offers.
    pub compared: u64,
    /// The number of jobs that were not compared: they cannot be projected or written (dead letters), or their
    /// recruiter has no address.
    pub explained: u64,
    /// The number of jobs without an offer that cannot be projected or written, whether or not their dead letter still
    /// stands. A recruiter without address has no offers on purpose, so its jobs do not count.
    pub jobs_without_offer: u64,
    /// The offers that stay closed although their job is active, because somebody else closed them after the last
    /// change of the job (spec 09). They are no differences.
    pub closed_elsewhere: DifferenceCount,
    /// The number of recruiters and offers that changed at every recheck. They are no differences.
    pub unsettled: u64,
    /// The number of differences. Each differing field counts as one.
    pub differences: u64,
    /// The number of differing offers by kind. An offer with differences of several kinds counts for each kind.
    pub divergent_offers: BTreeMap<DifferenceKind, u64>,
    /// The number of differing offers; each counts once.
    pub differing_offers: u64,
    /// The differences by kind.
    pub kinds: BTreeMap<DifferenceKind, DifferenceCount>,
    /// The differences by field of the offer.
    pub fields: BTreeMap<&'static str, DifferenceCount>,
    /// Faults of the documents in `recruiters`. The offers equal their projections, so these are no differences.
    pub source_faults: BTreeMap<DifferenceKind, DifferenceCount>,
    /// What exists in `recruiters` alone and would be lost with it (spec 09). It is no difference. `None` where it was
    /// not counted: for a sample.
    pub only_in_recruiters: Option<OnlyInRecruiters>,
    /// The number of differences before the repair; `None` without a repair.
    pub before_repair: Option<u64>,
    /// Numbers by status and digests of both sides, without what was still changing.
    pub(crate) sides: Sides,
}

impl VerificationReport {
    /// An empty report.
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
            jobs_without_offer: 0,
            closed_elsewhere: DifferenceCount::default(),
            unsettled: 0,
            differences: 0,
            divergent_offers: BTreeMap::new(),
            differing_offers: 0,
            kinds: BTreeMap::new(),
            fields: BTreeMap::new(),
            source_faults: BTreeMap::new(),
            only_in_recruiters: None,
            before_repair: None,
            sides: Sides::default(),
        }
    }

    /// Counts the findings about one recruiter with its offers, or about one offer.
    pub fn add(&mut self, findings: &[Finding]) {
        findings.iter().for_each(|finding| self.add_one(finding));
        let divergent = divergent(findings);
        self.differing_offers += divergent.iter().map(|(_, offer)| offer).collect::<BTreeSet<_>>().len() as u64;
        for (kind, _) in divergent {
            *self.divergent_offers.entry(kind).or_default() += 1;
        }
    }

    /// Counts a document of `collection` whose `_id` is no ObjectId. `key` is the text of that `_id`.
    pub fn add_unusable(&mut self, collection: WatchedCollection, key: &str) {
        let kind = match collection {
            // No job with such an `_id` becomes an offer, so no recruiter has the job of this offer.
            WatchedCollection::Offers => DifferenceKind::Orphan,
            _ => DifferenceKind::Undecodable,
        };
        self.differences += 1;
        self.differing_offers += 1;
        *self.divergent_offers.entry(kind).or_default() += 1;
        self.kinds.entry(kind).or_default().add(|| format!("{}/{key}", collection.name()));
    }

    fn add_one(&mut self, finding: &Finding) {
        if finding.in_source {
            return self.source_faults.entry(finding.kind).or_default().add(|| finding.offer.to_string());
        }
        self.differences += 1;
        self.kinds.entry(finding.kind).or_default().add(|| finding.offer.to_string());
        if let Some(field) = finding.field {
            self.fields.entry(field).or_default().add(|| finding.offer.to_string());
        }
    }

    /// The report as text for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let scope = if self.full { "all" } else { "a part" };
        let mut lines = vec![format!(
            "{scope}: {}, {}, {}; {} compared, {} explained, {} still changing",
            counted(self.recruiters, "recruiter", "recruiters"),
            counted(self.jobs, "job", "jobs"),
            counted(self.offers, "offer", "offers"),
            self.compared,
            self.explained,
            self.unsettled
        )];
        if self.explained > 0 {
            lines.push(EXPLAINED.to_owned());
        }
        let row = |name: &str, found: &DifferenceCount| {
            let ids = found.ids.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" ");
            let more = if found.ids.len() > 3 { " …" } else { "" };
            format!("  {name:<34} {:>8}  {ids}{more}", found.count)
        };
        lines.extend(
            self.before_repair
                .map(|before| counted(before, "difference before the repair", "differences before the repair")),
        );
        lines.push(match self.differences {
            0 => "0 differences".to_owned(),
            differences => {
                let (offers, fields) = (self.differing_offers, self.fields.len());
                let differences = counted(differences, "difference", "differences");
                let offers = counted(offers, "offer differs", "offers differ");
                format!("{differences}: {offers}, in {}", counted(fields, "field", "fields"))
            }
        });
        lines.extend(self.kinds.iter().map(|(kind, found)| row(kind.as_str(), found)));
        if !self.fields.is_empty() {
            lines.push("by field".to_owned());
            lines.extend(self.fields.iter().map(|(field, found)| row(field, found)));
        }
        if self.closed_elsewhere.count > 0 {
            lines.push("closed by somebody else after the job's last change, no difference".to_owned());
            lines.push(row("closed_elsewhere", &self.closed_elsewhere));
        }
        if !self.source_faults.is_empty() {
            lines.push("faults in recruiters, to correct there".to_owned());
            lines.extend(self.source_faults.iter().map(|(kind, found)| row(kind.as_str(), found)));
        }
        let alone = self.only_in_recruiters.as_ref().map(|alone| alone.lines(false)).unwrap_or_default();
        if !alone.is_empty() {
            lines.push("only in recruiters, would be lost with it".to_owned());
            lines.extend(alone);
        }
        lines.extend(self.next().map(|next| format!("next: {next}")));
        lines.join("\n")
    }

    /// The next command; `None` when there is nothing to do.
    fn next(&self) -> Option<&'static str> {
        let writes_offers = Phase::from_word(&self.phase).is_some_and(Phase::writes_offers);
        match (self.differences, self.explained, writes_offers) {
            (0, 0, _) => None,
            (0, ..) => Some("stream-processor dead-letters list tells why jobs are explained"),
            (_, _, true) => {
                Some("stream-processor verify --repair projects all recruiters again and compares once more")
            }
            (_, _, false) => Some(
                "stream-processor verify --report FILE names more offers; jobs_partners is the authority, so correct them there",
            ),
        }
    }
}

/// The differing offers. Each offer occurs once for each kind of its differences.
#[must_use]
pub(crate) fn divergent(findings: &[Finding]) -> BTreeSet<(DifferenceKind, JobId)> {
    findings.iter().filter(|finding| !finding.in_source).map(|finding| (finding.kind, finding.offer)).collect()
}

fn rfc3339<S: Serializer>(date: &DateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&date.try_to_rfc3339_string().unwrap_or_default())
}
