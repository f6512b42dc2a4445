//! Who is the authority, and what each phase lets the stream do (spec 04). The whole migration is in `migration.rs`.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use serde_json::Value;
use xtask::mongod::{Options, ReplicaSet};

use crate::support::database::TestDatabase;
use crate::support::failpoints::refuse_next;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::processor::{Ended, Processor};
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{jobs, links, settled, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

const LATER: DateTime = DateTime::from_millis(1_800_000_000_000);
const ANONYMISED: &str = "anonymized@example.com";

#[tokio::test(flavor = "multi_thread")]
async fn a_running_instance_follows_a_step_and_the_history_tells_who_when_and_why() {
    let test = TestDatabase::create("phase_followed").await;
    let processor = started(&test).await;
    assert_eq!(phase_of(&processor).await, "sync");
    for (to, from) in [("dual-write", "sync"), ("sync", "dual-write"), ("dual-write", "sync")] {
        let ended = phase(&["set", to, "--reason", "a test"], &test).await;
        assert_eq!(ended.code, 0, "{}", ended.stderr);
        // The answer comes when the instance has followed; its metrics tell at its next turn.
        eventually(PATIENCE, "the instance follows", async || (phase_of(&processor).await == to).then_some(())).await;
        let shown = json(&phase(&["show", "--json"], &test).await);
        assert_eq!(shown["phase"], to);
        let history = json(&phase(&["history", "--json"], &test).await);
        let last = history["steps"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&last["from"], &last["to"], &last["reason"]), (&from.into(), &to.into(), &"a test".into()));
        assert!(last["who"].as_str().unwrap().contains('@') && last["at"].is_string(), "{last}");
    }
    stopped(processor).await;
}

/// An operator's hand in the database is followed too.
#[tokio::test(flavor = "multi_thread")]
async fn a_phase_that_was_changed_in_the_database_is_followed_and_so_is_a_standby_s() {
    let test = TestDatabase::create("phase_by_hand").await;
    let processor = started(&test).await;
    let standby = started(&test).await;
    let step = doc! { "$set": { "phase": "shadow" }, "$inc": { "revision": 1_i64 } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "phase" }, step).await.unwrap();
    eventually(PATIENCE, "it is followed", async || (phase_of(&processor).await == "shadow").then_some(())).await;
    stopped(processor).await;
    eventually(PATIENCE, "the standby leads", async || {
        standby.metric("stream_processor_leader").await.filter(|leads| *leads == 1.0)
    })
    .await;
    eventually(PATIENCE, "in that phase", async || (phase_of(&standby).await == "shadow").then_some(())).await;
    stopped(standby).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_the_newest_wins_whichever_it_is_and_equal_times_are_the_recruiter_s() {
    let test = TestDatabase::create("phase_newest").await;
    let recruiters = [(); 4].map(|()| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let [newer, older, equal, unknown] = recruiters.each_ref().map(first_job);
    let projected = offers::read(&test.database).await[&newer].get_datetime("updated_at").copied().unwrap();
    let before = DateTime::from_millis(projected.timestamp_millis() - 1);
    for (offer, date) in [
        (newer, Bson::from(DateTime::from_millis(projected.timestamp_millis() + 1))),
        (older, before.into()),
        (equal, projected.into()),
        (unknown, Bson::Null),
    ] {
        set_offer(&test, offer, doc! { "offer_title": "written by an application", "updated_at": date }).await;
    }
    // What no offer depends on, so that nothing but the touch happens.
    test.collection("recruiters").update_many(doc! {}, doc! { "$set": { "opco": "a touch" } }).await.unwrap();
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    let titles = [newer, older, equal, unknown].map(|offer| text(&offers[&offer], "offer_title"));
    assert_eq!(titles, ["written by an application", "Boulanger", "Boulanger", "Boulanger"]);
    assert_eq!(text(&offers[&newer], "workplace_opco"), "", "nothing of a newer offer is written");
    let conflicts = async |winner: &str| {
        processor.metric(&format!("stream_processor_conflicts_total{{winner=\"{winner}\"}}")).await
    };
    assert_eq!((conflicts("offer").await, conflicts("projection").await), (Some(1.0), Some(3.0)));
    // Verified so, too.
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

/// The offer becomes newer between the comparison and the write, or is created in between: decided by the server.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_applications_that_write_offers_at_the_same_time_are_not_overwritten() {
    let test = TestDatabase::create("phase_race").await;
    let recruiters: Vec<Document> = (0..40).map(|_| recruiter([job("Boulanger")])).collect();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    let offers = test.collection("jobs_partners");
    for round in 0..15_i64 {
        let date = DateTime::from_millis(LATER.timestamp_millis() + round);
        for recruiter in &recruiters {
            // The recruiter first, with an older date, then at once the offer with a newer one.
            let touched = doc! { "$set": { "opco": round.to_string() } };
            let filter = doc! { "_id": id(recruiter) };
            if round == 0 {
                test.collection("recruiters").insert_one(recruiter).await.unwrap();
            } else {
                test.collection("recruiters").update_one(filter, touched).await.unwrap();
            }
            let written = doc! { "$set": {
                "offer_title": format!("round {round}"), "updated_at": date, "partner_label": "RECRUTEURS_LBA",
                "partner_job_id": first_job(recruiter).to_hex(),
            } };
            offers.update_one(doc! { "_id": first_job(recruiter) }, written).upsert(true).await.unwrap();
        }
        settled(&test.database).await;
        let standing = offers::read(&test.database).await;
        for recruiter in &recruiters {
            let offer = &standing[&first_job(recruiter)];
            assert_eq!(text(offer, "offer_title"), format!("round {round}"), "the application's write stands");
        }
    }
    assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);
    stopped(processor).await;
}

