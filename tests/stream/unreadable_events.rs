//! Events that cannot be read, in part or at all, and events that the server cannot deliver: the stream goes past each, and
//! what they told is found in another way.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::raw::RawArrayBuf;
use bson::{Bson, DateTime, Document, RawDocumentBuf, Timestamp, doc, rawdoc};
use futures::TryStreamExt as _;
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::jobs::ticker::offer_jobs::filled;
use crate::support::damaged::{self, DAMAGED};
use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::failpoints;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{BRISK, started, started_with, stopped};
use crate::support::state::{gaps, settled, until_no_resync, writes};
use crate::support::ticking::counts;
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const TOO_LARGE: &str = "an event is too large to be delivered (code 10334)";
const UNDELIVERABLE: &str = r#"stream_processor_stream_restarts_total{cause="10334"}"#;
/// Its event has it twice more, in hexadecimal digits of its token: more than the server's limit of 16 MB.
const LONG_ID: usize = 7_500_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_a_field_whose_name_is_no_utf8_touches_everything_of_its_document() {
    let test = TestDatabase::create("unreadable_names").await;
    let cfa = doc! { "siret": "22222222222222" };
    let cfa = test.collection("cfas").insert_one(cfa).await.unwrap().inserted_id;
    let user = test.collection("userswithaccounts").insert_one(doc! { "email": "x@example.com" }).await.unwrap();
    let user = user.inserted_id;
    let delegated = doc! {
        "is_delegated": true, "cfa_delegated_siret": "22222222222222",
        "managed_by": user.as_object_id().unwrap().to_hex(),
    };
    let of_all = with(recruiter([job("Boulanger"), job("Vendeur")]), delegated);
    test.collection("recruiters").insert_one(&of_all).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let changed = [("recruiters", of_all.get("_id").unwrap()), ("userswithaccounts", &user), ("cfas", &cfa)];
    for (collection, id) in changed {
        for change in ["$set", "$unset"] {
            let wrong = doc! { "$set": { "offer_title": "wrong" } };
            test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();
            let name = format!("note_{DAMAGED}");
            let update = doc! { "q": { "_id": id.clone() }, "u": { change: { name: 1 } } };
            damaged::run(&test, rawdoc! { "update": collection, "updates": list(&update) }).await;
            settled(&test.database).await;
            until_no_resync(&test.database).await;
            if (collection, change) == ("recruiters", "$set") {
                // A recruiter is read whole: while it has such a name, it is a dead letter.
                let dead_letters = dead_letters(&test).await;
                assert_eq!(
                    dead_letters.iter().map(|dead_letter| text(dead_letter, "reason")).collect::<Vec<_>>(),
                    ["undecodable"]
                );
                continue;
            }
            assert_eq!(dead_letters(&test).await, []);
            let offers = offers::read(&test.database).await;
            let titles: Vec<&str> = job_ids(&of_all).iter().map(|job| text(&offers[job], "offer_title")).collect();
            assert_eq!(titles, ["Boulanger", "Vendeur"], "{change} in {collection}");
        }
    }
    assert_eq!(processor.metric(r#"stream_processor_stream_restarts_total{cause="reply"}"#).await, None);
    assert!(gaps(&test.database).await.is_empty());
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_whose_id_is_no_utf8_is_a_dead_letter_with_its_position_until_it_is_deleted() {
    let test = TestDatabase::create("unreadable_ids").await;
    test.collection("recruiters").insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    let ids = [
        rawdoc! { "_id": DAMAGED },
        rawdoc! { "_id": { "a": [DAMAGED] } },
        rawdoc! { "_id": { "name": 1, "XXXX": 1 } },
    ];
    for id in &ids {
        damaged::insert(&test, "recruiters", id.clone()).await;
    }
    damaged::insert(&test, "userswithaccounts", ids[0].clone()).await;
    settled(&test.database).await;
    let found = dead_letters(&test).await;
    assert_eq!(found.iter().filter(|dead_letter| text(dead_letter, "_id").starts_with("recruiters/")).count(), 3);
    assert_eq!(found.iter().map(|dead_letter| text(dead_letter, "_id")).collect::<BTreeSet<_>>().len(), 4, "{found:?}");
    for dead_letter in &found {
        assert_eq!(text(dead_letter, "reason"), "undecodable");
        assert!(
            dead_letter.get_document("token").is_ok() && dead_letter.get_timestamp("cluster_time").is_ok(),
            "{dead_letter}"
        );
    }

    let retried = Processor::command(&["dead-letters", "retry", "--json"], &test, &[]).await;
    assert!([0, 1].contains(&retried.code), "{retried:?}");
    assert_eq!(dead_letters(&test).await.len(), 4, "they are there");
    for (collection, id) in
        [("recruiters", &ids[0]), ("recruiters", &ids[1]), ("recruiters", &ids[2]), ("userswithaccounts", &ids[0])]
    {
        let mut deletes = RawArrayBuf::new();
        deletes.push(rawdoc! { "q": id.clone(), "limit": 1 });
        damaged::run(&test, rawdoc! { "delete": collection, "deletes": deletes }).await;
    }
    settled(&test.database).await;
    assert_eq!(dead_letters(&test).await, []);
    assert!(gaps(&test.database).await.is_empty());
    assert_nothing_lost(test, processor).await;
}

/// The oplog has the long name once, and the event would have it 20,000 times.
/// A validator refuses offers by the names of their fields, and quotes them: what the server says is no UTF-8 then.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_the_server_refuses_in_words_that_are_no_utf8_is_a_dead_letter_and_keeps_no_other_from_being_written()
 {
    let test = TestDatabase::create("unreadable_refusal").await;
    let recruiters: Vec<Document> = (0..20).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let refused = job_ids(&recruiters[7])[0];
    refuse_in_other_bytes(&test, refused).await;

    let touch = doc! { "$set": { "opco": "a touch" } };
    test.collection("recruiters").update_many(doc! {}, touch).await.unwrap();
    settled(&test.database).await;
    let offers = test.collection("jobs_partners");
    let dead_letters = dead_letters(&test).await;
    assert_eq!(offers.count_documents(doc! { "workplace_opco": "a touch" }).await.unwrap(), 19, "{dead_letters:?}");
    assert_eq!(dead_letters.len(), 1, "{dead_letters:?}");
    assert_eq!(dead_letters[0].get_str("reason").unwrap(), "refused_by_server");
    assert_eq!(text(&dead_letters[0], "_id"), format!("recruiters/{}/{refused}", id(&recruiters[7])));

    test.database.run_command(doc! { "collMod": "jobs_partners", "validator": {} }).await.unwrap();
    assert_eq!(Processor::command(&["dead-letters", "retry"], &test, &[]).await.code, 0);
    assert_eq!(offers.count_documents(doc! { "workplace_opco": "a touch" }).await.unwrap(), 20);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_goes_on_with_the_others_when_one_is_refused_in_words_that_are_no_utf8() {
    let expired = || doc! { "job_expiration_date": DateTime::from_millis(1_700_000_000_000) };
    let (test, ids) = filled("unreadable_job", [expired(), expired(), expired()]).await;
    refuse_in_other_bytes(&test, ids[1]).await;
    let told = Processor::command(&["jobs", "run", "cancel-expired-offers", "--json"], &test, &[]).await.stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(counts(&told), [3, 2, 1], "{told}");
    let cancelled = doc! { "offer_status": "Cancelled" };
    assert_eq!(test.collection("jobs_partners").count_documents(cancelled).await.unwrap(), 2);
}

/// Lets the server refuse this offer, and quote a field of it that is no UTF-8.
async fn refuse_in_other_bytes(test: &TestDatabase, offer: ObjectId) {
    let update = doc! { "q": { "_id": offer }, "u": { "$set": { format!("note_{DAMAGED}"): 1 } } };
    damaged::run(test, rawdoc! { "update": "jobs_partners", "updates": list(&update) }).await;
    let named = doc! { "patternProperties": { "^[A-Za-z_0-9]*$": {} }, "additionalProperties": false };
    let refusing = doc! { "collMod": "jobs_partners", "validator": { "$jsonSchema": named } };
    test.database.run_command(refusing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_of_very_many_long_names_is_delivered_without_them() {
    let test = TestDatabase::create("unreadable_many").await;
    let long = "x".repeat(1_000);
    let ballast = doc! { &long: { "ballast": "y".repeat(2_000_000) } };
    let large = with(recruiter([job("Boulanger")]), ballast);
    test.collection("recruiters").insert_one(&large).await.unwrap();
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let before = cluster_time_now(&test.database).await;
    let many: Document = (0..20_000).map(|number| (format!("n{number}"), Bson::Int32(1))).collect();
    let change = doc! { "$set": { &long: many, "email": "nouveau@example.com" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&large) }, vec![change]).await.unwrap();
    let written = writes(&test.database, "recruiters", before).await;
    assert!(written[0].get_document("o").unwrap().contains_key("diff"), "an update, not a replacement");
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&large)], "apply_email"), "nouveau@example.com");
    assert_eq!(processor.metric(UNDELIVERABLE).await, None);
    assert!(gaps(&test.database).await.is_empty());
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_server_cannot_deliver_is_passed_over_and_found_by_a_resync() {
    let test = TestDatabase::create("unreadable_large").await;
    let recruiters = test.collection("recruiters");
    let [before, after, between] = [(); 3].map(|()| recruiter([job("Boulanger")]));
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    recruiters.insert_one(&before).await.unwrap();
    let begins = cluster_time_now(&test.database).await;
    let large = "é".repeat(LONG_ID / 2);
    recruiters.insert_one(doc! { "_id": &large }).await.unwrap();
    recruiters.insert_one(&between).await.unwrap();
    // Two in a row.
    recruiters.update_one(doc! { "_id": &large }, doc! { "$set": { "a": 1 } }).await.unwrap();
    recruiters.delete_one(doc! { "_id": &large }).await.unwrap();
    recruiters.insert_one(doc! { "_id": "y".repeat(LONG_ID) }).await.unwrap();
    recruiters.insert_one(&after).await.unwrap();

    let processor = started(&test).await;
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    assert!(processor.metric(UNDELIVERABLE).await.is_some_and(|count| count >= 8.0), "{}", processor.last_lines());
    let entries = writes(&test.database, "recruiters", begins).await;
    let times: Vec<Timestamp> = entries.iter().map(|entry| entry.get_timestamp("ts").unwrap()).collect();
    let expected: Vec<Timestamp> = [0, 2, 3, 4].map(|index| after_time(times[index])).to_vec();
    let gaps = gaps(&test.database).await;
    let events = test.collection("stream_processor_events");
    eventually(PATIENCE, "the timeline tells of the gaps", async || {
        let told = events.distinct("kind", doc! {}).await.unwrap();
        ["gap_opened", "gaps_repaired"].iter().all(|kind| told.contains(&(*kind).into())).then_some(())
    })
    .await;
    assert_eq!(gaps.iter().map(|gap| gap.get_timestamp("to").unwrap()).collect::<Vec<_>>(), expected, "{gaps:?}");
    for gap in &gaps {
        assert_eq!((text(gap, "cause"), text(gap, "state")), (TOO_LARGE, "repaired"), "{gap}");
    }
    let offers = offers::read(&test.database).await;
    assert_eq!(offers.len(), 3);
    let dead_letters = dead_letters(&test).await;
    assert_eq!(dead_letters.len(), 1, "of the document with a long `_id` that is there");
    assert!(text(&dead_letters[0], "_id").starts_with("recruiters/\"yyy"), "found by the resync");
    let (status, answer) = processor.http_get("/readyz").await;
    assert_eq!(status, 200, "{answer}");
    recruiters.delete_many(doc! { "_id": { "$type": "string" } }).await.unwrap();
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_oplog_may_not_be_read_everything_up_to_now_is_passed_over() {
    let set = ReplicaSet::start(&Options { access_control: true, ..Options::default() }).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "unreadable_oplog").await;
    let owner = doc! { "role": "dbOwner", "db": test.name() };
    let user = doc! { "createUser": "owner", "pwd": "of-this-database", "roles": [owner] };
    test.database.client().database("admin").run_command(user).await.unwrap();
    let uri = set.uri_for("owner", "of-this-database");
    let service = async || started_with(&test, &[("MONGODB_URI", &uri)]).await;
    let (processor, recruiters) = (service().await, test.collection("recruiters"));
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    recruiters.insert_one(doc! { "_id": "x".repeat(LONG_ID) }).await.unwrap();
    recruiters.insert_one(recruiter([job("Boulanger")])).await.unwrap();
    let written = cluster_time_now(&test.database).await;

    let processor = service().await;
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    let gaps = gaps(&test.database).await;
    assert!(gaps.len() == 1 && gaps[0].get_timestamp("to").unwrap() > written, "{gaps:?}");
    assert_eq!((text(&gaps[0], "cause"), text(&gaps[0], "state")), (TOO_LARGE, "repaired"));
    assert_eq!(offers::read(&test.database).await.len(), 1);
    recruiters.delete_one(doc! { "_id": { "$type": "string" } }).await.unwrap();
    recruiters.insert_one(recruiter([job("Vendeur")])).await.unwrap();
    eventually(PATIENCE, "the second recruiter has its offer", async || {
        (offers::read(&test.database).await.len() == 2).then_some(())
    })
    .await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_and_the_commands_of_the_position_get_past_an_event_that_the_server_cannot_deliver() {
    let test = TestDatabase::create("unreadable_commands").await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    let recruiters = test.collection("recruiters");
    let begins = next_second(&test).await;
    let [before, after] = [(); 2].map(|()| recruiter([job("Boulanger")]));
    recruiters.insert_one(&before).await.unwrap();
    recruiters.insert_one(doc! { "_id": "x".repeat(LONG_ID) }).await.unwrap();
    recruiters.delete_one(doc! { "_id": { "$type": "string" } }).await.unwrap();
    recruiters.insert_one(&after).await.unwrap();

    let refused = Processor::command(&["tokens", "reset"], &test, &[]).await;
    assert!(refused.code == 1 && refused.stderr.contains("not read yet: 4 events"), "{refused:?}");
    let from = ["replay", "--from", &begins, "--json"];
    let dry = json(&test, &[&from[..], &["--dry-run"]].concat()).await;
    assert_eq!((&dry["created"], &dry["undeliverable"], &dry["needs_backfill"]), (&2.into(), &2.into(), &true.into()));
    let text = Processor::command(&["replay", "--from", &begins, "--dry-run"], &test, &[]).await;
    assert!(text.stdout.contains("at least 2 events that the server cannot deliver"), "{text:?}");
    let done = json(&test, &from).await;
    assert_eq!((&done["created"], &done["undeliverable"], &done["resync"]), (&2.into(), &2.into(), &true.into()));
    assert_eq!(offers::read(&test.database).await.len(), 2);

    let forced = ["tokens", "reset", "--force", "--reason", "an event that cannot be delivered"];
    let forced = Processor::command(&forced, &test, &[]).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    let processor = started(&test).await;
    settled(&test.database).await;
    // Beside the live stream.
    let done = json(&test, &from).await;
    assert_eq!((&done["undeliverable"], &done["resync"]), (&2.into(), &true.into()), "{done}");
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_fails_alike_at_every_position_goes_on_when_it_is_mended_and_has_lost_nothing() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    for (command, code, cause) in
        [("getMore", 10_334, TOO_LARGE), ("aggregate", 292, "an event cannot be read (code 292)")]
    {
        let test = TestDatabase::create_on(&set.uri(), "unreadable_always").await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        stopped(processor).await;
        failpoints::refuse(&test.database, command, "$cmd.aggregate", doc! { "errorCode": code }).await;
        let recruiters = test.collection("recruiters");
        recruiters.insert_one(recruiter([job("Boulanger")])).await.unwrap();
        let mut processor = Processor::start(&test, &BRISK);
        eventually(PATIENCE, "a gap", async || gaps(&test.database).await.into_iter().next()).await;
        failpoints::mend(&test.database).await;
        processor.until_ready().await;
        settled(&test.database).await;
        until_no_resync(&test.database).await;
        for gap in gaps(&test.database).await {
            assert_eq!((text(&gap, "cause"), text(&gap, "state")), (cause, "repaired"), "{gap}");
        }
        assert_eq!(offers::read(&test.database).await.len(), 1);
        recruiters.insert_one(recruiter([job("Vendeur")])).await.unwrap();
        settled(&test.database).await;
        assert_nothing_lost(test, processor).await;
    }
}

fn after_time(time: Timestamp) -> Timestamp {
    Timestamp { increment: time.increment + 1, ..time }
}

fn list(only: &Document) -> RawArrayBuf {
    let mut list = RawArrayBuf::new();
    list.push(RawDocumentBuf::try_from(only).unwrap());
    list
}

async fn dead_letters(test: &TestDatabase) -> Vec<Document> {
    let dead_letters = test.collection("stream_processor_dead_letters").find(doc! {}).await.unwrap();
    dead_letters.try_collect().await.unwrap()
}

async fn json(test: &TestDatabase, arguments: &[&str]) -> Value {
    let ended = Processor::command(arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{arguments:?}: {ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// A time later than all that was written before: what people give as a time has no fractions.
async fn next_second(test: &TestDatabase) -> String {
    let now = cluster_time_now(&test.database).await.time;
    eventually(PATIENCE, "the next second", async || {
        test.collection("elsewhere").insert_one(doc! {}).await.unwrap();
        (cluster_time_now(&test.database).await.time > now).then_some(())
    })
    .await;
    DateTime::from_millis(i64::from(now + 1) * 1_000).try_to_rfc3339_string().unwrap()
}
