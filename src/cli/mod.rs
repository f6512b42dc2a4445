//! The definition of the command line. This file only parses arguments; the work of each command is in a file or module
//! of its own. The doc comments of arguments are the help texts.

pub mod arguments;
pub mod backfill;
mod backfill_mirror;
mod changed_fields;
pub mod commands;
pub mod config;
pub mod control;
pub mod dead_letters;
pub mod dispatch;
pub mod emails;
pub mod events;
pub mod health;
mod job_arguments;
pub mod jobs;
pub mod pages;
pub mod phase;
pub mod phase_certificate;
pub mod position;
pub mod replay;
mod replay_find;
mod replay_span;
pub mod resume;
pub mod resync;
mod selection;
pub mod status;
pub mod support_bundle;
mod table;
mod time;
pub mod tokens;
mod values;
pub mod verify;

use std::path::PathBuf;

use chrono_tz::Tz;
use clap::{ArgMatches, Args, Parser, Subcommand};
use secrecy::SecretString;

use self::arguments::{
    CompletionsArguments, DeadLettersCommand, DoctorArguments, ManArguments, ReplayArguments, StatusArguments,
    TokensCommand,
};
pub use self::job_arguments::{AnonymizeCommand, EmailsCommand, JobsCommand, ObfuscateArguments, RunJobArguments};
use crate::config::{Sources, process_environment};
use crate::refusal::Refusal;
use crate::setup::SetupArguments;

