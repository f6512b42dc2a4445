//! The status page in the states that can be brought about: axe-core finds nothing, it fits a phone, and each problem leads to
//! its section of the runbook.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::{Value, json};
use xtask::mongod::{Options, ReplicaSet};

use crate::support::browser::Browser;
use crate::support::database::TestDatabase;
use crate::support::failpoints::{freeze, mend, passing, refuse};
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter};
use crate::support::runs::started_with;
use crate::support::state::{settled, until_no_resync};
use crate::support::ticking::ON;
use crate::support::waiting::{PATIENCE, eventually};

const AXE_VERSION: &str = "4.14.1";
/// The checks of axe-core on the page as it is, without loading anything.
const CHECK: &str = "axe.run({ preload: false }).then((found) => found.violations.map((violation) =>\
    violation.id + ': ' + violation.nodes.map((node) => node.html).join(' | ')))";

/// A browser that checks what it shows.
struct Checked {
    browser: Browser,
    axe: String,
}

impl Checked {
    fn open(url: &str) -> Self {
        let package = xtask::npm::installed("axe-core", AXE_VERSION, Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
        Self { browser: Browser::open(url, true), axe: fs::read_to_string(package.join("axe.min.js")).unwrap() }
    }

    /// Checks the page that is shown, on a phone in light and on a desk in dark; the usual states, and all for screenshots, also the
    /// other way round.
    fn check(&mut self, state: &str) {
        self.browser.evaluate(&format!("{};0", self.axe));
        let all = [(360, false), (1600, true), (360, true), (1600, false)];
        let is_usual = ["standing_by", "in_step"].contains(&state);
        let checked = if is_usual || std::env::var_os("STREAM_PROCESSOR_SCREENSHOTS").is_some() { 4 } else { 2 };
        for (width, is_dark) in all.into_iter().take(checked) {
            self.browser.resize(width, is_dark);
            let found = self.browser.evaluate_promise(CHECK);
            assert_eq!(found, json!([]), "{state}, {width} pixels, dark: {is_dark}");
            let needed = self.browser.evaluate("document.documentElement.scrollWidth").as_u64().unwrap();
            assert!(needed <= u64::from(width), "{state}: {needed} of {width} pixels");
            if let Some(folder) = std::env::var_os("STREAM_PROCESSOR_SCREENSHOTS") {
                let scheme = if is_dark { "dark" } else { "light" };
                let file = Path::new(&folder).join(format!("{state}-{width}-{scheme}.png"));
                write_decoded(&self.browser.screenshot(), &file);
            }
        }
    }
}

fn write_decoded(base64: &str, file: &Path) {
    let mut decoder = Command::new("base64");
    let decoder = decoder.arg("-d").stdin(Stdio::piped()).stdout(fs::File::create(file).unwrap());
    let mut decoder = decoder.spawn().unwrap();
    std::io::Write::write_all(&mut decoder.stdin.take().unwrap(), base64.as_bytes()).unwrap();
    assert!(decoder.wait().unwrap().success());
}

async fn until_state(processor: &Processor, wanted: &str) {
    eventually(PATIENCE, wanted, async || {
        let (_, status) = processor.try_get("/api/status").await?;
        let status: Value = serde_json::from_str(&status).unwrap();
        (status["verdict"]["state"] == wanted).then_some(())
    })
    .await;
}

/// What must be stored so that an instance that does not lead says so: the state, the collection and the document.
fn stored_states() -> Vec<(&'static str, &'static str, Document)> {
    let (now, later) = (DateTime::now(), DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000));
    let state = "stream_processor_state";
    let resync = doc! {
        "_id": "resync", "cause": "first start", "stage": "recruiters", "after": ObjectId::new(), "began": now,
        "id": ObjectId::new(), "term": 1_i64,
    };
    let verification =
        doc! { "_id": "verification", "began": now, "ended": now, "phase": "sync", "differences": 7_i64, "full": true };
    let phase = |phase: &str| doc! { "_id": "phase", "phase": phase, "since": now, "revision": 1_i64 };
    vec![
        (
            "halted",
            state,
            doc! { "_id": "halt", "instance": "host/1/0", "cause": "the oplog no longer has the position", "since": now },
        ),
        (
            "paused",
            state,
            doc! { "_id": "pause", "since": now, "limit_at": later, "who": "x", "reason": "x", "term": 1_i64 },
        ),
        ("resyncing", state, resync),
        (
            "slowed",
            state,
            doc! { "_id": "throttle", "term": 3_i64, "slowed": {
                "pressure": "replication_lag", "milliseconds": 14_000_i64, "stream": false, "since": now,
            } },
        ),
        ("differs", state, verification),
        ("waiting_for_corrections", "stream_processor_dead_letters", doc! { "reason": "unknown_job_status" }),
        ("shadow", state, phase("shadow")),
        ("retired", state, phase("retired")),
    ]
}

