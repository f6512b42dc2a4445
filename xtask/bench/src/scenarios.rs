//! The scenarios of spec 07, "Speed". One round measures all of them on one database.

use std::time::{Duration, Instant};

use bson::{Document, doc};
use rand::rngs::StdRng;

use super::hops::{self, Writer};
use super::population::{Edit, Population, Shape, description};
use super::raw;
use super::report::{Figures, Sample};
use super::scene::{Measured, Run, Scene};
use xtask::Failure;

/// The number of events of a backlog.
pub(super) const EVENTS: usize = 20_000;
/// The number of recruiters with events in the hot backlog (spec 07).
pub(super) const HOT: usize = 500;
/// Writes per second of the steady load.
pub(super) const STEADY: u64 = 50;

/// The interval at which a write is searched in the offers.
const LOOK: Duration = Duration::from_micros(200);

/// The amount of data and of load in a round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub shape: Shape,
    pub to_verify: Shape,
    pub steady: Duration,
    /// The part of the 500,000 foreign offers that is written beside an idle mirror is one by this number.
    pub foreign_divisor: usize,
    /// The number of events of a backlog against others.
    pub against: usize,
}

pub(super) struct Round<'a> {
    pub scene: &'a Scene,
    pub population: &'a Population,
    pub random: &'a mut StdRng,
    pub figures: &'a mut Figures,
    pub size: Size,
    /// The first mark of the round. Marks differ from round to round, so that each write changes its document.
    pub mark: u64,
}

