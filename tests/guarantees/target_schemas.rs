//! The target's schema decides (spec 09): the applications put their validator back while the service runs, and a deploy
//! drops indexes. Offers follow, and nothing becomes a dead letter because of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::error::{ErrorKind, InsertManyError};
use stream_processor::inside::NEW;
use xtask::golden::{TargetModel, put_target_validator, target_validator};

use crate::support::database::TestDatabase;
use crate::support::evaluation::at_creation;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::golden::{self, Expectation, after_operations, operations};
use crate::support::offers::{self, difference};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{settled, until_no_resync};
use crate::support::ticking::{counts, ran};
use crate::support::waiting::{PATIENCE, caught_up, eventually};

/// What an offer keeps from its creation, or grows by.
const NOT_PROJECTED: [&str; 2] = ["offer_status_history", "workplace_description"];
/// The fields that the models type as int32. The source has doubles and int64 there.
const INTEGERS: [&str; 2] = ["contract_duration", "job_prolongation_count"];
const OMITTED: &str = "stream_processor_target_fields_omitted{field=\"managed_by\"}";

async fn of_model(prefix: &str, model: TargetModel, action: &str) -> TestDatabase {
    let test = TestDatabase::with_live_schema(prefix).await;
    put_target_validator(&test.database, model, action).await.unwrap();
    test
}

/// The golden offers as this model has them. Those of jobs that wait are pending where the model has that status.
async fn expected(test: &TestDatabase, model: TargetModel) -> Expectation {
    let validator = target_validator(model).unwrap();
    let named = validator.get_document("$jsonSchema").unwrap().get_document("properties").unwrap();
    let mut waiting = BTreeSet::new();
    let mut recruiters = test.collection("recruiters").find(doc! { "status": "Actif" }).await.unwrap();
    while let Some(recruiter) = recruiters.try_next().await.unwrap() {
        let jobs = recruiter.get_array("jobs").into_iter().flatten().filter_map(Bson::as_document);
        let waits = |job: &&Document| ["En attente", "EN_ATTENTE"].contains(&text(job, "job_status"));
        waiting.extend(jobs.filter(waits).filter_map(|job| job.get_object_id("_id").ok()));
    }
    let mut expectation = after_operations();
    for offer in &mut expectation.offers {
        let id = offer.get_object_id("_id").unwrap();
        for field in NEW.into_iter().filter(|field| !named.contains_key(field)) {
            offer.remove(field);
        }
        for field in INTEGERS {
            let number = offer.get(field).and_then(|value| value.as_i64().map(|it| it as f64).or(value.as_f64()));
            if let Some(whole) = number.filter(|number| f64::from(*number as i32) == *number) {
                offer.insert(field, whole as i32);
            }
        }
        if model == TargetModel::Live {
            let user = offer.get_str("managed_by").ok().and_then(|user| ObjectId::parse_str(user).ok());
            offer.insert("managed_by", user.map_or(Bson::Null, Bson::from));
            if waiting.contains(&id) {
                offer.insert("offer_status", "Pending");
            }
        }
    }
    expectation
}

/// What the server itself says: the jobs whose golden offers this validator refuses for a wrong value.
async fn refused(test: &TestDatabase, expectation: &Expectation, model: TargetModel) -> BTreeSet<ObjectId> {
    let create = doc! { "create": "judged", "validator": target_validator(model).unwrap() };
    test.database.run_command(create).await.unwrap();
    let whole = |offer: &Document| {
        let mut whole = at_creation();
        whole.insert("workplace_description", Bson::Null);
        whole.extend(offer.clone());
        whole
    };
    let inserted = test.collection("judged").insert_many(expectation.offers.iter().map(whole)).ordered(false).await;
    match inserted.map_err(|error| *error.kind) {
        Ok(_) => BTreeSet::new(),
        Err(ErrorKind::InsertMany(InsertManyError { write_errors: Some(errors), .. })) => {
            assert!(errors.iter().all(|error| error.code == 121), "{errors:?}");
            errors.iter().map(|error| expectation.offers[error.index].get_object_id("_id").unwrap()).collect()
        }
        Err(other) => panic!("{other:?}"),
    }
}

