//! Arguments -> configuration -> logging -> command -> exit code.

use std::process::ExitCode;

use clap::Parser as _;
use stream_processor::cli::{self, Cli, Command};
use stream_processor::config::{self, Loaded};
use stream_processor::refusal::{Exit, Refusal};
use stream_processor::service::{self, connect};
use stream_processor::{doctor, logging, setup};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end_with_the_reader();
    let cli = Cli::parse();
    match execute(cli).await {
        Ok(exit) => exit.into(),
        Err(refusal) => {
            complain(&refusal);
            refusal.code()
        }
    }
}

async fn execute(cli: Cli) -> Result<Exit, Refusal> {
    match &cli.command {
        Command::Completions(arguments) => {
            return cli::pages::completions(arguments.shell, &mut std::io::stdout().lock());
        }
        Command::Man(arguments) => return cli::pages::manual(&arguments.folder),
        _ => {}
    }
    let usage = |error: &dyn std::error::Error| Refusal::new(Exit::Usage, error.to_string());
    if let Command::Emails { command } = &cli.command {
        return cli::emails::run(command, &mut std::io::stdout().lock());
    }
    let Loaded { settings, effective } = config::load(&cli.sources()).map_err(|faults| usage(&faults))?;
    if let Command::Config { command } = &cli.command {
        let printed = cli::config::run(command, &effective, &mut std::io::stdout().lock());
        return printed.map_err(|error| usage(&error));
    }
    if let Command::Health(arguments) = &cli.command {
        return cli::health::run(arguments, settings.http.listen).await;
    }
    logging::init(&settings.log).map_err(|error| usage(&error))?;
    if let Command::Doctor(arguments) = &cli.command {
        return doctor::doctor(connect::unchecked(settings).await?, arguments.json).await;
    }
    let context = match cli.command.only_reads() {
        true => connect::connect_to_read(settings).await?,
        false => connect::connect(settings).await?,
    };
    match cli.command {
        Command::Run(_) => service::run(context).await,
        Command::Backfill(arguments) => cli::backfill::backfill(context, arguments).await,
        Command::Setup(arguments) => setup::setup(context, arguments).await,
        Command::Verify(arguments) => cli::verify::verify(context, arguments).await,
        Command::Phase { command } => cli::phase::phase(context, command).await,
        Command::DeadLetters { command } => cli::dead_letters::run(context, command).await,
        Command::Jobs { command } => cli::jobs::run(context, command).await,
        Command::Anonymize { command } => cli::jobs::anonymize(context, command).await,
        Command::Obfuscate(arguments) => cli::jobs::obfuscate(context, arguments).await,
        Command::Status(arguments) => cli::status::status(context, arguments).await,
        Command::Tokens { command } => cli::tokens::run(context, command).await,
        Command::Replay(arguments) => cli::replay::replay(context, arguments).await,
        Command::Emails { .. }
        | Command::Config { .. }
        | Command::Doctor(_)
        | Command::Health(_)
        | Command::Completions(_)
        | Command::Man(_) => Ok(Exit::Done),
    }
}

/// A reader that leaves early (`| head`) is no error, but `println!` panics then.
fn end_with_the_reader() {
    let otherwise = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to stdout") && said.contains("Broken pipe") {
            std::process::exit(Exit::Done as i32);
        }
        otherwise(panic);
    }));
}

#[expect(clippy::print_stderr, reason = "the last word of a command that could not be done")]
fn complain(refusal: &Refusal) {
    eprintln!("error: {refusal}");
}
