//! `cargo xtask bench`: measures the scenarios of spec 07, "Speed", and in the same run the raw limits of the machine.
//! Both use one `mongod` with the live indexes. `cargo xtask growth` measures how time and memory grow. This is a crate of
//! its own, so that the demo waits for none of it.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a developer's command line: it reads the environment and the clock, and prints"
)]

mod cost;
mod foreign;
mod growth;
mod hops;
mod mirror;
mod peers;
mod plot;
mod point;
mod population;
mod raw;
mod report;
mod scenarios;
mod scene;
mod soak;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde_json::json;

use clap::{Parser, Subcommand};

use self::peers::Peers;
use self::population::{Population, Shape};
use self::report::Figures;
use self::scenarios::{EVENTS, Round, Size};
use self::scene::Scene;
use xtask::{Failure, service};

/// The exit code of a command, or the failure that ended it.
type Outcome = Result<ExitCode, Failure>;

/// The seed of the random generator. With the same seed, each run has the same documents and edits.
const SEED: u64 = 20_240_229;
/// The number of marks of one round. Each write has its own mark, so that it changes its document.
const MARKS: u64 = 1_000_000;

/// Measurements of stream-processor.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Subcommand)]
enum Measurement {
    /// Measure the service against the limits of this machine, on a MongoDB of its own; prints a table, writes JSON.
    ///
    /// Nothing else should run meanwhile.
    #[command(after_help = "Example: cargo xtask bench --quick")]
    Bench(Arguments),
    /// Measure how time and memory grow, step by step of one parameter: recruiters, jobs, backlog, foreign imports.
    ///
    /// Nothing else should run meanwhile. The steps that are there by default take an hour or more.
    #[command(after_help = "Example: cargo xtask growth --only recruiters --recruiters 1000,10000 --plots docs/plots")]
    Growth(growth::Arguments),
}

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often each scenario is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// One round, less data: in under two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure this part only, after the first fill, which all others need.
    #[arg(long, value_enum, value_name = "PART")]
    only: Option<Part>,
    /// Watch the memory under a steady load for this long instead.
    #[arg(long, value_name = "MINUTES", conflicts_with_all = ["rounds", "quick", "only"])]
    soak: Option<u64>,
    /// Draw the result of `--soak` as SVG into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Measure this program instead of building the service.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Write everything that was measured to this file.
    #[arg(long, value_name = "FILE", default_value = "target/bench.json")]
    json: PathBuf,
}

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// First fill and full sync.
    Fill,
    /// Start, latency of a steady load, end.
    Steady,
    /// Uniform and hot backlogs and their replays.
    Backlog,
    /// The uniform and hot backlogs, then a backlog of the mirror and an idle mirror.
    Mirror,
    /// Bulks of another partner in `sync`, in processor time of the service and of `mongod`.
    Foreign,
    /// The service against programs that others would write, which are built and fetched for it.
    Peers,
    /// Verification.
    Verification,
}

fn main() -> ExitCode {
    let outcome = match Command::parse().measurement {
        Measurement::Bench(arguments) => run(&arguments),
        Measurement::Growth(arguments) => growth::run(&arguments),
    };
    outcome.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        ExitCode::FAILURE
    })
}

fn run(arguments: &Arguments) -> Outcome {
    let program = match &arguments.program {
        Some(program) => program.canonicalize()?,
        None => service::build(true)?,
    };
    if let Some(minutes) = arguments.soak {
        return soak(arguments, &program, Duration::from_secs(60 * minutes));
    }
    let (rounds, to_verify, steady, against) = if arguments.quick {
        (1, Shape::usual(8_000), Duration::from_secs(4), EVENTS / 4)
    } else {
        (arguments.rounds.max(1), Shape::usual(20_000), Duration::from_secs(10), EVENTS)
    };
    let foreign_divisor = if arguments.quick { 10 } else { 1 };
    let size = Size { shape: Shape::usual(5_000), to_verify, steady, foreign_divisor, against };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let load = cost::load_average();
    let figures = runtime.block_on(measure(&program, rounds, size, arguments.only))?;
    let machine = cost::machine();
    let described = json!({
        "events_against_others": size.against, "load_average_before": load, "load_average_after": cost::load_average(), "rounds": rounds, "events": EVENTS, "offers": size.shape.offers(), "offers_to_verify": to_verify.offers(),
    });
    std::fs::write(&arguments.json, serde_json::to_string_pretty(&figures.json(&machine, described.clone()))?)?;
    println!("\n{machine}, mongod on the same machine; {described}\n\n{figures}");
    println!("everything that was measured is in {}", arguments.json.display());
    let missed = figures.missed();
    if missed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("below the required numbers: {}", missed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The measurement of the memory over time.
fn soak(arguments: &Arguments, program: &Path, duration: Duration) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let points = runtime.block_on(soak::soak(program, duration))?;
    let measured = json!({ "machine": cost::machine(), "points": &points });
    std::fs::write(&arguments.json, serde_json::to_string_pretty(&measured)?)?;
    println!("everything that was measured is in {}", arguments.json.display());
    if let Some(folder) = &arguments.plots {
        plot::draw(&points, folder)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(program: &Path, rounds: usize, size: Size, only: Option<Part>) -> Result<Figures, Failure> {
    let is_asked = |part: Part| only.is_none_or(|only| only == part);
    let mut random = StdRng::seed_from_u64(SEED);
    let mut figures = Figures::default();
    if only == Some(Part::Peers) {
        let peers = Peers::prepare()?;
        for number in 1..=rounds {
            println!("round {number} of {rounds}");
            Box::pin(peers.round(program, size, &mut random, &mut figures, MARKS * u64::try_from(number)?)).await?;
        }
        return Ok(figures);
    }
    for number in 1..=rounds {
        println!("round {number} of {rounds}");
        // Each round has its own server, because data that a round deleted would slow the next round down.
        let scene = Scene::prepare(program, "bench").await?;
        let population = Population::settle(&scene.database, size.shape, &mut random).await?;
        let mark = MARKS * u64::try_from(number)?;
        let (random, figures) = (&mut random, &mut figures);
        let mut round = Round { scene: &scene, population: &population, random, figures, size, mark };
        Box::pin(round.fill()).await?;
        let has_backlogs = is_asked(Part::Backlog) || is_asked(Part::Mirror);
        if is_asked(Part::Steady) || has_backlogs {
            Box::pin(round.first_start()).await?;
        }
        if is_asked(Part::Steady) {
            Box::pin(round.steady()).await?;
        }
        if has_backlogs {
            Box::pin(round.backlogs()).await?;
        }
        if is_asked(Part::Foreign) {
            Box::pin(round.foreign_writes()).await?;
        }
        // Last, because the phase changes.
        if is_asked(Part::Mirror) {
            Box::pin(round.mirror()).await?;
        }
    }
    if !is_asked(Part::Verification) {
        return Ok(figures);
    }
    println!("verification");
    let scene = Scene::prepare(program, "bench").await?;
    Population::settle(&scene.database, size.to_verify, &mut random).await?;
    Box::pin(scenarios::verify(&scene, size.to_verify.offers(), &mut figures, rounds)).await?;
    Ok(figures)
}
