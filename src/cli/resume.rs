//! The command `resume`: a person lets the service go on after a pause or a halt.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::control::done;
use super::position::ResumePosition;
use crate::context::Context;
use crate::json_output::JsonForm;
use crate::leader::control::NOT_PAUSED;
use crate::leader::halt::{self, ResumeOrder, StoredHalt};
use crate::leader::pause::StoredPause;
use crate::maintenance::replay::{length_text, too_old};
use crate::maintenance::stored_commands::Command;
use crate::mongo::oplog::Oplog;
use crate::mongo::server_clock::server_time;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::tasks::{Group, Task, pause, signals};

/// The time between two looks at the halt.
const POLL: Duration = Duration::from_millis(200);

/// Arguments of `resume`.
#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// After a halt, the position at which the stream is opened: `now`, an id of the history, a file with an exported
    /// token, or a time. After a pause the stream goes on at its position.
    #[arg(long, value_name = "now|TOKEN_ID|FILE|TIME", default_value = "now")]
    pub from: ResumePosition,
    /// The reason, for the record.
    #[arg(long, value_name = "TEXT", value_parser = super::values::reason)]
    pub reason: String,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Ends the halt or the pause, and prints on standard output what goes on.
///
/// # Errors
/// A [`Refusal`] when there is neither, when the oplog no longer holds the position, or when the database fails.
pub async fn resume(context: Context, arguments: ResumeArguments) -> Result<Exit, Refusal> {
    match StoredHalt::read(&context.database).await? {
        Some(halted) => after_halt(&context, &arguments, &halted).await,
        None => after_pause(&context, arguments).await,
    }
}

#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn after_pause(context: &Context, arguments: ResumeArguments) -> Result<Exit, Refusal> {
    if StoredPause::read(&context.database).await?.is_none() {
        return Err(none());
    }
    if !matches!(arguments.from, ResumePosition::Now) {
        let message = "--from is for a halted leader: after a pause the stream goes on at its position";
        return Err(Refusal::new(Exit::Usage, message));
    }
    let details = done(context, &Command::Resume { reason: arguments.reason }).await?;
    let seconds = details.get_i64("seconds").unwrap_or_default();
    if arguments.json {
        JsonForm::Resume.print(json!({ "ended": "pause", "seconds": seconds }));
    } else {
        let lasted = length_text(Duration::from_secs(seconds.unsigned_abs()));
        println!("done: the pause of {lasted} is over, and the stream goes on at its position");
    }
    Ok(Exit::Done)
}

/// Stores the decision about a halt, and waits until the leader has opened the stream.
#[expect(clippy::print_stdout, reason = "the output of the command")]
async fn after_halt(context: &Context, arguments: &ResumeArguments, halted: &StoredHalt) -> Result<Exit, Refusal> {
    let database = &context.database;
    let from = match &arguments.from {
        ResumePosition::Now => None,
        ResumePosition::Named(name) => Some(name.find(context).await?.time()),
    };
    if let Some(from) = from {
        let oplog = Oplog::measure(database).await?;
        if let Some(oplog) = oplog.filter(|oplog| !oplog.reaches(from)) {
            return Err(Refusal::new(Exit::Findings, too_old(from, Some(&oplog))));
        }
    }
    let told = (&*context.deployment.operator, &*arguments.reason, server_time(database).await?);
    if !halt::order(database, ResumeOrder { from }, told).await? {
        return Err(none());
    }
    tell(&format!("{} was halted: {}", halted.instance, halted.cause));
    let mut group = Group::new(&tokio_util::sync::CancellationToken::new());
    group.spawn(Task::Signals, signals(group.stop.clone()));
    while StoredHalt::read(database).await?.is_some() {
        if !pause(&group.stop, POLL).await {
            tell("the leader goes on as soon as it sees the decision");
            return Ok(Exit::Interrupted);
        }
    }
    if arguments.json {
        JsonForm::Resume.print(json!({ "ended": "halt", "seconds": null }));
    } else {
        println!("done: the stream is open, what was not read is a gap, and a resync repairs it");
    }
    Ok(Exit::Done)
}

fn none() -> Refusal {
    let message = format!(
        "{NOT_PAUSED}; `stream-processor status` shows the state, and `stream-processor tokens reset` moves the position \
         while no instance runs"
    );
    Refusal::new(Exit::Findings, message)
}
