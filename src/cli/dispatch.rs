//! The list of the commands that need the database, each with the function that carries it out.

use tokio_util::sync::CancellationToken;

use super::CliCommand;
use crate::context::Context;
use crate::notices::notices;
use crate::refusal::{Exit, Refusal};
use crate::service;
use crate::service::reload::ConfigurationInForce;
use crate::setup;
use crate::shown_time::shown_times;

/// Carries a command out, and sends its notices meanwhile. At the end, the last ones have five seconds. `configuration` is
/// for the service, which reads it again on SIGHUP.
///
/// # Errors
/// As the command.
pub async fn dispatch(
    command: CliCommand,
    mut context: Context,
    configuration: ConfigurationInForce,
) -> Result<Exit, Refusal> {
    let zone = context.time_zone;
    // The reasons of a refusal may come from the leader, which writes times in UTC.
    let shown = |refusal: Refusal| Refusal { message: shown_times(&refusal.message, zone), ..refusal };
    let (notices, messenger) = notices(&context.settings.notices, context.deployment.origin());
    context.notices = notices;
    let ended = CancellationToken::new();
    let working = async {
        let done = Box::pin(carry_out(command, context, configuration)).await;
        ended.cancel();
        done
    };
    let sending = async {
        if let Some(messenger) = messenger {
            messenger.run(ended.clone()).await;
        }
    };
    tokio::join!(working, sending).0.map_err(shown)
}

async fn carry_out(
    command: CliCommand,
    context: Context,
    configuration: ConfigurationInForce,
) -> Result<Exit, Refusal> {
    match command {
        CliCommand::Run(_) => service::run(context, configuration).await,
        CliCommand::Backfill(arguments) => super::backfill::backfill(context, arguments).await,
        CliCommand::Setup(arguments) => setup::setup(context, arguments).await,
        CliCommand::Verify(arguments) => super::verify::verify(context, arguments).await,
        CliCommand::Phase { command } => super::phase::phase(context, command).await,
        CliCommand::DeadLetters { command } => super::dead_letters::run(context, command).await,
        CliCommand::Jobs { command } => super::jobs::run(context, command).await,
        CliCommand::Anonymize { command } => super::jobs::anonymize(context, command).await,
        CliCommand::Obfuscate(arguments) => super::jobs::obfuscate(context, arguments).await,
        CliCommand::Resync(arguments) => super::resync::resync(context, arguments).await,
        CliCommand::Commands { command } => super::commands::run(context, command).await,
        CliCommand::Pause(arguments) => super::control::pause(context, arguments).await,
        CliCommand::Stepdown(arguments) => super::control::stepdown(context, arguments).await,
        CliCommand::Throttle(arguments) => super::control::throttle(context, arguments).await,
        CliCommand::Resume(arguments) => super::resume::resume(context, arguments).await,
        CliCommand::Events(arguments) => super::events::events(context, arguments).await,
        CliCommand::Status(arguments) => super::status::status(context, arguments).await,
        CliCommand::Tokens { command } => super::tokens::run(context, command).await,
        CliCommand::Replay(arguments) => super::replay::replay(context, arguments).await,
        CliCommand::Emails { .. }
        | CliCommand::Config { .. }
        | CliCommand::Doctor(_)
        | CliCommand::SupportBundle(_)
        | CliCommand::Health(_)
        | CliCommand::Completions(_)
        | CliCommand::Man(_) => Ok(Exit::Done),
    }
}
