//! `cargo xtask demo`: shows the whole service at work. It needs no preparation and leaves nothing behind.

mod load;
mod population;
mod server;
mod verdict;

use std::process::ExitCode;
use std::time::Duration;

use bson::{Document, Timestamp, doc};
use mongodb::{Client, Database};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use xtask::golden;
use xtask::guarded::TemporaryFolder;

use self::load::Load;
use self::population::Population;
use self::server::DemoServer;
use self::verdict::Verdict;
use crate::{Failure, Outcome};
use xtask::scrape::{Figures, HEADER};
use xtask::service::{self, Service};

const RECRUITERS: usize = 300;
/// The seed of the random generator. With the same seed, each run has the same documents and operations.
const SEED: u64 = 20_240_229;
const BETWEEN_OPERATIONS: Duration = Duration::from_millis(100);
/// The time limit for handling the last writes. A healthy service takes a few seconds.
const SETTLING: Duration = Duration::from_secs(40);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// End after this many seconds of load, with a summary; without it, Ctrl-C ends the demo.
    #[arg(long)]
    seconds: Option<u64>,
    /// Use the optimised build of the service.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    // These steps come before signals are handled. Until then Ctrl-C ends the process, and the guards clean up.
    let program = service::build(arguments.release)?;
    let server = DemoServer::obtain()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = Client::with_uri_str(server.uri()).await?;
        let database = client.database(server.database());
        let outcome = async {
            let mut stop = Stop::new()?;
            tokio::select! {
                () = stop.wished() => {
                    println!("stopped before the demo began");
                    Ok(ExitCode::from(130))
                }
                scene = Scene::prepare(&database, &server, &program) => scene?.play(arguments, &mut stop).await,
            }
        };
        let outcome = outcome.await;
        if server.is_theirs() {
            database.drop().await?;
            println!("dropped the database {}", server.database());
        }
        outcome
    })
}

/// Waits for Ctrl-C or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn wished(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The parts of the demo: the database, the load on it, and the service.
struct Scene<'a> {
    database: &'a Database,
    load: Load,
    service: Service,
    // Fields are dropped in their order. The log of the service is in the folder, so the service must end first.
    _folder: TemporaryFolder,
}

impl<'a> Scene<'a> {
    async fn prepare(database: &'a Database, server: &DemoServer, program: &std::path::Path) -> Result<Self, Failure> {
        let folder = TemporaryFolder::create("stream-processor-demo-")?;
        golden::create_collections(database).await?;
        golden::put_target_validator(database, golden::TargetModel::Planned, "warn").await?;
        golden::insert_references(database).await?;
        let population = Population::settle(database, RECRUITERS).await?;
        println!(
            "inserted {RECRUITERS} invented recruiters with {} jobs, some of them faulty on purpose",
            population.jobs()
        );

        let mut service = Service::start(program, server.uri(), server.database(), folder.path(), &[])?;
        service.until_ready().await?;
        println!("the service is ready");
        println!("  status page  {}/", service.base_url());
        println!("  metrics      {}/metrics", service.base_url());
        let load = Load::new(database, population, StdRng::seed_from_u64(SEED));
        Ok(Self { database, load, service, _folder: folder })
    }

    async fn play(mut self, arguments: &Arguments, stop: &mut Stop) -> Outcome {
        match arguments.seconds {
            Some(seconds) => println!("  stops        by itself after {seconds} s, or with Ctrl-C\n"),
            None => println!("  stops        with Ctrl-C\n"),
        }
        self.perform(arguments.seconds.map(Duration::from_secs), stop).await?;
        let settled = tokio::select! {
            settled = self.settle() => settled?,
            () = stop.wished() => false,
        };
        let stopped = self.service.stop().await;
        let verdict = Verdict::of(self.database).await?;
        println!("\nwritten      {}", self.load.summary());
        println!("{verdict}");
        let mut right = true;
        let mut checks = vec![("everything that was written has been handled".to_owned(), settled)];
        checks.extend(verdict.checks());
        checks.push((format!("the service ended by itself on SIGTERM ({})", stopped.0), stopped.1));
        for (what, holds) in checks {
            println!("{:6} {what}", if holds { "OK" } else { "FAILED" });
            right &= holds;
        }
        if right {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("\nthe end of the service's log:\n{}", self.service.last_lines());
        Ok(ExitCode::FAILURE)
    }

    /// Runs the load and prints a line every second, until `duration` is over or the user stops the demo.
    async fn perform(&mut self, duration: Option<Duration>, stop: &mut Stop) -> Result<(), Failure> {
        let started = Instant::now();
        let end = duration.map(|duration| started + duration);
        let mut operations = interval(BETWEEN_OPERATIONS);
        operations.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seconds = interval(Duration::from_secs(1));
        println!("{HEADER}");
        loop {
            tokio::select! {
                () = stop.wished() => return Ok(()),
                () = sleep_until(end.unwrap_or(started)), if end.is_some() => return Ok(()),
                _ = operations.tick() => self.load.operation().await?,
                _ = seconds.tick() => {
                    self.service.must_be_running()?;
                    let figures = Figures::read(&self.service.metrics().await?);
                    println!("{:>5} s {:>9} {figures}", started.elapsed().as_secs(), self.load.written());
                }
            }
        }
    }

    /// Waits until the service has handled all writes. False when that takes longer than [`SETTLING`].
    async fn settle(&mut self) -> Result<bool, Failure> {
        let reply = self.database.run_command(doc! { "ping": 1 }).await?;
        let written = reply.get_timestamp("operationTime")?;
        let started = Instant::now();
        while started.elapsed() < SETTLING {
            self.service.must_be_running()?;
            if self.checkpoint().await?.is_some_and(|checkpoint| checkpoint >= written)
                && Verdict::of(self.database).await?.checks().iter().all(|(_, holds)| *holds)
            {
                return Ok(true);
            }
            sleep(BETWEEN_OPERATIONS).await;
        }
        Ok(false)
    }

    /// The cluster time up to which all events are handled (spec 03, "Checkpoints").
    async fn checkpoint(&self) -> Result<Option<Timestamp>, Failure> {
        let states = self.database.collection::<Document>("stream_processor_state");
        let checkpoint = states.find_one(doc! { "_id": "checkpoint" }).await?;
        Ok(checkpoint.and_then(|checkpoint| checkpoint.get_timestamp("cluster_time").ok()))
    }
}
