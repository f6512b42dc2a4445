//! The dry run of a backfill: counts what touching recruiters would write.

use std::collections::BTreeMap;

use bson::{Document, oid::ObjectId};
use tokio_util::sync::CancellationToken;

use crate::apply::dry_run::DryRun;
use crate::apply::executor::Apply;
use crate::apply::stages::Stages;
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::WatchedCollection;
use crate::phase::Phase;
use crate::plan::Touch;
use crate::source::scan;
use crate::write::Writer;
use crate::write::dead_letters::EventPosition;

/// Counts what touching the recruiters that `filter` selects would write: how many they are, and what of their offers.
/// `show` is told how many were looked at.
///
/// # Errors
/// A [`Failure`] that is not about one document.
pub(crate) async fn run_dry(
    context: &Context,
    phase: Phase,
    filter: &Document,
    stop: &CancellationToken,
    show: impl Fn(u64),
) -> Result<(u64, DryRun), Failure> {
    let mut stages = Stages::new(context, phase, Writer::free(&context.database)).await?;
    stages.dry_run = Some(DryRun::default());
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
    while !stop.is_cancelled() {
        let ids = scan::ids_after(&context.database, WatchedCollection::Recruiters.name(), filter, after).await?;
        after = ids.last().copied();
        if after.is_none() {
            break;
        }
        let touches: BTreeMap<ObjectId, Touch> = ids.iter().map(|id| (*id, Touch::All)).collect();
        let now = clock::now();
        Box::pin(apply.touch(&touches, &EventPosition::of_scan(now))).await?;
        recruiters += ids.len() as u64;
        show(recruiters);
    }
    Ok((recruiters, apply.stages.dry_run.take().unwrap_or_default()))
}