/// Keeps `jobs_partners` in step with `recruiters`, from MongoDB change streams, and loses nothing.
#[derive(Debug, Parser)]
#[command(
    name = "stream-processor",
    version = crate::version::LONG.as_str(),
    disable_help_subcommand = true,
    after_help = "Example:\n  \
        MONGODB_URI=mongodb://127.0.0.1:27017/?directConnection=true MONGODB_DATABASE=lba stream-processor run"
)]
pub struct Cli {
    /// A TOML file with the configuration. The default is the file that STREAM_PROCESSOR_CONFIG names, then
    /// /etc/stream-processor/stream-processor.toml if it exists.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The MongoDB connection string (others on this machine can see it: better in MONGODB_URI).
    #[arg(long, global = true, value_name = "URI")]
    pub mongodb_uri: Option<SecretString>,
    /// The name of the database.
    #[arg(long, global = true, value_name = "NAME")]
    pub database: Option<String>,
    /// Your name, for the records of what was done by hand; the default is the user of the system and the host.
    #[arg(long = "as", global = true, value_name = "NAME", value_parser = values::name)]
    pub operator: Option<String>,
    /// The time zone of times on the command line; the default is `ticker.time_zone`.
    #[arg(long, global = true, value_name = "ZONE", value_parser = time::time_zone)]
    pub time_zone: Option<Tz>,
    /// Accept a database without the collection `recruiters`, for a new installation.
    #[arg(long, global = true)]
    pub allow_empty: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// The commands (spec 06).
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Run the service, until SIGTERM or Ctrl-C.
    #[command(after_help = "Example:\n  stream-processor run --config stream-processor.toml")]
    Run(RunArguments),
    /// Check everything the service needs: server, privileges, collections, oplog, mail.
    ///
    /// Each fault has a remedy. The exit code is 1 if there is a fault.
    #[command(after_help = "Example:\n  stream-processor doctor --json")]
    Doctor(DoctorArguments),
    /// Collect what somebody needs who helps from afar, in one file: configuration, checks, status, events, metrics, log.
    ///
    /// Secrets and e-mail addresses are masked. What cannot be collected says why, so the command also works while the
    /// database is down. With systemd, the log comes from `journalctl -u stream-processor` through `--log -`.
    #[command(after_help = "Example:\n  stream-processor support-bundle bundle.json --log service.log")]
    SupportBundle(support_bundle::SupportBundleArguments),
    /// Show the state of the service on one screen: phase, leader, lag, position, dead letters, jobs.
    #[command(after_help = "Example:\n  stream-processor status --watch")]
    Status(StatusArguments),
    /// Show what happened: leaders, phases, pauses, halts, gaps, resyncs, commands, verifications, failed jobs.
    #[command(after_help = "Example:\n  stream-processor events --since '2h ago'")]
    Events(events::EventsArguments),
    /// Show, save and move the position in the change stream.
    #[command(disable_help_subcommand = true, after_help = "Example:\n  stream-processor tokens list")]
    Tokens {
        /// What about it.
        #[command(subcommand)]
        command: TokensCommand,
    },
    /// Project again everything that changed in a span of time, offers too.
    ///
    /// The leader does the work beside its stream. Without an instance, the command does it itself. An offer that
    /// equals its projection is not written. With `--find`, nothing is projected: the command tells when each field was
    /// changed first and last, so that the begin of a bad script is found.
    #[command(after_help = "Example:\n  stream-processor replay --from '2h ago' --dry-run")]
    Replay(ReplayArguments),
    /// Project recruiters again and write the offers that differ.
    ///
    /// The leader does the work beside its stream. Without an instance, the command does it itself. An interrupted
    /// backfill continues where it stopped. With `--mirror`, offers are the source, and recruiters that differ are written.
    #[command(after_help = "Example:\n  stream-processor backfill --active-only --dry-run")]
    Backfill(backfill::BackfillArguments),
    /// Run a resync: project every recruiter again, cancel the offers of jobs that are gone, anonymise those of people
    /// who are, and repair all gaps.
    ///
    /// The leader does the work beside its stream. Without an instance, the command does it itself.
    #[command(after_help = "Example:\n  stream-processor resync --reason \"a backup was restored\"")]
    Resync(resync::ResyncArguments),
    /// List the commands that were given to the leader, or cancel one.
    #[command(disable_help_subcommand = true, after_help = "Example:\n  stream-processor commands list")]
    Commands {
        /// Which of the two.
        #[command(subcommand)]
        command: commands::CommandsCommand,
    },
    /// Prepare the database: indexes, the service's own collections, the new fields of our offers.
    ///
    /// Takes only the missing steps. It can be repeated, and it can run beside an instance.
    #[command(after_help = "Example:\n  stream-processor setup --dry-run")]
    Setup(SetupArguments),
    /// Compare all offers with the projection of their recruiters, field by field.
    ///
    /// A difference counts only if a second comparison, some time later, still finds it. The exit code is
    /// then 1.
    #[command(after_help = "Example:\n  stream-processor verify --sample 1000 --json")]
    Verify(verify::VerifyArguments),
    /// Show which collection is the authority, and make a step to another phase.
    #[command(disable_help_subcommand = true, after_help = "Example:\n  stream-processor phase show")]
    Phase {
        /// What about it.
        #[command(subcommand)]
        command: phase::PhaseCommand,
    },
    /// List the dead letters, retry them, or drop them.
    #[command(disable_help_subcommand = true, after_help = "Example:\n  stream-processor dead-letters list")]
    DeadLetters {
        /// What about them.
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Pause the service: the leader keeps the lease, reads nothing and writes nothing, and no time-based job runs.
    ///
    /// The pause outlasts restarts and changes of leader, until `resume`. Changes wait in the oplog, so the pause must be
    /// shorter than the oplog. Without an instance, the next one begins paused.
    #[command(after_help = "Example:\n  stream-processor pause --limit 30m --reason \"the index is being built\"")]
    Pause(control::PauseArguments),
    /// Let the service go on after `pause`, or a leader after a halt. A halt follows a lost position if
    /// `stream.on_history_lost` is `halt`.
    ///
    /// After a pause the stream goes on at its position. After a halt, what was not read becomes a gap, and a resync
    /// repairs it.
    #[command(after_help = "Example:\n  stream-processor resume --reason \"the index is there\"")]
    Resume(resume::ResumeArguments),
    /// Let a standby lead: the leader gives the lease back, and does not ask for it again for a while.
    ///
    /// The exit code is 1 if no standby takes the lease.
    #[command(after_help = "Example:\n  stream-processor stepdown --for 120")]
    Stepdown(control::StepdownArguments),
    /// Order the most writes per second for resyncs, backfills and replays, or `off` to leave it to the configuration.
    ///
    /// The order outlasts restarts and changes of leader. The writes of the stream count, and are not held up.
    #[command(after_help = "Example:\n  stream-processor throttle 200 --reason \"the evening peak\"")]
    Throttle(control::ThrottleArguments),
    /// Ask the instance of this machine whether it is alive; for a container's health check.
    ///
    /// Asks /livez at `http.listen`. The exit code is 1 if the answer is negative or missing.
    #[command(after_help = "Example:\n  stream-processor health --ready")]
    Health(health::HealthArguments),
    /// List the time-based jobs, run one now, or print their history.
    #[command(disable_help_subcommand = true, after_help = "Example:\n  stream-processor jobs list")]
    Jobs {
        /// Which of the three.
        #[command(subcommand)]
        command: JobsCommand,
    },
    /// Anonymise a person, whatever the date of their last action.
    #[command(
        disable_help_subcommand = true,
        after_help = "Example:\n  stream-processor anonymize user 65102a7347a6ef7545b05ef0 --dry-run"
    )]
    Anonymize {
        /// Whom.
        #[command(subcommand)]
        command: AnonymizeCommand,
    },
    /// Replace personal data in our offers by fake values, for good; on a copy of the data only.
    ///
    /// Refused in production, and where the database is not in `obfuscate.allowed_databases`.
    #[command(after_help = "Example:\n  stream-processor obfuscate --dry-run")]
    Obfuscate(ObfuscateArguments),
    /// Preview the e-mails of the time-based jobs.
    #[command(
        disable_help_subcommand = true,
        after_help = "Example:\n  stream-processor emails preview remind-J7 --out remind-J7.html"
    )]
    Emails {
        /// What about it.
        #[command(subcommand)]
        command: EmailsCommand,
    },
    /// Show or check the configuration.
    #[command(
        disable_help_subcommand = true,
        after_help = "Example:\n  stream-processor config check --config stream-processor.toml"
    )]
    Config {
        /// Which of the two.
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// Print the completion script of a shell.
    #[command(after_help = "Example:\n  stream-processor completions bash")]
    Completions(CompletionsArguments),
    /// Write the manual pages into a folder.
    #[command(after_help = "Example:\n  stream-processor man target/man")]
    Man(ManArguments),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Where to serve /metrics and the probes; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
}

