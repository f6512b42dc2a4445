//! The service against programs that others would write (`benches/peers/`), with the same data, the same backlogs and the
//! same end: each edited offer shows the last edit of its job, as the measurement itself reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::TryStreamExt as _;
use rand::rngs::StdRng;
use xtask::guarded::{GuardedProcess, TemporaryFolder, last_lines};
use xtask::python;

use super::cost::{self, Mark};
use super::population::{Edit, Population, description};
use super::raw;
use super::report::{Figures, Sample};
use super::scenarios::{HOT, Round, STEADY, Size, quantile};
use super::scene::{Measured, Run, Scene};
use xtask::Failure;
use xtask::cargo::{WORKSPACE, cargo, executable};
use xtask::service::command;

const PYMONGO: &str = "pymongo==4.20.0";
/// The time limit of a backlog. The slowest peer takes minutes.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// The number of offers that are read together while they are in step, and the pause after one that is not. Then only
/// one is asked for, because the measurement takes processor time from the measured programs.
const READ: usize = 200;
const POLL: Duration = Duration::from_millis(20);

/// The programs that keep the offers in step, each with the names of its rows.
pub(super) struct Peers {
    rust: PathBuf,
    packages: PathBuf,
}

#[derive(Debug, Clone, Copy)]
enum Contender {
    Service,
    Rust,
    Python,
}

/// A started contender.
enum Running {
    Service(Run),
    Peer { process: GuardedProcess, log: PathBuf, _folder: TemporaryFolder },
}

impl Contender {
    const ALL: [Self; 3] = [Self::Service, Self::Rust, Self::Python];

    /// The rows of a uniform backlog, a hot backlog, and the two of a steady load.
    const fn rows(self) -> [&'static str; 4] {
        match self {
            Self::Service => ["uniform, service", "hot, service", "p50, service", "p99, service"],
            Self::Rust => ["uniform, plain Rust", "hot, plain Rust", "p50, plain Rust", "p99, plain Rust"],
            Self::Python => ["uniform, PyMongo", "hot, PyMongo", "p50, PyMongo", "p99, PyMongo"],
        }
    }
}

impl Peers {
    /// Builds the Rust program and fetches PyMongo. Both are kept for the next time.
    pub(super) fn prepare() -> Result<Self, Failure> {
        let mut cargo = cargo(&["build", "--workspace", "--release", "--example", "plain"]);
        let output = cargo.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit()).output()?;
        let rust = executable(&output.stdout).ok_or("the Rust peer does not build")?;
        let packages = python::installed(PYMONGO, &Path::new(WORKSPACE).join("target/peers"))?;
        Ok(Self { rust, packages })
    }

    /// Measures each contender on a server of its own.
    pub(super) async fn round(
        &self,
        program: &Path,
        size: Size,
        random: &mut StdRng,
        figures: &mut Figures,
        mark: u64,
    ) -> Result<(), Failure> {
        for contender in Contender::ALL {
            let scene = Scene::prepare(program, "bench").await?;
            let population = Population::settle(&scene.database, size.shape, random).await?;
            scene.run(&["backfill"]).await?;
            let mut round = Round { scene: &scene, population: &population, random, figures, size, mark };
            Box::pin(self.measure(&mut round, contender)).await?;
        }
        Ok(())
    }

    async fn measure(&self, round: &mut Round<'_>, contender: Contender) -> Result<(), Failure> {
        let [uniform, hot, p50, p99] = contender.rows();
        if let Contender::Service = contender {
            // The first start goes through all recruiters.
            let run = round.scene.start().await?;
            round.scene.until_synced(&run).await?;
            round.scene.stop(run).await?;
        }
        for (row, recruiters) in [(uniform, round.size.shape.recruiters), (hot, HOT)] {
            let edits = round.population.edits(round.size.against, recruiters, round.random);
            self.backlog(round, contender, row, &edits).await?;
        }
        let count = usize::try_from(STEADY * round.size.steady.as_secs())?;
        let edits = round.population.edits(count, round.size.shape.recruiters, round.random);
        self.remember_position(round.scene, contender).await?;
        let mut running = self.start(round.scene, contender).await?;
        round.latencies(edits.get(..1).unwrap_or_default(), true).await?;
        let visible = round.latencies(&edits, true).await?;
        let written = round.latencies(&edits, false).await?;
        running.must_be_running()?;
        for (row, percent) in [(p50, 50), (p99, 99)] {
            let sample = Sample::of(quantile(&visible, percent)).limit(quantile(&written, percent));
            round.figures.add_apart(row, sample);
        }
        running.stop(round.scene).await
    }

    /// A backlog that grows while no contender runs. Time counts from the start of the process.
    async fn backlog(
        &self,
        round: &mut Round<'_>,
        contender: Contender,
        row: &str,
        edits: &[Edit],
    ) -> Result<(), Failure> {
        let database = &round.scene.database;
        let (_, writing) = raw::update(database, edits, round.mark + 100_000).await?;
        self.remember_position(round.scene, contender).await?;
        let from = raw::cluster_time(database).await?;
        let first = round.mark + 200_000;
        let statements = (first..).zip(edits).map(|(mark, edit)| edit.of_recruiter(mark)).collect();
        raw::send(database, "recruiters", statements, 1).await?;
        let drained = raw::drain(database, from, edits.len()).await?;
        let limit = edits.len() as f64 / (drained + writing).as_secs_f64();

        let before = round.scene.server_mark()?;
        let mut running = self.start(round.scene, contender).await?;
        until_in_step(round.scene, edits, first, &mut running).await?;
        let spent = before.until(&Mark::now(Some(running.pid()), round.scene.server())?);
        let measured = Measured { spent, peak: cost::peak_memory(running.pid())?, written: 0.0, touched: 0.0 };
        round.figures.add_apart(row, Sample::rate(edits.len(), measured).limit(limit));
        round.mark += 300_000;
        running.stop(round.scene).await
    }

    /// Stores the present position of the stream for a peer, which begins there. The service has its own checkpoint.
    async fn remember_position(&self, scene: &Scene, contender: Contender) -> Result<(), Failure> {
        if let Contender::Service = contender {
            return Ok(());
        }
        let events = scene.database.collection::<Document>("recruiters").watch().await?;
        let token = events.resume_token().ok_or("the stream has no position")?;
        let token = bson::serialize_to_bson(&token)?;
        let states = scene.database.collection::<Document>("peer_state");
        states.replace_one(doc! { "_id": "token" }, doc! { "token": token }).upsert(true).await?;
        Ok(())
    }

    async fn start(&self, scene: &Scene, contender: Contender) -> Result<Running, Failure> {
        let program: &Path = match contender {
            Contender::Service => return Ok(Running::Service(scene.start().await?)),
            Contender::Rust => &self.rust,
            Contender::Python => Path::new("python3"),
        };
        let folder = TemporaryFolder::create("stream-processor-peer-")?;
        let (uri, name) = scene.place();
        let mut command: Command = command(program, &uri, name, folder.path());
        if let Contender::Python = contender {
            command.arg(Path::new(WORKSPACE).canonicalize()?.join("benches/peers/plain.py"));
            command.env("PYTHONPATH", &self.packages);
        }
        let log = folder.path().join("peer.log");
        let process = GuardedProcess::start(&command, &log, &log)?;
        Ok(Running::Peer { process, log, _folder: folder })
    }
}

