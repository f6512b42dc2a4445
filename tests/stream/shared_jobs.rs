//! The same job `_id` twice, in one recruiter or in two: the offer is that of one of them by a fixed rule, whoever was
//! touched last, and the other has a dead letter until there is only one again.

use std::collections::BTreeMap;

use bson::{DateTime, Document, doc};

use crate::support::database::TestDatabase;
use crate::support::dead_letters::reasons;
use crate::support::fields::{first_job, text};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{end_lease, links, settled, until_no_resync};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_jobs_of_one_recruiter_the_offer_is_that_of_the_first_whichever_is_touched() {
    let test = TestDatabase::create("shared_in_one").await;
    let first = job("Boulanger");
    let twice = recruiter([first.clone(), job("Vendeur"), with(first, doc! { "offer_title_custom": "Pâtissier" })]);
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(&twice).await.unwrap();
    settled(&test.database).await;
    let dead_letter = (format!("recruiters/{}/{}", id(&twice), first_job(&twice)), "duplicate_job_id".to_owned());
    let expect = async |title: &str, comment: Option<&str>| {
        let offer = offer(&test, &twice).await;
        assert_eq!((text(&offer, "offer_title"), offer.get_str("job_status_comment").ok()), (title, comment));
        assert_eq!(reasons(&test).await, [dead_letter.clone()].into());
        assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0, "it is a dead letter, no difference");
    };
    expect("Boulanger", None).await;
    set(&test, &twice, doc! { "jobs.2.job_status_comment": "of the last" }).await;
    expect("Boulanger", None).await;
    set(&test, &twice, doc! { "jobs.0.job_status_comment": "of the first" }).await;
    expect("Boulanger", Some("of the first")).await;
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    expect("Boulanger", Some("of the first")).await;

    let without_last = doc! { "$pop": { "jobs": 1 } };
    test.collection("recruiters").update_one(doc! { "_id": id(&twice) }, without_last).await.unwrap();
    settled(&test.database).await;
    assert_eq!(reasons(&test).await, BTreeMap::new());
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_recruiters_the_offer_is_that_of_the_one_updated_later_whoever_is_touched() {
    for batch_max in ["1", "5000"] {
        let test = TestDatabase::create("shared_in_two").await;
        let shared = job("Boulanger");
        let earlier = recruiter([shared.clone()]);
        let filled = with(shared, doc! { "job_status": "Pourvue" });
        let later = with(recruiter([filled, job("Vendeur")]), doc! { "updatedAt": at(1) });
        let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
        until_no_resync(&test.database).await;
        test.collection("recruiters").insert_many([&earlier, &later]).await.unwrap();
        settled(&test.database).await;
        assert_is_of(&test, &later, &earlier).await;
        let history = offer(&test, &earlier).await.get_array("offer_status_history").unwrap().len();
        for round in 0..3 {
            for recruiter in [&earlier, &later] {
                set(&test, recruiter, doc! { "touched": round }).await;
                set(&test, recruiter, doc! { "jobs.0.touched": round }).await;
                assert_is_of(&test, &later, &earlier).await;
            }
        }
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
        assert_is_of(&test, &later, &earlier).await;
        assert_eq!(offer(&test, &earlier).await.get_array("offer_status_history").unwrap().len(), history);

        set(&test, &earlier, doc! { "updatedAt": at(2) }).await;
        assert_is_of(&test, &earlier, &later).await;
        set(&test, &earlier, doc! { "updatedAt": at(0) }).await;
        assert_is_of(&test, &later, &earlier).await;
        stopped(processor).await;
    }
}

