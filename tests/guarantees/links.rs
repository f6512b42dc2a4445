//! Jobs that disappear (spec 02) and the links that find them (spec 03): an offer is cancelled once its job is in no
//! recruiter any more, it follows a job that moves, and nobody else's offer is ever touched.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, started_with, stopped};
use crate::support::state::{checkpoint, jobs, links, put_back, settled, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_job_is_cancelled_with_one_history_entry_however_often_it_is_replayed() {
    let test = TestDatabase::create("links_removed").await;
    let ways = [
        |gone: ObjectId| doc! { "$pull": { "jobs": { "_id": gone } }, "$set": { "updatedAt": later() } },
        |_| doc! { "$pop": { "jobs": 1 }, "$set": { "updatedAt": later() } },
        |_| doc! { "$unset": { "jobs.1": 1 }, "$set": { "updatedAt": later() } },
        |_| doc! { "$set": { "jobs": [], "updatedAt": later() } },
    ];
    let recruiters: Vec<Document> = ways.iter().map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    let processor = started(&test).await;
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    settled(&test.database).await;
    let before = checkpoint(&test.database).await;

    for (recruiter, remove) in recruiters.iter().zip(ways) {
        let update = remove(job_ids(recruiter)[1]);
        test.collection("recruiters").update_one(of(recruiter), update).await.unwrap();
    }
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    for recruiter in &recruiters {
        assert_cancelled(&offers[&job_ids(recruiter)[1]], later());
    }
    for recruiter in &recruiters[..3] {
        assert_active(&offers[&first_job(recruiter)]);
    }
    assert_eq!(links(&test.database).await, jobs(&test.database).await);

    stopped(processor).await;
    put_back(&test.database, before).await;
    let replay = cluster_time_now(&test.database).await;
    let _processor = started(&test).await;
    settled(&test.database).await;
    assert!(writes(&test.database, "jobs_partners", replay).await.is_empty(), "a replay changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offer_of_a_job_that_moves_follows_it_whichever_recruiter_is_written_first() {
    let test = TestDatabase::create("links_moved").await;
    // With and without time in between for the service to see the half of it.
    for at_once in [false, true] {
        for taken_first in [false, true] {
            let (giver, taker) = (recruiter([job("Boulanger")]), recruiter([job("Vendeur")]));
            let mut processor = started(&test).await;
            test.collection("recruiters").insert_many([&giver, &taker]).await.unwrap();
            settled(&test.database).await;
            let take = (&giver, doc! { "$pull": { "jobs": { "_id": first_job(&giver) } } });
            let give = (&taker, doc! { "$push": { "jobs": &giver.get_array("jobs").unwrap()[0] } });
            let order = if taken_first { [take, give] } else { [give, take] };
            if at_once {
                stopped(processor).await;
                write(&test, &order).await;
                processor = started(&test).await;
            } else {
                write(&test, &order[..1]).await;
                settled(&test.database).await;
                write(&test, &order[1..]).await;
            }
            settled(&test.database).await;
            let offers = offers::read(&test.database).await;
            assert_owned(&offers[&first_job(&giver)], &taker);
            assert_active(&offers[&first_job(&taker)]);
            assert_eq!(links(&test.database).await, jobs(&test.database).await);
            stopped(processor).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_two_recruiters_hold_falls_back_to_the_one_that_keeps_it() {
    let test = TestDatabase::create("links_two").await;
    let shared = [job("Boulanger"), job("Pâtissier")];
    // Updated at the same time, so the offers are those of the one with the lower `_id`.
    let (loses, keeps) = (recruiter(shared.clone()), recruiter(shared.clone()));
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    for recruiter in [&keeps, &loses] {
        test.collection("recruiters").insert_one(recruiter).await.unwrap();
        settled(&test.database).await;
    }
    let offers = offers::read(&test.database).await;
    shared.iter().for_each(|job| assert_owned(&offers[&id(job)], &loses));

    let remove = (&loses, doc! { "$pull": { "jobs": { "_id": id(&shared[0]) } } });
    write(&test, &[remove]).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    assert_owned(&offers[&id(&shared[0])], &keeps);
    assert_active(&offers[&id(&shared[1])]);

    test.collection("recruiters").delete_one(of(&loses)).await.unwrap();
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    shared.iter().for_each(|job| assert_owned(&offers[&id(job)], &keeps));
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_recruiter_s_offers_are_cancelled_but_for_those_that_it_gave_away() {
    let test = TestDatabase::create("links_deleted").await;
    for given_first in [true, false] {
        let (twin, gone) = (recruiter([job("Vendeur")]), recruiter([job("Boulanger"), job("Pâtissier")]));
        let processor = started(&test).await;
        test.collection("recruiters").insert_many([&twin, &gone]).await.unwrap();
        settled(&test.database).await;

        let give = (&twin, doc! { "$push": { "jobs": &gone.get_array("jobs").unwrap()[0] } });
        if given_first {
            write(&test, std::slice::from_ref(&give)).await;
            settled(&test.database).await;
        }
        test.collection("recruiters").delete_one(of(&gone)).await.unwrap();
        settled(&test.database).await;
        if !given_first {
            write(&test, &[give]).await;
            settled(&test.database).await;
        }
        let offers = offers::read(&test.database).await;
        let [given, lost] = job_ids(&gone).try_into().unwrap();
        assert_owned(&offers[&given], &twin);
        let history = offers[&lost].get_array("offer_status_history").unwrap();
        let date = history[0].as_document().unwrap().get_datetime("date").unwrap();
        assert_cancelled(&offers[&lost], *date);
        assert_active(&offers[&first_job(&twin)]);
        assert_eq!(links(&test.database).await, jobs(&test.database).await);
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offers_of_other_partners_are_never_touched() {
    let test = TestDatabase::create("links_foreign").await;
    let [edited, removed, deleted, anonymised] = std::array::from_fn(|_| recruiter([job("Boulanger")]));
    let all = [&edited, &removed, &deleted, &anonymised];
    test.collection("recruiters").insert_many(all).await.unwrap();
    // Of the same establishments; and some whose `_id` is that of a job which disappears.
    let foreign: Vec<Document> = all.iter().map(|recruiter| foreign_offer(recruiter)).collect();
    test.collection("jobs_partners").insert_many(&foreign).await.unwrap();

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let namesake = |recruiter| with(foreign_offer(recruiter), doc! { "_id": first_job(recruiter) });
    let namesakes: Vec<Document> = [&removed, &deleted, &anonymised].into_iter().map(namesake).collect();
    for namesake in &namesakes {
        test.collection("jobs_partners").replace_one(of(namesake), namesake).await.unwrap();
    }
    let email = (&edited, doc! { "$set": { "email": "nouveau@example.com" } });
    write(&test, &[email, (&removed, doc! { "$set": { "jobs": [] } })]).await;
    let copy = doc! { "_id": id(&anonymised), "jobs": anonymised.get_array("jobs").unwrap() };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
    for gone in [&deleted, &anonymised] {
        test.collection("recruiters").delete_one(of(gone)).await.unwrap();
    }
    settled(&test.database).await;
    stopped(processor).await;
    // And once more all of it in a resync.
    test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;

    let offers = offers::read(&test.database).await;
    for offer in foreign.iter().chain(&namesakes) {
        assert!(offers[&id(offer)] == *offer, "{} of another partner is changed", id(offer));
    }
    assert_eq!(text(&offers[&first_job(&edited)], "apply_email"), "nouveau@example.com");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_random_edits_the_links_are_the_jobs_and_every_offer_is_that_of_an_owner() {
    let test = TestDatabase::create("links_random").await;
    let mut random = StdRng::seed_from_u64(2);
    let recruiters: Vec<Document> = (0..12).map(|_| recruiter([job("Boulanger"), job("Pâtissier")])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    // Small batches, so that edits fall between the events and the reads that they lead to.
    let _processor = started_with(&test, &[("STREAM_PROCESSOR__STREAM__BATCH_MAX", "3")]).await;
    for _ in 0..600 {
        edit(&test, &recruiters, &mut random).await;
    }
    settled(&test.database).await;

    let held = jobs(&test.database).await;
    assert_eq!(links(&test.database).await, held);
    let mut owners: BTreeMap<ObjectId, Vec<String>> = BTreeMap::new();
    for (recruiter, jobs) in &held {
        jobs.iter().for_each(|job| owners.entry(*job).or_default().push(recruiter.to_hex()));
    }
    let offers = offers::read(&test.database).await;
    for job in owners.keys() {
        assert!(offers.contains_key(job), "{job} has no offer");
    }
    for (job, offer) in &offers {
        match owners.get(job) {
            Some(owners) => {
                assert_active(offer);
                let owner = text(offer, "establishment_id").to_owned();
                assert!(owners.contains(&owner), "{job} stands as {owner} had it, not as {owners:?}");
            }
            None => assert_eq!(text(offer, "offer_status"), "Cancelled", "{job} is in no recruiter"),
        }
    }
}

/// One random write to one recruiter: its jobs come, go, move, change places, or are edited.
async fn edit(test: &TestDatabase, recruiters: &[Document], random: &mut StdRng) {
    let collection = test.collection("recruiters");
    let original = recruiters.choose(random).unwrap();
    let Some(current) = collection.find_one(of(original)).await.unwrap() else {
        collection.insert_one(original).await.unwrap();
        return;
    };
    let mut jobs = current.get_array("jobs").unwrap().clone();
    let position = random.random_range(0..=jobs.len());
    let other = recruiters.choose(random).unwrap();
    let update = match random.random_range(0..10) {
        0 => {
            collection.delete_one(of(original)).await.unwrap();
            return;
        }
        1 | 2 => doc! { "$push": { "jobs": job("Vendeur") } },
        3 => doc! { "$pop": { "jobs": -1 } },
        4 => doc! { "$set": { "email": "nouveau@example.com" } },
        5 => {
            jobs.reverse();
            doc! { "$set": { "jobs": jobs } }
        }
        6 if position < jobs.len() => doc! { "$set": { format!("jobs.{position}"): job("Boucher") } },
        7 | 8 if position < jobs.len() && id(other) != id(original) => {
            let taken = doc! { "$pull": { "jobs": { "_id": id(jobs[position].as_document().unwrap()) } } };
            let given = doc! { "$push": { "jobs": &jobs[position] } };
            collection.update_one(of(other), given).await.unwrap();
            taken
        }
        _ if position < jobs.len() => doc! { "$set": { format!("jobs.{position}.job_count"): position as i64 } },
        _ => doc! { "$set": { "phone": "06" } },
    };
    collection.update_one(of(original), update).await.unwrap();
}

fn assert_active(offer: &Document) {
    assert_eq!(text(offer, "offer_status"), "Active", "{}", id(offer));
}

/// Active, and as this recruiter has it.
fn assert_owned(offer: &Document, owner: &Document) {
    assert_active(offer);
    for field in ["establishment_id", "managed_by"] {
        assert_eq!(text(offer, field), text(owner, field), "{field} of {}", id(offer));
    }
    assert_eq!(text(offer, "workplace_siret"), text(owner, "establishment_siret"));
    let last = offer.get_array("offer_status_history").unwrap().last().and_then(Bson::as_document);
    assert!(last.is_none_or(|entry| text(entry, "status") == "Active"), "the history ends otherwise");
}

fn assert_cancelled(offer: &Document, date: DateTime) {
    assert_eq!(text(offer, "offer_status"), "Cancelled", "{}", id(offer));
    let entry = doc! {
        "status": "Cancelled", "reason": "removed from recruiter", "date": date, "granted_by": "stream-processor",
    };
    assert_eq!(offer.get_array("offer_status_history").unwrap(), &vec![Bson::from(entry)]);
}

async fn write(test: &TestDatabase, updates: &[(&Document, Document)]) {
    for (recruiter, update) in updates {
        test.collection("recruiters").update_one(of(recruiter), update.clone()).await.unwrap();
    }
}

/// An offer that another partner has for the same establishment.
fn foreign_offer(recruiter: &Document) -> Document {
    doc! {
        "_id": ObjectId::new(),
        "partner_label": "France Travail",
        "partner_job_id": ObjectId::new().to_hex(),
        "establishment_id": text(recruiter, "establishment_id"),
        "workplace_siret": text(recruiter, "establishment_siret"),
        "managed_by": text(recruiter, "managed_by"),
        "apply_email": text(recruiter, "email"),
        "offer_status": "Active",
        "offer_status_history": [],
    }
}

fn of(document: &Document) -> Document {
    doc! { "_id": id(document) }
}

/// When the recruiters are edited.
fn later() -> DateTime {
    DateTime::from_millis(1_750_000_000_000)
}
