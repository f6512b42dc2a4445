//! The program. Reads the arguments and the configuration, sets up logging, runs the command and returns its exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};
use stream_processor::cli::{self, Cli, CliCommand};
use stream_processor::config::{self, Loaded};
use stream_processor::doctor;
use stream_processor::error_reports::{ErrorReports, ReportOrigin};
use stream_processor::json_output::print_not_done;
use stream_processor::logging::{self, Speaker};
use stream_processor::refusal::{Exit, Refusal};
use stream_processor::service::connect::{self, Given};
use stream_processor::service::reload::ConfigurationInForce;
use stream_processor::traces::Traces;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    end_with_the_reader();
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let as_json = cli::prints_json(&matches);
    // Until the configuration says something else, the log of the service is JSON where nobody watches.
    let log_is_json = matches!(cli.command, CliCommand::Run(_)) && !std::io::stderr().is_terminal();
    let mut telling = Telling { log_is_json, error_reports: None, traces: None };
    let ended = execute(cli, &mut telling).await;
    let code = match ended {
        Ok(exit) => {
            if exit == Exit::Interrupted {
                say_not_done("interrupted", exit, as_json);
            }
            exit.into()
        }
        Err(refusal) if telling.log_is_json => {
            logging::tell_refusal(&refusal.message, refusal.exit as u8);
            refusal.code()
        }
        Err(refusal) => {
            let prefix = if refusal.exit == Exit::Interrupted { "" } else { "error: " };
            say_not_done(&format!("{prefix}{refusal}"), refusal.exit, as_json);
            if let Some(reports) = &telling.error_reports {
                reports.cannot_run(&refusal.message, refusal.exit as u8);
            }
            refusal.code()
        }
    };
    drop(telling);
    code
}

/// How the process tells others what it does, and why it could not do its command.
struct Telling {
    /// True if the log tells it, as JSON.
    log_is_json: bool,
    /// The reporter of errors, where there is one.
    error_reports: Option<ErrorReports>,
    /// The traces, where they are wanted.
    traces: Option<Traces>,
}

impl Drop for Telling {
    /// Also after a panic: its report must leave the process.
    fn drop(&mut self) {
        if let Some(reports) = &self.error_reports {
            reports.finish();
        }
        if let Some(traces) = &self.traces {
            traces.finish();
        }
    }
}

/// Carries the command out. `telling` becomes what the configuration says, for `run`.
async fn execute(cli: Cli, telling: &mut Telling) -> Result<Exit, Refusal> {
    // Commands that need no configuration come first, so that they work where the configuration is missing or wrong.
    match &cli.command {
        CliCommand::Completions(arguments) => {
            return cli::pages::completions(arguments.shell, &mut std::io::stdout().lock());
        }
        CliCommand::Man(arguments) => return cli::pages::manual(&arguments.folder),
        _ => {}
    }
    cli.command.check()?;
    let usage = |error: &dyn std::error::Error| Refusal::new(Exit::Usage, error.to_string());
    if let CliCommand::Emails { command } = &cli.command {
        return cli::emails::run(command, &mut std::io::stdout().lock());
    }
    let sources = cli.sources();
    let Loaded { settings, effective } = config::load(&sources).map_err(|faults| usage(&faults))?;
    if let CliCommand::Config { command } = &cli.command {
        return cli::config::run(command, &settings, &effective, &mut std::io::stdout().lock());
    }
    if let CliCommand::Health(arguments) = &cli.command {
        return cli::health::run(arguments, settings.http.listen).await;
    }
    let speaker = if matches!(cli.command, CliCommand::Run(_)) { Speaker::Service } else { Speaker::Command };
    let given = Given::new(cli.allow_empty, cli.operator.clone(), cli.time_zone);
    if speaker == Speaker::Service {
        telling.log_is_json = logging::is_json(&settings.log);
        let origin = ReportOrigin { environment: settings.environment.word(), instance: &given.instance };
        telling.error_reports = ErrorReports::start(settings.sentry.dsn.as_ref(), origin);
        telling.traces = Traces::start(&settings.traces, settings.environment.word(), &given.instance);
    }
    let layers = telling.error_reports.iter().map(ErrorReports::layer).chain(telling.traces.iter().map(Traces::layer));
    let level = logging::init(&settings.log, speaker, layers).map_err(|error| usage(&error))?;
    if let CliCommand::Doctor(arguments) = &cli.command {
        let context = connect::unchecked(settings, given).await?;
        return doctor::doctor(context, arguments.json, arguments.against_platform, cli.allow_empty).await;
    }
    if let CliCommand::SupportBundle(arguments) = &cli.command {
        let context = connect::unchecked(settings, given).await?;
        return cli::support_bundle::run(context, &effective, arguments, cli.allow_empty).await;
    }
    // A command that only reads must work for a user without write privileges.
    let context = if cli.command.only_reads() {
        connect::connect_to_read(settings, given, cli.command.is_dry_run()).await?
    } else {
        connect::connect(settings, given).await?
    };
    cli::dispatch::dispatch(cli.command, context, ConfigurationInForce { sources, effective, level }).await
}

/// Ends the process with success when the reader of standard output leaves early (`| head`). Without this hook,
/// `println!` panics then.
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

/// Tells a person why a command was not done, and the reader of `--json` too.
#[expect(clippy::print_stderr, reason = "the last word of a command that could not be done")]
fn say_not_done(message: &str, exit: Exit, as_json: bool) {
    eprintln!("{message}");
    if as_json {
        print_not_done(exit as u8, message.trim_start_matches("error: "));
    }
}
