//! The command `backfill --mirror` (spec 10, "The mirror (phase `shadow`)"): a dry run that counts, a kill, the
//! repetition, and a phase in which it is refused.

use bson::oid::ObjectId;
use bson::{Document, doc};
use serde_json::{Value, json};

use super::mirror::{LATER, in_shadow};
use crate::support::database::TestDatabase;
use crate::support::documents::document;
use crate::support::fields::{first_job, job_ids};
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::state::end_lease;

/// More than one step of the command.
const RECRUITERS: u64 = 1_200;

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_the_mirror_counts_in_a_dry_run_goes_on_after_a_kill_and_finds_nothing_a_second_time() {
    let world: Vec<Document> = (0..RECRUITERS).map(|_| recruiter([job("Boulanger")])).collect();
    let test = in_shadow("mirror_backfill", &world).await;
    let offers = test.collection("jobs_partners");
    let edit = doc! { "$set": { "offer_title": "Boulangère", "updated_at": LATER } };
    offers.update_many(doc! {}, edit).await.unwrap();
    let template = offers.find_one(doc! { "_id": first_job(&world[0]) }).await.unwrap().unwrap();
    let foreign = doc! { "_id": ObjectId::new(), "partner_label": "another", "partner_job_id": "x" };
    offers.insert_one(with(template.clone(), foreign)).await.unwrap();
    // The last one in the order of ids, so it is in the last step.
    let new = ObjectId::new();
    let fields = doc! {
        "_id": new, "partner_job_id": new.to_hex(), "establishment_id": "new", "workplace_siret": "99999999999999",
    };
    offers.insert_one(with(template, fields)).await.unwrap();

    let dry = filled(&test, &["--dry-run"]).await;
    let expected = json!({
        "dry_run": true, "offers": RECRUITERS + 1, "recruiters_edited": RECRUITERS, "recruiters_with_new_jobs": 1,
        "recruiters_made": 1, "dead_letters": {},
    });
    assert_eq!(dry, expected);
    let edited = doc! { "jobs.offer_title_custom": "Boulangère" };
    let recruiters = test.collection("recruiters");
    assert_eq!(recruiters.count_documents(edited.clone()).await.unwrap(), 0, "a dry run writes nothing");
    assert_eq!(recruiters.count_documents(doc! {}).await.unwrap(), RECRUITERS);

    let kill = [("STREAM_PROCESSOR_FAILPOINT", "mirror-made/1/KILL")];
    let killed = Processor::command(&["backfill", "--mirror"], &test, &kill).await;
    assert_eq!(killed.code, 137, "{}", killed.stderr);
    end_lease(&test.database).await;
    let written = filled(&test, &[]).await;
    assert_eq!(written["offers"], RECRUITERS + 1, "no offer is counted twice: {written}");
    let before_the_kill = written["recruiters_edited"].as_u64().unwrap();
    assert!((1..=RECRUITERS).contains(&before_the_kill), "it goes on where it was: {written}");
    assert_eq!((&written["recruiters_with_new_jobs"], &written["recruiters_made"]), (&json!(1), &json!(0)));
    assert_eq!(recruiters.count_documents(edited).await.unwrap(), RECRUITERS + 1);
    let made = recruiters.find_one(doc! { "establishment_id": "new" }).await.unwrap().unwrap();
    assert_eq!(job_ids(&made), [new]);
    let commands = test.collection("stream_processor_commands");
    let done = doc! { "order.name": "backfill-mirror", "state": "done" };
    assert_eq!(commands.count_documents(done).await.unwrap(), 1, "the killed one is finished");

    let again = filled(&test, &[]).await;
    let nothing = json!({
        "offers": RECRUITERS + 1, "recruiters_edited": 0, "recruiters_with_new_jobs": 0, "recruiters_made": 0,
        "dead_letters": 0,
    });
    assert_eq!(again, nothing);
    let elsewhere = doc! { "$set": { "phase": "dual-write" }, "$inc": { "revision": 1_i64 } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "phase" }, elsewhere).await.unwrap();
    let both = Processor::command(&["backfill", "--mirror", "--active-only"], &test, &[]).await;
    assert!(both.code == 2 && both.stderr.contains("cannot be used with"), "{}", both.stderr);
    for more in [&[][..], &["--dry-run"]] {
        let refused = Processor::command(&[&["backfill", "--mirror"], more].concat(), &test, &[]).await;
        assert!(refused.code == 1 && refused.stderr.contains("nothing is mirrored"), "{}", refused.stderr);
    }
}

async fn filled(test: &TestDatabase, more: &[&str]) -> Value {
    let arguments = [&["backfill", "--mirror", "--json"], more].concat();
    let ended = Processor::command(&arguments, test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let mut document = document(&arguments, &ended);
    document.as_object_mut().unwrap().remove("schema");
    document
}
