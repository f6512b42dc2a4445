//! The commands `tokens list`, `show`, `export`, `import` and `reset` (spec 06). `list` and `show` print the position
//! in the change stream, its history, and whether the stream can go on from there. The others export and move it.

mod changes;
mod moving;
mod old_worker;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use bson::{Bson, Timestamp};
use chrono_tz::Tz;
use mongodb::Database;
use resume_tokens::{Checkpoint, OldWorkerTokens, StoreError, TokenKind};
use serde_json::{Value, json};

use super::arguments::TokensCommand;
use super::position::{self, NamedPosition, PositionName};
use super::table::table;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::leader::lead::store;
use crate::maintenance::replay::{length_text, time_text};
use crate::mongo::deadline::with_deadline;
use crate::mongo::oplog::{Oplog, YOUNG_OPLOG};
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::shown_time::shown_position;
use crate::source::cursor::operation_time;

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when a position cannot be found or must not be moved, or when the database fails for good.
pub async fn run(context: Context, command: TokensCommand) -> Result<Exit, Refusal> {
    match command {
        TokensCommand::List { limit, json } => list(&context, limit, json).await,
        TokensCommand::Show { position, json, fail_if_lost } => {
            show(&context, position.as_ref(), json, fail_if_lost).await
        }
        TokensCommand::Export { old_worker: true, .. } => old_worker::hand_over(&context).await,
        TokensCommand::Export { file, id, .. } => export(&context, file.as_deref(), id.as_deref()).await,
        TokensCommand::Import { file, old_worker, override_ } => {
            let to = match (file, old_worker) {
                (Some(file), _) => moving::MoveTarget::Position(file),
                (None, _) => moving::MoveTarget::OldWorker,
            };
            moving::run(&context, to, override_).await
        }
        TokensCommand::Reset { override_ } => moving::run(&context, moving::MoveTarget::Nowhere, override_).await,
    }
}

/// The present state of the server, against which positions are measured.
struct Measure {
    now: Timestamp,
    /// `None` where the oplog may not be read.
    oplog: Option<Oplog>,
}

impl Measure {
    async fn take(context: &Context) -> Result<Self, Failure> {
        Ok(Self { now: operation_time(&context.database).await?, oplog: Oplog::measure(&context.database).await? })
    }

    fn age(&self, time: Timestamp) -> Duration {
        Duration::from_secs(u64::from(self.now.time.saturating_sub(time.time)))
    }

    /// True when the oplog still holds this time, so that the stream can go on from it; `None` where the oplog may not
    /// be read.
    fn is_reached(&self, time: Timestamp) -> Option<bool> {
        self.oplog.map(|oplog| oplog.reaches(time))
    }

