//! Many offers that are created together: one that the server refuses does not keep its neighbours out, and nothing is
//! created by a leader that was.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc, rawdoc};
use stream_processor::clock;
use stream_processor::inside::Creation;
use stream_processor::inside::Validity;
use stream_processor::inside::Writer;
use stream_processor::inside::{Failure, Unfinished};
use stream_processor::inside::{WORTH_IT, create};
use tokio::sync::watch;

use crate::support::database::TestDatabase;
use crate::support::end::assert_nothing_lost;
use crate::support::fields::{first_job, job_ids};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::started;
use crate::support::state::{settled, until_no_resync};

const DURATION: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn of_many_new_offers_all_are_created_but_the_one_that_the_server_refuses() {
    let test = TestDatabase::create("many_creations").await;
    let parallel = doc! { "name": "parallel", "key": { "offer_rome_codes": 1, "delegations": 1 } };
    test.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": [parallel] }).await.unwrap();
    let delegated = doc! { "delegations": [{ "siret_code": "33333333333333" }] };
    let refused = recruiter([job("Boulanger"), with(job("Pâtissier"), delegated)]);
    // A text that begins with a dollar is a text.
    let dollar = recruiter([job("$offer_status")]);
    let mut all: Vec<Document> = (0..3 * WORTH_IT).map(|_| recruiter([job("Vendeur")])).collect();
    all.extend([refused.clone(), dollar.clone()]);
    test.collection("recruiters").insert_many(&all).await.unwrap();

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let created = offers::read(&test.database).await;
    assert_eq!(created.len(), all.len(), "one for each recruiter: the second job of one is refused");
    assert!(!created.contains_key(&job_ids(&refused)[1]));
    assert_eq!(created[&first_job(&dollar)].get_str("offer_title").unwrap(), "$offer_status");

    let corrected = doc! { "$set": { "jobs.1.delegations": null } };
    test.collection("recruiters").update_one(doc! { "_id": id(&refused) }, corrected).await.unwrap();
    settled(&test.database).await;
    assert_nothing_lost(test, processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn creations_that_the_server_begins_after_the_lease_are_none() {
    let test = TestDatabase::create("late_creations").await;
    let create_under = async |expires_at: DateTime| {
        // What a leader that was paused knows: by its own clock, there is time left.
        let (_renewals, validity) =
            watch::channel(Validity { until: clock::instant() + DURATION, ends_at: expires_at, cluster_end: None });
        let writer = Writer::under(&test.database, validity, DURATION);
        let creations =
            (0..WORTH_IT).map(|_| ObjectId::new()).map(|id| Creation { id, document: rawdoc! { "_id": id } });
        create(&writer, "things", creations.collect()).await
    };
    let in_time = |seconds: i64| DateTime::from_millis(DateTime::now().timestamp_millis() + seconds * 1_000);

    let late = create_under(in_time(-1)).await;
    assert!(matches!(late, Err(Unfinished::Failed(Failure::Overdue))), "{late:?}");
    assert_eq!(test.collection("things").count_documents(doc! {}).await.unwrap(), 0);
    let timely = create_under(in_time(10)).await.unwrap();
    assert_eq!((timely.created, timely.unsure.len()), (WORTH_IT as u64, 0));
}
