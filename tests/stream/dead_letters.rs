//! Guarantee 5: what cannot be projected or written becomes a dead letter with its reason, the stream goes on, and
//! the dead letter goes when the document is corrected or gone (spec 03, "Dead letters").

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::{Document, doc};

use crate::support::database::TestDatabase;
use crate::support::dead_letters::dead_letters;
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::waiting::{PATIENCE, caught_up, checkpoint, eventually};

const KNOWN_CFA: &str = "11111111111111";
const UNKNOWN_CFA: &str = "22222222222222";
const REFUSED_TITLE: &str = "Titre refusé";

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_projected_is_a_dead_letter_until_it_is_corrected() {
    let test = TestDatabase::create("dead_letters_projection").await;
    let recruiters = Unprojectable::insert_references(&test).await;
    let mut processor = start(&test).await;

    test.collection("recruiters").insert_many(recruiters.all()).await.unwrap();
    caught_up(&test.database).await;
    let first = dead_letters(&test).await;
    assert_eq!(reasons(&first), recruiters.reasons());
    assert_counted(&processor, &first).await;
    for dead_letter in first.values() {
        assert_first_dead_letter(&test, dead_letter).await;
    }
    // One sound job of four recruiters: broken siblings and neighbours did not hold them up.
    assert_eq!(offers::read(&test.database).await.len(), 3);

    touch(&test, &recruiters.unknown_status).await;
    let again = dead_letters(&test).await;
    let address = address(&recruiters.unknown_status, Some(1));
    assert_failed_again(&first[&address], &again[&address]);

    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);
    let processor = start(&test).await;
    assert_counted(&processor, &again).await;

    recruiters.correct(&test).await;
    assert_eq!(reasons(&dead_letters(&test).await), BTreeMap::new());
    assert_counted(&processor, &BTreeMap::new()).await;
    assert_eq!(offers::read(&test.database).await.len(), 7);
    assert!(!processor.stderr().contains(PERSONAL), "personal data in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_the_server_refuses_is_a_dead_letter_until_it_is_corrected() {
    let test = strict_target("dead_letters_refused").await;
    let title = recruiter([job("Boulanger"), with(job("Pâtissier"), doc! { "offer_title_custom": REFUSED_TITLE })]);
    let nowhere = doc! { "type": "Point", "coordinates": [200.0, 95.0] };
    let place = with(recruiter([job("Boulanger")]), doc! { "geopoint": &nowhere });
    let twin = recruiter([job("Boulanger"), job("Pâtissier")]);
    let neighbour = recruiter([job("Boulanger")]);
    let twin_job = job_id(&twin, 0);
    let other = doc! { "_id": ObjectId::new(), "partner_label": "RECRUTEURS_LBA", "partner_job_id": twin_job.to_hex() };
    test.collection("jobs_partners").insert_one(&other).await.unwrap();
    let processor = start(&test).await;

    let all = [&title, &place, &twin, &neighbour];
    test.collection("recruiters").insert_many(all).await.unwrap();
    caught_up(&test.database).await;
    let expected = [
        (address(&title, Some(1)), "refused_by_validation".to_owned()),
        (address(&place, Some(0)), "refused_by_geo_index".to_owned()),
        (address(&twin, Some(0)), "duplicate_offer".to_owned()),
    ];
    let found = dead_letters(&test).await;
    assert_eq!(reasons(&found), BTreeMap::from(expected));
    assert_counted(&processor, &found).await;
    for dead_letter in found.values() {
        assert_first_dead_letter(&test, dead_letter).await;
    }
    let written = BTreeSet::from([job_id(&title, 0), job_id(&twin, 1), job_id(&neighbour, 0), id(&other)]);
    assert_eq!(offer_ids(&test).await, written);
    for code in [121, 16755, 11000] {
        let refused = processor.metric(&format!("stream_processor_write_errors_total{{code=\"{code}\"}}")).await;
        assert_eq!(refused, Some(1.0), "write errors with code {code}");
    }

    set(&test, &title, doc! { "jobs.1.offer_title_custom": "Pâtissier" }).await;
    let somewhere = doc! { "type": "Point", "coordinates": [2.0, 48.0] };
    set(&test, &place, doc! { "geopoint": somewhere }).await;
    test.collection("jobs_partners").delete_one(doc! { "_id": id(&other) }).await.unwrap();
    touch(&test, &twin).await;
    assert_eq!(reasons(&dead_letters(&test).await), BTreeMap::new());
    assert_counted(&processor, &BTreeMap::new()).await;
    let jobs = all.into_iter().flat_map(|recruiter| (0..jobs(recruiter)).map(|position| job_id(recruiter, position)));
    assert_eq!(offer_ids(&test).await, jobs.collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_with_its_job_and_with_its_recruiter() {
    let test = TestDatabase::create("dead_letters_gone").await;
    let broken = || with(job("Pâtissier"), doc! { "job_status": "Statut inconnu" });
    let loses_job = recruiter([job("Boulanger"), broken()]);
    let loses_nameless_job = recruiter([job("Boulanger"), with(job("Pâtissier"), doc! { "_id": 7 })]);
    let deleted = recruiter([broken()]);
    let nameless = with(recruiter([job("Boulanger")]), doc! { "_id": "no-object-id" });
    let processor = start(&test).await;
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([&loses_job, &loses_nameless_job, &deleted, &nameless]).await.unwrap();
    caught_up(&test.database).await;
    assert_eq!(dead_letters(&test).await.len(), 4);

    for recruiter in [&loses_job, &loses_nameless_job] {
        let second = recruiter.get_array("jobs").unwrap()[1].as_document().unwrap().get("_id").unwrap();
        let update = doc! { "$pull": { "jobs": { "_id": second } } };
        recruiters.update_one(doc! { "_id": id(recruiter) }, update).await.unwrap();
    }
    recruiters.delete_one(doc! { "_id": id(&deleted) }).await.unwrap();
    recruiters.delete_one(doc! { "_id": "no-object-id" }).await.unwrap();
    caught_up(&test.database).await;
    assert_eq!(reasons(&dead_letters(&test).await), BTreeMap::new());
    assert_counted(&processor, &BTreeMap::new()).await;
}

/// The target refuses to cancel anything for a while; nothing may be forgotten meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_cancellation_or_anonymisation_is_not_forgotten() {
    let test = strict_target("dead_letters_cancel").await;
    let shrinks = recruiter([job("Boulanger"), job("Pâtissier")]);
    let (deleted, anonymised) = (recruiter([job("Boulanger")]), recruiter([job("Boulanger")]));
    let mut processor = start(&test).await;
    let recruiters = test.collection("recruiters");
    recruiters.insert_many([&shrinks, &deleted, &anonymised]).await.unwrap();
    caught_up(&test.database).await;

    refuse(&test, "offer_status", "Cancelled").await;
    set(&test, &shrinks, doc! { "jobs.1.job_status": "Statut inconnu" }).await;
    let update = doc! { "$pull": { "jobs": { "_id": job_id(&shrinks, 1) } } };
    recruiters.update_one(doc! { "_id": id(&shrinks) }, update).await.unwrap();
    test.collection("anonymized_recruiters").insert_one(&anonymised).await.unwrap();
    for gone in [&deleted, &anonymised] {
        recruiters.delete_one(doc! { "_id": id(gone) }).await.unwrap();
    }
    caught_up(&test.database).await;
    let refused = [address(&shrinks, Some(1)), address(&deleted, Some(0)), address(&anonymised, Some(0))];
    let found = dead_letters(&test).await;
    assert_eq!(reasons(&found), refused.map(|address| (address, "refused_by_validation".to_owned())).into());
    assert_counted(&processor, &found).await;

    refuse(&test, "offer_status", "nothing").await;
    touch(&test, &shrinks).await;
    assert_eq!(dead_letters(&test).await.len(), 2, "the recruiter that is there is looked at again");
    assert_eq!(status(&test, job_id(&shrinks, 1)).await, "Cancelled");
    // Of those that are gone nobody speaks any more: they are found by a resync, here that of a lost checkpoint.
    processor.sigterm();
    assert_eq!(processor.until_ended().await.code, 0);
    test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
    test.collection("resumetokens").delete_many(doc! {}).await.unwrap();
    let processor = start(&test).await;
    assert_eq!(reasons(&dead_letters(&test).await), BTreeMap::new());
    assert_counted(&processor, &BTreeMap::new()).await;
    for gone in [job_id(&deleted, 0), job_id(&anonymised, 0)] {
        assert_eq!(status(&test, gone).await, "Cancelled");
    }
    let offer = &offers::read(&test.database).await[&job_id(&anonymised, 0)];
    assert!(!offer.to_string().contains(PERSONAL), "the contact is anonymised");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_writes_dead_letters_too_and_counts_them() {
    let test = TestDatabase::create("dead_letters_backfill").await;
    let broken = recruiter([job("Boulanger"), with(job("Pâtissier"), doc! { "job_status": null })]);
    test.collection("recruiters").insert_one(&broken).await.unwrap();
    let ended = Processor::command(&["backfill", "--json"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&printed["created"], &printed["dead_letters"]), (&1.into(), &1.into()));
    let expected = [(address(&broken, Some(1)), "unknown_job_status".to_owned())];
    assert_eq!(reasons(&dead_letters(&test).await), expected.into());
}

/// A recruiter for each reason for which a projection fails, and what makes it succeed.
struct Unprojectable {
    unknown_status: Document,
    missing_cfa: Document,
    missing_user: Document,
    invalid_job_id: Document,
    /// Its `_id` is a text.
    undecodable: Document,
    sound: Document,
}

impl Unprojectable {
    /// Makes them, and inserts the references that are not missing.
    async fn insert_references(test: &TestDatabase) -> Self {
        let delegated =
            |cfa: &str| with(recruiter([job("Boulanger")]), doc! { "is_delegated": true, "cfa_delegated_siret": cfa });
        let all = Self {
            unknown_status: recruiter([
                job("Boulanger"),
                with(job("Pâtissier"), doc! { "job_status": "Statut inconnu" }),
            ]),
            missing_cfa: delegated(UNKNOWN_CFA),
            missing_user: delegated(KNOWN_CFA),
            invalid_job_id: recruiter([with(job("Pâtissier"), doc! { "_id": "no-object-id" }), job("Boulanger")]),
            undecodable: with(recruiter([job("Boulanger")]), doc! { "_id": "no-object-id" }),
            sound: recruiter([job("Boulanger")]),
        };
        test.collection("cfas").insert_one(doc! { "siret": KNOWN_CFA }).await.unwrap();
        insert_manager(test, &all.missing_cfa).await;
        all
    }

    fn all(&self) -> [&Document; 6] {
        let Self { unknown_status, missing_cfa, missing_user, invalid_job_id, undecodable, sound } = self;
        [unknown_status, missing_cfa, missing_user, invalid_job_id, undecodable, sound]
    }

    fn reasons(&self) -> BTreeMap<String, String> {
        let reasons = [
            (address(&self.unknown_status, Some(1)), "unknown_job_status"),
            (address(&self.missing_cfa, Some(0)), "missing_cfa"),
            (address(&self.missing_user, Some(0)), "missing_cfa_user"),
            (address(&self.invalid_job_id, None), "invalid_job_id"),
            // Quoted: a text of 24 hex digits is another document than the ObjectId of these digits.
            ("recruiters/\"no-object-id\"".to_owned(), "undecodable"),
        ];
        reasons.into_iter().map(|(address, reason)| (address, reason.to_owned())).collect()
    }

    /// Makes every job projectable, but for the recruiter whose `_id` cannot be changed: it is deleted.
    async fn correct(&self, test: &TestDatabase) {
        set(test, &self.unknown_status, doc! { "jobs.1.job_status": "Active" }).await;
        // These two heal when what they miss appears (spec 02, "Delegated recruiters").
        test.collection("cfas").insert_one(doc! { "siret": UNKNOWN_CFA }).await.unwrap();
        insert_manager(test, &self.missing_user).await;
        set(test, &self.invalid_job_id, doc! { "jobs.0._id": ObjectId::new() }).await;
        let recruiters = test.collection("recruiters");
        recruiters.delete_one(doc! { "_id": "no-object-id" }).await.unwrap();
        caught_up(&test.database).await;
    }
}

/// The user that a recruiter's `managed_by` names.
async fn insert_manager(test: &TestDatabase, recruiter: &Document) {
    let user = ObjectId::parse_str(recruiter.get_str("managed_by").unwrap()).unwrap();
    let contact = doc! { "_id": user, "email": format!("{PERSONAL}@example.com"), "phone": null };
    test.collection("userswithaccounts").insert_one(contact).await.unwrap();
}

/// A database whose target refuses [`REFUSED_TITLE`], impossible positions, and a job's second offer.
async fn strict_target(prefix: &str) -> TestDatabase {
    let test = TestDatabase::create(prefix).await;
    let create = doc! { "create": "jobs_partners", "validationLevel": "strict", "validationAction": "error" };
    test.database.run_command(create).await.unwrap();
    refuse(&test, "offer_title", REFUSED_TITLE).await;
    let indexes = [
        doc! { "name": "place", "key": { "workplace_geopoint": "2dsphere" } },
        doc! { "name": "job", "key": { "partner_label": 1, "partner_job_id": 1 }, "unique": true },
    ];
    let create = doc! { "createIndexes": "jobs_partners", "indexes": indexes.to_vec() };
    test.database.run_command(create).await.unwrap();
    test
}

/// From now on the target refuses offers whose `field` is `value`, and nothing else.
async fn refuse(test: &TestDatabase, field: &str, value: &str) {
    let schema = doc! { "properties": { field: { "not": { "enum": [value] } } } };
    let change = doc! { "collMod": "jobs_partners", "validator": { "$jsonSchema": schema } };
    test.database.run_command(change).await.unwrap();
}

/// Starts the service, and waits until the resync of its first start is over: what a test writes then is touched once.
async fn start(test: &TestDatabase) -> Processor {
    let processor = Processor::start_ready(test, &[]).await;
    let state = test.collection("stream_processor_state");
    eventually(PATIENCE, "the resync ends", async || {
        let resync = state.find_one(doc! { "_id": "resync" }).await.unwrap();
        resync.is_none().then_some(())
    })
    .await;
    processor
}

/// Changes fields of a recruiter, and waits until that is handled.
async fn set(test: &TestDatabase, recruiter: &Document, fields: Document) {
    let recruiters = test.collection("recruiters");
    recruiters.update_one(doc! { "_id": id(recruiter) }, doc! { "$set": fields }).await.unwrap();
    caught_up(&test.database).await;
}

/// Any change of a recruiter that is not one of its jobs.
async fn touch(test: &TestDatabase, recruiter: &Document) {
    set(test, recruiter, doc! { "touched": ObjectId::new() }).await;
}

fn jobs(recruiter: &Document) -> usize {
    recruiter.get_array("jobs").unwrap().len()
}

fn job_id(recruiter: &Document, position: usize) -> ObjectId {
    id(recruiter.get_array("jobs").unwrap()[position].as_document().unwrap())
}

/// `recruiters/<id>[/<job id>]`.
fn address(recruiter: &Document, position: Option<usize>) -> String {
    let job = position.map(|position| format!("/{}", job_id(recruiter, position)));
    format!("recruiters/{}{}", id(recruiter), job.unwrap_or_default())
}

async fn offer_ids(test: &TestDatabase) -> BTreeSet<ObjectId> {
    offers::read(&test.database).await.into_keys().collect()
}

async fn status(test: &TestDatabase, offer: ObjectId) -> String {
    let offer = test.collection("jobs_partners").find_one(doc! { "_id": offer }).await.unwrap();
    offer.unwrap().get_str("offer_status").unwrap().to_owned()
}

fn reasons(dead_letters: &BTreeMap<String, Document>) -> BTreeMap<String, String> {
    let reason = |dead_letter: &Document| dead_letter.get_str("reason").unwrap().to_owned();
    dead_letters.iter().map(|(id, dead_letter)| (id.clone(), reason(dead_letter))).collect()
}

/// `stream_processor_dead_letters{reason}` says how many dead letters stand, for every reason.
async fn assert_counted(processor: &Processor, dead_letters: &BTreeMap<String, Document>) {
    let (_, text) = processor.http_get("/metrics").await;
    let series = text.lines().filter_map(|line| line.strip_prefix("stream_processor_dead_letters{reason=\""));
    let counted = series.map(|series| series.split_once("\"} ").unwrap());
    let counted: BTreeMap<String, f64> =
        counted.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap())).collect();
    let mut expected: BTreeMap<String, f64> = counted.keys().map(|reason| (reason.clone(), 0.0)).collect();
    for reason in reasons(dead_letters).into_values() {
        *expected.entry(reason).or_default() += 1.0;
    }
    assert!(!counted.is_empty(), "reasons are there before the first dead letter");
    assert_eq!(counted, expected);
}

