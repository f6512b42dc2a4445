//! The command `backfill` touches what it is asked to, all of it and nothing else.

use bson::{DateTime, Document, doc};
use mongodb::IndexModel;

use crate::support::database::TestDatabase;
use crate::support::fields::first_job;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::state::end_lease;
use crate::support::waiting::{PATIENCE, eventually};

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
    for more in [&[][..], &["--dry-run"]] {
        let arguments = [&["backfill", "--recruiter", "650000000000000000000009"], more].concat();
        let unknown = Processor::command(&arguments, &test, &[]).await;
        assert!(unknown.code == 1 && unknown.stderr.contains("there is no recruiter"), "{}", unknown.stderr);
    }
    let offers: Vec<_> = offers::read(&test.database).await.into_keys().collect();
    assert_eq!(offers, [id(all[1].get_array("jobs").unwrap()[0].as_document().unwrap())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_selected_recruiters_leaves_the_others_alone() {
    let test = TestDatabase::create("backfill_selected").await;
    let old = recruiter([job("Boulanger")]);
    let now = doc! { "updatedAt": DateTime::now() };
    let changed = with(recruiter([job("Vendeur")]), now.clone());
    let in_job = recruiter([with(job("Crêpier"), doc! { "job_update_date": DateTime::now() })]);
    let archived = with(with(recruiter([job("Fleuriste")]), now), doc! { "status": "Archivé" });
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([&old, &changed, &in_job, &archived]).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n{}\n", id(&old).to_hex(), id(&changed).to_hex())).unwrap();
    let file = file.path().to_str().unwrap();
    let query = r#"{ "establishment_id": { "$in": ["e-1"] } }"#;
    for (selection, expected) in [
        (&["--since", "2h ago"][..], 3),
        (&["--since", "2h ago", "--active-only"], 2),
        (&["--ids", file], 2),
        (&["--ids", file, "--since", "2h ago"], 1),
    ] {
        let printed = backfill(&[&["backfill", "--json", "--dry-run"], selection].concat(), &test).await;
        assert_eq!(printed["recruiters"], expected, "{selection:?}");
        let printed = backfill(&[&["backfill", "--json"], selection].concat(), &test).await;
        assert_eq!(printed["recruiters"], expected, "{selection:?}");
    }
    let by_query = ["backfill", "--json", "--filter", query];
    let refused = Processor::command(&by_query, &test, &[]).await;
    assert!(refused.code == 2 && refused.stderr.contains("no index"), "{}", refused.stderr);
    let index = IndexModel::builder().keys(doc! { "establishment_id": 1 }).build();
    recruiters.create_index(index).await.unwrap();
    recruiters.update_one(doc! { "_id": id(&old) }, doc! { "$set": { "establishment_id": "e-1" } }).await.unwrap();
    assert_eq!(backfill(&by_query, &test).await["recruiters"], 1);
    for wrong in [&["--ids", "/no/such/file"][..], &["--filter", "{}"], &["--ids", file, "--mirror"]] {
        let ended = Processor::command(&[&["backfill"], wrong].concat(), &test, &[]).await;
        assert_eq!(ended.code, 2, "{wrong:?}: {}", ended.stderr);
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_was_killed_goes_on_where_it_was() {
    let test = TestDatabase::create("backfill_killed").await;
    let all: Vec<Document> = (0..10_000).map(|_| recruiter([job("Boulanger")])).collect();
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let mut killed = Processor::spawn(&["backfill"], &test, &[]);
    let commands = test.collection("stream_processor_commands");
    let running = doc! { "state": "running", "progress.recruiters": { "$gte": 2_000 } };
    eventually(PATIENCE, "a part is done", async || commands.find_one(running.clone()).await.unwrap()).await;
    killed.sigkill();
    end_lease(&test.database).await;

    let printed = backfill(&["backfill", "--json"], &test).await;
    assert_eq!(printed["recruiters"], all.len());
    // Found as they should be: those of the step that was under way, and no earlier ones.
    assert!(printed["unchanged"].as_u64().unwrap() <= 1_000, "it began again at the first recruiter: {printed}");
    assert_eq!(offers::read(&test.database).await.len(), all.len());
    assert_eq!(commands.count_documents(doc! { "state": "done" }).await.unwrap(), 1, "the killed one is finished");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let test = TestDatabase::create("backfill_dry").await;
    let archived = with(recruiter([job("Vendeur")]), doc! { "status": "Archivé" });
    let all = [recruiter([job("Boulanger")]), archived];
    test.collection("recruiters").insert_many(&all).await.unwrap();
    let before = test.database.list_collection_names().await.unwrap();
    let printed = backfill(&["backfill", "--dry-run", "--json"], &test).await;
    assert_eq!((&printed["recruiters"], &printed["created"]), (&2.into(), &2.into()));
    let printed = backfill(&["backfill", "--dry-run", "--json", "--active-only"], &test).await;
    assert_eq!((&printed["recruiters"], &printed["created"]), (&1.into(), &1.into()));
    assert_eq!(test.database.list_collection_names().await.unwrap(), before);

    backfill(&["backfill", "--json"], &test).await;
    let titled = doc! { "$set": { "offer_title": "Autre", "contract_rythm": "Autre" } };
    test.collection("jobs_partners").update_one(doc! { "_id": first_job(&all[0]) }, titled).await.unwrap();
    let printed = backfill(&["backfill", "--dry-run", "--json"], &test).await;
    assert_eq!((&printed["changed"], &printed["unchanged"]), (&1.into(), &1.into()));
    assert_eq!(printed["fields"], serde_json::json!({ "offer_title": 1, "contract_rythm": 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_neither_writes_nor_removes_a_dead_letter() {
    let test = TestDatabase::create("backfill_dry_letters").await;
    let unknown = with(job("Boulanger"), doc! { "job_status": "?" });
    test.collection("recruiters").insert_one(recruiter([unknown])).await.unwrap();
    let printed = backfill(&["backfill", "--dry-run", "--json"], &test).await;
    assert_eq!(printed["dead_letters"], serde_json::json!({ "unknown_job_status": 1 }));
    let dead_letters = test.collection("stream_processor_dead_letters");
    assert_eq!(dead_letters.count_documents(doc! {}).await.unwrap(), 0);

    backfill(&["backfill", "--json"], &test).await;
    let known = doc! { "$set": { "jobs.0.job_status": "Active" } };
    test.collection("recruiters").update_one(doc! {}, known).await.unwrap();
    let printed = backfill(&["backfill", "--dry-run", "--json"], &test).await;
    assert_eq!((&printed["created"], &printed["dead_letters"]), (&1.into(), &serde_json::json!({})));
    assert_eq!(dead_letters.count_documents(doc! {}).await.unwrap(), 1);
}

async fn backfill(arguments: &[&str], test: &TestDatabase) -> serde_json::Value {
    let ended = Processor::command(arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}
