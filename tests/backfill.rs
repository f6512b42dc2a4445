//! The command `backfill` touches what it is asked to, all of it and nothing else.

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_one_recruiter_leaves_the_others_alone() {
    let test = TestDatabase::create("backfill_one").await;
    let all = [(); 3].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let chosen = id(&all[1]).to_hex();
    for created in [1, 0] {
        let printed = backfill(&["backfill", "--json", "--recruiter", &chosen], &test).await;
        assert_eq!((&printed["recruiters"], &printed["created"]), (&1.into(), &created.into()));
    }
    let offers: Vec<_> = offers::read(&test.database).await.into_keys().collect();
    assert_eq!(offers, [id(all[1].get_array("jobs").unwrap()[0].as_document().unwrap())]);
}

/// In the order of `_id` texts come before ObjectIds, and a walk goes by the thousand.
#[tokio::test(flavor = "multi_thread")]
async fn recruiters_with_other_ids_do_not_end_a_backfill_before_the_others() {
    let test = TestDatabase::create("backfill_other_ids").await;
    let odd = (0..1_001).map(|number| with(recruiter([]), doc! { "_id": format!("odd-{number}") }));
    let all: Vec<Document> = odd.chain([recruiter([job("Boulanger")])]).collect();
    test.collection("recruiters").insert_many(all).await.unwrap();
    assert_eq!(backfill(&["backfill", "--json"], &test).await["created"], 1);
}

async fn backfill(arguments: &[&str], test: &TestDatabase) -> serde_json::Value {
    let ended = Processor::command(arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