    fn headroom(&self, time: Timestamp) -> Option<Duration> {
        self.oplog?.headroom(time)
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn list(context: &Context, limit: usize, as_json: bool) -> Result<Exit, Refusal> {
    let measure = Measure::take(context).await?;
    let current = with_deadline(store(context).load()).await;
    let all = with_deadline(store(context).history(usize::MAX)).await.map_err(Failure::from)?;
    let shown = all.iter().take(limit);
    if as_json {
        let current = current.as_ref().ok().and_then(Option::as_ref);
        let entries: Vec<Value> = shown.map(|entry| as_value(&entry.checkpoint, &measure)).collect();
        let current = current.map(|one| as_value(one, &measure));
        JsonForm::TokensList.print(json!({ "current": current, "count": all.len(), "history": entries }));
        return Ok(Exit::Done);
    }
    let header = ["ID", "TIME", "AGE", "EVENTS", "OPLOG"];
    let row = |checkpoint: &Checkpoint| row(checkpoint, &measure, context.time_zone);
    match &current {
        Ok(Some(current)) => {
            println!("position");
            table(header, &[row(current)]).iter().for_each(|line| println!("  {line}"));
        }
        Ok(None) => println!("position: none, no instance has saved one yet"),
        Err(error) => println!("position: {error}"),
    }
    println!("history: {}, newest first", counted(all.len(), "entry", "entries"));
    let rows: Vec<[String; 5]> = shown.map(|entry| row(&entry.checkpoint)).collect();
    table(header, &rows).iter().for_each(|line| println!("  {line}"));
    Ok(Exit::Done)
}

fn row(checkpoint: &Checkpoint, measure: &Measure, zone: Tz) -> [String; 5] {
    let time = checkpoint.cluster_time;
    [
        checkpoint.history_id(),
        shown_position(time, zone),
        length_text(measure.age(time)),
        checkpoint.events.to_string(),
        reached_text(measure.is_reached(time)).to_owned(),
    ]
}

fn reached_text(reached: Option<bool>) -> &'static str {
    match reached {
        Some(true) => "in the oplog",
        Some(false) => "no longer in the oplog",
        None => "unknown: the user may not read the oplog",
    }
}

fn as_value(checkpoint: &Checkpoint, measure: &Measure) -> Value {
    let time = checkpoint.cluster_time;
    json!({
        "id": checkpoint.history_id(),
        "cluster_time": { "t": time.time, "i": time.increment },
        "time": time_text(time),
        "kind": kind_word(checkpoint.token.kind()),
        "age_seconds": measure.age(time).as_secs(),
        "in_oplog": measure.is_reached(time),
        "headroom_seconds": measure.headroom(time).map(|headroom| headroom.as_secs()),
        "term": checkpoint.term,
        "events": checkpoint.events,
        "fingerprint": checkpoint.fingerprint,
        "updated_at": checkpoint.updated_at.try_to_rfc3339_string().ok(),
    })
}

fn kind_word(kind: TokenKind) -> &'static str {
    match kind {
        TokenKind::Event => "event",
        TokenKind::HighWaterMark => "high_water_mark",
        TokenKind::Unknown => "unknown",
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn show(
    context: &Context,
    name: Option<&PositionName>,
    as_json: bool,
    fail_if_lost: bool,
) -> Result<Exit, Refusal> {
    let measure = Measure::take(context).await?;
    let found = match name {
        Some(name) => name.find(context).await?,
        None => NamedPosition::Checkpoint(Box::new(current(context).await?)),
    };
    let time = found.time();
    let reached = measure.is_reached(time);
    if as_json {
        let mut value = match &found {
            NamedPosition::Checkpoint(checkpoint) => as_value(checkpoint, &measure),
            NamedPosition::Token(_) | NamedPosition::Time(_) => json!({
                "cluster_time": { "t": time.time, "i": time.increment }, "time": time_text(time),
                "age_seconds": measure.age(time).as_secs(), "in_oplog": reached,
                "headroom_seconds": measure.headroom(time).map(|headroom| headroom.as_secs()),
            }),
        };
        if let (None, Some(fields)) = (name, value.as_object_mut()) {
            let changes = changes::read(&context.database).await?.into_iter().map(Bson::into_relaxed_extjson);
            let changes: Vec<Value> = changes.collect();
            fields.insert("old_worker".to_owned(), json!(old_tokens(context, &measure).await?));
            fields.insert("changes".to_owned(), changes.into());
        }
        JsonForm::TokensShow.print(value);
    } else {
        println!("{}", as_text(&found, &measure, context.time_zone));
        if name.is_none() {
            old_tokens(context, &measure).await?.iter().for_each(|line| println!("old worker    {line}"));
            let changes = changes::read(&context.database).await?;
            changes
                .iter()
                .filter_map(|change| changes::text(change, context.time_zone))
                .for_each(|line| println!("moved         {line}"));
        }
    }
    Ok(if fail_if_lost && reached == Some(false) { Exit::Findings } else { Exit::Done })
}

fn as_text(found: &NamedPosition, measure: &Measure, zone: Tz) -> String {
    let time = found.time();
    let ago = length_text(measure.age(time));
    let mut lines =
        vec![format!("time          {}, {ago} ago ({}, {})", shown_position(time, zone), time.time, time.increment)];
    let token = match found {
        NamedPosition::Checkpoint(checkpoint) => Some(&checkpoint.token),
        NamedPosition::Token(token) => Some(token),
        NamedPosition::Time(_) => None,
    };
    lines.extend(token.map(|token| {
        let kind = match token.kind() {
            TokenKind::Event => "an event: the stream continues after it",
            TokenKind::HighWaterMark => "a time without an event: every earlier event was delivered",
            TokenKind::Unknown => "unknown to this version",
        };
        format!("kind          {kind}")
    }));
    lines.push(format!("oplog         {}", reached_text(measure.is_reached(time))));
    let headroom =
        measure.headroom(time).map(|headroom| format!("{} until it falls off the oplog", length_text(headroom)));
    let young = measure.oplog.map(|_| YOUNG_OPLOG.to_owned());
    lines.extend(headroom.or(young).map(|headroom| format!("headroom      {headroom}")));
    if let NamedPosition::Checkpoint(checkpoint) = found {
        lines.push(format!("id            {}", checkpoint.history_id()));
        lines.push(format!("events        {} applied up to here, in term {}", checkpoint.events, checkpoint.term));
    }
    lines.join("\n")
}

/// The present checkpoint. A [`Refusal`] when there is none, or when it cannot be read.
async fn current(context: &Context) -> Result<Checkpoint, Refusal> {
    match with_deadline(store(context).load()).await {
        Ok(Some(checkpoint)) => Ok(checkpoint),
        Ok(None) => Err(Refusal::new(
            Exit::Findings,
            "there is no position yet: no instance has saved one; `stream-processor run` starts one",
        )),
        Err(error @ StoreError::Garbled { .. }) => {
            let advice = "import an earlier position (`tokens list`), or run `tokens reset`; a resync follows";
            Err(Refusal::new(Exit::Findings, format!("{error}; {advice}")))
        }
        Err(error) => Err(Failure::from(error).into()),
    }
}

/// The old worker's tokens as text, one line per collection.
async fn old_tokens(context: &Context, measure: &Measure) -> Result<Vec<String>, Failure> {
    let old = with_deadline(OldWorkerTokens::new(Database::clone(&context.database)).load()).await?;
    let line = |(collection, token): &(String, resume_tokens::ResumeToken)| {
        let time = token.cluster_time();
        format!("{collection}: {}, {}", shown_position(time, context.time_zone), reached_text(measure.is_reached(time)))
    };
    let garbled = old.garbled.iter().map(|collection| format!("{collection}: cannot be read"));
    Ok(old.tokens.iter().map(line).chain(garbled).collect())
}

async fn export(context: &Context, file: Option<&Path>, id: Option<&str>) -> Result<Exit, Refusal> {
    let checkpoint = match id {
        Some(id) => position::in_history(context, id).await?,
        None => current(context).await?,
    };
    let unwritten = |error: &dyn std::fmt::Display, advice: &str| {
        let file = file.unwrap_or_else(|| Path::new("-")).display();
        Refusal::new(Exit::Usage, format!("{file}: cannot be written: {error}; {advice}"))
    };
    let json = checkpoint.to_json().map_err(|error| unwritten(&error, "choose another entry of the history"))?;
    let written = match file.filter(|file| *file != Path::new("-")) {
        // An existing file is never overwritten: an export may be the last copy of a position.
        Some(file) => std::fs::File::create_new(file).and_then(|mut file| {
            file.write_all(json.as_bytes())?;
            file.sync_all()
        }),
        None => std::io::stdout().lock().write_all(json.as_bytes()),
    };
    written.map_err(|error| unwritten(&error, "choose another file"))?;
    Ok(Exit::Done)
}
