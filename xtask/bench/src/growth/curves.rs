//! The curves: a first fill, a full sync, a verification, a backlog and its replay at each step of a parameter, each step on a new server.

use std::path::Path;

use bson::{Document, doc};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::{Arguments, Curve};
use crate::SEED;
use crate::point::Point;
use crate::population::{Edit, Population, Shape};
use crate::raw;
use crate::scene::Scene;
use xtask::Failure;
use xtask::mongod::Options;

/// The number of events of a backlog, unless the backlog is the varied parameter.
const EVENTS: usize = 5_000;
/// The same for one recruiter with many jobs, and for heavy recruiters. Each edit makes the server write all of one.
const FEW_EVENTS: usize = 1_000;
const FEWEST_EVENTS: usize = 20;
/// The number of statements that are built and sent together. A million statements would not fit into memory.
const AT_A_TIME: usize = 20_000;
/// The number of unwatched documents that are inserted together.
const UNWATCHED_AT_A_TIME: usize = 5_000;
/// The watched part of a long oplog.
const SMALL_SHARE: f64 = 0.1;
/// A collection that the service does not watch.
const UNWATCHED: &str = "applications";

/// One step of one curve.
struct Step {
    varies: &'static str,
    at: f64,
    shape: Shape,
    /// True where the recruiters vary, and so the first fill does.
    has_own_recruiters: bool,
    /// Watched events of the backlog, and entries of the oplog that are not watched.
    events: usize,
    unwatched: usize,
}

/// Measures all steps that are asked for, once.
pub(super) async fn measure(program: &Path, arguments: &Arguments, points: &mut Vec<Point>) -> Result<(), Failure> {
    let server = Options { cache_gigabytes: arguments.cache, ..Options::default() };
    for step in steps(arguments) {
        Box::pin(one(program, &step, &server, points)).await?;
    }
    Ok(())
}

fn steps(arguments: &Arguments) -> Vec<Step> {
    let usual = Shape::usual(5_000);
    let step = |varies, at: usize, shape, events| {
        let (at, has_own_recruiters) = (at as f64, true);
        Step { varies, at, shape, has_own_recruiters, events, unwatched: 0 }
    };
    let backlog = |varies, at, (events, unwatched)| Step {
        varies,
        at,
        shape: usual,
        has_own_recruiters: false,
        events,
        unwatched,
    };
    let mut steps: Vec<(Curve, Step)> = Vec::new();
    steps.extend(
        arguments
            .recruiters
            .iter()
            .map(|recruiters| (Curve::Recruiters, step("recruiters", *recruiters, Shape::usual(*recruiters), EVENTS))),
    );
    steps.extend(arguments.jobs.iter().map(|jobs| {
        let shape = Shape { recruiters: 1, jobs: *jobs, weight: 8_000 };
        (Curve::Jobs, step("jobs in one recruiter", *jobs, shape, FEWEST_EVENTS))
    }));
    steps.extend(arguments.weights.iter().map(|kilobytes| {
        let shape = Shape { recruiters: 200, jobs: 3, weight: 1_000 * kilobytes };
        (Curve::Weights, step("kilobytes per recruiter", *kilobytes, shape, FEW_EVENTS))
    }));
    steps.extend(
        arguments
            .backlogs
            .iter()
            .map(|events| (Curve::Backlogs, backlog("events of the backlog", *events as f64, (*events, 0)))),
    );
    steps.extend(arguments.shares.iter().map(|share| {
        (Curve::Shares, backlog("percent of the oplog watched", *share, divided(arguments.entries, *share)))
    }));
    steps.extend(arguments.oplogs.iter().map(|entries| {
        (Curve::Oplogs, backlog("entries of the oplog", *entries as f64, divided(*entries, SMALL_SHARE)))
    }));
    steps.into_iter().filter(|(curve, _)| arguments.wants(*curve)).map(|(_, step)| step).collect()
}

/// The watched and the unwatched part of an oplog. `share` is in percent.
fn divided(entries: usize, share: f64) -> (usize, usize) {
    let events = (entries as f64 * share / 100.0).round().max(1.0) as usize;
    (events, entries.saturating_sub(events))
}

/// Measures one step on a new server.
async fn one(program: &Path, step: &Step, server: &Options, points: &mut Vec<Point>) -> Result<(), Failure> {
    let Step { varies, at, shape, .. } = *step;
    let mut random = StdRng::seed_from_u64(SEED);
    let scene = Scene::prepare_with(program, "bench", server).await?;
    let population = Population::settle(&scene.database, shape, &mut random).await?;
    let filled = scene.run(&["backfill"]).await?;
    // The other curves all have the same recruiters.
    if step.has_own_recruiters {
        points.push(Point::of(varies, "first fill", at, shape.offers(), filled));
        let synced = scene.run(&["backfill"]).await?;
        points.push(Point::of(varies, "full sync", at, shape.offers(), synced));
        let verified = scene.run(&["verify"]).await?;
        points.push(Point::of(varies, "verification", at, shape.offers(), verified));
    }
    let run = scene.start().await?;
    scene.until_synced(&run).await?;
    scene.stop(run).await?;
    let checkpoint = scene.saved_checkpoint().await?.ok_or("there is no checkpoint")?;
    let edits = population.edits(step.events, shape.recruiters, &mut random);
    write_mixed(&scene, &edits, step.unwatched).await?;
    let until = raw::cluster_time(&scene.database).await?;
    // After the first run the old checkpoint is stored again, so that the second run reads the same events.
    for work in ["backlog", "replay"] {
        let mut run = scene.start().await?;
        let measured = scene.until_applied(&mut run, until).await?;
        points.push(Point::of(varies, work, at, step.events + step.unwatched, measured));
        scene.stop(run).await?;
        scene.go_back(&checkpoint).await?;
    }
    Ok(())
}

/// Writes the edits with unwatched inserts evenly between them. The last write is an edit: the checkpoint follows
/// watched events at once, and an idle stream only after a while.
async fn write_mixed(scene: &Scene, edits: &[Edit], unwatched: usize) -> Result<(), Failure> {
    let other = scene.database.collection::<Document>(UNWATCHED);
    let parts = unwatched.div_ceil(UNWATCHED_AT_A_TIME).max(1);
    let mut mark = 0;
    for part in 0..parts {
        let count = UNWATCHED_AT_A_TIME.min(unwatched - part * UNWATCHED_AT_A_TIME);
        if count > 0 {
            let document = doc! { "kind": "unwatched", "text": "x".repeat(100) };
            other.insert_many(std::iter::repeat_n(document, count)).await?;
        }
        let range = edits.len() * part / parts..edits.len() * (part + 1) / parts;
        write(scene, edits.get(range).unwrap_or_default(), &mut mark).await?;
    }
    Ok(())
}

/// Writes edits of recruiters. `mark` moves on, so that each write changes its document.
pub(crate) async fn write(scene: &Scene, edits: &[Edit], mark: &mut u64) -> Result<(), Failure> {
    for edits in edits.chunks(AT_A_TIME) {
        let statement = |edit: &Edit| {
            *mark += 1;
            edit.of_recruiter(*mark)
        };
        let statements: Vec<Document> = edits.iter().map(statement).collect();
        raw::send(&scene.database, "recruiters", statements, 1).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oplog_is_divided_into_its_watched_and_its_unwatched_part() {
        assert_eq!(divided(200_000, 0.1), (200, 199_800));
        assert_eq!(divided(200_000, 100.0), (200_000, 0));
        assert_eq!(divided(100, 0.1), (1, 99), "one event at least");
    }
}
