//! The commands `commands list` and `commands cancel`: what was given to the leader. The output has names, states and
//! counts, and who gave the command.

use std::time::Duration;

use bson::{Bson, Document, doc, oid::ObjectId};
use clap::{Args, Subcommand};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::table::table;
use super::values;
use crate::context::Context;
use crate::error::Failure;
use crate::json_output::JsonForm;
use crate::lease;
use crate::maintenance::stored_commands::{self, Cancellation};
use crate::model::names::COMMANDS;
use crate::model::names::command_state::UNFINISHED;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::shown_time::shown;
use crate::tasks::{Group, Task, pause, signals};

/// The time between two looks at a command that is being cancelled.
const POLL: Duration = Duration::from_millis(200);

/// The commands under `commands`.
#[derive(Debug, Subcommand)]
pub enum CommandsCommand {
    /// Print the commands, newest first: who gave them, their states and results. Ended ones are kept for 30 days.
    #[command(after_help = "Example:\n  stream-processor commands list --unfinished")]
    List(ListArguments),
    /// Cancel a command. One that runs ends after its current step, and what it has written stays.
    ///
    /// A resync that the command requested goes on. A run of the ticker (`jobs run`, `anonymize user`, `obfuscate`)
    /// can be cancelled only before it begins.
    #[command(after_help = "Example:\n  stream-processor commands cancel 65102a7347a6ef7545b05ef0")]
    Cancel {
        /// The id, as `list` prints it.
        #[arg(value_name = "ID", value_parser = values::object_id)]
        id: ObjectId,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `commands list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only commands that have not ended.
    #[arg(long)]
    pub unfinished: bool,
    /// The greatest number of commands.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command and prints its result on standard output.
///
/// # Errors
/// A [`Refusal`] when the command to cancel cannot be cancelled, or when the database fails.
pub async fn run(context: Context, command: CommandsCommand) -> Result<Exit, Refusal> {
    match command {
        CommandsCommand::List(arguments) => list(&context, &arguments).await,
        CommandsCommand::Cancel { id, json } => cancel(&context, id, json).await,
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn list(context: &Context, arguments: &ListArguments) -> Result<Exit, Refusal> {
    let filter = if arguments.unfinished {
        doc! { "state": { "$in": UNFINISHED.to_vec() } }
    } else {
        doc! {}
    };
    let commands = collection(&context.database, COMMANDS);
    let found = commands.find(filter).sort(doc! { "_id": -1 }).limit(i64::from(arguments.limit));
    let found = async { found.await?.try_collect::<Vec<Document>>().await };
    let found = with_deadline(found).await.map_err(Failure::Read)?;
    let listed: Vec<ListedCommand> = found.iter().map(ListedCommand::of).collect();
    if arguments.json {
        let commands: Vec<Value> = listed.iter().map(ListedCommand::as_value).collect();
        JsonForm::CommandsList.print(json!({ "commands": commands }));
        return Ok(Exit::Done);
    }
    let rows: Vec<[String; 6]> = listed.iter().map(|command| command.row(context)).collect();
    for line in table(["ID", "COMMAND", "STATE", "GIVEN", "BY", "RESULT"], &rows) {
        println!("{line}");
    }
    if rows.is_empty() {
        println!("no commands");
    }
    Ok(Exit::Done)
}

/// A stored command, as far as every version can read it.
struct ListedCommand<'a> {
    id: String,
    name: &'a str,
    state: &'a str,
    who: &'a str,
    stored: &'a Document,
    /// The reasons of a refusal.
    reasons: Vec<&'a str>,
    /// The numbers of the result, or of the progress so far.
    counts: Vec<(&'a String, i64)>,
}

impl<'a> ListedCommand<'a> {
    fn of(stored: &'a Document) -> Self {
        let text = |field: &str| stored.get_str(field).unwrap_or_default();
        let details = stored.get_document("result").and_then(|result| result.get_document("details")).ok();
        let numbers = details.or_else(|| stored.get_document("progress").ok());
        let number = |(name, value): (&'a String, &'a Bson)| match value {
            Bson::Int32(number) => Some((name, i64::from(*number))),
            Bson::Int64(number) => Some((name, *number)),
            _ => None,
        };
        let reasons = details.and_then(|details| details.get_array("reasons").ok()).into_iter().flatten();
        Self {
            id: stored.get_object_id("_id").map(ObjectId::to_hex).unwrap_or_default(),
            name: stored.get_document("order").and_then(|order| order.get_str("name")).unwrap_or_default(),
            state: text("state"),
            who: text("who"),
            stored,
            reasons: reasons.filter_map(Bson::as_str).collect(),
            counts: numbers.into_iter().flatten().filter_map(number).collect(),
        }
    }

    fn as_value(&self) -> Value {
        let date = |field: &str| self.stored.get_datetime(field).ok().and_then(|at| at.try_to_rfc3339_string().ok());
        let done = self.stored.get_document("result").and_then(|result| result.get_bool("done")).ok();
        let counts: serde_json::Map<String, Value> =
            self.counts.iter().map(|(name, number)| ((*name).clone(), (*number).into())).collect();
        json!({
            "id": self.id, "command": self.name, "state": self.state, "who": self.who,
            "requested_at": date("requested_at"), "finished_at": date("finished_at"), "done": done,
            "reasons": self.reasons, "counts": counts,
        })
    }

    fn row(&self, context: &Context) -> [String; 6] {
        let given = self.stored.get_datetime("requested_at").map(|at| shown(*at, context.time_zone));
        let counts: Vec<String> = self.counts.iter().map(|(name, number)| format!("{name}={number}")).collect();
        let result = if self.reasons.is_empty() { counts.join(" ") } else { self.reasons.join("; ") };
        let word = |text: &str| text.to_owned();
        [self.id.clone(), word(self.name), word(self.state), given.unwrap_or_default(), word(self.who), result]
    }
}

/// Cancels a command, and waits for its end while a leader carries it out.
#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn cancel(context: &Context, id: ObjectId, as_json: bool) -> Result<Exit, Refusal> {
    let database = &context.database;
    let refused = |message: &str| Err(Refusal::new(Exit::Findings, format!("{id}: {message}")));
    let has_ended = match stored_commands::cancel(database, id, &context.deployment.operator).await? {
        Cancellation::Withdrawn => true,
        Cancellation::Requested => match until_ended(context, id).await? {
            Some(has_ended) => has_ended,
            None => return Ok(Exit::Interrupted),
        },
        Cancellation::OfTicker => {
            return refused("a run of the ticker ends by itself; `stream-processor pause` stops it for a while");
        }
        Cancellation::Ended => return refused("the command has ended already; `commands list` shows its result"),
        Cancellation::Unknown => return refused("there is no such command; `commands list` shows the ids"),
    };
    if as_json {
        JsonForm::CommandsCancel.print(json!({ "id": id.to_hex(), "ended": has_ended }));
    } else if has_ended {
        println!("cancelled: {id}");
    } else {
        println!("no instance leads: the next leader does not go on with {id}");
    }
    Ok(Exit::Done)
}

/// Waits for the end of a cancelled command. False while nobody leads; `None` after Ctrl-C.
async fn until_ended(context: &Context, id: ObjectId) -> Result<Option<bool>, Refusal> {
    let mut group = Group::new(&CancellationToken::new());
    group.spawn(Task::Signals, signals(group.stop.clone()));
    loop {
        let stored = stored_commands::load(&context.database, id).await?;
        if let Some(result) = stored.and_then(|stored| stored.result) {
            if result.done {
                let message = format!("{id}: the command was done before it could be cancelled");
                return Err(Refusal::new(Exit::Findings, message));
            }
            return Ok(Some(true));
        }
        if lease::current(&context.database).await?.is_none() {
            return Ok(Some(false));
        }
        if !pause(&group.stop, POLL).await {
            tell("the leader ends the command after its current step");
            return Ok(None);
        }
    }
}
