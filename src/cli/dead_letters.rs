//! The commands `dead-letters list`, `show`, `retry` and `drop` (spec 06). The output has ids, reasons and codes, never
//! values of documents.

use std::collections::BTreeSet;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::arguments::{DeadLettersCommand, ListDeadLettersArguments};
use super::table::table;
use crate::context::Context;
use crate::counted::counted;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::maintenance::stored_commands::{Command, CommandOutcome, count};
use crate::model::dead_letter::Reason;
use crate::model::names::DEAD_LETTERS;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::service::submit::submit;
use crate::shown_time::shown;
use crate::write::stored_dead_letter::StoredDeadLetter;

/// The number of dead letters that are printed without `--limit`; `--ndjson` then prints all.
const SHOWN: u64 = 1_000;

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when `show` finds no such dead letter, or the database fails for good.
pub async fn run(context: Context, command: DeadLettersCommand) -> Result<Exit, Refusal> {
    match command {
        DeadLettersCommand::List(arguments) => list(&context, &arguments).await,
        DeadLettersCommand::Show { id, json } => show(&context, &id, json).await,
        DeadLettersCommand::Retry { ids, json } => retry(&context, ids, json).await,
        DeadLettersCommand::Drop { ids, reason, json } => drop_letters(&context, ids, reason, json).await,
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn list(context: &Context, arguments: &ListDeadLettersArguments) -> Result<Exit, Refusal> {
    let ListDeadLettersArguments { reason, limit, json, ndjson, fail_if_any } = arguments;
    let filter = if reason.is_empty() {
        doc! {}
    } else {
        doc! { "reason": { "$in": reason } }
    };
    let count = with_deadline(collection(&context.database, DEAD_LETTERS).count_documents(filter.clone())).await;
    let count = count.map_err(Failure::Read)?;
    let exit = if *fail_if_any && count > 0 { Exit::Findings } else { Exit::Done };
    if *ndjson {
        let print = |dead_letter: StoredDeadLetter| println!("{}", as_value(&dead_letter));
        each(context, filter, *limit, print).await?;
        return Ok(exit);
    }
    let mut shown = Vec::new();
    each(context, filter, Some(limit.unwrap_or(SHOWN)), |dead_letter| shown.push(dead_letter)).await?;
    if *json {
        let dead_letters: Vec<Value> = shown.iter().map(as_value).collect();
        JsonForm::DeadLettersList.print(json!({ "count": count, "dead_letters": dead_letters }));
        return Ok(exit);
    }
    let rows: Vec<[String; 5]> = shown.iter().map(|dead_letter| row(dead_letter, context)).collect();
    for line in table(["ID", "REASON", "ATTEMPTS", "LAST SEEN", "DETAIL"], &rows) {
        println!("{line}");
    }
    let hidden = count.saturating_sub(shown.len() as u64);
    let rest = if hidden > 0 { format!(", {hidden} of them not shown (--limit shows more)") } else { String::new() };
    println!("{}{rest}", letters(count));
    if count > 0 {
        println!("next: stream-processor dead-letters show ID tells the remedy, dead-letters retry ID tries again");
    }
    Ok(exit)
}

/// Reads the dead letters one by one, because `--ndjson` may print more of them than fit into memory.
async fn each(
    context: &Context,
    filter: Document,
    limit: Option<u64>,
    mut found: impl FnMut(StoredDeadLetter),
) -> Result<(), Failure> {
    let limit = limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let dead_letters = collection(&context.database, DEAD_LETTERS);
    let reading = dead_letters.find(filter).sort(doc! { "_id": 1 }).limit(limit);
    let mut cursor = with_deadline(reading).await.map_err(Failure::Read)?;
    while let Some(dead_letter) = with_deadline(cursor.try_next()).await.map_err(Failure::Read)? {
        found(StoredDeadLetter::of(&dead_letter));
    }
    Ok(())
}

fn as_value(dead_letter: &StoredDeadLetter) -> Value {
    json!({
        "id": dead_letter.id, "reason": dead_letter.reason, "meaning": meaning(dead_letter), "detail": dead_letter.detail,
        "attempts": dead_letter.attempts, "first_seen": dead_letter.first_seen.and_then(text),
        "last_seen": dead_letter.last_seen.and_then(text), "next_retry": dead_letter.next_retry.and_then(text),
    })
}

fn row(dead_letter: &StoredDeadLetter, context: &Context) -> [String; 5] {
    let StoredDeadLetter { id, reason, attempts, last_seen, .. } = dead_letter;
    let attempts = attempts.map_or_else(String::new, |attempts| attempts.to_string());
    let last_seen = last_seen.map_or_else(String::new, |time| shown(time, context.time_zone));
    [id.clone(), reason.clone(), attempts, last_seen, detail(dead_letter)]
}

/// The stored detail; where the reason tells everything, what it means.
fn detail(dead_letter: &StoredDeadLetter) -> String {
    if dead_letter.detail.is_empty() { meaning(dead_letter).to_owned() } else { dead_letter.detail.clone() }
}

/// What the reason means, without the remedy.
fn meaning(dead_letter: &StoredDeadLetter) -> &'static str {
    let advice = Reason::from_stored(&dead_letter.reason).advice();
    advice.split_once(": ").map_or(advice, |(meaning, _)| meaning)
}

fn text(date: DateTime) -> Option<String> {
    date.try_to_rfc3339_string().ok()
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn show(context: &Context, id: &str, as_json: bool) -> Result<Exit, Refusal> {
    let Some(dead_letter) = StoredDeadLetter::read(&context.database, id).await? else {
        let message = format!("{id}: there is no such dead letter; `stream-processor dead-letters list` shows them");
        return Err(Refusal::new(Exit::Findings, message));
    };
    let advice = Reason::from_stored(&dead_letter.reason).advice();
    if as_json {
        let mut value = as_value(&dead_letter);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("advice".to_owned(), advice.into());
        }
        JsonForm::DeadLettersShow.print(value);
        return Ok(Exit::Done);
    }
    let at = |time: Option<DateTime>| time.map_or_else(String::new, |time| shown(time, context.time_zone));
    let StoredDeadLetter { attempts, first_seen, last_seen, next_retry, .. } = &dead_letter;
    for (name, shown) in [
        ("id", dead_letter.id.clone()),
        ("reason", dead_letter.reason.clone()),
        ("detail", detail(&dead_letter)),
        ("attempts", attempts.map_or_else(String::new, |attempts| attempts.to_string())),
        ("first_seen", at(*first_seen)),
        ("last_seen", at(*last_seen)),
        ("next_retry", at(*next_retry)),
        ("what to do", advice.to_owned()),
    ] {
        if !shown.is_empty() {
            println!("{name:<11} {shown}");
        }
    }
    Ok(Exit::Done)
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn drop_letters(context: &Context, ids: Vec<String>, reason: String, as_json: bool) -> Result<Exit, Refusal> {
    let asked = distinct(&ids);
    match submit(context, &Command::DropDeadLetters { ids, reason: Some(reason) }, |_| {}).await? {
        CommandOutcome { done: true, details } => {
            let dropped = count(&details, "dropped");
            match as_json {
                true => JsonForm::DeadLettersDrop
                    .print(json!({ "dropped": dropped, "unknown": asked.saturating_sub(dropped) })),
                false if dropped == asked => println!("{} dropped", letters(dropped)),
                false => {
                    println!("{} dropped, {} not found", letters(dropped), asked.saturating_sub(dropped))
                }
            }
            Ok(if dropped == asked { Exit::Done } else { Exit::Findings })
        }
        refused => Err(refused.refusal()),
    }
}

/// Retries the dead letters with these ids, or all without an id.
#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn retry(context: &Context, ids: Vec<String>, as_json: bool) -> Result<Exit, Refusal> {
    let asked = if ids.is_empty() { None } else { Some(distinct(&ids)) };
    match submit(context, &Command::RetryDeadLetters { ids, due_at: None }, |_| {}).await? {
        CommandOutcome { done: true, details } => {
            let (before, after) = (count(&details, "before"), count(&details, "after"));
            let unknown = asked.map_or(0, |asked| asked.saturating_sub(before));
            if as_json {
                JsonForm::DeadLettersRetry.print(json!({ "before": before, "after": after, "unknown": unknown }));
            } else {
                let unknown = if unknown > 0 { format!("; {unknown} not found") } else { String::new() };
                println!("{} before, {after} now{unknown}", letters(before));
            }
            Ok(if after == 0 && unknown == 0 { Exit::Done } else { Exit::Findings })
        }
        refused => Err(refused.refusal()),
    }
}

fn letters(count: u64) -> String {
    counted(count, "dead letter", "dead letters")
}

fn distinct(ids: &[String]) -> u64 {
    ids.iter().collect::<BTreeSet<_>>().len() as u64
}
