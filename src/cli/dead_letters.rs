//! The commands `dead-letters list`, `show`, `retry` and `drop` (spec 06). The output has ids, reasons and codes, never
//! values of documents.

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use serde_json::json;

use super::arguments::DeadLettersCommand;
use crate::context::Context;
use crate::error::Failure;
use crate::maintenance::stored_commands::{Command, CommandOutcome, count};
use crate::model::dead_letter::Reason;
use crate::model::names::DEAD_LETTERS;
use crate::mongo::reads::collection;
use crate::refusal::Exit;
use crate::refusal::Refusal;
use crate::service::submit::submit;
use crate::write::stored_dead_letter::StoredDeadLetter;

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when `show` finds no such dead letter, or the database fails for good.
pub async fn run(context: Context, command: DeadLettersCommand) -> Result<Exit, Refusal> {
    match command {
        DeadLettersCommand::List { reason, limit, json, fail_if_any } => {
            let found = list(&context, reason, limit.unwrap_or(u64::MAX), json).await?;
            Ok(if fail_if_any && found > 0 { Exit::Findings } else { Exit::Done })
        }
        DeadLettersCommand::Show { id, json } => show(&context, &id, json).await,
        DeadLettersCommand::Retry { json } => retry(&context, json).await,
        DeadLettersCommand::Drop { ids, reason, json } => drop_letters(&context, ids, reason, json).await,
    }
}

/// Prints the dead letters, and returns their number.
#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn list(context: &Context, reasons: Vec<String>, limit: u64, as_json: bool) -> Result<u64, Refusal> {
    // Each dead letter is printed as it is read: there may be more of them than fit into memory.
    let dead_letters = collection(&context.database, DEAD_LETTERS);
    let filter = if reasons.is_empty() {
        doc! {}
    } else {
        doc! { "reason": { "$in": reasons } }
    };
    let mut dead_letters = dead_letters.find(filter).sort(doc! { "_id": 1 }).await.map_err(Failure::Read)?;
    let mut found = 0_u64;
    while let Some(dead_letter) = dead_letters.try_next().await.map_err(Failure::Read)? {
        found += 1;
        if found > limit {
            continue;
        }
        let dead_letter = StoredDeadLetter::of(&dead_letter);
        if as_json { println!("{}", as_value(&dead_letter)) } else { println!("{}", as_text(&dead_letter)) }
    }
    if !as_json {
        let hidden = found.saturating_sub(limit);
        let rest = if hidden > 0 { format!(", {hidden} of them not shown") } else { String::new() };
        println!("{found} dead letters{rest}");
    }
    Ok(found)
}

fn as_value(dead_letter: &StoredDeadLetter) -> serde_json::Value {
    json!({
        "id": dead_letter.id, "reason": dead_letter.reason, "detail": dead_letter.detail,
        "attempts": dead_letter.attempts, "first_seen": dead_letter.first_seen.and_then(text),
        "last_seen": dead_letter.last_seen.and_then(text), "next_retry": dead_letter.next_retry.and_then(text),
    })
}

fn as_text(StoredDeadLetter { id, reason, detail, last_seen, .. }: &StoredDeadLetter) -> String {
    format!("{id}  {reason}  {detail}  {}", last_seen.and_then(text).unwrap_or_default())
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
    let mut value = as_value(&dead_letter);
    if as_json {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("advice".to_owned(), advice.into());
        }
        println!("{value:#}");
        return Ok(Exit::Done);
    }
    for field in ["id", "reason", "detail", "attempts", "first_seen", "last_seen", "next_retry"] {
        let shown = value.get(field).filter(|value| !value.is_null() && **value != "");
        if let Some(shown) = shown {
            println!("{field:<11} {}", shown.as_str().map_or_else(|| shown.to_string(), str::to_owned));
        }
    }
    println!("{:<11} {advice}", "what to do");
    Ok(Exit::Done)
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn drop_letters(context: &Context, ids: Vec<String>, reason: String, as_json: bool) -> Result<Exit, Refusal> {
    let asked = ids.iter().collect::<std::collections::BTreeSet<_>>().len() as u64;
    match submit(context, &Command::DropDeadLetters { ids, reason: Some(reason) }, |_| {}).await? {
        Some(CommandOutcome { done: true, details }) => {
            let dropped = count(&details, "dropped");
            match as_json {
                true => println!("{}", json!({ "dropped": dropped, "unknown": asked.saturating_sub(dropped) })),
                false if dropped == asked => println!("{dropped} dead letters dropped"),
                false => {
                    println!("{dropped} dead letters dropped, {} not found", asked.saturating_sub(dropped))
                }
            }
            Ok(if dropped == asked { Exit::Done } else { Exit::Findings })
        }
        Some(refused) => Err(refused.refusal()),
        None => Ok(Exit::Interrupted),
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn retry(context: &Context, as_json: bool) -> Result<Exit, Refusal> {
    match submit(context, &Command::RetryDeadLetters { due_at: None }, |_| {}).await? {
        Some(CommandOutcome { done: true, details }) => {
            let (before, after) = (count(&details, "before"), count(&details, "after"));
            if as_json {
                println!("{}", json!({ "before": before, "after": after }))
            } else {
                println!("{before} dead letters before, {after} now")
            }
            Ok(if after == 0 { Exit::Done } else { Exit::Findings })
        }
        Some(refused) => Err(refused.refusal()),
        None => Ok(Exit::Interrupted),
    }
}
