//! The command `events`, which shows the timeline: what happened, and when. The output has words, counts and names of
//! instances, never values of documents.

use std::collections::BTreeSet;
use std::time::Duration;

use bson::{DateTime, Document};
use chrono_tz::Tz;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::time::TimeName;
use crate::context::Context;
use crate::json_output::JsonForm;
use crate::model::timeline::KINDS;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::progress::tell;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::shown_time::shown;
use crate::status::events::{as_value, fields_text, read};
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
    #[arg(long, value_name = "KIND", value_parser = PossibleValuesParser::new(KINDS.map(|(kind, ..)| kind)))]
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
    let mut newest = read(&context.database, since, &arguments.kind, Some(arguments.limit)).await?;
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
    let mut failed = RepeatedFailure::default();
    let mut first_printed = newest.first().and_then(|first| first.get("_id").cloned());
    while pause(&group.stop, POLL).await {
        let last = newest.last().and_then(|last| last.get_datetime("at").ok());
        let from = last.map_or(since, |last| {
            DateTime::from_millis(last.timestamp_millis().saturating_sub(OVERLAP_MILLISECONDS)).max(since)
        });
        newest = match read(&context.database, from, &arguments.kind, None).await {
            Ok(events) => events,
            // An outage does not end the command: what happens meanwhile is printed after it.
            Err(failure) => {
                if failed.is_new(&failure) {
                    tell(&format!("the events could not be read: {failure}; retrying"));
                }
                continue;
            }
        };
        if failed.end().is_some() {
            tell("the events can be read again");
        }
        // Events that are older than the first printed one were left out by the limit.
        if let Some(first) = first_printed.take() {
            let older = newest.iter().position(|event| event.get("_id") == Some(&first)).unwrap_or_default();
            printed.extend(newest.iter().take(older).map(id_text));
        }
        output.print(&newest, &mut printed);
    }
    Ok(Exit::Done)
}

fn id_text(event: &Document) -> String {
    event.get("_id").map(ToString::to_string).unwrap_or_default()
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
            if !printed.insert(id_text(event)) {
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
        let kinds = KINDS.map(|(kind, ..)| kind.len()).into_iter().max().unwrap_or_default();
        format!("{time:<width$}  {kind:<kinds$}  {details}").trim_end().to_owned()
    }
}