/// The edit by position finds the job that comes only with the next event, before the recruiter's link has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_another_recruiter_gets_behind_an_edit_of_its_own_stays_the_owner_s() {
    for batch_max in ["1", "5000"] {
        for comes_back in [false, true] {
            let test = TestDatabase::create("shared_backlog").await;
            let shared = job("Boulanger");
            let owner = with(recruiter([shared.clone()]), doc! { "updatedAt": at(1) });
            let other = recruiter([job("Vendeur")]);
            let processor = started_with(&test, &[]).await;
            until_no_resync(&test.database).await;
            test.collection("recruiters").insert_many([&owner, &other]).await.unwrap();
            settled(&test.database).await;
            stopped(processor).await;
            edit(&test, &owner, doc! { "jobs.0.job_description": "une première description de ce poste" }).await;
            edit(&test, &other, doc! { "jobs.0.job_description": "une autre description de ce poste" }).await;
            let cancelled = doc! { "jobs": [with(shared, doc! { "job_status": "Annulée" })] };
            edit(&test, &other, cancelled.clone()).await;
            if comes_back {
                edit(&test, &owner, doc! { "jobs.0.job_description": "une dernière description du poste" }).await;
            }
            let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", batch_max)]).await;
            settled(&test.database).await;
            assert_is_of(&test, &owner, &with(other, cancelled)).await;
            assert_eq!(text(&offer(&test, &owner).await, "offer_status"), "Active", "in batches of {batch_max}");
            stopped(processor).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_winner_loses_the_job_or_is_deleted_the_offer_is_that_of_the_other() {
    for is_deleted in [false, true] {
        let test = TestDatabase::create("shared_gone").await;
        let shared = job("Boulanger");
        let twins = [(); 2].map(|()| recruiter([shared.clone(), job("Vendeur")]));
        let processor = started_with(&test, &[]).await;
        until_no_resync(&test.database).await;
        test.collection("recruiters").insert_many(&twins).await.unwrap();
        settled(&test.database).await;
        // Updated at the same time: the lower `_id`.
        let (winner, loser) =
            if id(&twins[0]) < id(&twins[1]) { (&twins[0], &twins[1]) } else { (&twins[1], &twins[0]) };
        assert_is_of(&test, winner, loser).await;
        let recruiters = test.collection("recruiters");
        if is_deleted {
            recruiters.delete_one(doc! { "_id": id(winner) }).await.unwrap();
        } else {
            let without = doc! { "$pull": { "jobs": { "_id": id(&shared) } } };
            recruiters.update_one(doc! { "_id": id(winner) }, without).await.unwrap();
        }
        settled(&test.database).await;
        let offer = offer(&test, loser).await;
        assert_eq!((text(&offer, "apply_email"), text(&offer, "offer_status")), (text(loser, "email"), "Active"));
        assert_eq!(reasons(&test).await, BTreeMap::new());
        assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
        stopped(processor).await;
    }
}

/// Whichever is touched first, and whether it never could be projected or only no longer can.
#[tokio::test(flavor = "multi_thread")]
async fn a_recruiter_that_cannot_be_projected_leaves_the_offer_to_another_holder_of_the_job() {
    let unknown_cfa = doc! { "is_delegated": true, "cfa_delegated_siret": "00000000000000" };
    let cases =
        [(doc! { "address": "" }, doc! { "address": "1 rue Inventée" }), (unknown_cfa, doc! { "is_delegated": false })];
    for (blocks, heals) in cases {
        for later_first in [false, true] {
            let test = TestDatabase::create("shared_blocked").await;
            let shared = job("Boulanger");
            let earlier = recruiter([shared.clone()]);
            let later = with(recruiter([shared]), doc! { "updatedAt": at(1) });
            let blocked = with(later.clone(), blocks.clone());
            let processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", "1")]).await;
            until_no_resync(&test.database).await;
            let order = if later_first { [&blocked, &earlier] } else { [&earlier, &blocked] };
            for recruiter in order {
                test.collection("recruiters").insert_one(recruiter).await.unwrap();
                settled(&test.database).await;
            }
            for blocked_again in [false, true] {
                if blocked_again {
                    set(&test, &later, blocks.clone()).await;
                }
                assert_eq!(text(&offer(&test, &earlier).await, "apply_email"), text(&earlier, "email"));
                assert!(reasons(&test).await.values().all(|reason| reason == "missing_cfa"));
                assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
                let comment = format!("blocked again: {blocked_again}");
                set(&test, &earlier, doc! { "jobs.0.job_status_comment": &comment }).await;
                assert_eq!(text(&offer(&test, &earlier).await, "job_status_comment"), comment);
                set(&test, &later, heals.clone()).await;
                assert_is_of(&test, &later, &earlier).await;
            }
            assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
            assert_is_of(&test, &later, &earlier).await;
            stopped(processor).await;
        }
    }
}

/// Neither its link nor a dead letter tells that the job is shared. But the offer shows another establishment.
#[tokio::test(flavor = "multi_thread")]
async fn a_touch_that_would_take_an_offer_from_another_recruiter_asks_who_owns_the_job() {
    for path in ["jobs.0.touched", "touched"] {
        let test = TestDatabase::create("shared_taken").await;
        let shared = job("Boulanger");
        let earlier = recruiter([shared.clone()]);
        let later = with(recruiter([shared]), doc! { "updatedAt": at(1) });
        let processor = started_with(&test, &[]).await;
        until_no_resync(&test.database).await;
        test.collection("recruiters").insert_many([&earlier, &later]).await.unwrap();
        settled(&test.database).await;
        stopped(processor).await;
        test.collection("stream_processor_dead_letters").delete_many(doc! {}).await.unwrap();
        let processor = started_with(&test, &[]).await;
        set(&test, &earlier, doc! { path: 1 }).await;
        assert_is_of(&test, &later, &earlier).await;
        stopped(processor).await;
    }
}

/// In one chunk of the scan, and so far apart that each is looked at without the other.
#[tokio::test(flavor = "multi_thread")]
async fn two_that_shared_a_job_before_there_were_letters_about_it_are_found_by_a_backfill() {
    for between in [0, 1_100] {
        let test = TestDatabase::create("shared_before").await;
        let shared = job("Boulanger");
        let twin = || recruiter([shared.clone()]);
        // Each `_id` is higher than the one before.
        let first = twin();
        let others: Vec<Document> = (0..between).map(|_| recruiter([job("Vendeur")])).collect();
        let second = twin();
        let all: Vec<&Document> = [&first].into_iter().chain(&others).chain([&second]).collect();
        test.collection("recruiters").insert_many(all).await.unwrap();
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
        test.collection("stream_processor_dead_letters").delete_many(doc! {}).await.unwrap();
        let [email, establishment] = ["email", "establishment_id"].map(|field| text(&second, field));
        let wrong = doc! { "$set": { "apply_email": email, "establishment_id": establishment } };
        test.collection("jobs_partners").update_one(doc! { "_id": id(&shared) }, wrong).await.unwrap();
        assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 1, "the offer shows the wrong one");
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
        assert_is_of(&test, &first, &second).await;
    }
}

/// The offer of their first job is the winner's, the loser has a dead letter, and `verify` agrees.
async fn assert_is_of(test: &TestDatabase, winner: &Document, loser: &Document) {
    assert_eq!(text(&offer(test, winner).await, "apply_email"), text(winner, "email"));
    let dead_letter = (format!("recruiters/{}/{}", id(loser), first_job(loser)), "duplicate_job_id".to_owned());
    assert_eq!(reasons(test).await, [dead_letter].into());
    assert_eq!(Processor::command(&["verify"], test, &[]).await.code, 0);
}

fn at(day: i64) -> DateTime {
    DateTime::from_millis(1_700_000_000_000 + day * 24 * 3_600_000)
}

async fn edit(test: &TestDatabase, recruiter: &Document, fields: Document) {
    test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, doc! { "$set": fields }).await.unwrap();
}

