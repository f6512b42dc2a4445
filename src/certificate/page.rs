//! The certificate as one page of text for a person. Pure code.

use std::collections::BTreeMap;
use std::fmt::Display;

use super::document::Certificate;
use crate::counted::counted;
use crate::phase::sides::{OfferSum, Sides};

/// The lines of the page.
#[must_use]
pub(crate) fn page(certificate: &Certificate) -> String {
    let Certificate { identity, service, phase, present, .. } = certificate;
    let mut lines = vec![
        "certificate about the removal of recruiters".to_owned(),
        row("made at", &certificate.made_at),
        row("database", format!("{} of replica set {}", identity.database, identity.replica_set)),
        row("service", format!("{} (commit {})", service.version, service.commit)),
        row("phase", format!("{} since {}", phase.name, or_dash(phase.since.as_ref()))),
    ];
    for step in &phase.history {
        let [at, from, to, who, reason] =
            [&step.at, &step.from, &step.to, &step.who, &step.reason].map(|text| or_dash(text.as_ref()));
        lines.push(format!("  {at}  {from} -> {to}  {who}  {reason}"));
        lines.extend(step.overridden.iter().map(|condition| format!("    overridden: {condition}")));
    }
    match &certificate.verification {
        None => lines.push(row("verification", "none")),
        Some(last) => {
            let [ended, phase] = [&last.ended, &last.phase].map(|text| or_dash(text.as_ref()));
            let differences = |count| counted(count, "difference", "differences");
            let differences = last.differences.map_or_else(|| "- differences".to_owned(), differences);
            lines.push(row("verification", format!("ended {ended} in {phase}, {differences}")));
            lines.extend(last.sides.as_ref().map(sides).into_iter().flatten());
        }
    }
    lines.push(row("now", counted(present.differences, "difference", "differences")));
    lines.extend(sides(&present.sides));
    if present.from != present.to {
        lines.push(format!(
            "  written meanwhile ({} to {}): the sums are of no single instant",
            present.from, present.to
        ));
    }
    let gaps = &certificate.gaps;
    lines.push(row("gaps", format!("{}, {} of them open", gaps.total, gaps.open)));
    let gap = |gap: &super::document::Gap| {
        format!("  {} to {}  {}  {}  {}", gap.from, gap.to, gap.cause, gap.state, or_dash(gap.repaired_at.as_ref()))
    };
    lines.extend(gaps.last.iter().map(gap));
    if gaps.total > gaps.last.len() as u64 {
        lines.push("  (older ones are not listed)".to_owned());
    }
    lines.push(row("dead letters", counts(&certificate.dead_letters)));
    lines.push(row("only there", counts(&certificate.only_in_recruiters)));
    let late = certificate.late_writes.as_ref().map_or_else(|| vec!["not watched".to_owned()], |late| late.lines());
    lines.push(row("late writes", late.join("\n")));
    let position = certificate.position.as_ref();
    lines.push(row("position", position.map_or_else(|| "-".to_owned(), |at| format!("{}-{}", at.time, at.increment))));
    let verdict = &certificate.verdict;
    let word = if verdict.may_be_removed { "recruiters may be removed" } else { "recruiters may not be removed" };
    lines.push(row("verdict", word));
    lines.extend(verdict.obstacles.iter().map(|one| format!("  {:<20} {}", one.obstacle, one.found)));
    lines.push(row("digest", certificate.digest.hex()));
    lines.join("\n")
}

fn sides(sides: &Sides) -> Vec<String> {
    let offers = |name: &str, sum: &OfferSum| format!("  {name:<11} {}  {}", sum.digest.hex(), counts(&sum.by_status));
    vec![
        format!("  {:<11} {}  {}", "recruiters", sides.recruiters.digest.hex(), sides.recruiters.count),
        offers("projected", &sides.projected),
        offers("stored", &sides.stored),
        format!("  {:<11} {} offers", "may differ", sides.may_differ.offers),
    ]
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> =
        counts.iter().filter(|(_, count)| **count > 0).map(|(name, count)| format!("{count} {name}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn row(name: &str, value: impl Display) -> String {
    format!("{name:<13} {value}")
}

fn or_dash(text: Option<&String>) -> &str {
    text.map_or("-", String::as_str)
}
