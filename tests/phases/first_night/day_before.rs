//! The database of the platform on the day before the first night: recruiters and jobs of all kinds, the offers of the
//! old worker with histories of all writers, users, courses.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use xtask::golden::{TargetModel, put_target_validator};

use crate::support::database::TestDatabase;
use crate::support::platform::{Closing, write_as_old_worker};
use crate::support::recruiters::{id, job, recruiter, with};
use crate::support::ticking::{date, later};

/// 23:00 in Paris.
pub(super) const BEGIN: &str = "2026-03-10T22:00:00Z";
pub(super) const LABEL: (&str, &str) = ("STREAM_PROCESSOR__TARGET__PARTNER_LABEL", "offres_emploi_lba");
pub(super) const HOUR: i64 = 3_600_000;
pub(super) const DAY: i64 = 24 * HOUR;
const USERS: usize = 50;
const CFA: &str = "33333333300033";

/// What is particular about the first job of a recruiter, on the day before or in the night. Its second job is plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Closed by this writer after the last edit, while the job is open.
    Closed(Closing),
    /// Closed, edited after that, and opened by the old worker.
    OpenedAgain,
    /// The same, but the old worker missed the edit.
    MissedOpening,
    Cancelled,
    Filled,
    Archived,
    Waiting,
    PendingEstablishment,
    EndsAtMidnight,
    EndsInSevenDays,
    EndsTomorrow,
    OfInactiveUser,
    MissedTitle,
    Young,
    OtherTypeOfUserId,
    /// An application caps it at night.
    CappedAtNight,
    /// Capped at night, and edited after that.
    CappedThenEdited,
    /// Ends just before the night, and is prolonged in it.
    Prolonged,
    /// Ends at midnight, is cancelled then, and is prolonged after that.
    ProlongedLate,
    /// Of a training centre that manages the recruiter's offers.
    Delegated,
    /// Of a user that exists nowhere, not touched for two years.
    Orphan,
    ArchivedAtNight,
    ProvidedByLink,
}

const KINDS: [Kind; 26] = [
    Kind::Closed(Closing::Expired),
    Kind::Closed(Closing::Capped),
    Kind::Closed(Closing::Provided),
    Kind::Closed(Closing::Script),
    Kind::OpenedAgain,
    Kind::MissedOpening,
    Kind::Cancelled,
    Kind::Filled,
    Kind::Archived,
    Kind::Waiting,
    Kind::PendingEstablishment,
    Kind::EndsAtMidnight,
    Kind::EndsInSevenDays,
    Kind::EndsTomorrow,
    Kind::OfInactiveUser,
    Kind::MissedTitle,
    Kind::Young,
    Kind::OtherTypeOfUserId,
    Kind::CappedAtNight,
    Kind::CappedThenEdited,
    Kind::Prolonged,
    Kind::ProlongedLate,
    Kind::Delegated,
    Kind::Orphan,
    Kind::ArchivedAtNight,
    Kind::ProvidedByLink,
];

/// One recruiter with its two jobs.
pub(super) struct Case {
    pub kind: Kind,
    pub recruiter: ObjectId,
    pub particular: ObjectId,
    pub plain: ObjectId,
}

/// A time relative to the beginning of the night.
pub(super) fn at(milliseconds: i64) -> DateTime {
    later(date(BEGIN), milliseconds)
}

/// Makes the database with so many recruiters.
pub(super) async fn day_before(model: TargetModel, action: &str, count: usize) -> (TestDatabase, Vec<Case>) {
    let test = TestDatabase::with_live_schema("first_night").await;
    put_target_validator(&test.database, model, action).await.unwrap();
    let users: Vec<Document> = (0..=USERS).map(user).collect();
    let mut cases = Vec::new();
    let mut recruiters = Vec::new();
    let nobody = doc! { "_id": ObjectId::new() };
    for (number, kind) in KINDS.into_iter().cycle().take(count).enumerate() {
        let owner = match kind {
            Kind::Orphan => &nobody,
            Kind::OfInactiveUser => &users[USERS],
            _ => &users[number % USERS],
        };
        let document = recruiter_of(kind, owner);
        let [particular, plain] = [0, 1].map(|place| {
            let job = document.get_array("jobs").unwrap()[place].as_document().unwrap();
            id(job)
        });
        cases.push(Case { kind, recruiter: id(&document), particular, plain });
        recruiters.push(document);
    }
    test.collection("userswithaccounts").insert_many(users).bypass_document_validation(true).await.unwrap();
    test.collection("recruiters").insert_many(recruiters).await.unwrap();
    courses(&test).await;
    let cfa = doc! { "_id": ObjectId::new(), "siret": CFA, "raison_sociale": "CFA d'essai" };
    test.collection("cfas").insert_one(cfa).bypass_document_validation(true).await.unwrap();
    write_as_old_worker(&test, &[LABEL]).await;
    for case in &cases {
        leave_history(&test, case, model, action).await;
    }
    (test, cases)
}

fn user(place: usize) -> Document {
    let last_action_date = if place == USERS { date("2024-03-01T00:00:00Z") } else { at(-DAY) };
    doc! {
        "_id": ObjectId::new(), "email": format!("user{place}@example.com"), "first_name": "Prénom",
        "last_name": "Exemple", "last_action_date": last_action_date, "status": [{ "status": "ACTIF" }],
    }
}

