//! A watched collection that is dropped, renamed or replaced, and the whole database dropped (spec 03, "Reactions"):
//! readiness says so until it is there again, the stream goes on, and nothing that comes afterwards is lost.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use xtask::guarded::Signal;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::{SOURCES, TestDatabase};
use crate::support::failpoints::{mend, refuse_next, until_no_get_more};
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{BRISK, ONE_STREAM, started, started_with, stopped};
use crate::support::state::{change_checkpoint, gaps, jobs, links, settled, state, until_no_resync};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn each_dropped_or_renamed_collection_is_told_by_its_name_until_it_is_repaired_and_the_stream_goes_on() {
    let test = TestDatabase::create("dropped_each").await;
    let processor = started(&test).await;
    for (name, is_renamed) in SOURCES.into_iter().flat_map(|name| [(name, false), (name, true)]) {
        let collection = test.collection(name);
        collection.insert_one(doc! {}).await.unwrap();
        if is_renamed {
            rename(&test, name, &format!("{name}_old_{}", ObjectId::new()), false).await
        } else {
            collection.drop().await.unwrap()
        }
        until_dropped(&processor, &[name]).await;
        let newcomer = recruiter([job("Boulanger")]);
        if name != "recruiters" {
            test.collection("recruiters").insert_one(&newcomer).await.unwrap();
            settled(&test.database).await;
            assert_eq!(status(&test, &newcomer).await, "Active", "the stream goes on after {name}");
            until_dropped(&processor, &[name]).await;
        }
        collection.insert_one(doc! {}).await.unwrap();
    }
    until_dropped(&processor, &[]).await;
    let events = test.collection("stream_processor_events");
    let named = events.distinct("collection", doc! { "kind": "source_dropped" }).await.unwrap();
    let named: BTreeSet<&str> = named.iter().filter_map(Bson::as_str).collect();
    assert_eq!(named, SOURCES.into_iter().collect(), "the timeline names each");
    assert!(!stopped(processor).await.stderr.contains(PERSONAL));
}

