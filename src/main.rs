//! Arguments -> configuration -> logging -> command -> exit code.

use std::process::ExitCode;

use clap::Parser as _;
use stream_processor::app::{App, Refusal};
use stream_processor::cli::{self, Cli, Command, Exit};
use stream_processor::config::{self, Loaded};
use stream_processor::{doctor, logging, phase, run, setup, verify};

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
        return doctor::doctor(App::unchecked(settings).await?, arguments.json).await;
    }
    let app = match cli.command.only_reads() {
        true => App::connect_to_read(settings).await?,
        false => App::connect(settings).await?,
    };
    match cli.command {
        Command::Run(_) => app.run().await,
        Command::Backfill(arguments) => run::backfill::backfill(app, arguments).await,
        Command::Setup(arguments) => setup::setup(app, arguments).await,
        Command::Verify(arguments) => verify::verify(app, arguments).await,
        Command::Phase { command } => phase::command::phase(app, command).await,
        Command::DeadLetters { command } => cli::dead_letters::run(app, command).await,
        Command::Jobs { command } => cli::jobs::run(app, command).await,
        Command::Anonymize { command } => cli::jobs::anonymize(app, command).await,
        Command::Obfuscate(arguments) => cli::jobs::obfuscate(app, arguments).await,
        Command::Status(arguments) => cli::status::status(app, arguments).await,
        Command::Tokens { command } => cli::tokens::run(app, command).await,
        Command::Replay(arguments) => run::replay::replay(app, arguments).await,
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
