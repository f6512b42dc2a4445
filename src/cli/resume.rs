//! The command `resume`: a person decides how a halted leader goes on.

use std::time::Duration;

use super::arguments::ResumeArguments;
use super::position::ResumePosition;
use crate::context::Context;
use crate::leader::halt::{self, ResumeOrder, StoredHalt};
use crate::maintenance::replay::too_old;
use crate::mongo::oplog::Oplog;
use crate::mongo::server_clock::server_time;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::tasks::{Group, Task, pause, signals};

/// The time between two looks at the halt.
const POLL: Duration = Duration::from_millis(200);

/// Stores the decision, and waits until the leader has opened the stream.
///
/// # Errors
/// A [`Refusal`] when no leader is halted, when the oplog no longer holds the position, or when the database fails.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn resume(context: Context, arguments: ResumeArguments) -> Result<Exit, Refusal> {
    let database = &context.database;
    let none = || {
        let message = "no leader is halted; `stream-processor status` shows the state, and `stream-processor tokens reset` \
            moves the position while no instance runs";
        Refusal::new(Exit::Findings, message)
    };
    let Some(halted) = StoredHalt::read(database).await? else { return Err(none()) };
    let from = match &arguments.from {
        ResumePosition::Now => None,
        ResumePosition::Named(name) => Some(name.find(&context).await?.time()),
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
    println!("{} was halted: {}", halted.instance, halted.cause);
    let mut group = Group::new(&tokio_util::sync::CancellationToken::new());
    group.spawn(Task::Signals, signals(group.stop.clone()));
    while StoredHalt::read(database).await?.is_some() {
        if !pause(&group.stop, POLL).await {
            tell("the leader goes on as soon as it sees the decision");
            return Ok(Exit::Interrupted);
        }
    }
    println!("done: the stream is open, what was not read is a gap, and a resync repairs it");
    Ok(Exit::Done)
}