impl Round<'_> {
    /// The uniform and the hot backlog, each with its replay.
    pub(super) async fn backlogs(&mut self) -> Result<(), Failure> {
        for (name, replay, recruiters) in
            [("uniform backlog", "replay, uniform", self.size.shape.recruiters), ("hot backlog", "replay, hot", HOT)]
        {
            let edits = self.population.edits(EVENTS, recruiters, self.random);
            self.backlog(name, replay, &edits).await?;
        }
        Ok(())
    }

    /// The first fill, and then a full sync that finds nothing to write.
    pub(super) async fn fill(&mut self) -> Result<(), Failure> {
        let database = &self.scene.database;
        let offers = self.size.shape.offers();
        let measured = self.scene.run(&["backfill"]).await?;
        let limit = {
            let empty = self.scene.empty("bench_limit").await?;
            let (count, took) = raw::fill(database, &empty).await?;
            empty.drop().await?;
            if count != offers {
                let dead_letter =
                    database.collection::<Document>("stream_processor_dead_letters").find_one(doc! {}).await?;
                return Err(format!("{count} offers instead of {offers}; a dead letter: {dead_letter:?}").into());
            }
            count as f64 / took.as_secs_f64()
        };
        self.figures.add("first fill", Sample::rate(offers, measured).written(offers).limit(limit));

        let measured = self.scene.run(&["backfill"]).await?;
        let limit = raw::scan(database, &["recruiters", "jobs_partners"]).await?;
        self.figures.add("full sync", Sample::duration(offers, measured).limit(limit.as_secs_f64()));
        Ok(())
    }

    /// The first start with its resync, and the stop.
    pub(super) async fn first_start(&mut self) -> Result<(), Failure> {
        let run = self.scene.start().await?;
        self.scene.until_synced(&run).await?;
        self.stop(run).await
    }

    /// The start until the first write is visible, the latency of a steady load, and the stop.
    pub(super) async fn steady(&mut self) -> Result<(), Failure> {
        let edits = self.population.edits(
            1 + usize::try_from(STEADY * self.size.steady.as_secs())?,
            self.size.shape.recruiters,
            self.random,
        );
        let Some((first, edits)) = edits.split_first() else { return Ok(()) };
        self.write(first, self.mark).await?;
        let began = Instant::now();
        let mut run = Box::pin(self.scene.start()).await?;
        self.until_visible(first, self.mark).await?;
        self.figures.add("start", Sample::of(began.elapsed().as_secs_f64()));
        self.figures.add("start until it leads", Sample::of(run.start_took().as_secs_f64()));

        let visible = self.latencies(edits, true).await?;
        run.service.must_be_running()?;
        // The raw limit is the time of the write itself, acknowledged by a majority like the platform's writes.
        let written = self.latencies(edits, false).await?;
        for (name, percent) in [("steady, p50", 50), ("steady, p99", 99)] {
            let limit = quantile(&written, percent);
            self.figures.add(name, Sample::of(quantile(&visible, percent)).limit(limit));
        }
        let database = &self.scene.database;
        let seen = hops::latencies(database, edits, self.mark + 300_000, Writer::Service).await?;
        run.service.must_be_running()?;
        self.stop(run).await?;
        self.two_hops(edits, &seen).await
    }

    /// Compares the sorted latencies that a watcher of both collections saw with those of two hops through the server.
    async fn two_hops(&mut self, edits: &[Edit], seen: &[Duration]) -> Result<(), Failure> {
        let database = &self.scene.database;
        let other = self.scene.empty("bench_hops").await?;
        hops::copy(database, &other, edits).await?;
        let limits = hops::latencies(&other, edits, self.mark + 400_000, Writer::Watcher).await?;
        other.drop().await?;
        let two_hops = quantile(&limits, 50);
        for (name, times, percent) in [
            ("watched, p50", "watched, p50 ÷ p50 of two hops", 50),
            ("watched, p99", "watched, p99 ÷ p50 of two hops", 99),
        ] {
            let latency = quantile(seen, percent);
            self.figures.add(name, Sample::of(latency).limit(quantile(&limits, percent)));
            self.figures.add(times, Sample::of(latency / two_hops));
        }
        Ok(())
    }

    /// The sorted latencies of writes at a steady pace: until the write is visible in its offer, or else until it is
    /// acknowledged.
    pub(super) async fn latencies(&mut self, edits: &[Edit], until_visible: bool) -> Result<Vec<Duration>, Failure> {
        let mut latencies = Vec::with_capacity(edits.len());
        let mut ticks = tokio::time::interval(Duration::from_millis(1000 / STEADY));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for edit in edits {
            ticks.tick().await;
            self.mark += 1;
            let began = Instant::now();
            self.write(edit, self.mark).await?;
            if until_visible {
                self.until_visible(edit, self.mark).await?;
            }
            latencies.push(began.elapsed());
        }
        latencies.sort_unstable();
        Ok(latencies)
    }

    /// A backlog that grows while the service does not run, and then its replay, which writes nothing.
    async fn backlog(&mut self, name: &str, replay: &str, edits: &[Edit]) -> Result<(), Failure> {
        let database = &self.scene.database;
        let checkpoint = self.scene.saved_checkpoint().await?.ok_or("there is no checkpoint")?;
        let (offers, took) = raw::update(database, edits, self.mark + 100_000).await?;
        let writing = took.as_secs_f64() / offers as f64;
        let from = raw::cluster_time(database).await?;
        let statements: Vec<Document> =
            (self.mark + 200_000..).zip(edits).map(|(mark, edit)| edit.of_recruiter(mark)).collect();
        // One command at a time, so that the last edit of a job stays.
        raw::send(database, "recruiters", statements, 1).await?;
        let until = raw::cluster_time(database).await?;
        let drained = raw::drain(database, from, edits.len()).await?.as_secs_f64();

        let mut run = self.scene.start().await?;
        let measured = self.scene.until_applied(&mut run, until).await?;
        // The raw limit is the time for reading the events and for writing as many offers as the service wrote.
        let limit = edits.len() as f64 / (drained + writing * measured.written);
        self.figures.add(name, Sample::rate(edits.len(), measured).limit(limit));
        self.check(edits).await?;
        self.scene.stop(run).await?;

        self.scene.go_back(&checkpoint).await?;
        let mut run = self.scene.start().await?;
        let measured = self.scene.until_applied(&mut run, until).await?;
        if measured.written > 0.0 {
            return Err(format!("a replay wrote {} offers", measured.written).into());
        }
        self.figures.add(replay, Sample::rate(edits.len(), measured).limit(edits.len() as f64 / drained));
        self.scene.stop(run).await?;
        Ok(())
    }

    /// An error unless the last edit of the backlog is visible in its offer.
    async fn check(&self, edits: &[Edit]) -> Result<(), Failure> {
        let Some((mark, edit)) = (self.mark + 200_000..).zip(edits).last() else { return Ok(()) };
        let shown = doc! { "_id": edit.job, "offer_description": description(mark) };
        match self.scene.database.collection::<Document>("jobs_partners").find_one(shown).await? {
            Some(_) => Ok(()),
            None => Err("an offer does not show the last edit of its job".into()),
        }
    }

    async fn stop(&mut self, run: Run) -> Result<(), Failure> {
        let took = self.scene.stop(run).await?;
        self.figures.add("stop", Sample::of(took.as_secs_f64()));
        Ok(())
    }

    async fn write(&self, edit: &Edit, mark: u64) -> Result<(), Failure> {
        raw::send(&self.scene.database, "recruiters", vec![edit.of_recruiter(mark)], 1).await.map(drop)
    }

    async fn until_visible(&self, edit: &Edit, mark: u64) -> Result<(), Failure> {
        let offers = self.scene.database.collection::<Document>("jobs_partners");
        let shown = doc! { "_id": edit.job, "offer_description": description(mark) };
        let began = Instant::now();
        while offers.find_one(shown.clone()).projection(doc! { "_id": 1 }).await?.is_none() {
            if began.elapsed() > Duration::from_secs(60) {
                return Err("a write did not become visible in 60 s".into());
            }
            // Without a pause, the searches would take processor time from the measured processes. The timer of the
            // runtime is too coarse for this pause.
            std::thread::sleep(LOOK);
        }
        Ok(())
    }
}

/// The full verification of a larger database, after its first fill.
pub(super) async fn verify(scene: &Scene, offers: usize, figures: &mut Figures, rounds: usize) -> Result<(), Failure> {
    let filled: Measured = scene.run(&["backfill"]).await?;
    figures.add("first fill, larger", Sample::rate(offers, filled).written(offers));
    for _ in 0..rounds {
        let measured = scene.run(&["verify"]).await?;
        let limit = raw::scan(&scene.database, &["recruiters", "jobs_partners"]).await?;
        figures.add("verification", Sample::duration(offers, measured).limit(limit.as_secs_f64()));
    }
    Ok(())
}

/// The quantile in milliseconds.
pub(super) fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default().as_secs_f64() * 1000.0
}
