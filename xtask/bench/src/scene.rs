//! The scene of a measurement: one database with its server, the built service, and the actions that scenarios share.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bson::{Document, Timestamp, doc};
use mongodb::{Client, Database};
use xtask::golden;
use xtask::guarded::TemporaryFolder;
use xtask::mongod::{Options, ReplicaSet};

use super::cost::{self, Mark, Spent};
use super::raw;
use xtask::Failure;
use xtask::service::{Service, command};

/// The time limit of each wait. Every scenario takes far less, also a backlog of five million events.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// The interval at which the checkpoint is read. Each read costs the server a little.
const POLL: Duration = Duration::from_millis(10);

pub(super) struct Scene {
    pub database: Database,
    name: String,
    set: ReplicaSet,
    server: u32,
    program: PathBuf,
    folder: TemporaryFolder,
}

/// A running service, with the marks of its start and of the moment when it began to lead.
pub(super) struct Run {
    pub service: Service,
    started: Mark,
    led: Mark,
}

/// The cost of a run of the service, or of one of its commands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    pub spent: Spent,
    /// The peak of the resident memory, in bytes.
    pub peak: u64,
    /// The number of offers that were written. It is 0 for a command.
    pub written: f64,
    /// The number of recruiters that were projected from the stream. It is 0 for a command.
    pub touched: f64,
}

impl Scene {
    /// Starts a server, creates the live collections in the database `name`, inserts the references and runs `setup`.
    pub(super) async fn prepare(program: &Path, name: &str) -> Result<Self, Failure> {
        Self::prepare_with(program, name, &Options::default()).await
    }

    /// As [`Scene::prepare`], with these options of the server.
    pub(super) async fn prepare_with(program: &Path, name: &str, options: &Options) -> Result<Self, Failure> {
        let mut set = ReplicaSet::start(options)?;
        let server = set.member(0).pid().ok_or("mongod is gone")?;
        let database = Client::with_uri_str(set.uri()).await?.database(name);
        golden::create_collections(&database).await?;
        golden::insert_references(&database).await?;
        let folder = TemporaryFolder::create("stream-processor-bench-")?;
        let scene = Self { database, name: name.to_owned(), set, server, program: program.to_owned(), folder };
        scene.run(&["setup"]).await?;
        Ok(scene)
    }

    /// Creates another database on the same server. Its live collections are empty. `setup` runs on it too: a raw write must
    /// meet the same validator and indexes as one of the service.
    pub(super) async fn empty(&self, name: &str) -> Result<Database, Failure> {
        let database = self.database.client().database(name);
        golden::create_collections(&database).await?;
        let mut setup = command(&self.program, &self.set.uri(), name, self.folder.path());
        let ended = setup.arg("setup").stdout(Stdio::null()).status()?;
        if ended.success() { Ok(database) } else { Err(format!("`stream-processor setup` ended with {ended}").into()) }
    }

    /// The connection string of the server and the name of the database.
    pub(super) fn place(&self) -> (String, &str) {
        (self.set.uri(), &self.name)
    }