/// Waits until each edited offer shows the last edit of its job. The edits have the marks from `first` on.
async fn until_in_step(scene: &Scene, edits: &[Edit], first: u64, running: &mut Running) -> Result<(), Failure> {
    let last: BTreeMap<ObjectId, u64> = edits.iter().zip(first..).map(|(edit, mark)| (edit.job, mark)).collect();
    let mut pending: Vec<(u64, ObjectId)> = last.into_iter().map(|(job, mark)| (mark, job)).collect();
    // Every contender is through with early edits before late ones, so the earliest are asked for first.
    pending.sort_unstable();
    let offers = scene.database.collection::<Document>("jobs_partners");
    let (began, mut together) = (Instant::now(), 1);
    while !pending.is_empty() {
        running.must_be_running()?;
        if began.elapsed() > PATIENCE {
            return Err(format!("{} offers are not in step after {} s", pending.len(), PATIENCE.as_secs()).into());
        }
        let asked: Vec<ObjectId> = pending.iter().take(together).map(|(_, job)| *job).collect();
        let found = offers.find(doc! { "_id": { "$in": asked } }).projection(doc! { "offer_description": 1 });
        let found: Vec<Document> = found.await?.try_collect().await?;
        let shown = |(mark, job): &(u64, ObjectId)| {
            let offer = found.iter().find(|offer| offer.get_object_id("_id").is_ok_and(|id| id == *job));
            offer
                .and_then(|offer| offer.get_str("offer_description").ok())
                .is_some_and(|text| text == description(*mark))
        };
        let before = pending.len();
        let rest = pending.split_off(together.min(before));
        pending.retain(|edit| !shown(edit));
        pending.extend(rest);
        together = READ;
        if pending.len() == before {
            together = 1;
            tokio::time::sleep(POLL).await;
        }
    }
    Ok(())
}

impl Running {
    fn pid(&self) -> u32 {
        match self {
            Self::Service(run) => run.service.pid(),
            Self::Peer { process, .. } => process.pid(),
        }
    }

    fn must_be_running(&mut self) -> Result<(), Failure> {
        match self {
            Self::Service(run) => run.service.must_be_running(),
            Self::Peer { process, log, .. } => {
                if process.is_running() {
                    return Ok(());
                }
                Err(format!("a peer ended by itself:\n{}", last_lines(log, 20)).into())
            }
        }
    }

    async fn stop(self, scene: &Scene) -> Result<(), Failure> {
        match self {
            Self::Service(run) => scene.stop(run).await.map(drop),
            // A peer does nothing at its end, so it is killed.
            Self::Peer { mut process, .. } => {
                process.kill();
                Ok(())
            }
        }
    }
}
