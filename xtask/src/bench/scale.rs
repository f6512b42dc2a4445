//! Measures the growth of the cost with one varied parameter at a time, and the memory over time.

use std::path::Path;
use std::time::Duration;

use bson::Document;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;

use super::SEED;
use super::cost;
use super::population::{Edit, Population, Shape};
use super::raw;
use super::scene::{Measured, Scene};
use crate::Failure;

/// The number of events of a backlog, unless the backlog is the varied parameter.
const EVENTS: usize = 5_000;
/// The number of statements that are built and sent together. A million statements would not fit into memory.
const AT_A_TIME: usize = 20_000;
/// Writes per second of the steady load.
const STEADY: u64 = 50;
/// The interval at which the memory is measured.
const LOOK: Duration = Duration::from_secs(5);

/// One measured point of one curve.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    /// The varied parameter. Its curves are in one plot.
    pub varies: &'static str,
    /// The measured work, such as `first fill`: the name of the curve.
    pub work: &'static str,
    /// The value of the varied parameter.
    pub at: f64,
    /// Microseconds of wall time per event or offer.
    pub microseconds: Option<f64>,
    /// Microseconds of the service's processor time per event or offer.
    pub client_microseconds: Option<f64>,
    /// The service's resident memory in megabytes: its peak, or under a steady load its current value.
    pub megabytes: f64,
}

impl Point {
    fn of(varies: &'static str, work: &'static str, at: usize, items: usize, measured: Measured) -> Self {
        let each = |time: Duration| Some(time.as_secs_f64() * 1e6 / items as f64);
        let point = Self {
            varies,
            work,
            at: at as f64,
            microseconds: each(measured.spent.wall),
            client_microseconds: each(measured.spent.client),
            megabytes: measured.peak as f64 / 1e6,
        };
        println!(
            "{varies} {at}, {work}: {:.0} µs each, {:.0} µs of the service's processor time, peak {:.1} MB",
            point.microseconds.unwrap_or_default(),
            point.client_microseconds.unwrap_or_default(),
            point.megabytes
        );
        point
    }
}

/// Measures all curves of `--scale`.
pub(super) async fn scale(program: &Path) -> Result<Vec<Point>, Failure> {
    let mut points = Vec::new();
    for recruiters in [1_000, 10_000, 100_000] {
        let shape = Shape::usual(recruiters);
        Box::pin(one(program, "recruiters", recruiters, shape, EVENTS, &mut points)).await?;
    }
    for jobs in [1, 10, 100] {
        let shape = Shape { recruiters: 500, jobs, weight: 8_000 };
        Box::pin(one(program, "jobs per recruiter", jobs, shape, EVENTS, &mut points)).await?;
    }
    for kilobytes in [8, 100, 1_000] {
        let shape = Shape { recruiters: 200, jobs: 3, weight: 1_000 * kilobytes };
        Box::pin(one(program, "kilobytes per recruiter", kilobytes, shape, 1_000, &mut points)).await?;
    }
    for events in [1_000, 10_000, 100_000, 1_000_000] {
        let shape = Shape::usual(5_000);
        Box::pin(one(program, "events of the backlog", events, shape, events, &mut points)).await?;
    }
    Ok(points)
}

/// Measures a first fill, a full sync, a backlog and its replay on a new server.
async fn one(
    program: &Path,
    varies: &'static str,
    at: usize,
    shape: Shape,
    events: usize,
    points: &mut Vec<Point>,
) -> Result<(), Failure> {
    let mut random = StdRng::seed_from_u64(SEED);
    let scene = Scene::prepare(program, "bench").await?;
    let population = Population::settle(&scene.database, shape, &mut random).await?;
    for work in ["first fill", "full sync"] {
        let measured = scene.run(&["backfill"]).await?;
        points.push(Point::of(varies, work, at, shape.offers(), measured));
    }
    let run = scene.start().await?;
    scene.until_synced(&run).await?;
    scene.stop(run).await?;
    let checkpoint = scene.saved_checkpoint().await?.ok_or("there is no checkpoint")?;
    let edits = population.edits(events, shape.recruiters, &mut random);
    let mut mark = 0;
    for edits in edits.chunks(AT_A_TIME) {
        write(&scene, edits, &mut mark).await?;
    }
    let until = raw::cluster_time(&scene.database).await?;
    // After the first run the old checkpoint is stored again, so that the second run reads the same events.
    for work in ["backlog", "replay"] {
        let mut run = scene.start().await?;
        let measured = scene.until_applied(&mut run, until).await?;
        points.push(Point::of(varies, work, at, events, measured));
        scene.stop(run).await?;
        scene.go_back(&checkpoint).await?;
    }
    Ok(())
}

async fn write(scene: &Scene, edits: &[Edit], mark: &mut u64) -> Result<(), Failure> {
    let statement = |edit: &Edit| {
        *mark += 1;
        edit.of_recruiter(*mark)
    };
    let statements: Vec<Document> = edits.iter().map(statement).collect();
    raw::send(&scene.database, "recruiters", statements, 1).await.map(drop)
}

/// Measures the service's memory under a steady load.
pub(super) async fn soak(program: &Path, duration: Duration) -> Result<Vec<Point>, Failure> {
    let mut random = StdRng::seed_from_u64(SEED);
    let shape = Shape::usual(5_000);
    let scene = Scene::prepare(program, "bench").await?;
    let population = Population::settle(&scene.database, shape, &mut random).await?;
    let mut run = scene.start().await?;
    scene.until_synced(&run).await?;
    let (mut points, mut mark) = (Vec::new(), 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / STEADY));
    let began = std::time::Instant::now();
    let mut looked = began;
    while began.elapsed() < duration {
        ticks.tick().await;
        write(&scene, &population.edits(1, shape.recruiters, &mut random), &mut mark).await?;
        if looked.elapsed() >= LOOK {
            looked = std::time::Instant::now();
            run.service.must_be_running()?;
            points.push(Point {
                varies: "minutes of a steady load",
                work: "resident memory",
                at: began.elapsed().as_secs_f64() / 60.0,
                microseconds: None,
                client_microseconds: None,
                megabytes: cost::resident_memory(run.service.pid())? as f64 / 1e6,
            });
        }
    }
    let until = raw::cluster_time(&scene.database).await?;
    scene.until_applied(&mut run, until).await?;
    scene.stop(run).await?;
    Ok(points)
}