/// A dead letter after one failure has everything that spec 03 lists, and no personal data.
async fn assert_first_dead_letter(test: &TestDatabase, dead_letter: &Document) {
    let date = |field: &str| *dead_letter.get_datetime(field).unwrap();
    let fields = "_id reason detail action date first_seen last_seen attempts token cluster_time next_retry";
    let present: BTreeSet<&str> = dead_letter.keys().map(String::as_str).collect();
    assert_eq!(present, fields.split(' ').collect());
    assert_eq!(dead_letter.get_i32("attempts").unwrap(), 1);
    assert_eq!(date("first_seen"), date("last_seen"));
    assert!(date("next_retry") > date("last_seen"));
    assert!(!dead_letter.get_document("token").unwrap().get_str("_data").unwrap().is_empty());
    assert!(dead_letter.get_timestamp("cluster_time").unwrap() <= checkpoint(&test.database).await.unwrap());
    let text = dead_letter.to_string();
    for word in [PERSONAL, REFUSED_TITLE, "Boulang", "example.com"] {
        assert!(!text.contains(word), "a value of a document is in a dead letter");
    }
}

/// The same failure a second time: counted, remembered since when, and tried again after a longer delay.
fn assert_failed_again(first: &Document, again: &Document) {
    let delay = |dead_letter: &Document| {
        let millis = |field: &str| dead_letter.get_datetime(field).unwrap().timestamp_millis();
        millis("next_retry") - millis("last_seen")
    };
    assert_eq!(again.get_i32("attempts").unwrap(), 2);
    assert_eq!(first.get_datetime("first_seen").unwrap(), again.get_datetime("first_seen").unwrap());
    assert_eq!(delay(again), 2 * delay(first));
    assert_ne!(first.get_document("token").unwrap(), again.get_document("token").unwrap());
}
