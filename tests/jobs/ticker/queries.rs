//! Every query of a job uses an index, on a database with the live indexes and those of `setup`: asked of the server
//! itself.

use std::collections::BTreeSet;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use stream_processor::inside::{
    analyze_closed_companies, anonymize_inactive_users, anonymize_orphans, anonymize_user, cancel_expired_offers,
    cap_offer_expirations, fill_missing_start_dates, repair_offer_data, report_duplicate_recruiters,
};

use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::until_no_resync;
use crate::support::ticking::{ON, date};
use stream_processor::inside::ROLES;
use stream_processor::inside::SIRET_CACHE;
use stream_processor::inside::UserId;
use xtask::golden::{TargetModel, put_target_validator};

/// The stages of the plan that wins, from the outermost on, and the bounds of its index.
fn stages(plan: &Document, into: &mut Vec<String>) {
    into.extend(plan.get_str("stage").map(ToOwned::to_owned));
    into.extend(plan.get_str("indexName").map(ToOwned::to_owned));
    for inner in ["inputStage", "queryPlan"] {
        if let Ok(inner) = plan.get_document(inner) {
            stages(inner, into);
        }
    }
    for inner in plan.get_array("inputStages").into_iter().flatten() {
        stages(inner.as_document().unwrap(), into);
    }
}

pub(crate) async fn explained(test: &TestDatabase, collection: &str, filter: Document, sort: Document) -> Vec<String> {
    let find = doc! { "find": collection, "filter": filter, "sort": sort };
    let explain = doc! { "explain": find, "verbosity": "queryPlanner" };
    let explained = test.database.run_command(explain).await.unwrap();
    let planner = explained.get_document("queryPlanner").unwrap();
    let mut found = Vec::new();
    stages(planner.get_document("winningPlan").unwrap(), &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_a_job_uses_an_index() {
    let test = TestDatabase::with_live_schema("jobs_queries").await;
    for collection in ["rolemanagements", "cache_siret"] {
        test.database.create_collection(collection).await.unwrap();
    }
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    // A plan is chosen by what is there.
    let recruiters: Vec<Document> = (0..200).map(|_| recruiter([job("Boulanger"), job("Vendeur")])).collect();
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);

    assert_served(&test).await;
    // `setup` takes back what it made, and only that.
    assert_eq!(Processor::command(&["setup", "--down"], &test, &[]).await.code, 0);
    assert_eq!(test.collection("rolemanagements").list_index_names().await.unwrap(), ["_id_"]);
    let names = test.database.list_collection_names().await.unwrap();
    assert!(names.iter().any(|name| name == "cache_siret") && !names.iter().any(|name| name.ends_with("job_runs")));
}

/// The platform's deploys drop all other indexes (spec 09, "Indexes").
#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_a_job_uses_an_index_where_there_are_those_of_the_platform_alone() {
    let test = TestDatabase::with_live_schema("jobs_queries_platform").await;
    put_target_validator(&test.database, TargetModel::Live, "warn").await.unwrap();
    let of_the_model = ["managed_by", "establishment_id", "relance_mail_expiration_J7", "relance_mail_expiration_J1"];
    let of_the_model = of_the_model.into_iter().chain(["offer_rome_appellation", "mer_sent"]);
    let platform = of_the_model.map(|field| ("jobs_partners", field));
    let platform =
        platform.chain([("userswithaccounts", "last_action_date"), (ROLES, "user_id"), (SIRET_CACHE, "siret")]);
    for (collection, field) in platform {
        let index = doc! { "key": { field: 1 }, "name": format!("{field}_1") };
        test.database.run_command(doc! { "createIndexes": collection, "indexes": [index] }).await.unwrap();
    }
    let recruiters: Vec<Document> = (0..200).map(|_| recruiter([job("Boulanger"), job("Vendeur")])).collect();
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    let faulty = recruiter([with(job("Coiffeur"), doc! { "job_status": "?" })]);
    test.collection("recruiters").insert_one(faulty).await.unwrap();
    // The service creates the indexes of its own collections.
    let processor = started_with(&test, &[ON]).await;
    until_no_resync(&test.database).await;
    stopped(processor).await;
    // Only `setup` creates this index; `doctor` says that it is missing.
    let doctor = Processor::command(&["doctor"], &test, &[]).await;
    assert!(doctor.stdout.contains("stream_processor_dead_letters lacks next_retry_1"), "{}", doctor.stdout);
    let index = doc! { "key": { "next_retry": 1 }, "name": "next_retry_1" };
    let create = doc! { "createIndexes": "stream_processor_dead_letters", "indexes": [index] };
    test.database.run_command(create).await.unwrap();
    assert_served(&test).await;
}

