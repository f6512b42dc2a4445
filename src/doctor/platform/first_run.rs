//! What the first `run` would write: the dry run of a backfill, and what a comparison of both sides explains. Nothing
//! is written.

use bson::Document;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::Check;
use super::Part;
use super::text::offers;
use crate::apply::dry_run::DryRun;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::maintenance::backfill_dry_run::run_dry;
use crate::model::dead_letter::Reason;
use crate::phase::{Phase, state};
use crate::verify;
use crate::verify::compare::DifferenceKind;
use crate::verify::report::VerificationReport;

pub(super) async fn part(context: &Context) -> Result<Part, Failure> {
    let phase = state::load(&context.database, context.settings.phase.initial).await?.phase;
    let stop = CancellationToken::new();
    let (recruiters, dry_run) = match Box::pin(run_dry(context, phase, &Document::new(), &stop, |_| {})).await {
        Ok(result) => result,
        Err(Unfinished::Failed(failure)) => return Err(failure),
        // Nothing interrupts a command that only reads.
        Err(Unfinished::Interrupted(_)) => (0, DryRun::default()),
    };
    let compared = Box::pin(verify::compare_as_in(context, phase, phase)).await?;
    let count = |kind| compared.kinds.get(&kind).map_or(0, |found| found.count);
    let orphans = count(DifferenceKind::Orphan) + count(DifferenceKind::StillActive);
    let personal_data = count(DifferenceKind::PersonalData);
    let dead: serde_json::Map<String, serde_json::Value> =
        dry_run.dead_letters.iter().map(|(reason, count)| (reason.as_str().to_owned(), json!(count))).collect();
    let facts = json!({
        "phase": phase.word(), "recruiters": recruiters, "created": dry_run.created, "changed": dry_run.changed,
        "unchanged": dry_run.unchanged, "fields": dry_run.reasons_by_name(),
        "status_changes": dry_run.status_changes_by_name(), "dead_letters": dead,
        "closed_elsewhere": compared.closed_elsewhere.count, "orphans": orphans, "personal_data": personal_data,
    });
    let mut checks = told(phase, recruiters, &dry_run, &compared, orphans);
    if personal_data > 0 {
        let found = format!("fields with data of anonymised persons: {personal_data}; the first run removes the data");
        checks.push(Check::warning("first_run", found, "`verify` lists the offers under personal_data"));
    }
    Ok(Part { name: "first_run", checks, facts })
}

fn told(phase: Phase, recruiters: u64, dry_run: &DryRun, compared: &VerificationReport, orphans: u64) -> Vec<Check> {
    let check = "first_run";
    let mut checks = vec![Check::ok(
        check,
        format!(
            "in phase {}, of {}: {} would be created, {} changed, {} left as they are{}",
            phase.word(),
            counted(recruiters, "recruiter", "recruiters"),
            offers(dry_run.created),
            dry_run.changed,
            dry_run.unchanged,
            if phase.writes_offers() { "" } else { "; this phase writes no offer, so these are the differences" }
        ),
    )];
    for (field, count) in &dry_run.fields {
        checks.push(Check::ok(check, format!("{field}: {} ({})", offers(*count), dry_run.reasons_of(field))));
    }
    for (change, count) in dry_run.status_changes_by_name() {
        let found = format!("status {change}: {}", offers(count));
        checks.push(if change.ends_with("-> Active") {
            let remedy =
                "look at some of them: they would be published again; `verify` lists their ids under offer_status";
            Check::warning(check, found, remedy)
        } else {
            Check::ok(check, found)
        });
    }
    for (reason, count) in &dry_run.dead_letters {
        let remedy = Reason::advice(*reason);
        checks.push(Check::warning(check, format!("dead letters, {}: {count}", reason.as_str()), remedy));
    }
    if compared.closed_elsewhere.count > 0 {
        let found = format!("{} closed by somebody else, and that stands", offers(compared.closed_elsewhere.count));
        checks.push(Check::ok(check, found));
    }
    if orphans > 0 {
        let fate = if phase == Phase::Sync {
            "the resync of the first run cancels them"
        } else {
            "they stay open, except for those of anonymised recruiters"
        };
        let found = format!("open without a job: {}; {fate}", offers(orphans));
        checks.push(Check::warning(
            check,
            found,
            "look at some of them: `verify` lists their ids under orphan and still_active",
        ));
    }
    checks
}
