//! `cargo xtask`: the commands of this repository for developers and CI.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's command line: it reads the environment and the clock, and prints"
)]

mod chaos;
mod demo;
mod dist;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::Failure;

/// The exit code of a command, or the failure that ended it.
type Outcome = Result<ExitCode, Failure>;

/// Commands for working on stream-processor.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests, on a MongoDB that is found or fetched and started for them.
    ///
    /// Uses cargo-nextest where it is installed, else `cargo test`. Never touches the database of MONGODB_URI.
    #[command(after_help = "Example: cargo xtask test -- golden")]
    Test {
        /// Passed on to the test runner; without any, documentation tests run too.
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Kill, end and pause two instances under a random load for as long as wanted, and compare in the end.
    #[command(after_help = "Example: cargo xtask chaos --minutes 60")]
    Chaos(chaos::Arguments),
    /// Explore the model of the protocol further than CI does; prints the number of states and each counterexample.
    ///
    /// Needs no MongoDB, some minutes and some gigabytes of memory.
    #[command(after_help = "Example: cargo xtask model")]
    Model,
    /// Measure the service against the limits of this machine, on a MongoDB of its own; prints a table, writes JSON.
    ///
    /// Nothing else should run meanwhile. `cargo xtask bench --help` has the options.
    #[command(after_help = "Example: cargo xtask bench --quick")]
    Bench,
    /// Measure how time and memory grow, step by step of one parameter: recruiters, jobs, backlog, foreign imports.
    ///
    /// Nothing else should run meanwhile. `cargo xtask growth --help` has the options.
    #[command(after_help = "Example: cargo xtask growth --only recruiters --recruiters 1000,10000 --plots docs/plots")]
    Growth,
    /// Show the service at work: invented recruiters, a gentle load, and what becomes of it.
    ///
    /// Uses the MongoDB of MONGODB_URI (a new database, dropped at the end), else starts one in a temporary folder.
    #[command(after_help = "Example: cargo xtask demo --seconds 30")]
    Demo(demo::Arguments),
    /// Build what is shipped into dist/: the program, an archive, a Debian package, a bill of materials, checksums.
    ///
    /// Takes some minutes: the program is optimised as a whole. Needs `dpkg-deb`, `tar`, `gzip` and `objdump`.
    #[command(after_help = "Example: cargo xtask dist")]
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test { arguments } => test::run(&arguments),
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Model => test::model(),
        Command::Bench | Command::Growth => Err("give this command to `cargo xtask`: it starts another program".into()),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}
