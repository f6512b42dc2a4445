//! The commands `dead-letters list` and `dead-letters retry` (spec 06): what could not be projected or
//! written, and another try. They show ids, reasons and codes, never values of documents.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use serde_json::json;

use super::{DeadLettersCommand, Exit};
use crate::app::{App, Refusal};
use crate::error::Failure;
use crate::fetch::raw;
use crate::run::ask::ask;
use crate::run::requests::{Order, Outcome, count};
use crate::write::dead_letters::DEAD_LETTERS;

/// Runs the command; prints its result on the standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good.
pub async fn run(app: App, command: DeadLettersCommand) -> Result<Exit, Refusal> {
    match command {
        DeadLettersCommand::List { json } => list(&app, json).await,
        DeadLettersCommand::Retry { json } => retry(&app, json).await,
    }
}

#[expect(clippy::print_stdout, reason = "what the command is asked for")]
async fn list(app: &App, as_json: bool) -> Result<Exit, Refusal> {
    // One line per letter, so that any number of them can be told without being held.
    let letters = raw(&app.database, DEAD_LETTERS);
    let mut letters = letters.find(doc! {}).sort(doc! { "_id": 1 }).await.map_err(Failure::Read)?;
    let mut found = 0_u64;
    while let Some(letter) = letters.try_next().await.map_err(Failure::Read)? {
        found += 1;
        match as_json {
            true => println!("{}", as_value(&letter)),
            false => println!("{}", as_text(&letter)),
        }
    }
    if !as_json {
        println!("{found} dead letters");
    }
    Ok(if found == 0 { Exit::Done } else { Exit::Found })
}

fn as_value(letter: &Document) -> serde_json::Value {
    json!({
        "id": text(letter, "_id"), "reason": text(letter, "reason"), "detail": text(letter, "detail"),
        "attempts": letter.get("attempts").and_then(Bson::as_i64).or_else(|| letter.get_i32("attempts").ok().map(i64::from)),
        "first_seen": date(letter, "first_seen"), "last_seen": date(letter, "last_seen"),
        "next_retry": date(letter, "next_retry"),
    })
}

fn as_text(letter: &Document) -> String {
    let seen = date(letter, "last_seen").unwrap_or_default();
    format!("{}  {}  {}  {seen}", text(letter, "_id"), text(letter, "reason"), text(letter, "detail"))
}

fn text<'a>(letter: &'a Document, field: &str) -> &'a str {
    letter.get_str(field).unwrap_or_default()
}

fn date(letter: &Document, field: &str) -> Option<String> {
    letter.get_datetime(field).ok().and_then(|date: &DateTime| date.try_to_rfc3339_string().ok())
}

#[expect(clippy::print_stdout, reason = "what the command is asked for")]
async fn retry(app: &App, as_json: bool) -> Result<Exit, Refusal> {
    match ask(app, &Order::RetryDeadLetters { due_at: None }, |_| {}).await? {
        Some(Outcome { done: true, details }) => {
            let (before, after) = (count(&details, "before"), count(&details, "after"));
            match as_json {
                true => println!("{}", json!({ "before": before, "after": after })),
                false => println!("{before} dead letters before, {after} now"),
            }
            Ok(if after == 0 { Exit::Done } else { Exit::Found })
        }
        Some(refused) => Err(Refusal::of(&refused)),
        None => Ok(Exit::Interrupted),
    }
}
