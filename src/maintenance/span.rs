//! The span of a replay, checked against the clock and the oplog of the server before the replay begins.

use bson::Timestamp;

use super::replay::too_old;
use super::stored_commands::Span;
use crate::context::Context;
use crate::mongo::oplog::Oplog;
use crate::refusal::{Exit, Refusal};
use crate::shown_time::shown_position;
use crate::source::cursor::{operation_time, server_clock};

/// Moves the bounds of a span into the oplog. `names` are what the person who asked calls the two bounds.
///
/// # Errors
/// A [`Refusal`] when a bound lies in the future, when the end is before the beginning, when the oplog no longer holds
/// the beginning, or when the database fails.
pub(crate) async fn bounded(context: &Context, span: Span, names: [&str; 2]) -> Result<Span, Refusal> {
    let Span { mut from, until, collection } = span;
    let now = operation_time(&context.database).await?;
    // The last operation of an idle server may be long ago, so the server's clock is asked too.
    let clock = server_clock(&context.database).await?.max(now);
    for (name, time) in names.into_iter().zip([Some(from), until]) {
        if let Some(time) = time.filter(|time| time.time > clock.time) {
            let [time, now] = [time, clock].map(|time| shown_position(time, context.time_zone));
            let message = format!("{name}: {time} is in the future; the server's time is {now}");
            return Err(Refusal::new(Exit::Usage, message));
        }
    }
    if until.is_some_and(|until| until < from) {
        return Err(exchanged(names));
    }
    let oplog = Oplog::measure(&context.database).await?;
    // The beginning is a whole second. The oplog may begin within this second; the span begins with the oplog then.
    if let Some(oplog) = oplog.filter(|oplog| from == Timestamp { increment: 0, ..oplog.first }) {
        from = oplog.first;
    }
    if let Some(oplog) = oplog.filter(|oplog| !oplog.reaches(from)) {
        return Err(Refusal::new(Exit::Findings, too_old(from, Some(&oplog))));
    }
    // No operation follows the last one yet, and a stream that begins later would wait for the next operation.
    from = from.min(Timestamp { increment: now.increment.saturating_add(1), ..now });
    // The current second is not over yet, so the span ends with the last operation at the latest.
    let until = until.map(|until| until.min(now));
    Ok(Span { from, until, collection })
}

/// The refusal of a span whose end is before its beginning.
pub(crate) fn exchanged([from, until]: [&str; 2]) -> Refusal {
    Refusal::new(Exit::Usage, format!("{until} is before {from}: exchange them"))
}
