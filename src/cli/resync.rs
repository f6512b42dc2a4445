//! The command `resync`, which projects every recruiter again and handles what is gone. The leader carries it out, or this
//! process when there is no leader ([`crate::service::submit`]).

use clap::Args;
use serde_json::json;

use super::control::done;
use crate::context::Context;
use crate::counted::counted;
use crate::json_output::JsonForm;
use crate::maintenance::stored_commands::{Command, count};
use crate::refusal::{Exit, Refusal};

/// Arguments of `resync`.
#[derive(Debug, Args)]
pub struct ResyncArguments {
    /// The reason, for the record.
    #[arg(long, value_name = "TEXT", value_parser = super::values::reason)]
    pub reason: String,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the resync, and prints the counts of offers on standard output.
///
/// # Errors
/// A [`Refusal`] when the phase does not allow a resync, or the database fails for good.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn resync(context: Context, arguments: ResyncArguments) -> Result<Exit, Refusal> {
    let details = done(&context, &Command::Resync { reason: arguments.reason }).await?;
    let of = |field: &str| count(&details, field);
    let (created, changed, unchanged) = (of("created"), of("changed"), of("unchanged"));
    if arguments.json {
        JsonForm::Resync.print(json!({ "created": created, "changed": changed, "unchanged": unchanged }));
    } else {
        println!("done: {} created, {changed} changed, {unchanged} unchanged", counted(created, "offer", "offers"));
    }
    Ok(Exit::Done)
}