    /// Starts the service and waits until it leads.
    pub(super) async fn start(&self) -> Result<Run, Failure> {
        let (uri, name) = self.place();
        let started = Mark::now(None, self.server)?;
        // The ticker is off, because a due time-based job would disturb the measurement.
        let settings = [("STREAM_PROCESSOR__TICKER__ENABLED", "false")];
        let mut service = Service::start(&self.program, &uri, name, self.folder.path(), &settings)?;
        let began = Instant::now();
        loop {
            service.must_be_running()?;
            let metrics = service.metrics().await.unwrap_or_default();
            if xtask::scrape::sum(&metrics, "stream_processor_leader", "") > 0.0 {
                break;
            }
            self.patience(began, &service)?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let led = Mark::now(Some(service.pid()), self.server)?;
        Ok(Run { service, started, led })
    }

    /// Waits until a checkpoint covers all events up to `time`. Returns the cost since the service began to lead.
    pub(super) async fn until_applied(&self, run: &mut Run, time: Timestamp) -> Result<Measured, Failure> {
        let began = Instant::now();
        while self.checkpoint().await? < Some(time) {
            run.service.must_be_running()?;
            self.patience(began, &run.service)?;
            tokio::time::sleep(POLL).await;
        }
        self.measure(run).await
    }

    /// The processor time of the server now, before a client is started.
    pub(super) fn server_mark(&self) -> Result<Mark, Failure> {
        Mark::now(None, self.server)
    }

    /// The process id of `mongod`.
    pub(super) const fn server(&self) -> u32 {
        self.server
    }

    /// The processor times of the service and the server now.
    pub(super) fn mark(&self, run: &Run) -> Result<Mark, Failure> {
        Mark::now(Some(run.service.pid()), self.server)
    }

    async fn measure(&self, run: &Run) -> Result<Measured, Failure> {
        let now = Mark::now(Some(run.service.pid()), self.server)?;
        let metrics = run.service.metrics().await?;
        let written = |result: &str| xtask::scrape::sum(&metrics, "stream_processor_offers_written_total", result);
        if xtask::scrape::sum(&metrics, "stream_processor_dead_letters", "") > 0.0 {
            return Err("there are dead letters: the documents of the measurement are not all right".into());
        }
        Ok(Measured {
            spent: run.led.until(&now),
            peak: cost::peak_memory(run.service.pid())?,
            written: written(r#"result="created""#) + written(r#"result="changed""#),
            touched: xtask::scrape::sum(&metrics, "stream_processor_touches_total", r#"origin="stream""#),
        })
    }

    /// Waits until the resync of a first start is over.
    pub(super) async fn until_synced(&self, run: &Run) -> Result<(), Failure> {
        let began = Instant::now();
        let state = self.database.collection::<Document>("stream_processor_state");
        while self.checkpoint().await?.is_none() || state.find_one(doc! { "_id": "resync" }).await?.is_some() {
            self.patience(began, &run.service)?;
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Ends the service with SIGTERM and returns the time that it took.
    pub(super) async fn stop(&self, mut run: Run) -> Result<Duration, Failure> {
        let written = raw::cluster_time(&self.database).await?;
        let began = Instant::now();
        let (how, well) = run.service.stop().await;
        let took = began.elapsed();
        if well {
            Ok(took)
        } else {
            Err(format!("the service did not end as it should ({how}); written until {written}").into())
        }
    }

    /// Runs a command of the service to its end. Its memory and processor time are the last values before its end.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Measured, Failure> {
        let (uri, name) = self.place();
        let before = Mark::now(None, self.server)?;
        let mut command = tokio::process::Command::from(command(&self.program, &uri, name, self.folder.path()));
        let mut child =
            command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let pid = child.id().ok_or("the command ended at once")?;
        let (mut peak, mut client) = (0, Duration::ZERO);
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = tokio::time::sleep(Duration::from_millis(5)) => {
                    peak = cost::peak_memory(pid).unwrap_or(peak);
                    client = cost::processor_time(pid).unwrap_or(client);
                }
            }
        };
        if !status.success() {
            return Err(format!("`stream-processor {}` ended with {status}", arguments.join(" ")).into());
        }
        let mut spent = before.until(&Mark::now(None, self.server)?);
        spent.client = client;
        Ok(Measured { spent, peak, written: 0.0, touched: 0.0 })
    }

    /// The cluster time up to which all events are applied (spec 03, "Checkpoints").
    async fn checkpoint(&self) -> Result<Option<Timestamp>, Failure> {
        let checkpoint = self.saved_checkpoint().await?;
        Ok(checkpoint.and_then(|checkpoint| checkpoint.get_timestamp("cluster_time").ok()))
    }

    /// The stored checkpoint, for [`Scene::go_back`].
    pub(super) async fn saved_checkpoint(&self) -> Result<Option<Document>, Failure> {
        Ok(self.database.collection("stream_processor_state").find_one(doc! { "_id": "checkpoint" }).await?)
    }

    /// Stores an earlier checkpoint again. The service must not run.
    pub(super) async fn go_back(&self, checkpoint: &Document) -> Result<(), Failure> {
        let state = self.database.collection::<Document>("stream_processor_state");
        state.replace_one(doc! { "_id": "checkpoint" }, checkpoint).await?;
        Ok(())
    }

    fn patience(&self, began: Instant, service: &Service) -> Result<(), Failure> {
        if began.elapsed() < PATIENCE {
            Ok(())
        } else {
            Err(format!("nothing came of it in {} s:\n{}", PATIENCE.as_secs(), service.last_lines()).into())
        }
    }
}

impl Run {
    /// The time from the start of the process until it began to lead.
    pub(super) fn start_took(&self) -> Duration {
        self.started.until(&self.led).wall
    }
}