async fn set(test: &TestDatabase, recruiter: &Document, fields: Document) {
    edit(test, recruiter, fields).await;
    settled(&test.database).await;
}

async fn offer(test: &TestDatabase, recruiter: &Document) -> Document {
    test.collection("jobs_partners").find_one(doc! { "_id": first_job(recruiter) }).await.unwrap().unwrap()
}

/// The link has grown, and nothing is known of the job yet: the next leader must not take it for an old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_the_links_have_grown_does_not_hide_that_a_job_is_shared() {
    let test = TestDatabase::create("shared_kill").await;
    let shared = job("Boulanger");
    let filled = with(shared.clone(), doc! { "job_status": "Pourvue" });
    let later = with(recruiter([filled, job("Vendeur")]), doc! { "updatedAt": at(1) });
    let earlier = recruiter([shared]);
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    test.collection("recruiters").insert_one(&later).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    test.collection("recruiters").insert_one(&earlier).await.unwrap();
    let mut killed = Processor::start(&test, &[("STREAM_PROCESSOR_FAILPOINT", "linked/1/KILL")]);
    killed.until_ended().await;
    end_lease(&test.database).await;
    assert_eq!(links(&test.database).await[&id(&earlier)].len(), 1, "the link has grown");
    let processor = started_with(&test, &[]).await;
    settled(&test.database).await;
    assert_is_of(&test, &later, &earlier).await;
    stopped(processor).await;
}

/// Only what an earlier leader left in part has to be asked about. Commands that hold the lease in between apply nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_events_are_asked_about_after_a_kill_and_not_after_a_clean_end() {
    let test = TestDatabase::create("shared_asked").await;
    let edited = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_many([&edited, &recruiter([job("Vendeur")])]).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("position.json").to_str().unwrap().to_owned();
    // The import of the same position holds the lease and applies nothing.
    let hold_the_lease = async || {
        for step in ["export", "import"] {
            let ended = Processor::command(&["tokens", step, &file], &test, &[]).await;
            assert_eq!(ended.code, 0, "{}", ended.stderr);
        }
        std::fs::remove_file(&file).unwrap();
    };
    let asked =
        doc! { "ns": format!("{}.stream_processor_links", test.name()), "command.filter.jobs.$in": first_job(&edited) };
    let asks = async |title: &str| {
        let before = test.collection("system.profile").count_documents(asked.clone()).await.unwrap();
        set(&test, &edited, doc! { "jobs.0.offer_title_custom": title }).await;
        assert_eq!(text(&offer(&test, &edited).await, "offer_title"), title);
        test.collection("system.profile").count_documents(asked.clone()).await.unwrap() > before
    };
    let mut processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    assert!(!asks("after a backfill").await);
    stopped(processor).await;
    hold_the_lease().await;
    processor = started_with(&test, &[]).await;
    assert!(!asks("after a clean end").await);
    processor.sigkill();
    processor.until_ended().await;
    end_lease(&test.database).await;
    hold_the_lease().await;
    processor = started_with(&test, &[]).await;
    assert!(asks("after a kill").await);
    stopped(processor).await;
    processor = started_with(&test, &[]).await;
    assert!(asks("after a short leadership that followed a kill").await);
    stopped(processor).await;
    processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", "1")]).await;
    for title in ["one", "two", "three"] {
        asks(title).await;
    }
    stopped(processor).await;
    processor = started_with(&test, &[]).await;
    assert!(!asks("after a leadership that got past it").await);
    stopped(processor).await;
}