/// The service has compared, and its write is on the way when the application's arrives: for a change, and a creation.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_an_offer_that_becomes_newer_before_the_write_arrives_is_left_alone() {
    let set = ReplicaSet::start(&Options::default()).unwrap();
    let test = TestDatabase::create_on(&set.uri(), "phase_overtaken").await;
    let there = recruiter([job("Boulanger")]);
    test.collection("recruiters").insert_one(&there).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let new = recruiter([job("Vendeur")]);
    for recruiter in [&there, &new] {
        let held_up = doc! { "blockConnection": true, "blockTimeMS": 1_500 };
        let held_up = refuse_next(&test.database, 1, &["update"], Some("jobs_partners"), held_up).await;
        let touched = with(recruiter.clone(), doc! { "opco": "a touch" });
        let recruiters = test.collection("recruiters");
        recruiters.replace_one(doc! { "_id": id(recruiter) }, touched).upsert(true).await.unwrap();
        held_up.happened(&test.database, "a write").await;
        let written = doc! { "$set": {
            "offer_title": "written by an application", "updated_at": LATER, "partner_label": "RECRUTEURS_LBA",
            "partner_job_id": first_job(recruiter).to_hex(),
        } };
        let offers = test.collection("jobs_partners");
        offers.update_one(doc! { "_id": first_job(recruiter) }, written).upsert(true).await.unwrap();
        settled(&test.database).await;
        let offer = offers::read(&test.database).await.remove(&first_job(recruiter)).unwrap();
        assert_eq!(text(&offer, "offer_title"), "written by an application");
        assert_eq!(text(&offer, "workplace_opco"), "", "nothing of it is written");
    }
    assert_eq!(test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap(), 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_a_removed_job_is_cancelled_unless_its_offer_is_newer() {
    let test = TestDatabase::create("phase_removed").await;
    let recruiter = recruiter([job("Boulanger"), job("Vendeur"), job("Pâtissier")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let [gone, kept] = [0, 1].map(|place| id(recruiter.get_array("jobs").unwrap()[place].as_document().unwrap()));
    set_offer(&test, kept, doc! { "updated_at": LATER }).await;
    let pull = doc! { "$pull": { "jobs": { "_id": { "$in": [gone, kept] } } } };
    test.collection("recruiters").update_one(doc! {}, pull).await.unwrap();
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_eq!([gone, kept].map(|offer| text(&offers[&offer], "offer_status")), ["Cancelled", "Active"]);
    stopped(processor).await;
}

/// An application may create an offer in `jobs_partners` alone: no resync takes it for the leftover of a removed job.
#[tokio::test(flavor = "multi_thread")]
async fn in_dual_write_a_resync_leaves_offers_alone_that_no_recruiter_ever_held() {
    let test = TestDatabase::create("phase_unheld").await;
    let alone = ObjectId::parse_str("65102a7347a6ef7545b05ef0").unwrap();
    let offer = doc! { "_id": alone, "partner_label": "RECRUTEURS_LBA", "partner_job_id": alone.to_hex(), "offer_status": "Active" };
    test.collection("jobs_partners").insert_one(&offer).await.unwrap();
    let processor = started_with(&test, &[DUAL_WRITE]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    assert_eq!(offers::read(&test.database).await[&alone], offer);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_the_stream_compares_and_counts_and_writes_no_offer() {
    let test = TestDatabase::create("phase_shadow").await;
    let recruiters =
        [recruiter([job("Boulanger"), job("Vendeur")]), recruiter([job("Pâtissier")]), recruiter([job("Cuisinier")])];
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let processor = started_with(&test, &[("STREAM_PROCESSOR__PHASE__INITIAL", "shadow"), NO_MIRROR]).await;
    // The backfill ran in this database's phase, which then was begun: it is `sync`.
    let ended = phase(&["set", "dual-write"], &test).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let ended = phase(&["set", "shadow", "--force", "--reason", "a test"], &test).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let compared = async |result: &str| {
        let series = format!("stream_processor_shadow_offers_total{{result=\"{result}\"}}");
        processor.metric(&series).await.unwrap_or_default()
    };
    let before = [compared("equal").await, compared("differs").await, compared("missing").await];

    let began = cluster_time_now(&test.database).await;
    let [changed, removed, archived] = recruiters.each_ref().map(id);
    let all = test.collection("recruiters");
    all.insert_one(recruiter([job("Serveur")])).await.unwrap();
    let title = doc! { "$set": { "jobs.0.offer_title_custom": "Boulangère", "opco": "a touch" } };
    all.update_one(doc! { "_id": changed }, title).await.unwrap();
    all.update_one(doc! { "_id": removed }, doc! { "$set": { "jobs": [] } }).await.unwrap();
    all.delete_one(doc! { "_id": archived }).await.unwrap();
    settled(&test.database).await;
    assert!(writes(&test.database, "jobs_partners", began).await.is_empty());
    let after = [compared("equal").await, compared("differs").await, compared("missing").await];
    let counted: Vec<f64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // Both jobs of the changed one lack the new `opco`; the new recruiter has no offer.
    assert_eq!(counted, [0.0, 2.0, 1.0]);
    for arguments in [&["backfill"][..], &["verify", "--repair"]] {
        let refused = Processor::command(arguments, &test, &[]).await;
        assert_eq!(refused.code, 1, "{arguments:?}");
        assert!(refused.stderr.contains("is the authority"), "{}", refused.stderr);
    }
    assert!(writes(&test.database, "jobs_partners", began).await.is_empty());
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_anonymised_in_every_phase() {
    for initial in ["dual-write", "shadow", "retired"] {
        let test = TestDatabase::create("phase_privacy").await;
        let users = [true, false].map(|is_text| (ObjectId::new(), is_text));
        for (user, _) in users {
            test.collection("userswithaccounts").insert_one(doc! { "_id": user, "email": PERSONAL }).await.unwrap();
        }
        let recruiters =
            [0, 1, 0].map(|user| with(recruiter([job("Boulanger")]), doc! { "managed_by": users[user].0.to_hex() }));
        test.collection("recruiters").insert_many(&recruiters).await.unwrap();
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
        let phase = doc! { "$set": { "phase": initial }, "$inc": { "revision": 1_i64 } };
        test.collection("stream_processor_state").update_one(doc! { "_id": "phase" }, phase).await.unwrap();
        // Newer than their recruiters, and one of them with its user as an ObjectId, as an application writes it.
        let partners = test.collection("jobs_partners");
        partners.update_many(doc! {}, doc! { "$set": { "updated_at": LATER } }).await.unwrap();
        set_offer(&test, first_job(&recruiters[1]), doc! { "managed_by": users[1].0 }).await;
        let processor = started(&test).await;
        until_no_resync(&test.database).await;

        // Two users and a recruiter of a third kind of end.
        test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": users[0].0 }).await.unwrap();
        for (user, _) in users {
            test.collection("userswithaccounts").delete_one(doc! { "_id": user }).await.unwrap();
        }
        let copy = doc! { "_id": id(&recruiters[2]), "jobs": recruiters[2].get_array("jobs").unwrap().clone() };
        test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
        test.collection("recruiters").delete_one(doc! { "_id": id(&recruiters[2]) }).await.unwrap();
        settled(&test.database).await;
        let offers = offers::read(&test.database).await;
        for recruiter in &recruiters {
            let offer = &offers[&first_job(recruiter)];
            assert_eq!(
                (text(offer, "apply_email"), offer.get("apply_phone")),
                (ANONYMISED, Some(&Bson::Null)),
                "{initial}"
            );
        }
        assert_eq!(text(&offers[&first_job(&recruiters[2])], "offer_status"), "Cancelled");
        // A touch of the recruiter that is still there brings nothing back, newer or not.
        set_offer(&test, first_job(&recruiters[0]), doc! { "apply_email": PERSONAL, "updated_at": LATER }).await;
        let touch = doc! { "$set": { "opco": "a touch" } };
        test.collection("recruiters").update_one(doc! { "_id": id(&recruiters[0]) }, touch).await.unwrap();
        settled(&test.database).await;
        if initial == "dual-write" {
            let offer = offers::read(&test.database).await.remove(&first_job(&recruiters[0])).unwrap();
            assert_eq!(text(&offer, "apply_email"), ANONYMISED, "{initial}");
        }
        stopped(processor).await;
    }
}

/// In `shadow` nothing is cancelled, and in `retired` nobody looks: what went meanwhile is made up for.
#[tokio::test(flavor = "multi_thread")]
async fn back_in_dual_write_the_offers_of_jobs_and_recruiters_that_went_meanwhile_are_cancelled() {
    for through in [&["shadow"][..], &["shadow", "retired"]] {
        let test = TestDatabase::create("phase_back").await;
        let [loses, goes, gives, takes, returns] =
            [(); 5].map(|()| recruiter([job("Boulanger"), job("Vendeur"), job("Pâtissier")]));
        let all = [&loses, &goes, &gives, &takes, &returns];
        test.collection("recruiters").insert_many(all).await.unwrap();
        let processor = started_with(&test, &[DUAL_WRITE, NO_MIRROR]).await;
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        for to in through {
            assert_eq!(phase(&["set", to, "--force", "--reason", "a test"], &test).await.code, 0);
        }
        settled(&test.database).await;
        let recruiters = test.collection("recruiters");
        let pull = |recruiter: &Document, place: usize| {
            let pull = doc! { "$pull": { "jobs": { "_id": job_ids(recruiter)[place] } } };
            recruiters.update_one(doc! { "_id": id(recruiter) }, pull)
        };
        let push = |recruiter: &Document, job: &Bson| {
            recruiters.update_one(doc! { "_id": id(recruiter) }, doc! { "$push": { "jobs": job } })
        };
        pull(&loses, 0).await.unwrap();
        recruiters.delete_one(doc! { "_id": id(&goes) }).await.unwrap();
        pull(&gives, 1).await.unwrap();
        settled(&test.database).await;
        push(&takes, &gives.get_array("jobs").unwrap()[1]).await.unwrap();
        pull(&returns, 2).await.unwrap();
        settled(&test.database).await;
        push(&returns, &returns.get_array("jobs").unwrap()[2]).await.unwrap();
        // Looked at twice.
        recruiters.update_many(doc! {}, doc! { "$set": { "opco": "a touch" } }).await.unwrap();
        settled(&test.database).await;
        let standing = offers::read(&test.database).await;
        assert!(standing.values().all(|offer| text(offer, "offer_status") == "Active"), "nothing is cancelled");
        if through.len() == 1 {
            assert_eq!(links(&test.database).await, jobs(&test.database).await);
        }

        for to in [&["shadow"][through.len() % 2..], &["dual-write"]].concat() {
            let ended = phase(&["set", to, "--force", "--reason", "a test"], &test).await;
            assert_eq!(ended.code, 0, "{to}: {}", ended.stderr);
        }
        until_no_resync(&test.database).await;
        settled(&test.database).await;
        let mut gone = job_ids(&goes);
        gone.push(job_ids(&loses)[0]);
        let standing = offers::read(&test.database).await;
        for (offer, standing) in &standing {
            let wanted = if gone.contains(offer) { "Cancelled" } else { "Active" };
            assert_eq!(text(standing, "offer_status"), wanted, "{offer} through {through:?}");
        }
        let moved = &standing[&job_ids(&gives)[1]];
        assert_eq!(text(moved, "establishment_id"), text(&takes, "establishment_id"));
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
        stopped(processor).await;
    }
}

/// Without it the offers would come back to `recruiters`.
const NO_MIRROR: (&str, &str) = ("STREAM_PROCESSOR__PHASE__KEEP_RECRUITERS_BACKUP", "false");
const DUAL_WRITE: (&str, &str) = ("STREAM_PROCESSOR__PHASE__INITIAL", "dual-write");

/// The phase for which the instance's metric is 1.
async fn phase_of(processor: &Processor) -> String {
    let (_, metrics) = processor.http_get("/metrics").await;
    let current =
        metrics.lines().find_map(|line| line.strip_prefix("stream_processor_phase{phase=\"")?.strip_suffix("\"} 1"));
    current.unwrap_or_default().to_owned()
}

async fn phase(arguments: &[&str], test: &TestDatabase) -> Ended {
    Processor::command(&[&["phase"], arguments].concat(), test, &[]).await
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    serde_json::from_str(&ended.stdout).unwrap()
}

async fn set_offer(test: &TestDatabase, offer: ObjectId, fields: Document) {
    let partners = test.collection("jobs_partners");
    let changed = partners.update_one(doc! { "_id": offer }, doc! { "$set": fields }).await.unwrap();
    assert_eq!(changed.matched_count, 1, "{offer}");
}