/// Dropped and filled again at once: both are in one batch.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_right_after_a_drop_is_applied_and_the_collection_counts_as_there() {
    let test = TestDatabase::create("dropped_refilled").await;
    let processor = started(&test).await;
    for round in 0..2 {
        let recruiters: Vec<Document> = (0..30).map(|_| recruiter([job("Boulanger"), job("Vendeur")])).collect();
        test.collection("recruiters").drop().await.unwrap();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        settled(&test.database).await;
        assert_eq!(offers::read(&test.database).await.len(), 60 * (round + 1));
        until_dropped(&processor, &[]).await;
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_while_a_collection_had_another_name_is_found_when_it_has_its_own_again() {
    let test = TestDatabase::create("dropped_renamed").await;
    let processor = started(&test).await;
    let world: Vec<Document> = ["Boulanger", "Vendeur", "Fleuriste"].map(|title| recruiter([job(title)])).into();
    test.collection("recruiters").insert_many(&world).await.unwrap();
    settled(&test.database).await;
    rename(&test, "recruiters", "elsewhere", false).await;
    until_dropped(&processor, &["recruiters"]).await;
    let new = change_all(&test, "elsewhere", &world).await;
    settled(&test.database).await;
    assert_eq!(title(&test, &world[0]).await, "Boulanger", "nobody watches it now");

    rename(&test, "elsewhere", "recruiters", false).await;
    until_dropped(&processor, &[]).await;
    assert_followed(&test, &world, &new).await;
    stopped(processor).await;
    assert_verified(&test).await;
}

/// As a restore does, and an aggregation with `$out`.
#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_another_one_replaces_under_its_name_is_looked_at_whole() {
    let test = TestDatabase::create("dropped_replaced").await;
    let processor = started(&test).await;
    let world: Vec<Document> = ["Boulanger", "Vendeur", "Fleuriste"].map(|title| recruiter([job(title)])).into();
    test.collection("recruiters").insert_many(&world).await.unwrap();
    test.collection("restored").insert_many(&world).await.unwrap();
    settled(&test.database).await;
    let new = change_all(&test, "restored", &world).await;
    rename(&test, "restored", "recruiters", true).await;
    assert_followed(&test, &world, &new).await;
    until_dropped(&processor, &[]).await;

    let sheet = |definition: &str| doc! { "rome": { "code_rome": "D1102" }, "definition": definition };
    test.collection("referentielromes").insert_one(sheet("Avant")).await.unwrap();
    test.collection("import").insert_one(sheet("Après")).await.unwrap();
    let described = with(recruiter([with(job("Boulanger"), doc! { "job_description": null })]), doc! {});
    test.collection("recruiters").insert_one(&described).await.unwrap();
    settled(&test.database).await;
    let pipeline = [doc! { "$match": {} }, doc! { "$out": "referentielromes" }];
    test.collection("import").aggregate(pipeline).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    eventually(PATIENCE, "the offer follows the sheet", async || {
        let offers = offers::read(&test.database).await;
        (text(&offers[&first_job(&described)], "offer_description") == "Après").then_some(())
    })
    .await;
    until_dropped(&processor, &[]).await;
    stopped(processor).await;
    assert_verified(&test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_whole_database_was_dropped_the_stream_is_opened_again_and_nothing_that_follows_is_lost() {
    let test = TestDatabase::create("dropped_database").await;
    // The lease goes with the database, and terms begin anew: an earlier one must not be in the way.
    stopped(started(&test).await).await;
    let lease = doc! { "$set": { "term": 1_000_000_i64 } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "lease" }, lease).await.unwrap();
    let processor = started(&test).await;
    for is_quick in [false, true, true] {
        test.collection("recruiters").insert_many((0..20).map(|_| recruiter([job("Boulanger")]))).await.unwrap();
        settled(&test.database).await;
        // One under way would miss its own documents before the stream tells of the drop, and begin as a first start does.
        until_no_resync(&test.database).await;
        test.database.drop().await.unwrap();
        if !is_quick {
            until_dropped(&processor, &["the database", "recruiters"]).await;
            eventually(PATIENCE, "the lease is taken again", async || state(&test.database, "lease").await).await;
        }
        let recruiters: Vec<Document> = (0..20).map(|_| recruiter([job("Vendeur")])).collect();
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        eventually(PATIENCE, "all that follows is projected", async || {
            let offers = offers::read(&test.database).await;
            recruiters.iter().all(|recruiter| offers.contains_key(&first_job(recruiter))).then_some(())
        })
        .await;
        until_dropped(&processor, &[]).await;
        settled(&test.database).await;
        until_no_resync(&test.database).await;
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
        assert!(gaps(&test.database).await.is_empty(), "it goes on after the end of the database, without a gap");
    }
    stopped(processor).await;
    assert_verified(&test).await;
}

/// As after `mongorestore --drop` of a backup that lacks a recruiter.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_back_after_a_drop_is_cancelled_and_the_hint_stays_until_then_also_over_a_restart() {
    let test = TestDatabase::create("dropped_less").await;
    let processor = started(&test).await;
    let world: Vec<Document> = ["Boulanger", "Vendeur", "Fleuriste"].map(|title| recruiter([job(title)])).into();
    test.collection("recruiters").insert_many(&world).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").drop().await.unwrap();
    until_dropped(&processor, &["recruiters"]).await;
    stopped(processor).await;

    let processor = Processor::start(&test, &BRISK);
    until_dropped(&processor, &["recruiters"]).await;
    // Something else asks for a resync, in which every recruiter would be gone.
    test.collection("cfas").insert_one(doc! {}).await.unwrap();
    test.collection("cfas").drop().await.unwrap();
    until_dropped(&processor, &["cfas"]).await;
    test.collection("cfas").insert_one(doc! {}).await.unwrap();
    let began = cluster_time_now(&test.database).await.time;
    eventually(PATIENCE, "more time has gone by than a refill is waited for", async || {
        settled(&test.database).await;
        (cluster_time_now(&test.database).await.time > began + 7).then_some(())
    })
    .await;
    until_dropped(&processor, &["recruiters"]).await;
    for recruiter in &world {
        assert_eq!(status(&test, recruiter).await, "Active", "a collection that is absent tells nothing");
    }

    for recruiter in &world[..2] {
        test.collection("recruiters").insert_one(recruiter).await.unwrap();
        settled(&test.database).await;
    }
    eventually(PATIENCE, "it is ready, and only then", async || {
        let (code, _) = processor.try_get("/readyz").await?;
        let cancelled = status(&test, &world[2]).await == "Cancelled";
        assert!(code != 200 || cancelled, "the hint went away before the repair");
        (code == 200).then_some(())
    })
    .await;
    let offers = offers::read(&test.database).await;
    for recruiter in &world[..2] {
        let offer = &offers[&first_job(recruiter)];
        assert_eq!(text(offer, "offer_status"), "Active");
        assert!(offer.get_array("offer_status_history").unwrap().is_empty(), "it was never cancelled");
    }
    stopped(processor).await;
    assert_verified(&test).await;
}

