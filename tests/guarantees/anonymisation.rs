//! A recruiter that is anonymised takes its contact out of its offers, in whichever order its copy appears and it is
//! deleted, and nothing brings it back (spec 03, "Reactions"). Users are in `reactions.rs`.

use std::collections::BTreeMap;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;

use crate::support::database::TestDatabase;
use crate::support::fields::{first_job, job_ids, text};
use crate::support::offers;
use crate::support::processor::Processor;
use crate::support::recruiters::{PERSONAL, id, job, recruiter, with};
use crate::support::runs::{started, stopped};
use crate::support::state::{checkpoint, end_lease, jobs, links, put_back, settled, state, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

const ANONYMISED: &str = "anonymized@example.com";
const OF_ANOTHER: &str = "cfa@example.com";
const REASON: &str = "recruiter has been anonymized";
const CFA: &str = "11111111111111";

/// What happens to a recruiter, step by step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Copied,
    Edited,
    Deleted,
}
use Step::{Copied, Deleted, Edited};

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_and_a_deletion_anonymise_in_either_order_and_an_edit_in_between_brings_nothing_back() {
    for steps in [[Copied, Deleted].as_slice(), &[Deleted, Copied], &[Copied, Edited, Deleted, Copied]] {
        for at_once in [false, true] {
            let test = TestDatabase::create("anonymised").await;
            let recruiters = [plain(), delegated(&test).await];
            test.collection("recruiters").insert_many(&recruiters).await.unwrap();
            let processor = started(&test).await;
            until_no_resync(&test.database).await;
            settled(&test.database).await;
            let before = checkpoint(&test.database).await;
            enrich(&test).await;

            let processor = if at_once {
                stopped(processor).await;
                for step in steps {
                    happen_to_all(&test, &recruiters, *step).await;
                }
                started(&test).await
            } else {
                for step in steps {
                    happen_to_all(&test, &recruiters, *step).await;
                    settled(&test.database).await;
                }
                processor
            };
            settled(&test.database).await;
            // Of a recruiter that is only found deleted, nothing tells yet that it was anonymised.
            let reason = if steps[0] == Deleted && !at_once { "removed from recruiter" } else { REASON };
            for recruiter in &recruiters {
                assert_anonymised(&test, recruiter, reason).await;
            }
            assert!(links(&test.database).await.is_empty());

            stopped(processor).await;
            put_back(&test.database, before).await;
            let replay = cluster_time_now(&test.database).await;
            let processor = started(&test).await;
            settled(&test.database).await;
            assert!(writes(&test.database, "jobs_partners", replay).await.is_empty(), "{steps:?}: a replay writes");
            stopped(processor).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_another_recruiter_holds_keeps_that_one_s_contact() {
    let test = TestDatabase::create("anonymised_twin").await;
    let shared = job("Boulanger");
    let (gone, twin) = (recruiter([shared.clone(), job("Vendeur")]), recruiter([shared.clone()]));
    test.collection("recruiters").insert_many([&gone, &twin]).await.unwrap();
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    let offers = offers_after_anonymisation(&test, &gone).await;
    assert_eq!(text(&offers[&id(&shared)], "apply_email"), text(&twin, "email"));
    assert_eq!(text(&offers[&id(&shared)], "offer_status"), "Active");
    assert_eq!(text(&offers[&job_ids(&gone)[1]], "apply_email"), ANONYMISED);
    assert_eq!(links(&test.database).await, jobs(&test.database).await);
}

/// Anonymises the recruiter as the platform does, and reads all offers then.
async fn offers_after_anonymisation(test: &TestDatabase, gone: &Document) -> BTreeMap<ObjectId, Document> {
    for step in [Copied, Deleted] {
        happen(test, gone, step).await;
        settled(&test.database).await;
    }
    offers::read(&test.database).await
}

/// The copy may be of a time when the recruiter held another job.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_only_the_link_remembers_is_anonymised_too() {
    let test = TestDatabase::create("anonymised_link").await;
    let recruiter = recruiter([job("Boulanger"), job("Pâtissier")]);
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;

    let copy = doc! { "_id": id(&recruiter), "jobs": [&recruiter.get_array("jobs").unwrap()[0]] };
    test.collection("anonymized_recruiters").insert_one(copy).await.unwrap();
    happen(&test, &recruiter, Deleted).await;
    settled(&test.database).await;
    let offers = offers::read(&test.database).await;
    for job in job_ids(&recruiter) {
        assert_eq!(text(&offers[&job], "apply_email"), ANONYMISED, "{job}");
    }
}

/// The copy names the jobs that the recruiter held last. The offers of earlier ones show its contact too.
#[tokio::test(flavor = "multi_thread")]
async fn what_still_shows_an_anonymised_recruiter_is_anonymised_though_the_copy_does_not_name_it() {
    for (steps, unseen) in [([Copied, Deleted], false), ([Deleted, Copied], false), ([Copied, Deleted], true)] {
        let test = TestDatabase::create("anonymised_earlier").await;
        let (removed, moved) = (job("Boulanger"), job("Vendeur"));
        let before = recruiter([removed.clone(), moved.clone(), job("Pâtissier")]);
        let recruiters = test.collection("recruiters");
        recruiters.insert_one(&before).await.unwrap();
        let processor = started(&test).await;
        until_no_resync(&test.database).await;
        // Without an address it is not projected: the offer of the job that it takes over is only cancelled.
        let heir = with(recruiter([moved.clone()]), doc! { "address": "" });
        recruiters.insert_one(&heir).await.unwrap();
        settled(&test.database).await;
        let lost = doc! { "$pull": { "jobs": { "_id": { "$in": [id(&removed), id(&moved)] } } } };
        recruiters.update_one(doc! { "_id": id(&before) }, lost).await.unwrap();
        settled(&test.database).await;
        let offers = offers::read(&test.database).await;
        for lost in [&removed, &moved] {
            assert_eq!(text(&offers[&id(lost)], "offer_status"), "Cancelled");
            assert_eq!(text(&offers[&id(lost)], "apply_email"), text(&before, "email"));
        }

        let mut processor = Some(processor);
        if unseen {
            stopped(processor.take().unwrap()).await;
        }
        for step in steps {
            happen(&test, &before, step).await;
        }
        if unseen {
            // As if the history were lost: only a resync can find it.
            test.collection("stream_processor_state").delete_one(doc! { "_id": "checkpoint" }).await.unwrap();
            processor = Some(started(&test).await);
            until_no_resync(&test.database).await;
        }
        settled(&test.database).await;
        let offers = offers::read(&test.database).await;
        for job in job_ids(&before) {
            assert_eq!(text(&offers[&job], "apply_email"), ANONYMISED, "{job}, {steps:?}, unseen: {unseen}");
            assert!(!offers[&job].to_string().contains(PERSONAL), "{job}, {steps:?}, unseen: {unseen}");
        }
        drop(processor);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_establishment_that_another_recruiter_has_too_keeps_the_offers_of_that_one() {
    let test = TestDatabase::create("anonymised_namesake").await;
    let gone = recruiter([job("Boulanger")]);
    let establishment = doc! { "establishment_id": text(&gone, "establishment_id") };
    let namesake = with(recruiter([job("Vendeur")]), establishment);
    test.collection("recruiters").insert_many([&gone, &namesake]).await.unwrap();
    let _processor = started(&test).await;
    until_no_resync(&test.database).await;
    let offers = offers_after_anonymisation(&test, &gone).await;
    assert_eq!(text(&offers[&first_job(&gone)], "apply_email"), ANONYMISED);
    assert_eq!(text(&offers[&first_job(&namesake)], "apply_email"), text(&namesake, "email"));
    assert_eq!(text(&offers[&first_job(&namesake)], "offer_status"), "Active");
}

/// A recruiter with its own contact, which is in a delegation of one of its jobs too.
fn plain() -> Document {
    let mut recruiter = recruiter([job("Boulanger"), job("Pâtissier")]);
    let own = text(&recruiter, "email").to_owned();
    delegate_first_job(&mut recruiter, &own);
    recruiter
}

/// Killed when it has written offers and no position yet, it must know where it began.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_deleted_while_the_very_first_instance_is_killed_is_taken_out_of_its_offers() {
    let test = TestDatabase::create("anonymisation_first").await;
    let recruiter = delegated(&test).await;
    test.collection("recruiters").insert_one(&recruiter).await.unwrap();
    let killed = [("STREAM_PROCESSOR_FAILPOINT", "written/1/KILL")];
    assert_eq!(Processor::start(&test, &killed).until_ended().await.code, 137);
    end_lease(&test.database).await;
    let user = ObjectId::parse_str(text(&recruiter, "managed_by")).unwrap();
    test.collection("userswithaccounts").delete_one(doc! { "_id": user }).await.unwrap();

    let processor = started(&test).await;
    until_no_resync(&test.database).await;
    settled(&test.database).await;
    let offer = &offers::read(&test.database).await[&first_job(&recruiter)];
    assert_eq!(text(offer, "apply_email"), ANONYMISED);
    assert_eq!(offer.get("apply_phone"), Some(&Bson::Null));
    stopped(processor).await;
    assert!(state(&test.database, "beginning").await.is_none(), "the checkpoint has taken its place");
}

/// A recruiter whose offers carry the contact of a CFA's user.
async fn delegated(test: &TestDatabase) -> Document {
    let email = format!("{PERSONAL}@example.com");
    let user = doc! { "_id": ObjectId::new(), "email": &email, "phone": format!("07 {PERSONAL}") };
    test.collection("userswithaccounts").insert_one(&user).await.unwrap();
    test.collection("cfas").insert_one(doc! { "siret": CFA, "raison_sociale": "CFA d'essai" }).await.unwrap();
    let by_cfa = doc! { "is_delegated": true, "cfa_delegated_siret": CFA, "managed_by": id(&user).to_hex() };
    let mut recruiter = with(recruiter([job("Boulanger"), job("Vendeur")]), by_cfa);
    delegate_first_job(&mut recruiter, &email);
    recruiter
}

fn delegate_first_job(recruiter: &mut Document, email: &str) {
    let job = recruiter.get_array_mut("jobs").unwrap()[0].as_document_mut().unwrap();
    let delegation = |email: &str| doc! { "siret_code": CFA, "email": email };
    job.insert("delegations", [delegation(email), delegation(OF_ANOTHER)].map(Bson::from).to_vec());
}

/// What another process adds to offers.
async fn enrich(test: &TestDatabase) {
    let more = doc! { "apply_url": format!("https://{PERSONAL}.example.com"), "workplace_description": PERSONAL };
    test.collection("jobs_partners").update_many(doc! {}, doc! { "$set": more }).await.unwrap();
}

async fn happen_to_all(test: &TestDatabase, recruiters: &[Document], step: Step) {
    for recruiter in recruiters {
        happen(test, recruiter, step).await;
    }
}

async fn happen(test: &TestDatabase, recruiter: &Document, step: Step) {
    let recruiters = test.collection("recruiters");
    let filter = doc! { "_id": id(recruiter) };
    match step {
        // A second copy finds the recruiter deleted: it comes from the first, as an update of it.
        Copied if recruiters.count_documents(filter.clone()).await.unwrap() == 0 => {
            let mut copy = recruiter.clone();
            for contact in ["email", "phone", "first_name", "last_name", "managed_by"] {
                copy.remove(contact);
            }
            copy.insert("updatedAt", DateTime::now());
            test.collection("anonymized_recruiters").replace_one(filter, copy).upsert(true).await.unwrap();
        }
        Copied => {
            let contact = doc! { "email": 0, "phone": 0, "first_name": 0, "last_name": 0, "managed_by": 0 };
            let copy =
                [doc! { "$match": filter }, doc! { "$project": contact }, doc! { "$merge": "anonymized_recruiters" }];
            recruiters.aggregate(copy).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        }
        Edited => {
            let touched = doc! { "$set": { "phone": format!("08 {PERSONAL}"), "updatedAt": DateTime::now() } };
            recruiters.update_one(filter, touched).await.unwrap();
        }
        Deleted => {
            recruiters.delete_one(filter).await.unwrap();
        }
    }
}

async fn assert_anonymised(test: &TestDatabase, recruiter: &Document, reason: &str) {
    let offers = offers::read(&test.database).await;
    for job in job_ids(recruiter) {
        let offer = &offers[&job];
        let is_delegated = recruiter.get_bool("is_delegated").unwrap();
        let of_cfa = if is_delegated { Bson::from(ANONYMISED) } else { Bson::Null };
        let expected = doc! {
            "apply_email": ANONYMISED, "apply_phone": null, "apply_url": null, "cfa_apply_email": of_cfa,
            "cfa_apply_phone": null, "offer_description": "", "workplace_description": null,
            "offer_status": "Cancelled",
        };
        for (field, value) in &expected {
            assert!(offer.get(field) == Some(value), "{field} of {job} is not anonymised");
        }
        assert!(!offer.to_string().contains(PERSONAL), "something of the contact is left in {job}");
        let history = offer.get_array("offer_status_history").unwrap();
        let entry = history.last().and_then(Bson::as_document).unwrap();
        let entry = ["status", "reason", "granted_by"].map(|field| text(entry, field));
        assert_eq!(entry, ["Cancelled", reason, "stream-processor"], "{job}");
        let unchanged = recruiter.get_datetime("updatedAt").unwrap();
        assert!(offer.get_datetime("updated_at").unwrap() > unchanged, "updated_at of {job} tells of the change");
    }
    let delegations = offers[&first_job(recruiter)].get_array("delegations").unwrap();
    let emails: Vec<&str> =
        delegations.iter().map(|delegation| text(delegation.as_document().unwrap(), "email")).collect();
    assert_eq!(emails, [ANONYMISED, OF_ANOTHER]);
}
