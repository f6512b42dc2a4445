//! Where a leadership begins (spec 03, "Starting"): after our checkpoint, else where the old worker stopped, else now;
//! in the latter two cases with a resync. What happens when the position is lost is in `lost_history.rs`.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};

use crate::support::change_streams::events_since;
use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter};
use crate::support::runs::{started, stopped};
use crate::support::state::{
    change_checkpoint, checkpoint, end_lease, gaps, jobs, links, position, settled, state, until_no_resync, writes,
};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const RESYNCS: &str = "stream_processor_resyncs_total";
const RECRUITERS_READ: &str = r#"stream_processor_events_total{collection="recruiters",operation="insert"}"#;
const COPIES_READ: &str = r#"stream_processor_events_total{collection="anonymized_recruiters",operation="insert"}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_start_projects_what_was_there_before_and_reads_the_stream_from_now_on() {
    let test = TestDatabase::create("start_first").await;
    let before = [recruiter([job("Boulanger"), job("Pâtissier")]), recruiter([job("Vendeur")]), recruiter([])];
    insert(&test, &before).await;

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_offers(&test, 3).await;
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
    assert_eq!(processor.metric(RECRUITERS_READ).await, None, "earlier events are not read");
    assert_eq!(processor.metric(RESYNCS).await, Some(1.0));

    insert(&test, &[recruiter([job("Fleuriste")])]).await;
    settled(&test.database).await;
    assert_offers(&test, 4).await;
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
    assert_eq!(processor.metric(RECRUITERS_READ).await, Some(1.0));
    assert!(gaps(&test.database).await.is_empty());
}