async fn apply_operations(test: &TestDatabase) {
    for operation in operations() {
        operation.apply(&test.database).await;
    }
}

/// Under `error` they go through the stream, and under `warn` through a backfill of the final state.
async fn golden_documents_fit(model: TargetModel, action: &str) {
    let test = of_model("schemas_golden", model, action).await;
    golden::load_references(&test.database).await;
    if action == "error" {
        let mut processor = Processor::start_ready(&test, &[]).await;
        golden::load_recruiters(&test.database).await;
        caught_up(&test.database).await;
        apply_operations(&test).await;
        caught_up(&test.database).await;
        processor.sigterm();
        assert_eq!(processor.until_ended().await.code, 0);
    } else {
        golden::load_recruiters(&test.database).await;
        apply_operations(&test).await;
        assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    }

    let mut expectation = expected(&test, model).await;
    if action == "error" {
        // A golden value of a wrong type is still refused; an offer that was written before stays as it was.
        let mut refused = refused(&test, &expectation, model).await;
        // Numbers are compared by value: an equal number of an allowed type stands, and nothing is written.
        let standing = offers::read(&test.database).await;
        let equals = |offer: &Document| {
            let stands = standing.get(&offer.get_object_id("_id").unwrap());
            let mut projected = offer.iter().filter(|(name, _)| !NOT_PROJECTED.contains(&name.as_str()));
            stands.is_some_and(|it| projected.all(|(name, value)| difference(Some(value), it.get(name)).is_none()))
        };
        for offer in expectation.offers.iter().filter(|offer| equals(offer)) {
            refused.remove(&offer.get_object_id("_id").unwrap());
        }
        expectation.offers.retain(|offer| !refused.contains(&offer.get_object_id("_id").unwrap()));
        expectation.dead_letters.extend(refused.into_iter().map(|id| (id, "refused_by_validation".to_owned())));
    }
    offers::assert_as_expected(&test.database, &expectation).await;
    golden::assert_dead_letters(&test.database, &expectation.dead_letters).await;
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "{model:?} {action}: {}", verified.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_offers_fit_the_model_before_the_migration() {
    golden_documents_fit(TargetModel::Before, "error").await;
    golden_documents_fit(TargetModel::Before, "warn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_offers_fit_the_model_of_the_plan() {
    golden_documents_fit(TargetModel::Planned, "error").await;
    golden_documents_fit(TargetModel::Planned, "warn").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_offers_fit_the_model_that_went_live() {
    golden_documents_fit(TargetModel::Live, "error").await;
    golden_documents_fit(TargetModel::Live, "warn").await;
}

/// An offer of before, whose number has a type that the validator refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_job_also_brings_the_numbers_of_its_offer_to_the_types_of_the_validator() {
    let test = of_model("schemas_numbers", TargetModel::Live, "error").await;
    let job = with(job("Boulanger"), doc! { "job_duration": 12.0, "job_prolongation_count": 2_i64 });
    let recruiter = recruiter([job]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let offers = test.collection("jobs_partners");
    let before = doc! { "$set": { "contract_duration": 12.0, "job_prolongation_count": 2_i64 } };
    offers.update_one(doc! {}, before).bypass_document_validation(true).await.unwrap();
    let verified = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(verified.code, 0, "equal numbers are no difference: {}", verified.stdout);

    let edit = doc! { "$set": { "jobs.0.job_description": "Autre" } };
    test.collection("recruiters").update_one(doc! { "_id": id(&recruiter) }, edit).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(dead_letters(&test).await, 0);
    let offer = offers.find_one(doc! {}).await.unwrap().unwrap();
    let numbers = INTEGERS.map(|field| offer.get(field).cloned());
    assert_eq!(numbers, [Some(Bson::Int32(12)), Some(Bson::Int32(2))]);
    assert_eq!(text(&offer, "offer_description"), "Autre");
}

/// Offers of before, whose types the validator refuses, are closed by everything that closes offers without a projection.
#[tokio::test(flavor = "multi_thread")]
async fn offers_with_other_types_are_cancelled_and_anonymised_all_the_same() {
    let test = of_model("schemas_closings", TargetModel::Live, "error").await;
    let past = DateTime::from_millis(1_700_000_000_000);
    let fields = doc! { "job_duration": 12.0, "job_prolongation_count": 2_i64, "job_expiration_date": past };
    let jobs = || with(job("Boulanger"), fields.clone());
    let recruiters: Vec<Document> = (0..4).map(|_| recruiter([jobs()])).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let offers = test.collection("jobs_partners");
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    let managers = recruiters.iter().map(|it| (first_job(it), text(it, "managed_by").to_owned()));
    for (offer, manager) in managers {
        let before = doc! { "contract_duration": 12.0, "job_prolongation_count": 2_i64, "managed_by": manager };
        let update = offers.update_one(doc! { "_id": offer }, doc! { "$set": before });
        update.bypass_document_validation(true).await.unwrap();
    }

    let all = test.collection("recruiters");
    let [removed, deleted, anonymised] = [0, 1, 2].map(|index| id(&recruiters[index]));
    all.update_one(doc! { "_id": removed }, doc! { "$pop": { "jobs": 1 } }).await.unwrap();
    all.delete_one(doc! { "_id": deleted }).await.unwrap();
    let copies = test.collection("anonymized_recruiters");
    copies.insert_one(doc! { "_id": anonymised, "jobs": recruiters[2].get_array("jobs").unwrap() }).await.unwrap();
    all.delete_one(doc! { "_id": anonymised }).await.unwrap();
    settled(&test.database).await;
    stopped(processor).await;
    let run = ran("cancel-expired-offers", &[], &test).await;
    assert_eq!((counts(&run), dead_letters(&test).await), ([1, 1, 0], 0));
    for (offer, stored) in offers::read(&test.database).await {
        assert_eq!(text(&stored, "offer_status"), "Cancelled", "{offer}");
        let numbers = INTEGERS.map(|field| stored.get(field).cloned());
        assert_eq!(numbers, [Some(Bson::Int32(12)), Some(Bson::Int32(2))]);
        assert!(stored.get_object_id("managed_by").is_ok());
    }
}

async fn dead_letters(test: &TestDatabase) -> u64 {
    test.collection("stream_processor_dead_letters").count_documents(doc! {}).await.unwrap()
}

async fn until_told(processor: &Processor, words: &str) {
    eventually(Duration::from_secs(60), words, async || {
        (processor.stdout() + &processor.stderr()).contains(words).then_some(())
    })
    .await;
}

async fn touch(test: &TestDatabase, title: &str) {
    let set = doc! { "$set": { "jobs.$[].offer_title_custom": title } };
    test.collection("recruiters").update_many(doc! {}, set).await.unwrap();
    settled(&test.database).await;
}

/// Creation, cancellation, anonymisation.
async fn writes_of_every_kind(test: &TestDatabase, recruiters: &[Document]) {
    test.collection("recruiters").insert_one(recruiter([job("Coiffeur")])).await.unwrap();
    let ids: Vec<ObjectId> = recruiters.iter().map(id).collect();
    let pop = doc! { "$pop": { "jobs": 1 } };
    test.collection("recruiters").update_many(doc! { "_id": { "$in": ids } }, pop).await.unwrap();
    let gone = id(&recruiters[4]);
    test.collection("anonymized_recruiters").insert_one(doc! { "_id": gone, "jobs": [] }).await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": gone }).await.unwrap();
    settled(&test.database).await;
    assert_eq!(dead_letters(test).await, 0);
    let statuses: BTreeMap<String, usize> =
        offers::read(&test.database).await.values().fold(BTreeMap::new(), |mut counts, offer| {
            *counts.entry(text(offer, "offer_status").to_owned()).or_default() += 1;
            counts
        });
    assert_eq!(statuses, BTreeMap::from([("Active".to_owned(), 5), ("Cancelled".to_owned(), 6)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_is_put_back_and_indexes_that_vanish_are_told_and_followed_without_a_restart() {
    let test = of_model("schemas_deploy", TargetModel::Planned, "error").await;
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    let manager = ObjectId::new();
    let recruiters: Vec<Document> = (0..5)
        .map(|_| with(recruiter([job("Boulanger"), job("Vendeur")]), doc! { "managed_by": manager.to_hex() }))
        .collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let every_second = [("STREAM_PROCESSOR__TARGET__SCHEMA_CHECK_INTERVAL", "1s")];
    let processor = started_with(&test, &every_second).await;
    until_no_resync(&test.database).await;
    let watched = first_job(&recruiters[0]);
    let offer = async || offers::read(&test.database).await.remove(&watched).unwrap();
    assert_eq!(text(&offer().await, "managed_by"), manager.to_hex());

    // A deploy of the old model: its validator, and none of the indexes that it does not know.
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    for index in ["managed_by_1", "managed_by_1_offer_status_1_offer_expiration_-1"] {
        test.database.run_command(doc! { "dropIndexes": "jobs_partners", "index": index }).await.unwrap();
    }
    // The service may not have seen it yet: the refused write finds out.
    touch(&test, "Crêpier").await;
    assert_eq!(dead_letters(&test).await, 0);
    let changed = offer().await;
    assert_eq!(text(&changed, "offer_title"), "Crêpier");
    assert!(NEW.iter().all(|field| !changed.contains_key(*field)), "{:?}", changed.keys().collect::<Vec<_>>());
    until_told(&processor, "no longer allows offer_rome_appellation, managed_by").await;
    assert_eq!(processor.metric(OMITTED).await, Some(1.0));
    let doctor = Processor::command(&["doctor"], &test, &[]).await;
    assert!(doctor.stdout.contains("does not accept offer_rome_appellation, managed_by"), "{}", doctor.stdout);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    writes_of_every_kind(&test, &recruiters).await;

    // The model that went live at last.
    put_target_validator(&test.database, TargetModel::Live, "error").await.unwrap();
    until_told(&processor, "no index that begins with managed_by").await;
    assert!(processor.metric("stream_processor_target_schema_changes_total").await.unwrap() >= 4.0);
    // The resync brings the offers back to what they show, without an event about them.
    until_managed_by(&test, manager.into(), 4).await;
    assert_eq!(processor.metric(OMITTED).await, None);
    touch(&test, "Galettier").await;
    assert_eq!(offer().await.get_object_id("managed_by").unwrap(), manager);
    assert_eq!(dead_letters(&test).await, 0);
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);

    // A batch that only cancels makes no offer, and follows all the same.
    put_target_validator(&test.database, TargetModel::Before, "error").await.unwrap();
    test.collection("recruiters").delete_one(doc! { "_id": id(&recruiters[0]) }).await.unwrap();
    settled(&test.database).await;
    assert_eq!((text(&offer().await, "offer_status"), dead_letters(&test).await), ("Cancelled", 0));
    stopped(processor).await;
}

async fn until_managed_by(test: &TestDatabase, manager: Bson, offers: u64) {
    eventually(PATIENCE, "the offers name their manager", async || {
        let named = test.collection("jobs_partners").count_documents(doc! { "managed_by": manager.clone() }).await;
        (named.unwrap() == offers).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_a_schema_has_again_is_filled_although_no_instance_ran_when_it_changed() {
    let test = of_model("schemas_again", TargetModel::Before, "error").await;
    let manager = ObjectId::new();
    let managed = with(recruiter([job("Boulanger")]), doc! { "managed_by": manager.to_hex() });
    test.collection("recruiters").insert_one(&managed).await.unwrap();
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    put_target_validator(&test.database, TargetModel::Planned, "error").await.unwrap();
    let processor = started_with(&test, &[]).await;
    until_managed_by(&test, manager.to_hex().into(), 1).await;
    stopped(processor).await;
    put_target_validator(&test.database, TargetModel::Live, "error").await.unwrap();
    let processor = started_with(&test, &[]).await;
    until_managed_by(&test, manager.into(), 1).await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_was_pending_follows_a_validator_that_no_longer_names_this_status() {
    for model in [TargetModel::Planned, TargetModel::Before] {
        let test = of_model("schemas_pending", TargetModel::Live, "error").await;
        assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
        let recruiter = recruiter([job("Boulanger"), job("Vendeur")]);
        test.collection("recruiters").insert_one(&recruiter).await.unwrap();
        let processor = started_with(&test, &[]).await;
        until_no_resync(&test.database).await;
        let set = async |fields: Document| {
            test.collection("recruiters").update_one(doc! {}, doc! { "$set": fields }).await.unwrap();
            settled(&test.database).await;
        };
        set(doc! { "jobs.0.job_status": "En attente", "jobs.1.job_status": "En attente" }).await;
        set(doc! { "jobs.1.job_status": "Active" }).await;
        let offers = offers::read(&test.database).await;
        let shown = job_ids(&recruiter).iter().map(|id| text(&offers[id], "offer_status")).collect::<Vec<_>>();
        assert_eq!(shown, ["Pending", "Active"]);

        put_target_validator(&test.database, model, "error").await.unwrap();
        set(doc! { "jobs.0.offer_title_custom": "Crêpier", "jobs.1.offer_title_custom": "Galettier" }).await;
        let offers = offers::read(&test.database).await;
        let shown = |id| (text(&offers[id], "offer_status"), text(&offers[id], "offer_title"));
        let shown = job_ids(&recruiter).iter().map(shown).collect::<Vec<_>>();
        assert_eq!((shown, dead_letters(&test).await), (vec![("Cancelled", "Crêpier"), ("Active", "Galettier")], 0));
        assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
        stopped(processor).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_validator_managed_by_has_the_type_that_the_offers_have_and_a_setting_decides_over_it() {
    let test = TestDatabase::create("schemas_managed_by").await;
    let manager = ObjectId::new();
    let recruiters: Vec<Document> =
        (0..3).map(|_| with(recruiter([job("Boulanger")]), doc! { "managed_by": manager.to_hex() })).collect();
    test.collection("recruiters").insert_many(&recruiters).await.unwrap();
    let kinds = async || -> BTreeSet<bool> {
        let offers = offers::read(&test.database).await;
        offers.values().map(|offer| offer.get_object_id("managed_by").is_ok()).collect()
    };
    let object_ids = [("STREAM_PROCESSOR__TARGET__MANAGED_BY_TYPE", "object_id")];
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(kinds().await, BTreeSet::from([false]), "an empty target has text");
    assert_eq!(Processor::command(&["backfill"], &test, &object_ids).await.code, 0);
    assert_eq!(kinds().await, BTreeSet::from([true]));
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    assert_eq!(kinds().await, BTreeSet::from([true]), "what stands decides");
    // A user is found by either spelling.
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    test.collection("anonymized_userswithaccounts").insert_one(doc! { "_id": manager }).await.unwrap();
    settled(&test.database).await;
    for offer in offers::read(&test.database).await.into_values() {
        assert_eq!(text(&offer, "offer_status"), "Cancelled");
    }
    stopped(processor).await;
}