async fn assert_served(test: &TestDatabase) {
    let now = date("2026-06-14T12:00:00Z");
    let ours = |filter: Document| {
        let mut ours = doc! { "partner_label": "RECRUTEURS_LBA" };
        ours.extend(filter);
        ours
    };
    let user = UserId(ObjectId::new());
    let jobs = vec![Bson::from(user)];
    let unsorted = Document::new;
    for (collection, filter, sort) in [
        ("jobs_partners", ours(cancel_expired_offers::selects(now)), unsorted()),
        ("jobs_partners", ours(cancel_expired_offers::selects_closed(now, Some(now))), unsorted()),
        ("jobs_partners", ours(cap_offer_expirations::selects(now)), unsorted()),
        ("jobs_partners", ours(fill_missing_start_dates::selects()), unsorted()),
        ("jobs_partners", ours(repair_offer_data::selects()), unsorted()),
        ("jobs_partners", ours(analyze_closed_companies::selects()), unsorted()),
        ("jobs_partners", ours(anonymize_user::of_user("managed_by", user)), unsorted()),
        ("jobs_partners", ours(doc! { "_id": { "$in": &jobs } }), unsorted()),
        ("jobs_partners", ours(doc! {}), unsorted()),
        ("recruiters", report_duplicate_recruiters::selects(), report_duplicate_recruiters::order()),
        ("recruiters", anonymize_user::of_user("managed_by", user), unsorted()),
        ("recruiters", doc! { "_id": { "$gt": user } }, doc! { "_id": 1 }),
        (
            "recruiters",
            doc! { "$and": [anonymize_orphans::selects(now), { "_id": { "$gt": user } }] },
            doc! { "_id": 1 },
        ),
        ("userswithaccounts", anonymize_user::of_user("_id", user), unsorted()),
        ("jobs_partners", ours(doc! { "_id": { "$in": &jobs }, "updated_at": { "$gt": now } }), unsorted()),
        ("userswithaccounts", anonymize_inactive_users::selects(now), unsorted()),
        (ROLES, anonymize_user::of_user("user_id", user), unsorted()),
        (SIRET_CACHE, analyze_closed_companies::of_sirets(&BTreeSet::from(["1"])), unsorted()),
        ("stream_processor_links", doc! { "jobs": { "$in": &jobs } }, unsorted()),
        ("stream_processor_dead_letters", doc! { "next_retry": { "$lte": now } }, unsorted()),
        ("stream_processor_job_runs", doc! { "job": "verify", "outcome": "done" }, doc! { "scheduled_for": -1 }),
        ("stream_processor_job_runs", doc! { "state": { "$in": ["due"] } }, doc! { "scheduled_for": 1 }),
        ("stream_processor_job_runs", doc! { "scheduled_for": { "$lt": DateTime::MIN } }, unsorted()),
    ] {
        let plan = explained(test, collection, filter.clone(), sort).await;
        let is_served = plan.iter().any(|stage| ["IXSCAN", "IDHACK", "EXPRESS_IXSCAN"].contains(&stage.as_str()));
        let whole: Vec<&String> = plan.iter().filter(|stage| ["COLLSCAN", "SORT"].contains(&stage.as_str())).collect();
        assert!(is_served && whole.is_empty(), "{collection} {filter}: {plan:?}");
    }
}
