//! A backfill in the direction of the mirror: it touches our offers, so that `recruiters` has what they say. The steps of
//! the stored command, and the dry run, which counts.

use std::collections::BTreeSet;

use bson::{Document, doc, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use super::refused::refused;
use super::stored_commands::{CommandOutcome, StoredCommand, count, counted};
use crate::apply::dry_run::{DryRun, MirrorCounts};
use crate::apply::executor::Apply;
use crate::apply::output::Output;
use crate::apply::stages::Stages;
use crate::clock;
use crate::context::Context;
use crate::interruption::Unfinished;
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::phase::Phase;
use crate::source::scan;
use crate::write::dead_letters::EventPosition;

/// The field of the progress with the last `_id` of the scan.
const AFTER: &str = "after";

/// Does the next step. Returns the outcome when the backfill is finished.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document. The step can be repeated.
pub(super) async fn step(stored: &mut StoredCommand, apply: &mut Apply) -> Result<Option<CommandOutcome>, Unfinished> {
    let stages = &mut apply.stages;
    if let Some(reason) = refusal(stages) {
        return Ok(Some(refused([reason])));
    }
    let ids = next(stages, stored.progress.get_object_id(AFTER).ok()).await?;
    let Some(last) = ids.last() else {
        let mut details = stored.progress.clone();
        details.remove(AFTER);
        details.insert("dead_letters", counted(stages.dead_letters.counts().values().map(|n| *n as u64).sum()));
        return Ok(Some(CommandOutcome { done: true, details }));
    };
    let before = stages.mirror_counts;
    touch(stages, &ids, &EventPosition::of_scan(stored.requested_at)).await?;
    stages.count_dead_letters();
    let written = stages.mirror_counts.since(before);
    stored.progress.insert(AFTER, *last);
    for (field, done) in fields(ids.len() as u64, written) {
        let so_far = count(&stored.progress, field);
        stored.progress.insert(field, counted(so_far + done));
    }
    Ok(None)
}

/// Counts our offers, and what touches of them would write to `recruiters`. `show` is called with the number of offers
/// so far. Returns the reason where the mirror is off.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document.
pub(crate) async fn run_dry(
    context: &Context,
    phase: Phase,
    stop: &CancellationToken,
    show: impl Fn(u64),
) -> Result<Result<(Document, DryRun), String>, Unfinished> {
    let output = Output::DryRun(Box::new(DryRun { mirrors: true, ..DryRun::default() }));
    let mut stages = Stages::new(context, phase, output).await?;
    if let Some(reason) = refusal(&stages) {
        return Ok(Err(reason));
    }
    let (mut after, mut offers) = (None, 0);
    while !stop.is_cancelled() {
        let ids = next(&stages, after).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        touch(&mut stages, &ids, &EventPosition::of_scan(clock::now())).await?;
        offers += ids.len() as u64;
        show(offers);
    }
    let counts = fields(offers, stages.mirror_counts);
    let counts = counts.into_iter().map(|(field, done)| (field.to_owned(), counted(done))).collect();
    Ok(Ok((counts, stages.output.into_dry_run())))
}

/// The sentence that says why nothing can be mirrored; `None` where the mirror is on.
fn refusal(stages: &Stages) -> Option<String> {
    let reason = || match stages.phase {
        Phase::Shadow => "phase.keep_recruiters_backup is off, so nothing is mirrored".to_owned(),
        phase => format!("in phase {} nothing is mirrored: recruiters is written from offers in shadow", phase.word()),
    };
    (!stages.mirrors()).then(reason)
}

async fn next(stages: &Stages, after: Option<ObjectId>) -> Result<Vec<ObjectId>, Unfinished> {
    let ours = doc! { "partner_label": &stages.settings.partner_label };
    Ok(scan::ids_after(&stages.database, OFFERS, &ours, after, stages.throttle.step_size(scan::STEP)).await?)
}

async fn touch(stages: &mut Stages, ids: &[ObjectId], position: &EventPosition) -> Result<(), Unfinished> {
    let ids: BTreeSet<JobId> = ids.iter().copied().map(JobId).collect();
    Box::pin(stages.mirror(&ids, &BTreeSet::new(), position)).await
}

/// The counts by their names in the progress and in the result.
fn fields(offers: u64, written: MirrorCounts) -> [(&'static str, u64); 4] {
    let MirrorCounts { edited, jobs_added, made } = written;
    [
        ("offers", offers),
        ("recruiters_edited", edited),
        ("recruiters_with_new_jobs", jobs_added),
        ("recruiters_made", made),
    ]
}