/// Runs and events with every kind of row.
async fn fill(test: &TestDatabase) {
    let now = DateTime::now();
    let before = |seconds: i64| DateTime::from_millis(now.timestamp_millis() - seconds * 1_000);
    let run = |job: &str, outcome: Option<&str>, error: Option<&str>| {
        doc! {
            "job": job, "scheduled_for": before(600), "started": before(600), "outcome": outcome, "error": error,
            "finished": outcome.map(|_| before(500)), "matched": 3_i64, "changed": 2_i64, "failed": 1_i64,
            "part_done": 40_i64, "part_of": 100_i64,
        }
    };
    let runs = [
        run("remind-expiring-offers-j7", Some("failed"), Some("mail_server_down: connection refused")),
        run("cancel-expired-offers", Some("done"), None),
        run("verify", None, None),
    ];
    test.collection("stream_processor_job_runs").insert_many(runs).await.unwrap();
    let change = "the validator of jobs_partners allows mer_sent";
    let error = "mail_server_down: connection refused";
    let events = [
        doc! { "at": before(7_200), "kind": "schema_changed", "change": change },
        doc! { "at": before(610), "kind": "job_failed", "job": "remind-expiring-offers-j7", "failed": 1_i64, "error": error },
        doc! {
            "at": before(60), "kind": "database_away", "from": before(75), "to": before(61), "seconds": 14_i64,
            "cause": "no answer to a ping within 2 s",
        },
    ];
    test.collection("stream_processor_events").insert_many(events).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_on_a_standby_in_any_state_and_problems_lead_to_the_runbook() {
    let test = TestDatabase::create("page_states").await;
    test.collection("recruiters").insert_many([recruiter([job("Boulanger")]), recruiter([])]).await.unwrap();
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
    // Whoever may write into the database chooses the name. It must not widen the page.
    let holder = format!("{}.example/4711/0badcafe", "another-host".repeat(40));
    let held = doc! { "_id": "lease", "holder": &holder, "term": 3_i64, "expires_at": later };
    test.collection("stream_processor_state").insert_one(held).await.unwrap();
    let sign =
        doc! { "_id": &holder, "version": "1.0.0".repeat(60), "role": "leader", "since": later, "seen_at": later };
    test.collection("stream_processor_instances").insert_one(sign).await.unwrap();
    fill(&test).await;
    let standby = Processor::start_ready(&test, &[ON]).await;
    let mut checked = Checked::open(&standby.url("/"));
    until_state(&standby, "standing_by").await;
    eventually(PATIENCE, "the offers are counted", async || {
        standby.http_get("/").await.1.contains("id=\"collections-fold\"").then_some(())
    })
    .await;
    checked.browser.load(&standby.url("/"));
    checked.check("standing_by");
    for (state, collection, document) in stored_states() {
        let id = test.collection(collection).insert_one(document).await.unwrap().inserted_id;
        until_state(&standby, state).await;
        checked.browser.load(&standby.url("/"));
        checked.check(state);
        if !["shadow", "retired"].contains(&state) {
            let link = "document.querySelector('.problems a').getAttribute('href')";
            let link = checked.browser.evaluate(link).as_str().unwrap().to_owned();
            checked.browser.load(&standby.url(&link));
            let found = checked.browser.evaluate("document.querySelector(':target').tagName");
            assert_eq!(found, "H2", "{state}: {link}");
        }
        test.collection(collection).delete_one(doc! { "_id": id }).await.unwrap();
    }
    let behind = doc! { "$set": { "lag_seconds": 42.0 } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "lease" }, behind).await.unwrap();
    until_state(&standby, "catching_up").await;
    checked.browser.load(&standby.url("/"));
    checked.check("catching_up");
    checked.browser.load(&standby.url("/runbook"));
    checked.check("runbook");
    assert_eq!(checked.browser.complaints, Vec::<String>::new());
}

