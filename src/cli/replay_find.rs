//! `replay --find`: tells for a span which fields changed, with the first and the last write of each, so that the begin of a
//! bad script is found. It reads the change stream and our labels, and writes nothing.

use std::time::Duration;

use chrono_tz::Tz;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::changed_fields::{ChangedFields, PathWrites};
use super::replay_span::{BESIDE_BAR, show, undeliverable_text, unread};
use super::table::table;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::fetch::own_offers::own_offers;
use crate::json_output::JsonForm;
use crate::maintenance::replay::{time_text, watched};
use crate::maintenance::stored_commands::Span;
use crate::model::ids::JobId;
use crate::model::names::WatchedCollection;
use crate::phase::Phase;
use crate::progress::bar;
use crate::refusal::{Exit, Refusal};
use crate::shown_time::shown_position;
use crate::source::cursor::operation_time;
use crate::source::event::Event;
use crate::source::replay::Replay;
use crate::tasks::{Group, Task, signals};

/// The time to wait for a part, so that Ctrl-C is noticed while the server searches the oplog.
const PATIENCE: Duration = Duration::from_millis(200);

/// Reads the span and prints its changed fields on standard output.
///
/// # Errors
/// A [`Refusal`] when the oplog no longer has the span, or when the database fails for good.
pub(super) async fn find(context: &Context, span: &Span, phase: Phase, as_json: bool) -> Result<Exit, Refusal> {
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let until = match span.until {
        Some(until) => until,
        None => operation_time(&context.database).await?,
    };
    let bar = bar(0, BESIDE_BAR);
    let watched = watched(phase, span.collection.as_deref());
    let source = Replay::open(&context.database, watched, span.from, until);
    let mut source = source.without_foreign(&context.settings.target.partner_label);
    let (mut fields, mut events, mut undeliverable) = (ChangedFields::default(), 0, 0);
    loop {
        if group.stop.is_cancelled() {
            bar.finish_and_clear();
            return Ok(Exit::Interrupted);
        }
        let Some(part) = source.next(PATIENCE).await.map_err(|failure| unread(span.from, failure))? else { continue };
        events += count(context, &part.events, &mut fields).await?;
        undeliverable += part.passed_over;
        show(&bar, span.from, part.reached, until);
        if part.ended {
            break;
        }
    }
    bar.finish_and_clear();
    if as_json {
        JsonForm::ReplayFind.print(json!({
            "from": time_text(span.from), "until": time_text(until), "events": events, "undeliverable": undeliverable,
            "fields": rows(&fields),
        }));
    } else {
        let missed = (undeliverable > 0).then(|| undeliverable_text(undeliverable));
        print(&fields, events, missed, context.time_zone);
    }
    Ok(Exit::Done)
}

/// Counts the events of a part but those of other partners' offers. Returns their number.
async fn count(context: &Context, events: &[Event], fields: &mut ChangedFields) -> Result<u64, Failure> {
    let is_offer = |event: &&Event| event.collection == Some(WatchedCollection::Offers);
    let label = &context.settings.target.partner_label;
    let ours = own_offers(&context.database, label, events.iter().filter(is_offer)).await?;
    let is_ours = |event: &&Event| event.id().is_some_and(|id| ours.contains(&JobId(id)));
    let mut number = 0;
    for event in events.iter().filter(|event| !is_offer(event) || is_ours(event)) {
        fields.add(event);
        number += 1;
    }
    Ok(number)
}

fn rows(fields: &ChangedFields) -> Vec<Value> {
    let row = |(collection, path, writes): (WatchedCollection, &str, PathWrites)| {
        json!({
            "collection": collection.name(), "field": path, "first": time_text(writes.first),
            "last": time_text(writes.last), "writes": writes.writes,
        })
    };
    fields.sorted().into_iter().map(row).collect()
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
fn print(fields: &ChangedFields, events: u64, missed: Option<String>, zone: Tz) {
    let rows: Vec<[String; 5]> = fields
        .sorted()
        .into_iter()
        .map(|(collection, path, writes)| {
            let [first, last] = [writes.first, writes.last].map(|time| shown_position(time, zone));
            [collection.name().to_owned(), path.to_owned(), writes.writes.to_string(), first, last]
        })
        .collect();
    println!("{}", counted(events, "event", "events"));
    let lines = table(["COLLECTION", "FIELD", "WRITES", "FIRST", "LAST"], &rows);
    lines.iter().chain(&missed).for_each(|line| println!("{line}"));
}