/// The stream then begins later than the first time: a change in between is in no event, so nothing may be left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_killed_before_its_first_checkpoint_begins_its_resync_again() {
    let test = TestDatabase::create("start_killed").await;
    insert(&test, &[recruiter([job("Boulanger")])]).await;
    let almost_done = doc! { "_id": "resync", "stage": "offers", "after": null, "began": DateTime::now() };
    test.collection("stream_processor_state").insert_one(almost_done).await.unwrap();

    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_offers(&test, 1).await;
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_our_checkpoint_applies_what_happened_meanwhile_and_touches_nothing_else() {
    let test = TestDatabase::create("start_checkpoint").await;
    let (changed, left) = (recruiter([job("Boulanger")]), recruiter([job("Pâtissier")]));
    run_with(&test, &[changed.clone(), left.clone()]).await;
    // A resync would repair it.
    let other = doc! { "$set": { "offer_title": "Écrit par un autre" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&left) }, other).await.unwrap();
    let stopped_at = cluster_time_now(&test.database).await;
    let newcomer = recruiter([job("Fleuriste")]);
    insert(&test, std::slice::from_ref(&newcomer)).await;
    update(&test, &changed, doc! { "email": "nouveau@example.com" }).await;

    let processor = started(&test).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&changed)], "apply_email"), "nouveau@example.com");
    assert_eq!(text(&offers[&first_job(&left)], "offer_title"), "Écrit par un autre");
    assert!(offers.contains_key(&first_job(&newcomer)));
    assert_eq!(writes(&test.database, "jobs_partners", stopped_at).await.len(), 2, "one write for each change");
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    assert_eq!(processor.metric(RECRUITERS_READ).await, Some(1.0));
    assert!(gaps(&test.database).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_that_was_interrupted_goes_on_where_it_was() {
    let test = TestDatabase::create("start_resync").await;
    let mut recruiters = [recruiter([job("Boulanger")]), recruiter([job("Pâtissier")]), recruiter([job("Vendeur")])];
    recruiters.sort_by_key(id);
    run_with(&test, &recruiters).await;
    let wrong = doc! { "$set": { "offer_title": "Écrit par un autre" } };
    test.collection("jobs_partners").update_many(doc! {}, wrong).await.unwrap();
    let half_done =
        doc! { "_id": "resync", "stage": "recruiters", "after": id(&recruiters[0]), "began": DateTime::now() };
    test.collection("stream_processor_state").insert_one(half_done).await.unwrap();

    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    let offers = offers::read(&test.database).await;
    let title = |number: usize| text(&offers[&first_job(&recruiters[number])], "offer_title");
    assert_eq!([title(0), title(1), title(2)], ["Écrit par un autre", "Pâtissier", "Vendeur"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_old_worker_the_older_of_its_two_tokens_decides() {
    for older in ["recruiters", "anonymized_recruiters"] {
        let test = TestDatabase::create("start_old_worker").await;
        let began = cluster_time_now(&test.database).await;
        let mut tokens = Vec::new();
        for collection in [older, other_than(older)] {
            insert_into(&test, collection, &[recruiter([job("Boulanger")]), recruiter([job("Pâtissier")])]).await;
            tokens.push((collection, last_token(&test, collection, began).await));
        }
        let unseen = recruiter([job("Fleuriste")]);
        insert(&test, std::slice::from_ref(&unseen)).await;
        leave_tokens(&test, &tokens).await;

        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        // The event of the token itself is read again: its time is the position.
        let counts = [processor.metric(RECRUITERS_READ).await, processor.metric(COPIES_READ).await];
        let expected = match older {
            "recruiters" => [Some(2.0), Some(2.0)],
            _ => [Some(3.0), Some(1.0)],
        };
        assert_eq!(counts, expected, "recruiters and copies read, with the older token on {older}");
        assert_offers(&test, 3).await;
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
        assert_eq!(processor.metric(RESYNCS).await, Some(1.0));
        assert!(gaps(&test.database).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_that_the_old_worker_left_behind_are_cancelled_at_the_switch() {
    let test = TestDatabase::create("start_left_behind").await;
    let (kept, removed) = (recruiter([job("Boulanger")]), recruiter([job("Pâtissier")]));
    run_with(&test, &[kept.clone(), removed.clone()]).await;
    for ours in ["stream_processor_state", "stream_processor_links", "resumetokens"] {
        test.collection(ours).drop().await.unwrap();
    }
    let began = cluster_time_now(&test.database).await;
    test.collection("recruiters").delete_one(doc! { "_id": id(&removed) }).await.unwrap();
    insert(&test, &[recruiter([job("Vendeur")])]).await;
    leave_tokens(&test, &[("recruiters", last_token(&test, "recruiters", began).await)]).await;

    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&kept)], "offer_status"), "Active");
    assert_eq!(text(&offers[&first_job(&removed)], "offer_status"), "Cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_token_of_the_old_worker_is_passed_over() {
    let test = TestDatabase::create("start_old_garbled").await;
    let began = cluster_time_now(&test.database).await;
    insert(&test, &[recruiter([job("Boulanger")]), recruiter([job("Pâtissier")])]).await;
    let good = last_token(&test, "recruiters", began).await;
    insert(&test, &[recruiter([job("Fleuriste")])]).await;
    leave_tokens(&test, &[("recruiters", good), ("anonymized_recruiters", doc! { "_data": "8265X" })]).await;

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(processor.metric(RECRUITERS_READ).await, Some(2.0), "from the good token on");
    assert_offers(&test, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nothing_but_garbled_tokens_of_the_old_worker_it_starts_as_the_first_time() {
    let test = TestDatabase::create("start_all_garbled").await;
    insert(&test, &[recruiter([job("Boulanger")])]).await;
    leave_tokens(&test, &[("recruiters", doc! {}), ("anonymized_recruiters", doc! { "_data": 5 })]).await;

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    assert_offers(&test, 1).await;
    assert_eq!(processor.metric(RECRUITERS_READ).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_change_of_the_pipeline_the_stream_is_opened_by_time_and_nothing_is_lost() {
    let test = TestDatabase::create("start_fingerprint").await;
    let changed = recruiter([job("Boulanger")]);
    run_with(&test, std::slice::from_ref(&changed)).await;
    let fingerprint = text(&checkpoint(&test.database).await, "fingerprint").to_owned();
    update(&test, &changed, doc! { "email": "nouveau@example.com" }).await;
    // A position that is no event of this stream: by its token the server would refuse it.
    change_checkpoint(&test.database, position(&unfindable_token(&test).await)).await;
    change_checkpoint(&test.database, doc! { "fingerprint": "of an earlier version" }).await;

    let processor = started(&test).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&changed)], "apply_email"), "nouveau@example.com");
    assert_eq!(processor.metric(RESYNCS).await, Some(0.0));
    assert_eq!(processor.metric(r#"stream_processor_stream_restarts_total{cause="280"}"#).await, None);
    assert!(gaps(&test.database).await.is_empty());
    assert_eq!(text(&checkpoint(&test.database).await, "fingerprint"), fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_this_pipeline_that_the_server_does_not_find_is_of_a_lost_history() {
    let test = TestDatabase::create("start_unfindable").await;
    let changed = recruiter([job("Boulanger")]);
    run_with(&test, std::slice::from_ref(&changed)).await;
    update(&test, &changed, doc! { "email": "nouveau@example.com" }).await;
    let lost = position(&unfindable_token(&test).await);
    change_checkpoint(&test.database, lost.clone()).await;

    let processor = started(&test).await;
    let resyncs = async || processor.metric(RESYNCS).await.filter(|count| *count == 1.0);
    eventually(PATIENCE, "a resync begins", resyncs).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!(text(&offers[&first_job(&changed)], "apply_email"), "nouveau@example.com");
    assert_eq!(processor.metric(r#"stream_processor_stream_restarts_total{cause="280"}"#).await, Some(1.0));
    let gaps = gaps(&test.database).await;
    let told = (gaps.len(), text(&gaps[0], "cause"), text(&gaps[0], "state"));
    assert_eq!(told, (1, "the position belongs to another stream (code 280)", "repaired"));
    assert_eq!(gaps[0].get("from"), lost.get("cluster_time"));
}

/// A run of the service that begins with these recruiters, and ends when they are projected.
async fn run_with(test: &TestDatabase, recruiters: &[Document]) {
    insert(test, recruiters).await;
    let processor = started(test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    assert_eq!(offers::read(&test.database).await.len(), recruiters.len());
    assert_eq!(state(&test.database, "resync").await, None);
}

/// A token of an event at the time of the checkpoint, with the key of a document that never was: what a checkpoint of
/// another stream, or of another replica set, looks like.
async fn unfindable_token(test: &TestDatabase) -> Document {
    let began = cluster_time_now(&test.database).await;
    let elsewhere = TestDatabase::create("start_elsewhere").await;
    insert(&elsewhere, &[recruiter([])]).await;
    let token = last_token(&elsewhere, "recruiters", began).await;
    let time = checkpoint(&test.database).await.get_timestamp("cluster_time").unwrap();
    let rest = token.get_str("_data").unwrap().get(18..).unwrap().to_owned();
    doc! { "_data": format!("82{:08X}{:08X}{rest}", time.time, time.increment) }
}

/// What the old worker stores for a collection once it has handled all of it.
async fn last_token(test: &TestDatabase, collection: &str, since: bson::Timestamp) -> Document {
    let collection = test.collection(collection);
    let newest = collection.find_one(doc! {}).sort(doc! { "$natural": -1 }).await.unwrap().unwrap();
    let events = events_since(&collection, since, id(&newest)).await;
    events.last().unwrap().token.clone()
}

/// The documents of the old worker, as in spec 01.
async fn leave_tokens(test: &TestDatabase, tokens: &[(&str, Document)]) {
    let document = |(collection, token): &(&str, Document)| {
        doc! { "_id": ObjectId::new(), "collection": *collection, "resumeTokenData": token, "updatedAt": DateTime::now() }
    };
    test.collection("resumetokens").insert_many(tokens.iter().map(document)).await.unwrap();
}

fn other_than(collection: &str) -> &'static str {
    if collection == "recruiters" { "anonymized_recruiters" } else { "recruiters" }
}

async fn insert(test: &TestDatabase, recruiters: &[Document]) {
    insert_into(test, "recruiters", recruiters).await;
}

async fn insert_into(test: &TestDatabase, collection: &str, documents: &[Document]) {
    test.collection(collection).insert_many(documents).await.unwrap();
}

async fn update(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let filter = doc! { "_id": id(recruiter) };
    test.collection("recruiters").update_one(filter, doc! { "$set": fields }).await.unwrap();
}

async fn assert_offers(test: &TestDatabase, count: usize) {
    let offers = offers::read(&test.database).await;
    assert_eq!(offers.len(), count);
    assert!(offers.values().all(|offer| text(offer, "offer_status") == "Active"));
}

/// A leader that ends before its first checkpoint leaves its resync to the next one, which begins it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_resync_that_begins_again_is_told_once() {
    let test = TestDatabase::create("starting_told").await;
    let mut first = Processor::start(&test, &[("STREAM_PROCESSOR__TOKENS__IDLE_INTERVAL", "1h")]);
    let events = test.collection("stream_processor_events");
    let began = doc! { "kind": "resync_began" };
    eventually(PATIENCE, "it is told", async || events.find_one(began.clone()).await.unwrap()).await;
    first.sigkill();
    let fields = doc! { "_id": "resync", "cause": "first start", "stage": "recruiters", "after": null };
    let states = test.collection("stream_processor_state");
    states.replace_one(doc! { "_id": "resync" }, fields).upsert(true).await.unwrap();
    states.delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
    end_lease(&test.database).await;
    let second = started(&test).await;
    until_no_resync(&test.database).await;
    assert_eq!(events.count_documents(began).await.unwrap(), 1);
    stopped(second).await;
}