/// The server answers nobody who asks for the lease, so what lasts an instant can be looked at.
#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_while_nobody_leads_and_on_an_instance_that_starts() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "page_starting").await;
    let state = test.collection("stream_processor_state");
    let later = DateTime::from_millis(DateTime::now().timestamp_millis() + 600_000);
    let held = doc! { "_id": "lease", "holder": "host/1/0", "term": 3_i64, "expires_at": later };
    state.insert_one(held).await.unwrap();
    let standby = Processor::start_ready(&test, &[ON]).await;
    until_state(&standby, "standing_by").await;
    let mut checked = Checked::open(&standby.url("/"));
    freeze(&test.database, &["findAndModify"], 60_000).await;
    state.delete_one(doc! { "_id": "lease" }).await.unwrap();
    until_state(&standby, "no_leader").await;
    checked.browser.load(&standby.url("/"));
    checked.check("no_leader");
    let starting = Processor::start(&test, &[ON]);
    until_state(&starting, "starting").await;
    checked.browser.load(&starting.url("/"));
    checked.check("starting");
    mend(&test.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn axe_finds_nothing_on_a_leader_without_its_database_and_on_a_page_that_gets_no_answer() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "page_leader").await;
    let recruiters = (0..20).map(|_| recruiter([job("Boulanger"), job("Vendeur")]));
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    fill(&test).await;
    // Long enough to look at the page before the instance is no longer ready.
    let mut leader = started_with(&test, &[ON, ("STREAM_PROCESSOR__HEALTH__MAX_RETRY", "20s")]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let mut checked = Checked::open(&leader.url("/"));
    until_state(&leader, "in_step").await;
    eventually(PATIENCE, "the offers are counted", async || {
        leader.http_get("/").await.1.contains("40 of our 40 offers active").then_some(())
    })
    .await;
    checked.browser.load(&leader.url("/"));
    checked.check("in_step");
    refuse(&test.database, "update", "jobs_partners", passing()).await;
    let edit = doc! { "$set": { "jobs.0.offer_title_custom": "Boulangère" } };
    test.collection("recruiters").update_one(doc! {}, edit).await.unwrap();
    for state in ["retrying", "not_ready"] {
        until_state(&leader, state).await;
        checked.browser.load(&leader.url("/"));
        checked.check(state);
    }
    mend(&test.database).await;
    until_state(&leader, "in_step").await;
    set.member(0).kill();
    until_state(&leader, "no_database").await;
    checked.browser.load(&leader.url("/"));
    checked.check("no_database");
    leader.sigkill();
    eventually(PATIENCE, "the silence is seen, with the age of what is shown", async || {
        let stale = "document.body.classList.contains('stale') && document.getElementById('old').textContent";
        checked.browser.evaluate(stale).as_str().is_some_and(|age| age.starts_with("Loaded ")).then_some(())
    })
    .await;
    let alarm = checked.browser.evaluate("document.getElementById('connection').textContent");
    let alarm = alarm.as_str().unwrap();
    assert!([" CET:", " CEST:"].iter().any(|zone| alarm.contains(zone)), "in the zone of the page: {alarm}");
    checked.check("no_answer");
}
