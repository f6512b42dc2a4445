//! The commands `pause` and `stepdown`, by which a person stops the service for a while, or lets another instance lead.

use std::time::Duration;

use bson::{DateTime, Document};
use clap::Args;
use serde_json::json;

use super::values::{self, Ceiling};
use crate::clock;
use crate::context::Context;
use crate::json_output::JsonForm;
use crate::lease::{self, Holder};
use crate::maintenance::stored_commands::{Command, CommandOutcome};
use crate::mongo::server_clock::server_time;
use crate::progress::tell;
use crate::refusal::{Exit, Refusal};
use crate::service::command_wait::refuse_while_halted;
use crate::service::submit::submit;
use crate::shown_time::shown;
use crate::status::instances::{self, InstanceStatus};
use crate::tasks::{self, Group, Task, signals};

/// The time between two looks at the lease.
const POLL: Duration = Duration::from_millis(200);

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArguments {
    /// The reason, for the record and for `status`.
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: String,
    /// The time after which an alert fires, such as 30m or 2h; the default is `pause.limit`. The pause itself does not end.
    #[arg(long, value_name = "DURATION", value_parser = values::limit)]
    pub limit: Option<Duration>,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `stepdown`.
#[derive(Debug, Args)]
pub struct StepdownArguments {
    /// The time for which this leader does not ask for the lease again.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Step down although no standby gives a sign of life. No instance leads then until one is started, or the time is over.
    #[arg(long)]
    pub force: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `throttle`.
#[derive(Debug, Args)]
pub struct ThrottleArguments {
    /// The most offers that are written per second, or `off`: the configuration decides again.
    #[arg(value_name = "N|off", value_parser = values::ceiling)]
    pub ceiling: Ceiling,
    /// The reason, for the record.
    #[arg(long, value_name = "TEXT", value_parser = values::reason)]
    pub reason: String,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Orders a ceiling of writes, and prints the one that is in force on standard output.
///
/// # Errors
/// A [`Refusal`] when the database fails for good.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn throttle(context: Context, arguments: ThrottleArguments) -> Result<Exit, Refusal> {
    let order = Command::Throttle { max_writes_per_second: arguments.ceiling.0, reason: arguments.reason };
    let ceiling = done(&context, &order).await?.get_i64("max_writes_per_second").ok();
    match ceiling {
        _ if arguments.json => JsonForm::Throttle.print(json!({ "max_writes_per_second": ceiling })),
        Some(ceiling) => println!("at most {ceiling} offers are written per second; the stream itself is not held up"),
        None => println!("no ceiling"),
    }
    Ok(Exit::Done)
}

/// Pauses the service, and prints since when it is paused on standard output.
///
/// # Errors
/// A [`Refusal`] while a leader is halted, or when the database fails for good.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn pause(context: Context, arguments: PauseArguments) -> Result<Exit, Refusal> {
    refuse_while_halted(&context).await?;
    let limit = arguments.limit.unwrap_or(context.settings.pause.limit);
    let limit_seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let details = done(&context, &Command::Pause { reason: arguments.reason, limit_seconds }).await?;
    let date = |field: &str| details.get_datetime(field).copied().unwrap_or(DateTime::from_millis(0));
    let (since, limit_at) = (date("since"), date("limit_at"));
    if arguments.json {
        let text = |date: DateTime| date.try_to_rfc3339_string().unwrap_or_default();
        JsonForm::Pause.print(json!({ "since": text(since), "limit_at": text(limit_at) }));
    } else {
        println!("paused since {}: nothing is read or written", shown(since, context.time_zone));
        println!("an alert fires at {}; `stream-processor resume` ends the pause", shown(limit_at, context.time_zone));
    }
    Ok(Exit::Done)
}

/// Lets the leader give the lease back, and waits for the next leader.
///
/// # Errors
/// A [`Refusal`] when no instance leads, when no standby gives a sign of life (unless forced), when no standby takes the lease, or when the database fails for good.
#[expect(clippy::print_stdout, reason = "the output of the command")]
pub async fn stepdown(context: Context, arguments: StepdownArguments) -> Result<Exit, Refusal> {
    refuse_while_halted(&context).await?;
    let Some(leader) = lease::current(&context.database).await? else {
        return Err(Refusal::new(Exit::Findings, "no instance leads: start one with `stream-processor run`"));
    };
    if !arguments.force {
        refuse_without_standby(&context, &leader).await?;
    }
    let details = done(&context, &Command::Stepdown { seconds: arguments.seconds.into() }).await?;
    let stepped_down = details.get_str("instance").unwrap_or_default();
    let term = details.get_i64("term").unwrap_or_default();
    let Some(leader) = next_leader(&context, stepped_down, term, arguments.seconds).await? else {
        return Ok(Exit::Interrupted);
    };
    if arguments.json {
        JsonForm::Stepdown.print(json!({ "stepped_down": stepped_down, "leader": leader }));
    } else {
        println!("{leader} leads; {stepped_down} does not ask for the lease for {} s", arguments.seconds);
    }
    Ok(Exit::Done)
}

/// Waits until another instance leads; `None` after Ctrl-C.
async fn next_leader(
    context: &Context,
    stepped_down: &str,
    term: i64,
    seconds: u32,
) -> Result<Option<String>, Refusal> {
    let mut group = Group::new(&tokio_util::sync::CancellationToken::new());
    group.spawn(Task::Signals, signals(group.stop.clone()));
    let (began, lease, mut told) = (clock::instant(), context.settings.lease.duration, false);
    loop {
        if let Some(leader) = lease::current(&context.database).await?.filter(|leader| leader.term > term) {
            if leader.name != stepped_down {
                return Ok(Some(leader.name));
            }
            let message =
                format!("no standby took the lease: {stepped_down} leads again; start another instance first");
            return Err(Refusal::new(Exit::Findings, message));
        }
        let waited = began.elapsed();
        if waited > Duration::from_secs(seconds.into()) + lease * 3 {
            return Err(Refusal::new(Exit::Findings, "no instance leads: start one with `stream-processor run`"));
        }
        // A standby asks for the lease twice a second, so there is none.
        if !told && waited > lease {
            told = true;
            let left = Duration::from_secs(seconds.into()).saturating_sub(waited).as_secs();
            tell(&format!("no standby has taken the lease; {stepped_down} asks for it again in {left} s"));
        }
        if !tasks::pause(&group.stop, POLL).await {
            return Ok(None);
        }
    }
}

async fn refuse_without_standby(context: &Context, leader: &Holder) -> Result<(), Refusal> {
    let now = server_time(&context.database).await?;
    let instances = instances::read(&context.database, Some(leader), now).await?;
    if instances.iter().any(InstanceStatus::is_standby) {
        return Ok(());
    }
    let message = format!(
        "no standby gives a sign of life, so nobody would lead after {}: start another instance first, or give --force \
         (an instance of version 1.0.0 gives none)",
        leader.name
    );
    Err(Refusal::new(Exit::Findings, message))
}

/// Submits a command of the control, and returns what it tells.
pub(super) async fn done(context: &Context, command: &Command) -> Result<Document, Refusal> {
    match submit(context, command, |_| {}).await? {
        CommandOutcome { done: true, details } => Ok(details),
        refused => Err(refused.refusal()),
    }
}