impl CliCommand {
    /// Checks arguments against each other, as far as that needs no database.
    ///
    /// # Errors
    /// A [`Refusal`] that says which arguments contradict each other.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Replay(arguments) => replay::check(arguments),
            Self::Phase { command: phase::PhaseCommand::Certificate(arguments) } => {
                phase_certificate::check_digest(arguments)
            }
            _ => Ok(()),
        }
    }

    /// True when a user without write privileges can run the command.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Doctor(_) | Self::SupportBundle(_) | Self::Status(_) | Self::Events(_) => true,
            Self::Tokens { command } => matches!(command, TokensCommand::List { .. } | TokensCommand::Show { .. }),
            Self::DeadLetters { command } => {
                matches!(command, DeadLettersCommand::List(_) | DeadLettersCommand::Show { .. })
            }
            Self::Phase { command } => !matches!(command, phase::PhaseCommand::Set { .. }),
            Self::Commands { command } => matches!(command, commands::CommandsCommand::List(_)),
            Self::Backfill(_) => self.is_dry_run(),
            Self::Replay(replay) => replay.dry_run || replay.find,
            _ => false,
        }
    }

    /// True when the command tells what it would write, and writes nothing.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        match self {
            Self::Backfill(backfill) => backfill.dry_run,
            Self::Replay(replay) => replay.dry_run,
            _ => false,
        }
    }
}

/// True when `--json` was given to the command.
#[must_use]
pub fn prints_json(matches: &ArgMatches) -> bool {
    match matches.subcommand() {
        Some((_, inner)) => prints_json(inner),
        None => matches.try_get_one("json").ok().flatten().copied().unwrap_or(false),
    }
}

/// The variable that names the configuration file, so that commands in a container find it without a flag.
const FILE_VARIABLE: &str = "STREAM_PROCESSOR_CONFIG";
/// The configuration file of the image and of the package.
const USUAL_FILE: &str = "/etc/stream-processor/stream-processor.toml";

impl Cli {
    /// The sources of the configuration: the file, the environment of this process, the flags.
    #[must_use]
    pub fn sources(&self) -> Sources {
        let listen = match &self.command {
            CliCommand::Run(run) => run.listen.clone().map(SecretString::from),
            _ => None,
        };
        let flags = [
            ("--mongodb-uri", self.mongodb_uri.clone()),
            ("--database", self.database.clone().map(SecretString::from)),
            ("--listen", listen),
        ];
        let environment = process_environment();
        let named = environment.get(FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
        let usual = || Some(PathBuf::from(USUAL_FILE)).filter(|file| file.exists());
        Sources {
            file: self.config.clone().or(named).or_else(usual),
            environment,
            flags: flags.into_iter().filter_map(|(flag, value)| value.map(|value| (flag, value))).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
