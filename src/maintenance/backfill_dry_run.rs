//! The dry run of a backfill: it counts the writes that touches of recruiters would cause.

use std::collections::BTreeMap;

use bson::Document;
use tokio_util::sync::CancellationToken;

use crate::apply::dry_run::DryRun;
use crate::apply::executor::Apply;
use crate::apply::output::Output;
use crate::apply::stages::Stages;
use crate::clock;
use crate::context::Context;
use crate::interruption::Unfinished;
use crate::model::ids::RecruiterId;
use crate::model::names::WatchedCollection;
use crate::phase::Phase;
use crate::plan::Touch;
use crate::source::scan;
use crate::write::dead_letters::EventPosition;

/// Counts the recruiters that `filter` selects, and the writes that touches of them would cause. `show` is called with
/// the number of recruiters so far.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one document.
pub(crate) async fn run_dry(
    context: &Context,
    phase: Phase,
    filter: &Document,
    stop: &CancellationToken,
    show: impl Fn(u64),
) -> Result<(u64, DryRun), Unfinished> {
    let stages = Stages::new(context, phase, Output::DryRun(Box::default())).await?;
    let mut apply = Apply::new(stages);
    let (mut other, mut after, mut recruiters) = (None, None, 0);
    while !stop.is_cancelled() {
        let position = EventPosition::of_scan(clock::now());
        let (last, count) = apply.note_others(WatchedCollection::Recruiters, filter, other.as_ref(), &position).await?;
        other = last;
        recruiters += count;
        if other.is_none() {
            break;
        }
        show(recruiters);
    }
    // The first scan found `_id`s of other types. A second one finds the ObjectIds.
    while !stop.is_cancelled() {
        let ids =
            scan::ids_after(&context.database, WatchedCollection::Recruiters.name(), filter, after, scan::STEP).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        let touches: BTreeMap<RecruiterId, Touch> = ids.iter().map(|id| (RecruiterId(*id), Touch::All)).collect();
        let now = clock::now();
        Box::pin(apply.touch(&touches, &EventPosition::of_scan(now))).await?;
        recruiters += ids.len() as u64;
        show(recruiters);
    }
    Ok((recruiters, apply.stages.output.into_dry_run()))
}
