//! The steps of a backfill: it touches recruiters, and first notes those whose `_id` is no ObjectId.

use std::collections::BTreeMap;

use bson::{Document, doc};

use super::refused::refused_by;
use super::stored_commands::{CommandOutcome, StoredCommand, count, counted};
use crate::apply::executor::Apply;
use crate::interruption::Unfinished;
use crate::model::ids::{RecruiterId, typed};
use crate::model::names::WatchedCollection;
use crate::model::other_id::OtherId;
use crate::observe::facts::TouchOrigin;
use crate::plan::Touch;
use crate::source::scan;
use crate::write::dead_letters::EventPosition;

/// The field of a backfill's progress with the last `_id` of the scan over documents whose `_id` is no ObjectId.
pub(super) const AFTER_OTHER: &str = "after_other";
/// The field of a backfill's progress that is true when this scan is done.
const OTHERS_DONE: &str = "others_done";

/// Makes the filter of a backfill of selected recruiters; `None` when the stored text is none.
#[must_use]
pub(crate) fn selected(filter: &str, active_only: bool) -> Option<Document> {
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(filter).ok()?;
    let filter = Document::try_from(json).ok()?;
    Some(doc! { "$and": [scan::backfill_filter(None, active_only), filter] })
}

/// Does the next step. Returns the outcome when the backfill is finished.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document. The step can be repeated.
pub(super) async fn step(
    stored: &mut StoredCommand,
    apply: &mut Apply,
    filter: &Document,
) -> Result<Option<CommandOutcome>, Unfinished> {
    if let Some(refused) = refused_by(apply.stages.phase) {
        return Ok(Some(refused));
    }
    let database = apply.stages.database.clone();
    // Documents whose `_id` is no ObjectId come first. The scan for touches does not find them.
    if !stored.progress.get_bool(OTHERS_DONE).unwrap_or_default() {
        let after = OtherId::from_stored(stored.progress.get(AFTER_OTHER));
        let position = EventPosition::of_scan(stored.requested_at);
        let (last, noted) = apply.note_others(WatchedCollection::Recruiters, filter, after.as_ref(), &position).await?;
        stored.progress.remove(AFTER_OTHER);
        match last {
            Some(last) => stored.progress.insert(AFTER_OTHER, last.to_stored()),
            None => stored.progress.insert(OTHERS_DONE, true),
        };
        stored.progress.insert("recruiters", counted(count(&stored.progress, "recruiters") + noted));
        apply.stages.count_dead_letters();
        return Ok(None);
    }
    let after = stored.progress.get_object_id("after").ok();
    let ids = scan::ids_after(
        &database,
        WatchedCollection::Recruiters.name(),
        filter,
        after,
        apply.stages.throttle.step_size(scan::STEP),
    )
    .await?;
    let Some(last) = ids.last() else {
        let mut details = stored.progress.clone();
        for position in ["after", OTHERS_DONE] {
            details.remove(position);
        }
        details.insert("dead_letters", counted(apply.stages.dead_letters.counts().values().map(|n| *n as u64).sum()));
        return Ok(Some(CommandOutcome { done: true, details }));
    };
    let before = apply.stages.write_counts;
    touch(&typed(&ids), TouchOrigin::Backfill, stored, apply).await?;
    let write_counts = apply.stages.write_counts;
    stored.progress.insert("after", *last);
    for (field, done) in [
        ("recruiters", ids.len() as u64),
        ("created", write_counts.created - before.created),
        ("changed", write_counts.changed - before.changed),
        ("unchanged", write_counts.unchanged - before.unchanged),
    ] {
        let so_far = count(&stored.progress, field);
        stored.progress.insert(field, counted(so_far + done));
    }
    Ok(None)
}

async fn touch(
    ids: &[RecruiterId],
    origin: TouchOrigin,
    stored: &StoredCommand,
    apply: &mut Apply,
) -> Result<(), Unfinished> {
    let touches: BTreeMap<RecruiterId, Touch> = ids.iter().map(|id| (*id, Touch::All)).collect();
    apply.stages.metrics.touched(origin, touches.len() as u64);
    apply.touch(&touches, &EventPosition::of_scan(stored.requested_at)).await?;
    apply.stages.count_dead_letters();
    Ok(())
}
