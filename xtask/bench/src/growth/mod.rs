//! `cargo xtask growth`: measures how time and memory grow, with one varied parameter at a time. No work may grow faster
//! than linearly with the parameter.

mod curves;
mod model;
mod night;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

pub(super) use self::curves::write;
use self::night::Night;
use super::cost;
use super::plot;
use super::point::Point;
use crate::Outcome;
use xtask::mongod::Options;
use xtask::{Failure, service};

/// What to measure, and how far.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure these curves only.
    #[arg(long, value_enum, value_name = "CURVE", value_delimiter = ',')]
    only: Vec<Curve>,
    /// How often each step is measured; medians count.
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: usize,
    /// The numbers of recruiters, of 8 KB and with 3 jobs each. Each needs some 10 KB of disk.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1000,10000,100000")]
    recruiters: Vec<usize>,
    /// The numbers of jobs in one recruiter; 10,000 of the least weight are nearly 16 MB.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,10,100,1000,10000")]
    jobs: Vec<usize>,
    /// The weights of 200 recruiters, in kilobytes.
    #[arg(long, value_name = "KB,…", value_delimiter = ',', default_value = "8,100,1000")]
    weights: Vec<usize>,
    /// The numbers of events in a backlog over 5,000 recruiters. The oplog must hold them.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1000,10000,100000,1000000")]
    backlogs: Vec<usize>,
    /// The parts of the oplog that are watched, in percent.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', default_value = "0.1,1,10,100")]
    shares: Vec<f64>,
    /// The number of entries of the oplog for `--shares`.
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    entries: usize,
    /// The numbers of entries of an oplog of which 0.1 % are watched.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "50000,500000,5000000")]
    oplogs: Vec<usize>,
    /// The numbers of foreign offers that are imported beside 50 writes a second.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "50000,500000")]
    foreign: Vec<usize>,
    /// Import at most this many foreign offers a second; without it, as fast as the server takes them.
    #[arg(long, value_name = "N")]
    foreign_pace: Option<usize>,
    /// The cache of `mongod`, in GB; it does not count for the imported offers.
    #[arg(long, value_name = "GB", default_value_t = Options::default().cache_gigabytes, value_parser = gigabytes)]
    cache: f64,
    /// Draw the curves as SVG into this folder.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Measure this program instead of building the service.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Write everything that was measured to this file.
    #[arg(long, value_name = "FILE", default_value = "target/growth.json")]
    json: PathBuf,
}

/// A varied parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Curve {
    /// Recruiters in the database.
    Recruiters,
    /// Jobs in one recruiter.
    Jobs,
    /// Kilobytes of each recruiter.
    Weights,
    /// Events of a backlog, all of them watched.
    Backlogs,
    /// The watched part of the oplog.
    Shares,
    /// Entries of an oplog of which 0.1 % are watched.
    Oplogs,
    /// Foreign offers that are imported beside our own load.
    Night,
}

impl Arguments {
    fn wants(&self, curve: Curve) -> bool {
        self.only.is_empty() || self.only.contains(&curve)
    }
}

/// Reads a size that `mongod` accepts for its cache.
fn gigabytes(text: &str) -> Result<f64, String> {
    let size = text.parse().ok().filter(|size| (0.25..=10_000.0).contains(size));
    size.ok_or_else(|| "give a number from 0.25 to 10000, as mongod takes it".to_owned())
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let program = match &arguments.program {
        Some(program) => program.canonicalize()?,
        None => service::build(true)?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (mut points, mut nights) = (Vec::new(), Vec::new());
    let (rounds, load) = (arguments.repeat.max(1), cost::load_average());
    let mut faster = Vec::new();
    for number in 1..=rounds {
        println!("round {number} of {rounds}");
        runtime.block_on(curves::measure(&program, arguments, &mut points))?;
        if arguments.wants(Curve::Night) {
            for foreign in &arguments.foreign {
                nights.push(runtime.block_on(night::measure(&program, *foreign, arguments.foreign_pace))?);
            }
        }
        // After each round, because a later one may fail, and all of them take long.
        faster = report(arguments, &table::medians(&points), &nights, &load)?;
    }
    if faster.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("faster than linearly: {}", faster.join("; "));
    Ok(ExitCode::FAILURE)
}

/// Prints, writes and draws the results so far. Returns the works that grow faster than linearly.
fn report(arguments: &Arguments, points: &[Point], nights: &[Night], load: &str) -> Result<Vec<String>, Failure> {
    let fits = model::fit(points);
    let growths = table::growths(points);
    let machine = format!("{}, load average {load} before and {} after", cost::machine(), cost::load_average());
    let measured = json!({
        "machine": &machine, "points": points, "growths": &growths, "model": &fits, "nights": nights,
    });
    std::fs::write(&arguments.json, serde_json::to_string_pretty(&measured)?)?;
    println!("\n{machine}\n\n{}", table::of_points(points, &growths));
    if !nights.is_empty() {
        println!("{}", night::table(nights));
    }
    println!("{}\neverything that was measured is in {}", model::table(&fits), arguments.json.display());
    if let Some(folder) = &arguments.plots {
        plot::draw(points, folder)?;
    }
    Ok(growths.iter().filter(|growth| growth.is_faster()).map(ToString::to_string).collect())
}
