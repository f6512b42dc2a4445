//! Random operations on all watched collections, while the service runs and is ended and killed: what stands in the end
//! is what an independent evaluation of the specification says (see `support/evaluation`).
//!
//! `STREAM_PROCESSOR_TEST_SEED=7` runs one seed, `STREAM_PROCESSOR_TEST_SEED=100..200` a range of them.

mod agreement;
mod documents;
mod operations;
mod stress;

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::AssertUnwindSafe;

use bson::oid::ObjectId;
use bson::{Document, doc};
use futures::{FutureExt as _, StreamExt as _};
use rand::Rng as _;

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::runs::BRISK;
use crate::support::state::{checkpoint, end_lease, put_back, settled, until_no_resync};
use agreement::{Moment, Sides};
use operations::Applications;

/// Those that run everywhere; they take some seconds each.
const SEEDS: Range<u64> = 0..10;
/// They wait more than they work.
const AT_ONCE: usize = 3;
const ACTIONS: u32 = 250;
/// Who is the authority: those phases in which the stream writes offers. `migration.rs` goes through all of them.
const PHASES: [&str; 2] = ["sync", "dual-write"];

#[tokio::test(flavor = "multi_thread")]
async fn after_random_operations_and_restarts_the_target_is_what_the_specification_says() {
    let runs = seeds().map(outcome);
    let failed: Vec<Option<u64>> = futures::stream::iter(runs).buffer_unordered(AT_ONCE).collect().await;
    let failed: Vec<u64> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "see above; run one with STREAM_PROCESSOR_TEST_SEED: {failed:?}");
}

/// The seed, if it failed; the others go on.
async fn outcome(seed: u64) -> Option<u64> {
    AssertUnwindSafe(whole_run(seed)).catch_unwind().await.err().map(|_| seed)
}

async fn whole_run(seed: u64) {
    let test = TestDatabase::with_planned_schema("random_operations").await;
    let phase = PHASES[usize::from(seed % 3 == 2)];
    let mut run = Run::start(&test, phase, seed).await;
    run.act_with_restarts().await;
    run.end().await;
}

fn seeds() -> Range<u64> {
    let Ok(wanted) = std::env::var("STREAM_PROCESSOR_TEST_SEED") else {
        return SEEDS;
    };
    let number = |text: &str| text.parse::<u64>().expect("a seed is a number, or a range such as 100..200");
    match wanted.split_once("..") {
        Some((first, after)) => number(first)..number(after),
        None => number(&wanted)..number(&wanted) + 1,
    }
}

/// One database, the applications that write into it, and the service, which may be down.
struct Run<'a> {
    test: &'a TestDatabase,
    settings: Vec<(&'a str, &'a str)>,
    newest_wins: bool,
    seed: u64,
    applications: Applications,
    service: Option<Processor>,
    /// What another process has written into offers.
    enriched: BTreeMap<ObjectId, Document>,
    /// The offers of another partner.
    foreign: BTreeMap<ObjectId, Document>,
}

impl<'a> Run<'a> {
    async fn start(test: &'a TestDatabase, phase: &'a str, seed: u64) -> Self {
        let mut run = Self {
            test,
            settings: [&BRISK[..], &[("STREAM_PROCESSOR__PHASE__INITIAL", phase)]].concat(),
            newest_wins: phase == "dual-write",
            seed,
            applications: Applications::new(&test.database, seed),
            service: None,
            enriched: BTreeMap::new(),
            foreign: BTreeMap::new(),
        };
        let foreign = (0..documents::USERS).map(|number| {
            let user = documents::user_id(number);
            doc! { "_id": ObjectId::new(), "partner_label": "autre", "partner_job_id": user.to_hex(),
            "managed_by": user.to_hex(), "apply_email": "autre@example.com", "offer_status": "Active" }
        });
        test.collection("jobs_partners").insert_many(foreign).await.unwrap();
        run.foreign = offers::read(&test.database).await;
        run.applications.begin().await;
        run.service = Some(Processor::start(test, &run.settings));
        run
    }

    async fn act_with_restarts(&mut self) {
        for _ in 0..ACTIONS {
            match self.applications.random.random_range(0..100) {
                0 => self.stop().await,
                1 => self.kill().await,
                2..4 => {
                    self.settle().await;
                    self.compare(Moment::Midway).await;
                }
                4..8 => self.enrich().await,
                // While it is down, a backlog grows.
                8..18 => self.ensure_running(),
                _ => self.applications.act().await,
            }
        }
    }

    fn ensure_running(&mut self) {
        self.service.get_or_insert_with(|| Processor::start(self.test, &self.settings));
    }

    async fn stop(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.sigterm();
            let ended = service.until_ended().await;
            // Or ended by the signal itself: it came before the program listened to it.
            assert!([0, 143].contains(&ended.code), "SIGTERM ends it well:\n{}", service.last_lines());
        }
    }

    async fn kill(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.sigkill();
            end_lease(&self.test.database).await;
        }
    }

    /// Everything is applied, and so is every resync that it asked for.
    async fn settle(&mut self) {
        self.ensure_running();
        self.service.as_mut().unwrap().until_ready().await;
        settled(&self.test.database).await;
        until_no_resync(&self.test.database).await;
    }

    /// What other processes add to an offer must stay.
    async fn enrich(&mut self) {
        let id = documents::job_id(self.applications.random.random_range(0..documents::JOBS));
        let number = self.applications.random.random_range(1..1000);
        let more = doc! { "workplace_name": format!("Enseigne {number}"), "stats_search_view": number, "rank": number };
        let offers = self.test.collection("jobs_partners");
        if offers.update_one(doc! { "_id": id }, doc! { "$set": &more }).await.unwrap().matched_count == 1 {
            self.enriched.insert(id, more);
        }
    }

    async fn end(&mut self) {
        self.applications.finish_steps().await;
        // Without it, some recruiters are copied and not yet deleted, and some jobs have two recruiters.
        let is_tidy = self.applications.random.random_bool(0.6);
        if is_tidy {
            self.applications.tidy().await;
        }
        self.settle().await;
        self.compare(Moment::Settled).await;
        let position = checkpoint(&self.test.database).await;
        self.stop().await;

        self.command(&["backfill", "--json"]).await;
        self.compare(Moment::Backfilled).await;
        if is_tidy {
            self.command(&["verify", "--json"]).await;
        }
        put_back(&self.test.database, position).await;
        self.settle().await;
        self.compare(Moment::Settled).await;
    }

    async fn command(&self, arguments: &[&str]) {
        let ended = Processor::command(arguments, self.test, &self.settings).await;
        assert_eq!(ended.code, 0, "seed {}: {arguments:?}\n{}\n{}", self.seed, ended.stdout, ended.stderr);
    }

    async fn compare(&self, moment: Moment) {
        let sides = Sides::read(&self.test.database, moment, &self.enriched, self.newest_wins).await;
        let faults = sides.faults();
        assert!(faults.is_empty(), "seed {}, {moment:?}:\n  {}", self.seed, faults.join("\n  "));
        let mut foreign = offers::read(&self.test.database).await;
        foreign.retain(|id, _| self.foreign.contains_key(id));
        offers::assert_same(&self.foreign, &foreign);
    }
}
