//! The verdict: page, `/readyz`, `/api/status`, `status` and the metric say the same, and damage is never green.

use bson::{DateTime, doc};
use serde_json::Value;
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started, started_with};
use crate::support::state::{end_lease, settled, until_no_resync};
use crate::support::waiting::{PATIENCE, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_by_everyone_until_it_is_repaired() {
    let test = TestDatabase::create("verdict_damage").await;
    let recruiter = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    until_all_say(&test, &processor, "in_step", "ok").await;

    let offer = doc! { "_id": first_job(&recruiter) };
    let changed = doc! { "$set": { "offer_title": "Mal écrit" } };
    test.collection("jobs_partners").update_one(offer, changed).await.unwrap();
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 1);
    until_all_say(&test, &processor, "differs", "warn").await;

    let unknown = self::recruiter([with(job("Vendeur"), doc! { "job_status": "Statut inconnu" })]);
    test.collection("recruiters").insert_one(&unknown).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0, "a dead letter explains the other one");
    until_all_say(&test, &processor, "waiting_for_corrections", "warn").await;

    test.collection("recruiters").delete_one(doc! { "_id": unknown.get("_id") }).await.unwrap();
    until_all_say(&test, &processor, "in_step", "ok").await;

    let gap = doc! { "state": "open" };
    test.collection("stream_processor_gaps").insert_one(&gap).await.unwrap();
    until_all_say(&test, &processor, "resyncing", "warn").await;
    test.collection("stream_processor_gaps").delete_one(gap).await.unwrap();
    until_all_say(&test, &processor, "in_step", "ok").await;
    let log = processor.stderr();
    for told in ["differs", "resyncing"] {
        assert!(log.contains(&format!("\"verdict\":\"{told}\"")), "the log tells it too: {log}");
    }
    for name in ["environment", "database", "replica_set", "instance"] {
        assert!(log.lines().last().is_some_and(|line| line.contains(&format!("\"{name}\":"))), "{name}: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_told_by_its_cause_on_every_instance_and_nobody_leads_during_it() {
    let mut set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "verdict_outage").await;
    let debug = [("STREAM_PROCESSOR__LOG__LEVEL", "debug")];
    let [first, second] = [started_with(&test, &debug).await, Processor::start_ready(&test, &[]).await];
    until_one_leads(&[&first, &second]).await;

    set.member(0).signal(Signal::Stop);
    for processor in [&first, &second] {
        eventually(PATIENCE, "the cause is told", async || {
            let (code, ready) = readyz(processor).await;
            let reasons = ready["reasons"].to_string();
            assert!(!reasons.contains("it is stuck"), "{ready:#}");
            let told = code == 503 && ready["verdict"]["state"] == "no_database";
            (told && reasons.contains("MongoDB has not answered")).then_some(())
        })
        .await;
    }
    eventually(PATIENCE, "the lease is over, so nobody leads", async || {
        let leaders = [role(&first).await, role(&second).await].iter().filter(|role| *role == "leader").count();
        (leaders == 0).then_some(())
    })
    .await;
    for processor in [&first, &second] {
        eventually(PATIENCE, "what is unknown is told as unknown", async || {
            let status: Value = serde_json::from_str(&processor.http_get("/api/status").await.1).unwrap();
            (status["lag_seconds"].is_null() && status["service"]["leader"]["lag_seconds"].is_null()).then_some(())
        })
        .await;
    }
    set.member(0).signal(Signal::Continue);
    until_one_leads(&[&first, &second]).await;
    eventually(PATIENCE, "both are ready", async || {
        (readyz(&first).await.0 == 200 && readyz(&second).await.0 == 200).then_some(())
    })
    .await;
    for processor in [&first, &second] {
        let log = processor.stderr();
        let place = |line: &str| log.find(line).unwrap_or(usize::MAX);
        assert!(place("the lease was lost") <= place("\"task\":\"lease\""), "before its tasks end: {log}");
        assert!(place("the lease was lost") <= place("this instance leads no longer"), "{log}");
    }
    let events = test.collection("stream_processor_events");
    let outage = eventually(PATIENCE, "the timeline tells the outage", async || {
        events.find_one(doc! { "kind": "database_away" }).await.unwrap()
    })
    .await;
    assert_eq!(outage.get_str("cause").unwrap(), "no answer to a ping within 2 s", "{outage}");
    let [from, to] = ["from", "to"].map(|end| outage.get_datetime(end).unwrap().timestamp_millis());
    assert_eq!(outage.get_i64("seconds").unwrap(), (to - from) / 1_000, "{outage}");
    let shown = Processor::command(&["events", "--json", "--kind", "database_away"], &test, &[]).await.stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let shown_from = DateTime::parse_rfc3339_str(shown["events"][0]["from"].as_str().unwrap()).unwrap();
    assert_eq!(shown_from.timestamp_millis(), from, "a time is a text: {shown}");
    end_lease(&test.database).await;
    until_one_leads(&[&first, &second]).await;
    let told = events.count_documents(doc! { "kind": "database_away" }).await.unwrap();
    assert_eq!(told, 1, "an outage is told once, whoever leads");
}

/// Waits until one instance leads. Never do two, and the metric agrees with `/readyz`.
async fn until_one_leads(processors: &[&Processor; 2]) {
    eventually(PATIENCE, "one instance leads", async || {
        let roles = [role(processors[0]).await, role(processors[1]).await];
        let leaders = roles.iter().filter(|role| *role == "leader").count();
        assert!(leaders < 2, "two lead: {roles:?}");
        for processor in processors {
            let (before, metric, after) =
                (role(processor).await, processor.metric("stream_processor_leader").await, role(processor).await);
            assert!(before != after || metric == Some(f64::from(u8::from(after == "leader"))), "{after}: {metric:?}");
        }
        (leaders == 1).then_some(())
    })
    .await;
}

async fn role(processor: &Processor) -> String {
    readyz(processor).await.1["role"].as_str().unwrap().to_owned()
}

async fn readyz(processor: &Processor) -> (u16, Value) {
    let (code, body) = processor.http_get("/readyz").await;
    (code, serde_json::from_str(&body).unwrap())
}

async fn until_all_say(test: &TestDatabase, processor: &Processor, state: &str, severity: &str) {
    eventually(PATIENCE, state, async || {
        let api: Value = serde_json::from_str(&processor.http_get("/api/status").await.1).unwrap();
        let ready = readyz(processor).await.1;
        let status = Processor::command(&["status", "--json"], test, &[]).await;
        let status: Value = serde_json::from_str(&status.stdout).unwrap();
        let metric = processor.metric(&format!("stream_processor_verdict{{state=\"{state}\"}}")).await;
        let page = processor.http_get("/").await.1;
        let same = [&api, &ready, &status]
            .iter()
            .all(|answer| answer["verdict"]["state"] == state && answer["verdict"]["severity"] == severity);
        let on_page = page.contains(&format!("class=\"verdict {severity}\""));
        (same && metric == Some(1.0) && on_page).then_some(())
    })
    .await;
}