fn recruiter_of(kind: Kind, user: &Document) -> Document {
    let plain = doc! {
        "job_creation_date": at(-60 * DAY), "job_update_date": at(-30 * DAY), "job_expiration_date": at(20 * DAY),
    };
    let end = |milliseconds: i64| doc! { "job_expiration_date": at(milliseconds) };
    let status = |status: &str| doc! { "job_status": status };
    let particular = match kind {
        Kind::Closed(Closing::Expired) => end(-2 * DAY),
        Kind::Cancelled => status("Annulée"),
        Kind::Filled => status("Pourvue"),
        Kind::Waiting => status("En attente"),
        Kind::EndsAtMidnight | Kind::ProlongedLate => end(HOUR),
        Kind::EndsInSevenDays => end(7 * DAY),
        Kind::EndsTomorrow => end(DAY),
        Kind::Young => doc! { "job_creation_date": at(-10 * DAY), "job_update_date": at(-10 * DAY) },
        Kind::Prolonged => end(-HOUR / 6),
        _ => doc! {},
    };
    let of_recruiter = match kind {
        Kind::Archived => "Archivé",
        Kind::PendingEstablishment => "En attente de validation",
        _ => "Actif",
    };
    let jobs = [with(with(job("Boulanger"), plain.clone()), particular), with(job("Vendeur"), plain)];
    let fields = doc! { "managed_by": id(user).to_hex(), "status": of_recruiter, "updatedAt": at(-30 * DAY) };
    let document = with(recruiter(jobs), fields);
    match kind {
        Kind::Delegated => with(document, doc! { "is_delegated": true, "cfa_delegated_siret": CFA }),
        Kind::Orphan => untouched(document),
        _ => document,
    }
}

/// The recruiter without any date younger than two years.
fn untouched(recruiter: Document) -> Document {
    let long_ago = at(-800 * DAY);
    let dates = doc! { "job_creation_date": long_ago, "job_update_date": long_ago, "job_expiration_date": long_ago };
    let jobs = recruiter.get_array("jobs").unwrap().iter().filter_map(Bson::as_document);
    let jobs: Vec<Document> = jobs.map(|job| with(job.clone(), dates.clone())).collect();
    with(recruiter, doc! { "jobs": jobs, "createdAt": long_ago, "updatedAt": long_ago })
}

async fn courses(test: &TestDatabase) {
    let keys = doc! { "lieu_formation_geopoint": "2dsphere", "rome_codes": 1, "diploma": 1 };
    let index = doc! { "key": keys, "name": "place" };
    let create = doc! { "createIndexes": "formationcatalogues", "indexes": [index] };
    test.database.run_command(create).await.unwrap();
    let course = doc! {
        "_id": ObjectId::new(), "rome_codes": ["D1102"], "etablissement_formateur_id": ObjectId::new().to_hex(),
        "lieu_formation_geopoint": { "type": "Point", "coordinates": [2.35, 48.85] },
        "etablissement_gestionnaire_courriel": "cfa@example.com", "etablissement_formateur_siret": CFA,
        "catalogue_published": true, "certifie_qualite": true,
    };
    test.collection("formationcatalogues").insert_one(course).bypass_document_validation(true).await.unwrap();
    let index = doc! { "key": { "job_id": 1 }, "name": "job_id_1" };
    // The live schema may have it already.
    drop(test.database.run_command(doc! { "createIndexes": "applications", "indexes": [index] }).await);
}

/// Two years of history: a first publication, a closing of long ago, and what the kind says.
async fn leave_history(test: &TestDatabase, case: &Case, model: TargetModel, action: &str) {
    // The model requires the name of a writer, and an offer without it can only be there under `warn`.
    let old_worker = (action == "error").then_some("stream-processor");
    let entry = |status: &str, days: i64, granted_by: Option<&str>| {
        let mut entry = doc! { "date": at(days * DAY), "status": status, "reason": "une raison" };
        entry.extend(granted_by.map(|granted_by| ("granted_by".to_owned(), Bson::from(granted_by))));
        entry
    };
    let mut history = vec![entry("Active", -700, old_worker), entry("Cancelled", -400, Some("SERVEUR"))];
    let opened = entry("Active", -300, old_worker);
    let capped = entry("Cancelled", -40, Some("application.service"));
    let mut fields = doc! {};
    match case.kind {
        Kind::Closed(closing) => {
            let mut closed = entry(closing.status(), -1, Some(closing.granted_by()));
            closed.insert("reason", closing.reason());
            history.extend([opened, closed]);
            fields.insert("offer_status", closing.status());
        }
        Kind::OpenedAgain => history.extend([opened, capped, entry("Active", -30, old_worker)]),
        Kind::MissedOpening => {
            history.extend([opened, capped]);
            fields.insert("offer_status", "Cancelled");
        }
        Kind::Filled => history.extend([opened, entry("Filled", -30, old_worker)]),
        Kind::Cancelled | Kind::Archived | Kind::PendingEstablishment => {
            history.extend([opened, entry("Cancelled", -30, old_worker)]);
        }
        Kind::Waiting => {
            let status = if model == TargetModel::Live { "Pending" } else { "Cancelled" };
            history.extend([opened, entry(status, -30, old_worker)]);
        }
        _ => history.push(opened),
    }
    match case.kind {
        Kind::MissedTitle => drop(fields.insert("offer_title", "Un titre d'avant")),
        Kind::OtherTypeOfUserId => {
            let user = ObjectId::new();
            let id = if model == TargetModel::Live { Bson::from(user.to_hex()) } else { user.into() };
            fields.insert("managed_by", id);
        }
        _ => {}
    }
    fields.insert("offer_status_history", history);
    let offers = test.collection("jobs_partners");
    let set = doc! { "$set": fields };
    offers.update_one(doc! { "_id": case.particular }, set).bypass_document_validation(true).await.unwrap();
}
