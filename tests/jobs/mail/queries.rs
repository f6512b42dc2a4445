//! Every query of the jobs that write to people or ask the directory uses an index, on a database with the live ones and
//! those of `setup`.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use stream_processor::config::ReminderWindow;
use stream_processor::inside::Cache;
use stream_processor::inside::Threshold;
use stream_processor::inside::outbox;
use stream_processor::inside::{JobId, UserId};
use stream_processor::inside::{refresh_pending_establishments, send_introductions};

use crate::jobs::ticker::queries::explained;
use crate::support::database::TestDatabase;
use crate::support::processor::Processor;
use crate::support::recruiters::{job, recruiter, with};
use crate::support::ticking::{date, later};

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_jobs_that_write_to_people_uses_an_index() {
    let test = TestDatabase::with_live_schema("mail_queries").await;
    let now = date("2026-06-14T12:00:00Z");
    for (collection, keys) in [
        ("applications", doc! { "job_id": 1 }),
        ("cache_siret", doc! { "siret": 1 }),
        ("formationcatalogues", doc! { "lieu_formation_geopoint": "2dsphere", "rome_codes": 1, "diploma": 1 }),
    ] {
        let create = doc! { "createIndexes": collection, "indexes": [{ "key": keys, "name": "live" }] };
        test.database.run_command(create).await.unwrap();
    }
    assert_eq!(Processor::command(&["setup"], &test, &[]).await.code, 0);
    // A plan is chosen by what is there.
    let expiring = |number: i64| with(job("Vendeur"), doc! { "job_expiration_date": later(now, number * 3_600_000) });
    let recruiters: Vec<Document> = (0..200).map(|number| recruiter([job("Boulanger"), expiring(number)])).collect();
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);

    outbox::prepare(&test.database).await.unwrap();
    let ours = |filter: Document| {
        let mut ours = doc! { "partner_label": "RECRUTEURS_LBA" };
        ours.extend(filter);
        ours
    };
    let window = ReminderWindow { from: Duration::ZERO, to: Duration::from_hours(24) };
    let of_users = |threshold: Threshold| {
        let mut filter = ours(threshold.selects(window, now, None));
        filter.insert("managed_by", doc! { "$in": [ObjectId::new().to_hex(), ObjectId::new().to_hex()] });
        filter
    };
    let [applications, _] = send_introductions::applications(&[JobId(ObjectId::new())]);
    let applications = applications.get_document("$match").unwrap().clone();
    let [codes, fields] = send_introductions::occupations(&["D1102"]);
    let of_establishment = doc! { "establishment_id": "x", "recruiter_status": { "$in": ["x", "y"] } };
    for (collection, filter) in [
        ("jobs_partners", ours(Threshold::J7.selects(window, now, None))),
        ("jobs_partners", ours(Threshold::J1.selects(window, now, None))),
        ("jobs_partners", of_users(Threshold::J7)),
        ("jobs_partners", of_users(Threshold::J1)),
        ("jobs_partners", ours(refresh_pending_establishments::selects())),
        ("jobs_partners", ours(of_establishment)),
        ("jobs_partners", ours(send_introductions::selects(now))),
        ("formationcatalogues", send_introductions::courses(2.35, 48.85, &codes)),
        ("formationcatalogues", send_introductions::courses(2.35, 48.85, &fields)),
        ("applications", applications),
        ("cache_siret", Cache::selects("11111111111111", now)),
        ("userswithaccounts", doc! { "_id": { "$in": [ObjectId::new()] } }),
        ("stream_processor_outbox", doc! { "_id": { "$in": ["x"] } }),
        ("stream_processor_outbox", outbox::of_users(&[UserId(ObjectId::new()), UserId(ObjectId::new())])),
    ] {
        let plan = explained(&test, collection, filter.clone(), Document::new()).await;
        let is_served = plan.iter().any(|stage| ["IXSCAN", "IDHACK", "EXPRESS_IXSCAN"].contains(&stage.as_str()));
        assert!(is_served && !plan.iter().any(|stage| stage == "COLLSCAN"), "{collection} {filter}: {plan:?}");
    }
}