/// No event tells of a drop in a gap, and a resync at once would cancel every offer.
#[tokio::test(flavor = "multi_thread")]
async fn recruiters_that_are_dropped_before_a_start_without_a_position_count_as_dropped() {
    let test = TestDatabase::create("dropped_before_start").await;
    let (processor, world) = with_two_recruiters(&test).await;
    stopped(processor).await;
    test.collection("recruiters").drop().await.unwrap();
    change_checkpoint(&test.database, doc! { "token": { "_data": "826B05 is no token" } }).await;
    assert_waits_for_recruiters(&test, Processor::start(&test, &BRISK), &world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recruiters_that_are_dropped_in_a_gap_of_a_running_stream_count_as_dropped() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "dropped_in_gap").await;
    let (mut processor, world) = with_two_recruiters(&test).await;
    processor.signal(Signal::Stop);
    until_no_get_more(&test.database).await;
    test.collection("recruiters").drop().await.unwrap();
    // The stream begins again with the last operation: that must not be the drop.
    test.collection("ticks").insert_one(doc! {}).await.unwrap();
    let lost = refuse_next(&test.database, 1, &["getMore"], None, doc! { "errorCode": 286 }).await;
    processor.signal(Signal::Continue);
    lost.happened(&test.database, "the history is lost").await;
    mend(&test.database).await;
    assert_waits_for_recruiters(&test, processor, &world).await;
}

async fn with_two_recruiters(test: &TestDatabase) -> (Processor, Vec<Document>) {
    let processor = started_with(test, &[ONE_STREAM]).await;
    let world: Vec<Document> = ["Boulanger", "Vendeur"].map(|title| recruiter([job(title)])).into();
    test.collection("recruiters").insert_many(&world).await.unwrap();
    settled(&test.database).await;
    until_no_resync(&test.database).await;
    (processor, world)
}

/// Nothing is cancelled before recruiters are there again. Then what did not come back is.
async fn assert_waits_for_recruiters(test: &TestDatabase, processor: Processor, world: &[Document]) {
    until_dropped(&processor, &["recruiters"]).await;
    settled(&test.database).await;
    for recruiter in world {
        assert_eq!(status(test, recruiter).await, "Active", "a collection that is absent tells nothing");
    }
    test.collection("recruiters").insert_one(&world[0]).await.unwrap();
    until_dropped(&processor, &[]).await;
    assert_eq!(["Active", "Cancelled"], [status(test, &world[0]).await, status(test, &world[1]).await]);
    let gaps = gaps(&test.database).await;
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| text(gap, "state") == "repaired"), "{gaps:?}");
    stopped(processor).await;
}

