//! Measures the service's memory under a steady load.

use std::path::Path;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::SEED;
use super::cost;
use super::growth::write;
use super::point::Point;
use super::population::{Population, Shape};
use super::raw;
use super::scenarios::STEADY;
use super::scene::Scene;
use xtask::Failure;

/// The interval at which the memory is measured.
const LOOK: Duration = Duration::from_secs(5);

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
                seconds: None,
                items: 0.0,
                client: 0.0,
                server: 0.0,
                touched: 0.0,
                written: 0.0,
                megabytes: cost::resident_memory(run.service.pid())? as f64 / 1e6,
            });
        }
    }
    let until = raw::cluster_time(&scene.database).await?;
    scene.until_applied(&mut run, until).await?;
    scene.stop(run).await?;
    Ok(points)
}
