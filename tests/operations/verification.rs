//! The command `verify` names every difference between recruiters and offers, repairs it, and sees none where none is
//! (spec 06, "Verification").

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use serde_json::Value;
use stream_processor::inside::NEW;

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, text};
use crate::support::golden::{self, after_operations, operations};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{settled, state, until_no_resync};

const NEVER: DateTime = DateTime::from_millis(1_000_000_000_000);

/// Offers that stand as they should: of living recruiters, and of all that can be gone.
struct Filled {
    /// Offers of recruiters whose user exists.
    plain: Vec<ObjectId>,
    /// Cancelled: its recruiter is there and lost the job.
    lost: ObjectId,
    /// Its recruiter was anonymised and deleted.
    of_anonymized_recruiter: ObjectId,
    /// Its recruiter is there, and the user that manages it was anonymised.
    of_anonymized_user: ObjectId,
    /// The address of that recruiter.
    own_email: String,
    /// A recruiter that is there, with an offer.
    leaving: Document,
}

#[tokio::test(flavor = "multi_thread")]
async fn each_corruption_is_found_by_kind_and_field_then_repaired_and_found_no_more() {
    let test = TestDatabase::create("verify_corrupted").await;
    let filled = fill(&test).await;
    assert_clean(&verify(&test, &[], 0).await);
    let planted = plant(&test, &filled).await;
    assert!(planted.len() >= 10);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let found = verify(&test, &["--report", file.to_str().unwrap()], 1).await;
    for (kind, field, offer) in &planted {
        assert!(names(&found["kinds"][kind], *offer), "{kind} {field} of {offer} in {found:#}");
        assert!(field.is_empty() || names(&found["fields"][field], *offer), "{field} of {offer} in {found:#}");
    }
    assert_eq!(found["differences"], planted.len(), "and nothing else is: {found:#}");
    let written: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(written, found);
    let stored = state(&test.database, "verification").await.unwrap();
    assert_eq!(stored.get_i64("differences").unwrap(), i64::try_from(planted.len()).unwrap());
    assert!(stored.get_bool("full").unwrap() && stored.get_str("phase").unwrap() == "sync");

    let repaired = verify(&test, &["--repair"], 0).await;
    assert_eq!(repaired["before_repair"], planted.len());
    assert_clean(&repaired);
    let printed = Processor::command(&["verify", "--report", "-"], &test, &[]).await;
    assert_clean(&serde_json::from_str(&printed.stdout).unwrap());
    assert_eq!(state(&test.database, "verification").await.unwrap().get_i64("differences").unwrap(), 0);
}

/// Its jobs are compared in more than one job chunk, each with the offers of its own.
#[tokio::test(flavor = "multi_thread")]
async fn every_job_of_a_recruiter_with_very_many_is_compared_wherever_it_stands() {
    let test = TestDatabase::create("verify_many_jobs").await;
    let mut jobs: Vec<Document> = (0..2_300).map(|_| job("Boulanger")).collect();
    // The second job with an id of the first job chunk stands in the last one, and has no offer of its own.
    let second = with(job("Charpentier"), doc! { "_id": id(&jobs[5]) });
    jobs.insert(2_290, second);
    let ids: Vec<ObjectId> = jobs.iter().map(id).collect();
    test.collection("recruiters").insert_many([recruiter(jobs), recruiter([job("Couvreur")])]).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let clean = verify(&test, &[], 0).await;
    assert_clean(&clean);
    let counts = ["jobs", "offers", "compared", "explained"].map(|name| clean[name].as_u64().unwrap());
    assert_eq!(counts, [2_302, 2_301, 2_301, 1], "{clean:#}");
    let sample = verify(&test, &["--sample", "10"], 0).await;
    assert_eq!(sample["offers"], 2_301, "each offer counts once: {sample:#}");

    change(&test, ids[1], doc! { "offer_title": "Autre" }).await;
    change(&test, ids[2_250], doc! { "offer_title": "Autre" }).await;
    test.collection("jobs_partners").delete_one(doc! { "_id": ids[1_500] }).await.unwrap();
    let found = verify(&test, &[], 1).await;
    assert_eq!(found["differences"], 3, "{found:#}");
    for offer in [ids[1], ids[2_250]] {
        assert!(names(&found["kinds"]["differing_field"], offer), "{offer} in {found:#}");
    }
    assert!(names(&found["kinds"]["missing_offer"], ids[1_500]), "{found:#}");
    assert_clean(&verify(&test, &["--repair"], 0).await);
}