/// What is absent then was left out on purpose, or was absent before.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_made_anew_without_some_of_its_collections_becomes_ready() {
    let test = TestDatabase::create("dropped_partly").await;
    let processor = started(&test).await;
    test.collection("referentielromes").drop().await.unwrap();
    for name in ["recruiters", "cfas", "userswithaccounts"] {
        test.collection(name).insert_one(recruiter([])).await.unwrap();
    }
    settled(&test.database).await;
    // Its progress goes with the database, and the leadership with that, before the drop is read.
    until_no_resync(&test.database).await;
    test.database.drop().await.unwrap();
    until_dropped(&processor, &["the database", "recruiters", "cfas"]).await;
    eventually(PATIENCE, "the lease is taken again", async || state(&test.database, "lease").await).await;
    let newcomer = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&newcomer).await.unwrap();
    until_dropped(&processor, &[]).await;
    // The instance may have been ready between its two leaderships, before it knew of the newcomer.
    eventually(PATIENCE, "the newcomer is projected", async || {
        let offers = offers::read(&test.database).await;
        let offer = offers.get(&first_job(&newcomer))?;
        (text(offer, "offer_status") == "Active").then_some(())
    })
    .await;
    until_dropped(&processor, &[]).await;
    stopped(processor).await;
}

/// Changes the first, deletes the second and adds one, which is given back.
async fn change_all(test: &TestDatabase, collection: &str, world: &[Document]) -> Document {
    let collection = test.collection(collection);
    let renamed = doc! { "$set": { "jobs.0.offer_title_custom": "Pâtissier" } };
    collection.update_one(doc! { "_id": id(&world[0]) }, renamed).await.unwrap();
    collection.delete_one(doc! { "_id": id(&world[1]) }).await.unwrap();
    let new = recruiter([job("Fromager")]);
    collection.insert_one(&new).await.unwrap();
    new
}

async fn assert_followed(test: &TestDatabase, world: &[Document], new: &Document) {
    eventually(PATIENCE, "all offers follow", async || {
        let offers = offers::read(&test.database).await;
        let follows = text(&offers[&first_job(&world[0])], "offer_title") == "Pâtissier"
            && text(&offers[&first_job(&world[1])], "offer_status") == "Cancelled"
            && text(&offers[&first_job(&world[2])], "offer_status") == "Active"
            && offers.contains_key(&first_job(new));
        follows.then_some(())
    })
    .await;
}

async fn rename(test: &TestDatabase, from: &str, to: &str, replaces: bool) {
    let full = |name: &str| format!("{}.{name}", test.name());
    let command = doc! { "renameCollection": full(from), "to": full(to), "dropTarget": replaces };
    test.database.client().database("admin").run_command(command).await.unwrap();
}

/// Waits until readiness names these as dropped; none at all where there are none.
async fn until_dropped(processor: &Processor, names: &[&str]) {
    eventually(PATIENCE, &format!("{names:?} are told"), async || {
        let (status, body) = processor.try_get("/readyz").await?;
        let told = body.matches("source_collection_dropped: ").count();
        let all = names.iter().all(|name| body.contains(&format!("source_collection_dropped: {name} was dropped")));
        let as_wanted = all && (told == 0) == names.is_empty();
        (as_wanted && (status == 200) == names.is_empty()).then_some(())
    })
    .await;
}

async fn status(test: &TestDatabase, recruiter: &Document) -> String {
    text(&offers::read(&test.database).await[&first_job(recruiter)], "offer_status").to_owned()
}

async fn title(test: &TestDatabase, recruiter: &Document) -> String {
    text(&offers::read(&test.database).await[&first_job(recruiter)], "offer_title").to_owned()
}

async fn assert_verified(test: &TestDatabase) {
    let verified = Processor::command(&["verify"], test, &[]).await;
    assert_eq!(verified.code, 0, "{}\n{}", verified.stdout, verified.stderr);
}
