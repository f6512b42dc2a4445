//! The document of the certificate and the digest at its end. It has counts, times, ids and digests, and no value of a
//! document. Names of operators and reasons are those of the phase history. Pure code.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::json_output::JsonForm;
use crate::phase::late_writes::LateWritesReport;
use crate::phase::sides::Sides;
use crate::project::digest::Digest;

/// The name of the form of the document. Another form gets another number.
pub(crate) const SCHEMA: &str = JsonForm::Certificate.schema();

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub(crate) schema: String,
    /// The server's time at the end of the reading (RFC 3339).
    pub(crate) made_at: String,
    pub(crate) identity: Identity,
    pub(crate) service: ServiceVersion,
    pub(crate) phase: PhaseSection,
    /// The last full verification of before `retired`; null when there was none.
    pub(crate) verification: Option<VerificationSection>,
    /// Both sides as they are now.
    pub(crate) present: Present,
    pub(crate) gaps: Gaps,
    /// The number of dead letters by reason.
    pub(crate) dead_letters: BTreeMap<String, u64>,
    /// What exists in `recruiters` alone now, by kind.
    pub(crate) only_in_recruiters: BTreeMap<String, u64>,
    /// Writes to `recruiters` since the step to `retired`; null where nobody watches.
    pub(crate) late_writes: Option<LateWritesReport>,
    /// The last position of the stream; null before the first checkpoint, and where it cannot be read from here.
    pub(crate) position: Option<Position>,
    pub(crate) verdict: Verdict,
    /// The SHA-256 of the document without this field, see [`Certificate::own_digest`].
    pub(crate) digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    pub replica_set: String,
    pub database: String,
    /// The UUID of a collection of the service, which a restored or copied database does not share.
    pub history: Option<String>,
    pub partner_label: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceVersion {
    pub version: String,
    pub commit: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhaseSection {
    pub name: String,
    pub since: Option<String>,
    /// The number of steps so far.
    pub steps: i64,
    /// True when a tombstone says `retired` and the document of the phase does not.
    pub contradicted_by_tombstone: bool,
    pub history: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub at: Option<String>,
    /// The account and the machine of the operator, as `phase history` has them.
    pub who: Option<String>,
    pub from: Option<String>,
    pub to: Option<String>,
    pub reason: Option<String>,
    /// The unmet conditions that `--force` overrode.
    pub overridden: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerificationSection {
    pub phase: Option<String>,
    pub began: Option<String>,
    pub ended: Option<String>,
    pub differences: Option<i64>,
    /// Documents that changed at every recheck, and are in no sum.
    pub unsettled: Option<i64>,
    pub only_in_recruiters: Option<BTreeMap<String, i64>>,
    /// Null for a verification of a version that made no digests.
    pub sides: Option<Sides>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Present {
    /// The server's operation time before and after the reading. Where they differ, somebody wrote meanwhile, and the
    /// sums are of no single instant.
    pub from: String,
    pub to: String,
    pub differences: u64,
    pub unsettled: u64,
    pub sides: Sides,
}

/// The gaps of the stream. A deployment may have had thousands, so only some are listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gaps {
    pub total: u64,
    /// Those that no resync has repaired.
    pub open: u64,
    /// At most [`Gaps::LISTED`], the newest first.
    pub last: Vec<Gap>,
}

impl Gaps {
    /// The greatest number of gaps that are listed.
    pub(crate) const LISTED: i64 = 100;
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Gap {
    pub from: String,
    pub to: String,
    pub cause: String,
    pub state: String,
    pub opened_at: Option<String>,
    pub repaired_at: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// The seconds and the number within the second of the cluster time.
    pub time: u32,
    pub increment: u32,
    /// Events applied up to here.
    pub events: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    pub may_be_removed: bool,
    /// What keeps `recruiters` from being removed.
    pub obstacles: Vec<Obstacle>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Obstacle {
    pub obstacle: String,
    pub found: String,
}

impl Certificate {
    /// The digest of the document: of its JSON without the field `digest`, with sorted names and without blanks.
    #[must_use]
    pub(crate) fn own_digest(&self) -> Digest {
        let mut value = self.as_value();
        value.as_object_mut().map(|fields| fields.remove("digest"));
        Digest::of(value.to_string().as_bytes())
    }

    #[must_use]
    pub(crate) fn as_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Reads a certificate. Its digest is not checked.
    ///
    /// # Errors
    /// A text that says what is wrong with the file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let advice = "expected a file from `phase certificate --out FILE`";
        let value: serde_json::Value = serde_json::from_str(text).map_err(|error| {
            if error.is_eof() {
                format!("the file is cut off or empty; {advice}")
            } else {
                format!("not JSON: {error}; {advice}")
            }
        })?;
        match value.get("schema").and_then(serde_json::Value::as_str) {
            Some(SCHEMA) => serde_json::from_str(text).map_err(|error| format!("not a certificate: {error}; {advice}")),
            Some(_) => Err(format!("another schema than {SCHEMA}; check it with the version that made it")),
            None => Err(format!("not a certificate: it has no schema; {advice}")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    /// A certificate that says: may be removed.
    pub(in crate::certificate) fn sample() -> Value {
        let digest = |one: &str| one.repeat(64);
        let sides = json!({
            "recruiters": { "count": 2, "digest": digest("a") },
            "projected": { "by_status": { "Active": 3 }, "digest": digest("b") },
            "stored": { "by_status": { "Active": 3 }, "digest": digest("b") },
            "may_differ": { "offers": 0, "projected": digest("0"), "stored": digest("0") },
        });
        let step = |day: u8, from: &str, to: &str| {
            json!({ "at": format!("2026-11-0{day}T00:00:00Z"), "who": "somebody", "from": from, "to": to,
                    "reason": "it is time", "overridden": [] })
        };
        json!({
            "schema": super::SCHEMA,
            "made_at": "2026-11-06T00:00:00Z",
            "identity": { "replica_set": "rs", "database": "d", "history": "u", "partner_label": "l" },
            "service": { "version": "1", "commit": "c" },
            "phase": {
                "name": "retired", "since": "2026-11-04T00:00:00Z", "steps": 4, "contradicted_by_tombstone": false,
                "history": [step(1, "", "sync"), step(2, "sync", "dual-write"), step(3, "dual-write", "shadow"),
                            step(4, "shadow", "retired")],
            },
            "verification": {
                "phase": "shadow", "began": "2026-11-03T01:00:00Z", "ended": "2026-11-03T02:00:00Z",
                "differences": 0, "unsettled": 0, "only_in_recruiters": { "free_texts": 0 }, "sides": sides,
            },
            "present": { "from": "1-0", "to": "1-0", "differences": 0, "unsettled": 0, "sides": sides },
            "gaps": { "total": 1, "open": 0, "last": [{
                "from": "1-0", "to": "2-0", "cause": "x", "state": "repaired", "opened_at": "2026-11-01T00:00:00Z",
                "repaired_at": "2026-11-01T00:00:00Z",
            }] },
            "dead_letters": { "missing_cfa": 0 },
            "only_in_recruiters": { "free_texts": 0 },
            "late_writes": {
                "total": 0, "by_operation": { "update": 0 }, "unwatched_from": null, "unwatched_to": null,
                "recruiters_gone_since": null,
                "last": [{ "id": "i", "operation": "update", "at": "2026-11-05T00:00:00Z" }],
            },
            "position": { "time": 5, "increment": 1, "events": 7 },
            "verdict": { "may_be_removed": true, "obstacles": [] },
            "digest": digest("f"),
        })
    }
}