/// No projection can repair it: it has to be put right in `recruiters`.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_recruiters_already_is_named_and_is_no_difference() {
    let test = TestDatabase::create("verify_source").await;
    let far = doc! { "type": "Point", "coordinates": [200.0, 95.0] };
    let recruiter = with(recruiter([job("Boulanger")]), doc! { "geopoint": far });
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    let report = verify(&test, &[], 0).await;
    assert_clean(&report);
    for kind in ["invalid_geopoint", "unknown_user"] {
        assert!(names(&report["source_faults"][kind], first_job(&recruiter)), "{kind} in {report:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offer_of_a_job_that_two_recruiters_hold_is_right_as_the_one_has_it_whose_it_is() {
    let test = TestDatabase::create("verify_twins").await;
    let shared = job("Boulanger");
    let twins = [recruiter([shared.clone()]), recruiter([shared.clone()])];
    test.collection("recruiters").insert_many(&twins).await.unwrap();
    for twin in &twins {
        let backfill = ["backfill", "--recruiter", &id(twin).to_hex()];
        assert_eq!(Processor::command(&backfill, &test, &[]).await.code, 0);
        assert_clean(&verify(&test, &[], 0).await);
    }
    change(&test, id(&shared), doc! { "offer_title": PERSONAL }).await;
    assert_eq!(verify(&test, &[], 1).await["differences"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_names_what_the_json_names() {
    let test = TestDatabase::create("verify_table").await;
    let filled = fill(&test).await;
    change(&test, filled.plain[0], doc! { "offer_title": PERSONAL }).await;
    let ended = Processor::command(&["verify"], &test, &[]).await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    for word in
        ["1 difference: 1 offer differs, in 1 field", "differing_field", "offer_title", &filled.plain[0].to_hex()]
    {
        assert!(ended.stdout.contains(word), "{word} in:\n{}", ended.stdout);
    }
    assert!(!(ended.stdout + &ended.stderr).contains(PERSONAL));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_offers_are_the_authority_newer_ones_are_right_or_at_least_not_overwritten() {
    let test = TestDatabase::create("verify_phases").await;
    let newer = fill(&test).await.plain[0];
    change(&test, newer, doc! { "offer_title": "Boulangère", "updated_at": DateTime::now() }).await;
    let enter = async |phase: &str| {
        let entered = doc! { "$set": { "phase": phase } };
        test.collection("stream_processor_state").update_one(doc! { "_id": "phase" }, entered).await.unwrap();
    };
    for (phase, differences) in [("sync", 2), ("dual-write", 0), ("shadow", 2)] {
        enter(phase).await;
        let ended = Processor::command(&["verify", "--json"], &test, &[]).await;
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((&report["differences"], &report["phase"]), (&differences.into(), &phase.into()));
    }
    for phase in ["shadow", "retired"] {
        enter(phase).await;
        let without_mirror = [("STREAM_PROCESSOR__PHASE__KEEP_RECRUITERS_BACKUP", "false")];
        let refused = Processor::command(&["verify", "--repair"], &test, &without_mirror).await;
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("is the authority"), "{}", refused.stderr);
    }
}

/// A part finds the differences of that part, and says nothing about the rest.
#[tokio::test(flavor = "multi_thread")]
async fn one_recruiter_or_what_changed_since_a_time_is_compared_alone() {
    let test = TestDatabase::create("verify_part").await;
    let changed = with(recruiter([job("Vendeur")]), doc! { "updatedAt": DateTime::now() });
    let [old, other] = std::array::from_fn(|_| recruiter([job("Boulanger")]));
    test.collection("recruiters").insert_many([&old, &changed, &other]).await.unwrap();
    assert_eq!(Processor::command(&["backfill"], &test, &[]).await.code, 0);
    // The backfill wrote the offers now, so they count as changed too until they look older.
    let long_ago = doc! { "updated_at": DateTime::from_millis(1_700_000_000_000) };
    test.collection("jobs_partners").update_many(doc! {}, doc! { "$set": long_ago }).await.unwrap();
    for recruiter in [&old, &changed] {
        change(&test, first_job(recruiter), doc! { "offer_title": "wrong" }).await;
    }
    let one = verify(&test, &["--recruiter", &id(&old).to_hex()], 1).await;
    assert_eq!((&one["recruiters"], &one["differences"], &one["full"]), (&1.into(), &1.into(), &false.into()));
    verify(&test, &["--recruiter", &id(&other).to_hex()], 0).await;
    let since = verify(&test, &["--since", "2h ago"], 1).await;
    assert_eq!((&since["recruiters"], &since["differences"]), (&1.into(), &1.into()));
    change(&test, first_job(&other), doc! { "offer_title": "wrong", "updated_at": DateTime::now() }).await;
    // Its title, and the date itself.
    assert_eq!(verify(&test, &["--since", "2h ago"], 1).await["differences"], 3, "an offer that changed counts too");
    assert!(state(&test.database, "verification").await.is_none(), "a part says nothing about the rest");
    let unknown = Processor::command(&["verify", "--recruiter", "650000000000000000000009"], &test, &[]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("there is no recruiter"), "{}", unknown.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_offers_have_no_difference_and_dead_letters_are_none() {
    let test = TestDatabase::with_planned_schema("verify_golden").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    for operation in operations() {
        operation.apply(&test.database).await;
    }
    let ended = Processor::command(&["backfill"], &test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    let sample = verify(&test, &["--sample", "7"], 0).await;
    assert_eq!((&sample["recruiters"], &sample["full"]), (&7.into(), &false.into()));
    assert!(state(&test.database, "verification").await.is_none(), "a sample says nothing about the rest");

    let all = verify(&test, &[], 0).await;
    assert_clean(&all);
    assert_eq!(all["compared"], after_operations().offers.len());
    assert_eq!(all["offers"], after_operations().offers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verification_while_the_service_applies_updates_reports_no_false_difference() {
    let test = TestDatabase::with_planned_schema("verify_live").await;
    golden::load_references(&test.database).await;
    golden::load_recruiters(&test.database).await;
    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let mut operations = operations().into_iter();
    let mut rounds = 0;
    while operations.len() > 0 {
        rounds += 1;
        let mut verification = Processor::spawn(&["verify", "--json"], &test, &[]);
        let mut written = 0;
        while verification.is_running() {
            match operations.next() {
                Some(operation) => operation.apply(&test.database).await,
                None => {
                    // Every recruiter differs from its offers for a moment, again and again.
                    let label = doc! { "$set": { "naf_label": format!("{rounds}-{written}") } };
                    test.collection("recruiters").update_many(doc! {}, label).await.unwrap();
                }
            }
            written += 1;
        }
        assert!(written > 0, "something was written meanwhile");
        let ended = verification.until_ended().await;
        assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    }
    settled(&test.database).await;
    stopped(processor).await;
    assert_clean(&verify(&test, &[], 0).await);
}

async fn fill(test: &TestDatabase) -> Filled {
    let user = doc! { "_id": ObjectId::new(), "email": format!("{PERSONAL}@example.com") };
    let gone_user = doc! { "_id": ObjectId::new() };
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    test.collection("anonymized_userswithaccounts").insert_one(&gone_user).await.unwrap();
    let managed =
        |user: &Document, jobs: Vec<Document>| with(recruiter(jobs), doc! { "managed_by": id(user).to_hex() });
    let plain: Vec<Document> = (0..12).map(|_| managed(&user, vec![job("Boulanger")])).collect();
    let loser = managed(&user, vec![job("Boulanger"), job("Vendeur")]);
    let anonymized = managed(&user, vec![job("Pâtissier")]);
    let mut of_gone_user = managed(&gone_user, vec![job("Boulanger")]);
    let own_email = of_gone_user.get_str("email").unwrap().to_owned();
    let delegations =
        vec![doc! { "siret_code": "1", "email": &own_email }, doc! { "siret_code": "2", "email": "a@b.c" }];
    of_gone_user.get_array_mut("jobs").unwrap()[0].as_document_mut().unwrap().insert("delegations", delegations);
    let leaving = managed(&user, vec![job("Fleuriste")]);
    let recruiters = test.collection("recruiters");
    recruiters.insert_many(&plain).await.unwrap();
    recruiters.insert_many([&loser, &anonymized, &of_gone_user, &leaving]).await.unwrap();
    let ended = Processor::command(&["backfill"], test, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.stderr);

    // What nobody saw happen.
    let lost = first_job(&loser);
    recruiters.update_one(doc! { "_id": id(&loser) }, doc! { "$pull": { "jobs": { "_id": lost } } }).await.unwrap();
    let copy = doc! { "_id": id(&anonymized), "jobs": anonymized.get_array("jobs").unwrap().clone() };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
    recruiters.delete_one(doc! { "_id": id(&anonymized) }).await.unwrap();
    let repaired = verify(test, &["--repair"], 0).await;
    assert_ne!(repaired["before_repair"], 0);
    Filled {
        plain: plain.iter().map(first_job).collect(),
        lost,
        of_anonymized_recruiter: first_job(&anonymized),
        of_anonymized_user: first_job(&of_gone_user),
        own_email,
        leaving,
    }
}

/// Kind, field (or nothing) and offer of every difference that now is.
async fn plant(test: &TestDatabase, filled: &Filled) -> Vec<(&'static str, &'static str, ObjectId)> {
    let [missing, title, count, date, status, list, user, point, unset, label, contact, orphan_model] =
        filled.plain.as_slice().try_into().unwrap();
    let partners = test.collection("jobs_partners");
    let mut orphan = offers::read(&test.database).await.remove(&orphan_model).unwrap();
    let orphan_id = ObjectId::from_bytes([7; 12]);
    orphan.extend(doc! { "_id": orphan_id, "partner_job_id": orphan_id.to_hex(), "establishment_id": "nobody" });
    partners.insert_one(orphan).await.unwrap();
    partners.delete_one(doc! { "_id": missing }).await.unwrap();
    let new_fields = NEW.into_iter().map(|name| (name.to_owned(), "".into())).collect::<Document>();
    partners.update_one(doc! { "_id": unset }, doc! { "$unset": new_fields }).await.unwrap();
    // Nobody saw it go.
    test.collection("recruiters").delete_one(doc! { "_id": id(&filled.leaving) }).await.unwrap();
    let mut delegations =
        offers::read(&test.database).await[&filled.of_anonymized_user].get_array("delegations").unwrap().clone();
    assert_eq!(text(delegations[0].as_document().unwrap(), "email"), "anonymized@example.com");
    delegations[0].as_document_mut().unwrap().insert("email", &filled.own_email);

    let email = format!("{PERSONAL}@example.org");
    let far = doc! { "type": "Point", "coordinates": [200.0, 95.0] };
    for (offer, fields) in [
        (title, doc! { "offer_title": PERSONAL }),
        (count, doc! { "offer_opening_count": 12 }),
        (date, doc! { "offer_creation": NEVER }),
        (status, doc! { "offer_status": "Filled" }),
        (list, doc! { "offer_rome_codes": ["A1101"] }),
        (user, doc! { "managed_by": ObjectId::new().to_hex() }),
        (point, doc! { "workplace_geopoint": far }),
        (label, doc! { "partner_label": "another" }),
        (contact, doc! { "apply_email": &email }),
        (filled.lost, doc! { "offer_status": "Active" }),
        (filled.of_anonymized_recruiter, doc! { "apply_email": &email, "offer_description": PERSONAL }),
        (filled.of_anonymized_user, doc! { "apply_phone": PERSONAL, "delegations": delegations }),
    ] {
        change(test, offer, fields).await;
    }
    let mut planted: Vec<_> = NEW.into_iter().map(|name| ("missing_field", name, unset)).collect();
    planted.extend([
        ("missing_offer", "", missing),
        ("differing_field", "offer_title", title),
        ("differing_field", "offer_opening_count", count),
        ("differing_field", "offer_creation", date),
        ("differing_field", "offer_status", status),
        ("differing_field", "offer_rome_codes", list),
        ("unknown_user", "managed_by", user),
        ("invalid_geopoint", "workplace_geopoint", point),
        ("differing_field", "partner_label", label),
        ("differing_field", "apply_email", contact),
        ("still_active", "offer_status", filled.lost),
        ("orphan", "offer_status", orphan_id),
        ("orphan", "offer_status", first_job(&filled.leaving)),
        ("personal_data", "apply_email", filled.of_anonymized_recruiter),
        ("personal_data", "offer_description", filled.of_anonymized_recruiter),
        ("personal_data", "apply_phone", filled.of_anonymized_user),
        ("personal_data", "delegations", filled.of_anonymized_user),
    ]);
    planted
}

pub(super) async fn change(test: &TestDatabase, offer: ObjectId, fields: Document) {
    let partners = test.collection("jobs_partners");
    let changed = partners.update_one(doc! { "_id": offer }, doc! { "$set": fields });
    assert_eq!(changed.await.unwrap().modified_count, 1, "{offer}");
}

/// Runs the command, which must end with this code and tell nothing personal.
pub(super) async fn verify(test: &TestDatabase, arguments: &[&str], code: i32) -> Value {
    let ended = Processor::command(&[&["verify", "--json"], arguments].concat(), test, &[]).await;
    assert_eq!(ended.code, code, "{}\n{}", ended.stdout, ended.stderr);
    assert!(!ended.stdout.contains(PERSONAL) && !ended.stderr.contains(PERSONAL), "personal data is told");
    serde_json::from_str(&ended.stdout).unwrap()
}

pub(super) fn names(found: &Value, offer: ObjectId) -> bool {
    found["ids"].as_array().is_some_and(|ids| ids.contains(&offer.to_hex().into()))
}

pub(super) fn assert_clean(report: &Value) {
    assert_eq!((&report["differences"], &report["unsettled"]), (&0.into(), &0.into()), "{report:#}");
}
