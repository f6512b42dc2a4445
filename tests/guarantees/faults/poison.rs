//! Documents that can never be written, and very many of them: their neighbours are written, the stream goes on, and what
//! stands in the dead letters costs nothing until it is touched. The other reasons are in `dead_letters.rs`.

use std::collections::BTreeMap;
use std::time::Instant;

use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::dead_letters::reasons;
use crate::support::end::assert_nothing_lost;
use crate::support::fields::{first_job, job_ids};
use crate::support::offers;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;
use crate::support::workload::Workload;

const DEAD_LETTERS: usize = 10_000;
const UPDATES: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_is_too_large_or_refused_for_a_reason_of_the_servers_own_is_a_dead_letter_until_it_is_corrected()
{
    let test = TestDatabase::create("faults_refused").await;
    // Two lists in one index: the server refuses documents that have both.
    let parallel = doc! { "name": "parallel", "key": { "offer_rome_codes": 1, "delegations": 1 } };
    test.database.run_command(doc! { "createIndexes": "jobs_partners", "indexes": [parallel] }).await.unwrap();
    let delegated = doc! { "delegations": [{ "siret_code": "33333333333333" }] };
    let refused = recruiter([job("Boulanger"), with(job("Pâtissier"), delegated)]);
    // The title comes twice in an offer: as it is, and in its link.
    let large = recruiter([job("Boulanger"), job(&"x".repeat(9 * 1024 * 1024))]);
    let processor = started(&test).await;
    until_no_resync(&test.database).await;

    test.collection("recruiters").insert_many([&refused, &large]).await.unwrap();
    settled(&test.database).await;
    let address = |recruiter: &Document| format!("recruiters/{}/{}", id(recruiter), job_ids(recruiter)[1]);
    let expected = BTreeMap::from([
        (address(&refused), "refused_by_server".to_owned()),
        (address(&large), "too_large".to_owned()),
    ]);
    assert_eq!(reasons(&test).await, expected);
    let offers = offers::read(&test.database).await;
    assert!([&refused, &large].iter().all(|recruiter| offers.contains_key(&first_job(recruiter))), "neighbours");

    for (recruiter, field, value) in
        [(&refused, "jobs.1.delegations", bson::Bson::Null), (&large, "jobs.1.offer_title_custom", "y".into())]
    {
        let change = doc! { "$set": { field: value } };
        test.collection("recruiters").update_one(doc! { "_id": id(recruiter) }, change).await.unwrap();
    }
    settled(&test.database).await;
    assert_eq!(reasons(&test).await, BTreeMap::new());
    assert_nothing_lost(test, processor).await;
}

/// How long the two backlogs took is printed, for `docs/reliability.md`; nothing is asserted of it.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_dead_letters_are_neither_read_nor_written_by_a_stream_that_does_not_touch_them() {
    let test = TestDatabase::create("faults_poison").await;
    let mut workload = Workload::insert(&test.database, 41, 2_000).await;
    let without = drain(&test, &mut workload).await;

    let broken = || recruiter([with(job("Vendeur"), doc! { "job_status": "Statut inconnu" })]);
    let broken: Vec<Document> = (0..DEAD_LETTERS).map(|_| broken()).collect();
    for broken in broken.chunks(1_000) {
        test.collection("recruiters").insert_many(broken).await.unwrap();
    }
    let processor = started(&test).await;
    settled(&test.database).await;
    assert_eq!(reasons(&test).await.len(), DEAD_LETTERS);
    stopped(processor).await;

    let before = cluster_time_now(&test.database).await;
    let with = drain(&test, &mut workload).await;
    assert!(writes(&test.database, "stream_processor_dead_letters", before).await.is_empty());
    assert_eq!(reasons(&test).await.len(), DEAD_LETTERS);
    eprintln!("{UPDATES} updates: without dead letters {without}, with {DEAD_LETTERS} {with}");
    let processor = started(&test).await;
    assert_eq!(processor.metric(r#"stream_processor_dead_letters{reason="unknown_job_status"}"#).await, Some(1e4));
    assert_nothing_lost(test, processor).await;
}

/// What a service that starts with a backlog takes to end it: in all, and of the processor.
async fn drain(test: &TestDatabase, workload: &mut Workload) -> String {
    let processor = started(test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    stopped(processor).await;
    workload.backlog(&test.database, UPDATES).await;
    let began = Instant::now();
    let processor = started(test).await;
    settled(&test.database).await;
    let (took, busy) = (began.elapsed(), processor_seconds(processor.pid()));
    stopped(processor).await;
    format!("{:.2} s (processor {busy:.2} s)", took.as_secs_f64())
}

/// What a process has used of the processor so far (`proc(5)`: the fields `utime` and `stime`, in hundredths).
fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum()
}
