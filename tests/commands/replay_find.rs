//! `replay --find`: when each field was changed first and last, without any write.

use bson::oid::ObjectId;
use bson::{Document, doc};
use serde_json::Value;

use super::replay::{json, next_second, replay, text};
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

/// Nobody knows when the script began: the first write of each field tells it. Beside a running instance, and without any
/// write.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_and_the_last_write_of_each_field_are_found_and_nothing_is_written() {
    let test = TestDatabase::create("replay_find").await;
    let processor = started(&test).await;
    let all: Vec<Document> = (0..30).map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let (source, offers) = (test.collection("recruiters"), test.collection("jobs_partners"));
    let before = next_second(&test).await;
    source.update_one(doc! { "_id": id(&all[0]) }, doc! { "$set": { "naf_code": "1" } }).await.unwrap();
    let began = next_second(&test).await;
    for recruiter in &all[..20] {
        let spoilt = doc! { "$set": { "jobs.1.offer_title_custom": PERSONAL, "jobs.0.offer_title_custom": PERSONAL } };
        source.update_one(doc! { "_id": id(recruiter) }, spoilt).await.unwrap();
    }
    let ended = next_second(&test).await;
    let mut foreign = offers.find_one(doc! {}).await.unwrap().unwrap();
    foreign.extend(doc! { "_id": ObjectId::new(), "partner_label": "another partner" });
    offers.insert_one(&foreign).await.unwrap();
    offers.update_one(doc! { "_id": id(&foreign) }, doc! { "$set": { "rank": 1 } }).await.unwrap();
    offers.update_many(doc! {}, doc! { "$set": { "applicationCount": 7 } }).await.unwrap();
    offers.delete_one(doc! { "offer_title": "Boulanger", "_id": { "$ne": id(&foreign) } }).await.unwrap();
    settled(&test.database).await;
    let until = next_second(&test).await;

    let from = cluster_time_now(&test.database).await;
    let span = ["--from", &text(before), "--until", &text(until), "--find"];
    let found = json(&replay(&test, &[&span[..], &["--json"]].concat()).await);
    let field = |collection: &str, path: &str| {
        let fields = found["fields"].as_array().unwrap();
        fields.iter().find(|field| field["collection"] == collection && field["field"] == path).cloned()
    };
    let titles = field("recruiters", "jobs.*.offer_title_custom").unwrap_or_else(|| panic!("{found:#}"));
    assert_eq!(titles["writes"], 20, "an event counts once for its folded path: {found:#}");
    let (began, ended) = (text(began), text(ended));
    let within = |value: &Value| (began.as_str()..ended.as_str()).contains(&value.as_str().unwrap());
    assert!(within(&titles["first"]) && within(&titles["last"]), "{titles} {began} {ended}");
    assert_eq!(field("recruiters", "naf_code").unwrap()["writes"], 1);
    assert_eq!(field("jobs_partners", "applicationCount").unwrap()["writes"], 60);
    assert_eq!(field("jobs_partners", "(deleted)").unwrap()["writes"], 1);
    assert_eq!((field("jobs_partners", "rank"), field("jobs_partners", "(inserted)")), (None, None), "{found:#}");
    let only = json(&replay(&test, &[&span[..], &["--json", "--collection", "recruiters"]].concat()).await);
    assert!(only["fields"].as_array().unwrap().iter().all(|field| field["collection"] == "recruiters"), "{only:#}");
    let shown = replay(&test, &span).await.stdout;
    let line =
        shown.lines().find(|line| line.contains("jobs.*.offer_title_custom")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.starts_with("recruiters") && line.contains(" 20 "), "{shown}");
    assert!(!format!("{found}{shown}").contains(PERSONAL));
    let refused = Processor::command(&["replay", "--from", "2h", "--find", "--dry-run"], &test, &[]).await;
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(writes(&test.database, "jobs_partners", from).await.is_empty());
    assert!(test.collection("stream_processor_commands").find_one(doc! {}).await.unwrap().is_none());
    stopped(processor).await;
}
