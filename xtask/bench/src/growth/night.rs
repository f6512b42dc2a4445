//! A night: offers of another partner are imported beside a steady load of ours. The measurement is the latency of our
//! writes before and during the import, and the memory of the service.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bson::{Document, doc};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;

use crate::foreign::{PER_INSERT, foreign_offers};
use crate::population::{Edit, Population, Shape, description};
use crate::scenarios::{STEADY, quantile};
use crate::scene::Scene;
use crate::{SEED, cost, raw};
use xtask::Failure;

/// The time of the steady load before the import.
const BEFORE: Duration = Duration::from_secs(20);
/// The interval at which a write is searched in the offers.
const LOOK: Duration = Duration::from_millis(1);
/// The number of foreign inserts in flight.
const IN_FLIGHT: usize = 2;

/// The latencies of one span of the load, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Latencies {
    writes: usize,
    /// Until the write is visible in its offer.
    p50: f64,
    p99: f64,
    longest: f64,
    /// Until the server acknowledges the write.
    acknowledged_p50: f64,
    acknowledged_p99: f64,
}

/// One measured night.
#[derive(Debug, Serialize)]
pub(super) struct Night {
    foreign: usize,
    import_seconds: f64,
    before: Latencies,
    during: Latencies,
    /// Seconds of processor time during the import.
    client: f64,
    server: f64,
    megabytes_before: f64,
    megabytes_peak: f64,
}

/// Imports `foreign` offers, at most `pace` a second.
pub(super) async fn measure(program: &Path, foreign: usize, pace: Option<usize>) -> Result<Night, Failure> {
    let mut random = StdRng::seed_from_u64(SEED);
    let shape = Shape::usual(5_000);
    let scene = Scene::prepare(program, "bench").await?;
    let population = Population::settle(&scene.database, shape, &mut random).await?;
    scene.run(&["backfill"]).await?;
    let mut run = scene.start().await?;
    scene.until_synced(&run).await?;

    let mut mark = 0;
    let mut edits = || population.edits(1, shape.recruiters, &mut random).into_iter().next();
    let began = Instant::now();
    let before = load(&scene, &mut edits, &mut mark, || began.elapsed() >= BEFORE).await?;
    let megabytes_before = cost::peak_memory(run.service.pid())? as f64 / 1e6;
    let (start, began, is_over) = (scene.mark(&run)?, Instant::now(), AtomicBool::new(false));
    let import = async {
        let imported = import(&scene, foreign, pace).await;
        is_over.store(true, Ordering::Relaxed);
        imported.map(|()| began.elapsed())
    };
    let during = load(&scene, &mut edits, &mut mark, || is_over.load(Ordering::Relaxed));
    let (took, during) = futures::try_join!(import, during)?;
    scene.until_applied(&mut run, raw::cluster_time(&scene.database).await?).await?;
    let spent = start.until(&scene.mark(&run)?);
    let night = Night {
        foreign,
        import_seconds: took.as_secs_f64(),
        before,
        during,
        client: spent.client.as_secs_f64(),
        server: spent.server.as_secs_f64(),
        megabytes_before,
        megabytes_peak: cost::peak_memory(run.service.pid())? as f64 / 1e6,
    };
    scene.stop(run).await?;
    println!("{foreign} foreign offers: {night:?}");
    Ok(night)
}

async fn import(scene: &Scene, foreign: usize, pace: Option<usize>) -> Result<(), Failure> {
    use futures::{StreamExt as _, TryStreamExt as _};

    let offers = scene.database.collection::<Document>("jobs_partners");
    let ours = offers.find_one(doc! {}).await?.ok_or("there are no offers")?;
    let began = Instant::now();
    futures::stream::iter((0..foreign).step_by(PER_INSERT))
        .map(|first| {
            let (offers, ours) = (&offers, &ours);
            async move {
                if let Some(pace) = pace {
                    let due = Duration::from_secs_f64(first as f64 / pace as f64);
                    tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
                }
                let count = PER_INSERT.min(foreign - first);
                offers.insert_many(foreign_offers(ours, first..first + count)).await.map(drop)
            }
        })
        .buffered(IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

/// Writes at a steady pace until `is_over`.
async fn load(
    scene: &Scene,
    edits: &mut impl FnMut() -> Option<Edit>,
    mark: &mut u64,
    is_over: impl Fn() -> bool,
) -> Result<Latencies, Failure> {
    let (mut acknowledged, mut visible) = (Vec::new(), Vec::new());
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / STEADY));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let offers = scene.database.collection::<Document>("jobs_partners");
    while !is_over() {
        ticks.tick().await;
        let edit = edits().ok_or("there are no recruiters")?;
        *mark += 1;
        let began = Instant::now();
        raw::send(&scene.database, "recruiters", vec![edit.of_recruiter(*mark)], 1).await?;
        acknowledged.push(began.elapsed());
        let shown = doc! { "_id": edit.job, "offer_description": description(*mark) };
        while offers.find_one(shown.clone()).projection(doc! { "_id": 1 }).await?.is_none() {
            if began.elapsed() > Duration::from_secs(300) {
                return Err("a write did not become visible in 300 s".into());
            }
            tokio::time::sleep(LOOK).await;
        }
        visible.push(began.elapsed());
    }
    acknowledged.sort_unstable();
    visible.sort_unstable();
    Ok(Latencies {
        writes: visible.len(),
        p50: quantile(&visible, 50),
        p99: quantile(&visible, 99),
        longest: visible.last().copied().unwrap_or_default().as_secs_f64() * 1000.0,
        acknowledged_p50: quantile(&acknowledged, 50),
        acknowledged_p99: quantile(&acknowledged, 99),
    })
}

/// The table of all nights in Markdown.
pub(super) fn table(nights: &[Night]) -> String {
    let mut text = String::from(
        "| foreign offers | | writes of ours | p50 | p99 | longest | acknowledged, p50 | p99 | CPU of the service | \
         of mongod | peak memory |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for night in nights {
        let during = format!("during the import of {:.0} s", night.import_seconds);
        let cost = [format!("{:.1} s", night.client), format!("{:.0} s", night.server)];
        let none = [String::new(), String::new()];
        for (span, latencies, [client, server], megabytes) in [
            ("before", night.before, none, night.megabytes_before),
            (during.as_str(), night.during, cost, night.megabytes_peak),
        ] {
            let Latencies { writes, p50, p99, longest, acknowledged_p50, acknowledged_p99 } = latencies;
            // Writing to a string does not fail.
            let _ = writeln!(
                text,
                "| {} | {span} | {writes} | {p50:.1} ms | {p99:.1} ms | {longest:.0} ms | {acknowledged_p50:.1} ms | \
                 {acknowledged_p99:.1} ms | {client} | {server} | {megabytes:.1} MB |",
                night.foreign
            );
        }
    }
    text
}
