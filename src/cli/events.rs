//! The command `events`, which shows the timeline: what happened, and when. The output has words, counts and names of
//! instances, never values of documents.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use chrono_tz::Tz;
use clap::Args;
use clap::builder::PossibleValuesParser;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::time::TimeName;
use crate::context::Context;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::model::names::EVENTS;
use crate::model::timeline::KINDS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::shown_time::shown;
use crate::tasks::{Group, Task, pause, signals};

/// The interval at which `--follow` looks for new events.
const POLL: Duration = Duration::from_secs(1);
/// The time for which `--follow` looks back, in milliseconds. A server stores an event a moment after its time.
const OVERLAP_MILLISECONDS: i64 = 60_000;

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only events since this time (such as 2h, 01:30 or `yesterday 14:00`).
    #[arg(long, value_name = "TIME")]
    pub since: Option<TimeName>,
    /// Only events of this kind; may be repeated.
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS.map(|(kind, _)| kind)))]
    pub kind: Vec<String>,
    /// The number of events at most: the newest ones.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub limit: u32,
    /// Go on printing new events, until Ctrl-C.
    #[arg(long)]
    pub follow: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "follow")]
    pub json: bool,
    /// Print one JSON object per line.
    #[arg(long, conflicts_with = "json")]
    pub ndjson: bool,
}

/// Prints the events on standard output, the oldest first.
///
/// # Errors
/// A [`Refusal`] when the database cannot be read.
pub async fn events(context: Context, arguments: EventsArguments) -> Result<Exit, Refusal> {
    let since = match arguments.since {
        Some(since) => since.resolve(&context).await?,
        None => DateTime::from_millis(0),
    };
    let mut newest = read(&context, since, &arguments.kind, Some(arguments.limit)).await?;
    if arguments.json {
        let events: Vec<Value> = newest.iter().map(as_value).collect();
        JsonForm::Events.print(json!({ "events": events }));
        return Ok(Exit::Done);
    }
    let mut printed = BTreeSet::new();
    let mut output = EventOutput { ndjson: arguments.ndjson, zone: context.time_zone, has_header: false };
    output.print(&newest, &mut printed);
    if !arguments.follow {
        return Ok(Exit::Done);
    }
    let stop = CancellationToken::new();
    let mut group = Group::new(&stop);
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let mut from = since;
    while pause(&group.stop, POLL).await {
        if let Some(last) = newest.last().and_then(|last| last.get_datetime("at").ok()) {
            from = DateTime::from_millis(last.timestamp_millis().saturating_sub(OVERLAP_MILLISECONDS)).max(since);
        }
        newest = read(&context, from, &arguments.kind, None).await?;
        output.print(&newest, &mut printed);
    }
    Ok(Exit::Done)
}

/// Reads the newest events since a time, the oldest first.
pub(super) async fn read(
    context: &Context,
    since: DateTime,
    kinds: &[String],
    limit: Option<u32>,
) -> Result<Vec<Document>, Failure> {
    let events = collection(&context.database, EVENTS);
    let mut filter = doc! { "at": { "$gte": since } };
    if !kinds.is_empty() {
        filter.insert("kind", doc! { "$in": kinds });
    }
    let found = events.find(filter).sort(doc! { "at": -1, "_id": -1 });
    let found = found.limit(i64::from(limit.unwrap_or_default()));
    let found = async { found.await?.try_collect::<Vec<Document>>().await };
    let mut found = with_deadline(found).await.map_err(Failure::Read)?;
    found.reverse();
    Ok(found)
}

/// The form of the events on standard output. With `--follow`, they come one by one, so the columns have fixed widths.
struct EventOutput {
    ndjson: bool,
    zone: Tz,
    has_header: bool,
}

impl EventOutput {
    #[expect(clippy::print_stdout, reason = "the output of the command")]
    fn print(&mut self, events: &[Document], printed: &mut BTreeSet<String>) {
        for event in events {
            if !printed.insert(event.get("_id").map(ToString::to_string).unwrap_or_default()) {
                continue;
            }
            if self.ndjson {
                println!("{}", as_value(event));
                continue;
            }
            if !self.has_header {
                self.has_header = true;
                println!("{}", self.line("TIME", "KIND", "DETAILS"));
            }
            let (kind, fields) = (event.get_str("kind").unwrap_or_default(), fields_text(event));
            println!("{}", self.line(&self.time(event), kind, &fields));
        }
    }

    fn time(&self, event: &Document) -> String {
        event.get_datetime("at").map(|at| shown(*at, self.zone)).unwrap_or_default()
    }

    fn line(&self, time: &str, kind: &str, details: &str) -> String {
        let width = if self.zone == Tz::UTC { 20 } else { 37 };
        let kinds = KINDS.map(|(kind, _)| kind.len()).into_iter().max().unwrap_or_default();
        format!("{time:<width$}  {kind:<kinds$}  {details}").trim_end().to_owned()
    }
}

fn time(event: &Document) -> Option<String> {
    event.get_datetime("at").ok()?.try_to_rfc3339_string().ok()
}

/// The fields of the event's kind. Fields without a value are left out.
fn fields(event: &Document) -> impl Iterator<Item = (&String, Value)> {
    let own =
        event.iter().filter(|(name, value)| !["_id", "at", "kind"].contains(&name.as_str()) && **value != Bson::Null);
    own.map(|(name, value)| (name, value.clone().into_relaxed_extjson()))
}

fn as_value(event: &Document) -> Value {
    let mut value = json!({ "at": time(event), "kind": event.get_str("kind").ok() });
    if let Some(object) = value.as_object_mut() {
        object.extend(fields(event).map(|(name, value)| (name.clone(), value)));
    }
    value
}

/// The fields of the event's kind, as one line.
pub(super) fn fields_text(event: &Document) -> String {
    let fields: Vec<String> = fields(event).map(|(name, value)| format!("{name}={value}")).collect();
    fields.join(" ")
}
