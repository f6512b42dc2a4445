//! The mirror (spec 10, "The mirror (phase `shadow`)"): what applications write to `jobs_partners` alone reaches
//! `recruiters`, and nothing else is touched.

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, cstr};
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::processor::Processor;
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::runs::{started_with, stopped};
use crate::support::state::{links, settled, until_no_resync, writes};
use crate::support::waiting::{PATIENCE, cluster_time_now, eventually};

/// Later than every date of a new recruiter.
pub(super) const LATER: DateTime = DateTime::from_millis(1_760_000_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_and_a_closing_reach_the_job_and_leave_its_siblings_as_they_are() {
    let (test, [recruiter], processor) = mirrored("mirror_edit", [recruiter([job("Boulanger"), job("Vendeur")])]).await;
    let [edited, sibling] = job_ids(&recruiter)[..] else { panic!("two jobs") };
    set(&test, edited, doc! { "offer_title": "Boulangère", "updated_at": LATER }).await;
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!(text(&of(&stands, edited), "offer_title_custom"), "Boulangère");
    assert_eq!(of(&stands, edited).get_datetime("job_update_date").unwrap(), &LATER);
    assert_eq!(stands.get_datetime("updatedAt").unwrap(), &LATER, "newest wins goes by it");
    assert_eq!(of(&stands, sibling), of(&recruiter, sibling));
    for (status, expected) in [("Filled", "Pourvue"), ("Cancelled", "Annulée"), ("Active", "Active")] {
        set(&test, edited, doc! { "offer_status": status }).await;
        settled(&test.database).await;
        assert_eq!(text(&of(&read(&test, id(&recruiter)).await, edited), "job_status"), expected);
    }
    test.collection("jobs_partners").delete_one(doc! { "_id": edited }).await.unwrap();
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!(text(&of(&stands, edited), "job_status"), "Annulée");
    assert_eq!(of(&stands, sibling), of(&recruiter, sibling));
    stopped(processor).await;
}

/// The update computes the whole list of jobs, and checks null, undefined and missing fields by their types.
#[tokio::test(flavor = "multi_thread")]
async fn an_edit_beside_odd_values_changes_none_of_them() {
    let inner = doc! { "$deep": 1, "a.b": 2, "c": Bson::Undefined };
    let odd = doc! {
        "null": Bson::Null, "undefined": Bson::Undefined, "zero": -0.0, "long": 7_i64, "least": Bson::MinKey,
        "list": [Bson::Undefined, Bson::Null, inner, Vec::<Bson>::new(), "$jobs"],
    };
    let dated = |date: Bson| with(job("Boulanger"), doc! { "job_update_date": date, "odd": &odd });
    let mut undated = dated(Bson::Null);
    undated.remove("job_update_date");
    let jobs = [dated(Bson::Null), dated(Bson::Undefined), undated, dated("hier".into())];
    let recruiter = with(recruiter(jobs), doc! { "updatedAt": Bson::Null, "odd": &odd });
    let (test, [recruiter], processor) = mirrored("mirror_odd", [recruiter]).await;
    let mut expected = recruiter.clone();
    for (place, edited) in job_ids(&recruiter).into_iter().enumerate() {
        set(&test, edited, doc! { "offer_title": "$odd", "updated_at": LATER }).await;
        settled(&test.database).await;
        let job = expected.get_array_mut("jobs").unwrap()[place].as_document_mut().unwrap();
        job.insert("offer_title_custom", "$odd");
        job.insert("job_update_date", LATER);
        let stands = read(&test, id(&recruiter)).await;
        assert_eq!(of(&stands, edited), of(&expected, edited));
    }
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!((&stands.get("jobs"), stands.get("odd")), (&expected.get("jobs"), expected.get("odd")));
    stopped(processor).await;
}

/// The `_id`s of the jobs alternate between the recruiters, so the order of the offers is not that of the recruiters.
#[tokio::test(flavor = "multi_thread")]
async fn many_edits_of_few_recruiters_write_each_recruiter_once_or_twice() {
    const JOBS: usize = 150;
    let mut world: [Document; 20] = std::array::from_fn(|_| recruiter((0..JOBS).map(|_| job("Boulanger"))));
    for place in 0..JOBS {
        for recruiter in &mut world {
            let job = recruiter.get_array_mut("jobs").unwrap()[place].as_document_mut().unwrap();
            job.insert("_id", ObjectId::new());
        }
    }
    let (test, _, processor) = mirrored("mirror_many", world).await;
    stopped(processor).await;
    let edit = doc! { "$set": { "offer_title": "Vendeuse", "updated_at": LATER } };
    test.collection("jobs_partners").update_many(doc! {}, edit).await.unwrap();
    let processor = started_with(&test, &[]).await;
    settled(&test.database).await;
    let edited = processor.metric("stream_processor_mirror_writes_total{kind=\"edited\"}").await.unwrap();
    // The stream may begin with a small batch, and a chunk of offers may end within a recruiter.
    assert!((20.0..=60.0).contains(&edited), "{edited} writes");
    let unedited = doc! { "jobs": { "$elemMatch": { "offer_title_custom": { "$ne": "Vendeuse" } } } };
    assert_eq!(test.collection("recruiters").count_documents(unedited).await.unwrap(), 0);
    stopped(processor).await;
}

/// MongoDB 6.0 would end itself, or lose one of the two values.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_a_name_twice_stays_as_it_is_and_is_told_until_it_is_corrected() {
    let (test, [recruiter], processor) = mirrored("mirror_twice", [recruiter([job("Boulanger")])]).await;
    let offer = first_job(&recruiter);
    let mut twice = RawDocumentBuf::try_from(&with(job("Boulanger"), doc! { "_id": offer, "twice": 1 })).unwrap();
    twice.append(cstr!("twice"), 2);
    let mut fields = recruiter.clone();
    fields.remove("jobs");
    let mut repeated = RawDocumentBuf::try_from(&fields).unwrap();
    repeated.append(cstr!("jobs"), RawArrayBuf::from_iter([twice]));
    let all = test.database.collection::<RawDocumentBuf>("recruiters");
    all.replace_one(doc! {}, &repeated).await.unwrap();
    settled(&test.database).await;
    set(&test, offer, doc! { "offer_title": "Boulangère", "updated_at": LATER }).await;
    settled(&test.database).await;
    assert_eq!(all.find_one(doc! {}).await.unwrap().unwrap(), repeated);
    let letters = test.collection("stream_processor_dead_letters");
    let told = letters.find_one(doc! { "reason": "not_invertible" }).await.unwrap().unwrap();
    assert_eq!(text(&told, "detail"), "twice");

    test.collection("recruiters").replace_one(doc! {}, &recruiter).await.unwrap();
    settled(&test.database).await;
    settled(&test.database).await;
    assert_eq!(text(&of(&read(&test, id(&recruiter)).await, offer), "offer_title_custom"), "Boulangère");
    assert_eq!(letters.count_documents(doc! {}).await.unwrap(), 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_offer_gets_a_job_and_a_recruiter_where_there_is_none_and_all_others_stay_as_they_are() {
    let unnamed = recruiter([]);
    let (test, [known, unnamed], processor) = mirrored("mirror_new", [recruiter([job("Boulanger")]), unnamed]).await;
    let offers = test.collection("jobs_partners");
    let template = offers.find_one(doc! { "_id": first_job(&known) }).await.unwrap().unwrap();
    let new = |fields: Document| {
        let id = ObjectId::new();
        let own = doc! { "_id": id, "partner_job_id": id.to_hex(), "offer_title": "Nouvelle", "updated_at": LATER };
        with(with(template.clone(), own), fields)
    };
    let at_home = new(doc! {});
    let by_siret = new(doc! { "establishment_id": null });
    let elsewhere = doc! { "establishment_id": "elsewhere", "workplace_siret": "99999999999999" };
    let abroad = [new(elsewhere.clone()), new(elsewhere.clone())];
    let closed = new(with(elsewhere, doc! { "establishment_id": "closed", "offer_status": "Cancelled" }));
    let foreign = new(doc! { "partner_label": "another", "establishment_id": "foreign" });
    let began = cluster_time_now(&test.database).await;
    offers.insert_many([&at_home, &by_siret, &abroad[0], &abroad[1], &closed, &foreign]).await.unwrap();
    settled(&test.database).await;
    let stands = read(&test, id(&known)).await;
    assert_eq!(job_ids(&stands), [first_job(&known), id(&at_home), id(&by_siret)]);
    assert_eq!(text(&of(&stands, id(&at_home)), "offer_title_custom"), "Nouvelle");
    assert_eq!(of(&stands, first_job(&known)), of(&known, first_job(&known)));
    let all: Vec<Document> = test.collection("recruiters").find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let made = all.iter().find(|it| text(it, "establishment_id") == "elsewhere").expect("a recruiter is made");
    assert_eq!((all.len(), job_ids(made)), (3, abroad.each_ref().map(id).to_vec()), "both in one recruiter");
    assert_eq!(read(&test, id(&unnamed)).await, unnamed);
    assert_eq!(links(&test.database).await[&id(made)].len(), 2);
    assert_eq!(writes(&test.database, "jobs_partners", began).await.len(), 6, "only the test wrote offers");
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imported_offer_of_another_partner_is_not_even_read_until_it_becomes_ours() {
    let (test, [known], processor) = mirrored("mirror_foreign", [recruiter([job("Boulanger")])]).await;
    let offers = test.collection("jobs_partners");
    let template = offers.find_one(doc! { "_id": first_job(&known) }).await.unwrap().unwrap();
    let new = |label: &str| {
        let id = ObjectId::new();
        let own = doc! { "_id": id, "partner_job_id": id.to_hex(), "partner_label": label, "updated_at": LATER };
        with(template.clone(), own)
    };
    let (foreign, ours) = (new("another"), new(template.get_str("partner_label").unwrap()));
    test.database.run_command(doc! { "profile": 2 }).await.unwrap();
    offers.insert_one(&foreign).await.unwrap();
    settled(&test.database).await;
    offers.insert_one(&ours).await.unwrap();
    settled(&test.database).await;
    test.database.run_command(doc! { "profile": 0 }).await.unwrap();
    let reads = async |offer: &Document| {
        let reads = doc! { "ns": format!("{}.jobs_partners", test.name()), "command.filter._id.$in": id(offer) };
        test.collection("system.profile").count_documents(reads).await.unwrap()
    };
    assert!(reads(&ours).await > 0, "the mirror reads our offer");
    assert_eq!(reads(&foreign).await, 0, "the other one is not read");
    // An update does not tell the label, so this offer is read.
    let label = template.get_str("partner_label").unwrap();
    set(&test, id(&foreign), doc! { "partner_label": label }).await;
    settled(&test.database).await;
    assert_eq!(job_ids(&read(&test, id(&known)).await), [first_job(&known), id(&ours), id(&foreign)]);
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contact_of_an_anonymised_offer_leaves_the_recruiter() {
    let (test, [recruiter], processor) =
        mirrored("mirror_person", [recruiter([job("Boulanger"), job("Vendeur")])]).await;
    let gone = doc! { "apply_email": "anonymized@example.com", "apply_phone": null, "offer_status": "Cancelled" };
    set(&test, first_job(&recruiter), gone).await;
    settled(&test.database).await;
    let stands = read(&test, id(&recruiter)).await;
    assert_eq!(text(&stands, "email"), "anonymized@example.com");
    for field in ["phone", "first_name", "last_name"] {
        assert_eq!(stands.get(field), Some(&Bson::Null), "{field}");
    }
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_writes_come_back_and_write_nothing() {
    let recruiters = [(); 10].map(|()| recruiter([job("Boulanger"), job("Vendeur"), job("Pâtissier")]));
    let (test, recruiters, processor) = mirrored("mirror_echo", recruiters).await;
    let began = cluster_time_now(&test.database).await;
    let offers: Vec<ObjectId> = recruiters.iter().flat_map(job_ids).collect();
    for round in 0..5 {
        for (place, offer) in offers.iter().enumerate() {
            let date = DateTime::from_millis(LATER.timestamp_millis() + i64::from(round));
            set(&test, *offer, doc! { "offer_title": format!("Titre {round} {place}"), "updated_at": date }).await;
        }
    }
    settled(&test.database).await;
    let edits = offers.len() * 5;
    let written = writes(&test.database, "recruiters", began).await.len();
    assert!((recruiters.len()..=edits).contains(&written), "{written} writes for {edits} edits");
    assert_eq!(writes(&test.database, "jobs_partners", began).await.len(), edits, "only the test wrote offers");
    // The events of the last writes are applied by now, and once more.
    settled(&test.database).await;
    settled(&test.database).await;
    assert_eq!(writes(&test.database, "recruiters", began).await.len(), written);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
    eventually(PATIENCE, "the page tells of the mirror", async || {
        let status: serde_json::Value = serde_json::from_str(&processor.http_get("/api/status").await.1).unwrap();
        let is_told = status["service"]["phase"]["mirror"] == true && status["since_start"]["mirrored"] == written;
        let is_shown = processor.http_get("/").await.1.contains("recruiters written since the start");
        let is_on = processor.metric("stream_processor_mirroring").await == Some(1.0);
        (is_told && is_shown && is_on).then_some(())
    })
    .await;
    stopped(processor).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_straggler_writes_to_recruiters_is_mirrored_back_unless_it_is_newer_and_a_removed_job_comes_again() {
    let world = [&["Boulanger"][..], &["Vendeur", "Pâtissier"], &["Fleuriste"]];
    let world = world.map(|titles| recruiter(titles.iter().map(|title| job(title))));
    let (test, [edited, loses, newer], processor) = mirrored("mirror_straggler", world).await;
    let all = test.collection("recruiters");
    let straggles = doc! { "jobs.0.offer_title_custom": "By a straggler" };
    all.update_one(doc! { "_id": id(&edited) }, doc! { "$set": &straggles }).await.unwrap();
    // The newest write stands, whoever made it where. It reaches the offer when the stream writes offers again.
    let straggles = with(straggles, doc! { "jobs.0.job_update_date": LATER });
    all.update_one(doc! { "_id": id(&newer) }, doc! { "$set": straggles }).await.unwrap();
    let pull = doc! { "$pull": { "jobs": { "_id": first_job(&loses) } } };
    all.update_one(doc! { "_id": id(&loses) }, pull).await.unwrap();
    // A new job has no offer. It is left alone, so that nothing is lost.
    let new = job("Serveur");
    all.update_one(doc! { "_id": id(&edited) }, doc! { "$push": { "jobs": &new } }).await.unwrap();
    settled(&test.database).await;
    settled(&test.database).await;
    let stands = read(&test, id(&edited)).await;
    assert_eq!(of(&stands, first_job(&edited)), of(&edited, first_job(&edited)));
    assert_eq!(of(&stands, id(&new)), new);
    let stands = read(&test, id(&newer)).await;
    assert_eq!(text(&of(&stands, first_job(&newer)), "offer_title_custom"), "By a straggler");
    let stands = read(&test, id(&loses)).await;
    assert_eq!(text(&of(&stands, first_job(&loses)), "offer_title_custom"), "Vendeur");
    stopped(processor).await;
}

/// Without an instance, so that only the repair can have written it.
#[tokio::test(flavor = "multi_thread")]
async fn what_recruiters_lack_is_found_by_verify_and_filled_in_by_its_repair() {
    let recruiters = [recruiter([job("Boulanger"), job("Vendeur")]), recruiter([job("Fleuriste")])];
    let test = in_shadow("mirror_repair", &recruiters).await;
    let [edited, sibling] = job_ids(&recruiters[0])[..] else { panic!("two jobs") };
    set(&test, edited, doc! { "offer_title": "Boulangère", "updated_at": LATER }).await;
    let found = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(found.code, 1, "{}", found.stdout);
    let repaired = Processor::command(&["verify", "--repair"], &test, &[]).await;
    assert_eq!(repaired.code, 0, "{}{}", repaired.stdout, repaired.stderr);
    let stands = read(&test, id(&recruiters[0])).await;
    assert_eq!(text(&of(&stands, edited), "offer_title_custom"), "Boulangère");
    assert_eq!(of(&stands, sibling), of(&recruiters[0], sibling));
    assert_eq!(read(&test, id(&recruiters[1])).await, recruiters[1]);
    assert_eq!(Processor::command(&["verify"], &test, &[]).await.code, 0);
}

/// Neither holder competes for the offer. Its job is there all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_whose_job_two_recruiters_without_address_hold_makes_no_third_job() {
    let shared = job("Boulanger");
    let twins = [(); 2].map(|()| recruiter([shared.clone()]));
    let test = in_shadow("mirror_shared", &twins).await;
    let recruiters = test.collection("recruiters");
    recruiters.update_many(doc! {}, doc! { "$set": { "address": "" } }).await.unwrap();
    let moved = doc! { "establishment_id": "elsewhere", "workplace_siret": "99999999999999", "updated_at": LATER };
    set(&test, id(&shared), moved).await;
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    set(&test, id(&shared), doc! { "offer_title": "Boulangère" }).await;
    settled(&test.database).await;
    let all: Vec<Document> = recruiters.find(doc! {}).await.unwrap().try_collect().await.unwrap();
    let jobs: Vec<Vec<ObjectId>> = all.iter().map(job_ids).collect();
    assert_eq!(jobs, [[id(&shared)], [id(&shared)]]);
    stopped(processor).await;
}

/// A service in phase `shadow` whose offers are those of the recruiters.
pub(super) async fn mirrored<const N: usize>(
    name: &str,
    recruiters: [Document; N],
) -> (TestDatabase, [Document; N], Processor) {
    let test = in_shadow(name, &recruiters).await;
    let processor = started_with(&test, &[]).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    (test, recruiters, processor)
}

/// A database in phase `shadow` with these recruiters and their offers.
pub(super) async fn in_shadow(name: &str, recruiters: &[Document]) -> TestDatabase {
    let test = TestDatabase::create(name).await;
    in_shadow_of(&test, recruiters).await;
    test
}

/// The same in a database that is there.
pub(super) async fn in_shadow_of(test: &TestDatabase, recruiters: &[Document]) {
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], test, &[]).await.code, 0);
    let shadow = doc! { "$set": { "phase": "shadow" }, "$inc": { "revision": 1_i64 } };
    test.collection("stream_processor_state").update_one(doc! { "_id": "phase" }, shadow).await.unwrap();
}

pub(super) async fn set(test: &TestDatabase, offer: ObjectId, fields: Document) {
    let offers = test.collection("jobs_partners");
    let changed = offers.update_one(doc! { "_id": offer }, doc! { "$set": fields });
    assert_eq!(changed.await.unwrap().matched_count, 1, "{offer}");
}

pub(super) async fn read(test: &TestDatabase, recruiter: ObjectId) -> Document {
    test.collection("recruiters").find_one(doc! { "_id": recruiter }).await.unwrap().expect("the recruiter is there")
}

/// The job of a recruiter with this `_id`.
pub(super) fn of(recruiter: &Document, job: ObjectId) -> Document {
    let mut jobs = recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document);
    jobs.find(|found| id(found) == job).cloned().expect("the recruiter holds the job")
}
