//! Recruiters, jobs, references and offers of any shape, and the laws over them.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{CStr, RawDocumentBuf};
use bson::{Bson, DateTime, Document, RawBson, RawDocument, doc};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::table::TABLE;
use super::super::unproject;
use super::laws::{
    Case, new_documents_give_the_offer, nothing_to_say_when_nothing_changed, raw, what_was_said_comes_back,
};
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::target_schema::Validator;
use crate::model::{Cfa, ManagedByType, References, RomeSheet, TargetSchema, User, UserStatus};
use crate::project::{ProjectionSettings, all_written};

/// Eight kinds: each bit turns a part of the target's schema or of the configuration on.
pub(super) fn settings(kind: u8) -> ProjectionSettings {
    let has = |bit: u8| kind & (1 << bit) != 0;
    let known: Document =
        all_written().filter(|name| *name != "recruiter_status").map(|name| (name.to_owned(), Bson::Null)).collect();
    let mut schema = doc! {};
    if has(0) {
        schema = doc! { "additionalProperties": false, "properties": known };
        let statuses = doc! { "enum": ["Active", "Filled", "Cancelled", "Pending"] };
        schema.get_document_mut("properties").unwrap().insert("offer_status", statuses);
    }
    let validator = Validator { rules: doc! { "$jsonSchema": schema }, action: "error", level: "strict" };
    let managed_by = if has(1) { ManagedByType::ObjectId } else { ManagedByType::String };
    ProjectionSettings {
        partner_label: "label".to_owned(),
        public_url: "https://example.com".to_owned(),
        offer_type: "offres".to_owned(),
        anonymized_email: "anonymized@example.com".to_owned(),
        cancels_deactivated: has(2),
        schema: Arc::new(TargetSchema::read(&validator, managed_by, all_written())),
    }
}

fn user() -> ObjectId {
    ObjectId::parse_str("65a2bf7347a6ef7545b05ef0").unwrap()
}

fn date(day: i64) -> Bson {
    DateTime::from_millis(1_700_000_000_000 + day * 86_400_000).into()
}

const TEXTS: &[&str] = &[
    "",
    "a",
    "Actif",
    "ACTIF",
    "Archivé",
    "Active",
    "Pourvue",
    "Annulée",
    "En attente",
    "Filled",
    "Cancelled",
    "Pending",
    "Offre",
    "Enseigne inconnue",
    "anonymized@example.com",
    "48.85,2.35",
    "2024-09-01",
    "2024-09-01T00:00:00Z",
    "65a2bf7347a6ef7545b05ef0",
    "65A2BF7347A6EF7545B05EF0",
    "A\tb",
    "\t",
    "é\u{301}🦀\u{0}",
    "BTS, DEUST, autres formations (Bac+2)",
];

/// Values that some field of some document has.
fn leaf() -> impl Strategy<Value = Bson> {
    prop_oneof![
        2 => Just(Bson::Null),
        8 => select(TEXTS).prop_map(Bson::from),
        1 => ".{0,40}".prop_map(Bson::from),
        3 => (0_i64..4).prop_map(date),
        2 => (-1_i32..3).prop_map(Bson::from),
        1 => select(&[0.0, -0.0, 6.0, 6.5, f64::NAN, 3e9][..]).prop_map(Bson::from),
        1 => select(&[0, 1, 1_i64 << 40][..]).prop_map(Bson::from),
        2 => any::<bool>().prop_map(Bson::from),
        1 => Just(Bson::ObjectId(user())),
        1 => Just(Bson::Undefined),
        1 => Just(Bson::String("x".repeat(70_000))),
    ]
}

fn shaped() -> impl Strategy<Value = Bson> {
    let label = || select(&["A", "B", "C\td", ""][..]).prop_map(Bson::from);
    let item = || prop_oneof![4 => label().prop_map(|label| doc! { "libelle": label, "code_ogr": 1 }), 1 => Just(doc! { "x": 1 })];
    let category = || {
        (label(), proptest::collection::vec(item(), 0..4))
            .prop_map(|(label, items)| Bson::from(doc! { "libelle": label, "items": items, "code": 2 }))
    };
    let list = || proptest::collection::vec(category(), 0..4).prop_map(Bson::from);
    let lines = proptest::collection::vec(select(&["A\tA", "A\tB", "B\tA", "C\td\tA", "\tA", "A"][..]), 0..5);
    prop_oneof![
        2 => (list(), list(), list()).prop_map(|(one, two, three)| {
            doc! { "savoir_etre_professionnel": one, "savoir_faire": two, "savoirs": three }.into()
        }),
        3 => lines.prop_map(Bson::from),
        1 => list(),
        1 => Just(doc! { "type": "Point", "coordinates": [2.35, 48.85] }.into()),
        1 => Just(doc! { "european": "5", "label": "BTS, DEUST, autres formations (Bac+2)" }.into()),
        1 => Just(doc! { "code_postal": "75001", "localite": "Paris" }.into()),
        1 => Just(doc! { "code_postal": "75001", "libelle_commune": Bson::Null }.into()),
        1 => Just(Bson::from(vec![doc! { "email": "a", "cfa_read_company_detail_at": "2024-09-01" }])),
    ]
}

/// Any value: of a right type, of a wrong one, deep.
pub(super) fn dirty() -> impl Strategy<Value = Bson> {
    let deep = leaf().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Bson::from),
            (inner.clone(), inner).prop_map(|(one, other)| doc! { "libelle": one, "x": other }.into()),
        ]
    });
    prop_oneof![4 => leaf(), 3 => shaped(), 1 => deep]
}

/// A value that a document has under this name when nothing is wrong; any value for other names.
fn usual(name: &str) -> BoxedStrategy<Bson> {
    let texts = |texts: &'static [&'static str]| select(texts).prop_map(Bson::from).boxed();
    match name {
        "status" | "recruiter_status" => texts(&["Actif", "Actif", "Actif", "Archivé", "En attente de validation"]),
        "job_status" => texts(&["Active", "Active", "Pourvue", "Annulée", "En attente"]),
        "offer_status" => texts(&["Active", "Filled", "Cancelled", "Pending"]),
        "is_delegated" => any::<bool>().prop_map(Bson::from).boxed(),
        "email" | "phone" | "apply_email" | "apply_phone" | "address" => texts(&["a", "b"]),
        "managed_by" => prop_oneof![Just(Bson::from(user())), Just(Bson::from(user().to_hex()))].boxed(),
        "updatedAt" | "job_update_date" | "updated_at" | "job_creation_date" | "offer_creation" | "created_at" => {
            (0_i64..4).prop_map(date).boxed()
        }
        "rome_code" | "offer_rome_codes" => select(&["A1", "B2"][..]).prop_map(|code| vec![code].into()).boxed(),
        "cfa_delegated_siret" | "cfa_siret" => texts(&["1", "2"]),
        _ => prop_oneof![3 => leaf(), 3 => shaped()].boxed(),
    }
}

/// Fields of a document, some of them missing, some dirty.
fn fields(names: Vec<String>) -> impl Strategy<Value = Document> {
    let field = |name: String| {
        let value = prop_oneof![8 => usual(&name), 1 => dirty()];
        proptest::option::weighted(0.7, value.prop_map(move |value| (name.clone(), value)))
    };
    names.into_iter().map(field).collect::<Vec<_>>().prop_map(|fields| fields.into_iter().flatten().collect())
}

fn names<'v>(fields: impl Iterator<Item = (&'static CStr, Option<bson::RawBsonRef<'v>>)>) -> Vec<String> {
    fields.map(|(name, _)| name.as_str().to_owned()).filter(|name| !["_id", "jobs"].contains(&name.as_str())).collect()
}

fn references() -> impl Strategy<Value = References> {
    let raw = || proptest::option::of(dirty()).prop_map(|value| value.map(|value| RawBson::try_from(value).unwrap()));
    let sheet = (raw(), raw(), raw()).prop_map(|(definition, acces_metier, competences)| {
        Arc::new(RomeSheet { definition, acces_metier, competences })
    });
    let cfa =
        (raw(), raw()).prop_map(|(raison_sociale, address)| Arc::new(Cfa { siret: None, raison_sociale, address }));
    let user = (raw(), raw()).prop_map(|(email, phone)| Arc::new(User { email, phone }));
    let some = |bit: u8| proptest::bool::weighted(f64::from(bit) / 10.0);
    let referred =
        (proptest::option::of(sheet), proptest::option::weighted(0.9, cfa), proptest::option::weighted(0.9, user));
    (referred, some(1), some(2), some(5)).prop_map(
        |((rome, cfa, user), user_is_anonymized, is_deactivated, handicap)| {
            let user_status = UserStatus { is_deactivated, date: None };
            References { rome, cfa, user, user_is_anonymized, user_status, handicap, ..References::default() }
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let recruiter = fields(names(RecruiterFields::default().named()));
    let job = fields(names(JobFields::default().named()));
    (recruiter, job, references(), 0_u8..8).prop_map(|(recruiter, job, mut references, kind)| {
        // A CFA is looked up by this value.
        let siret = recruiter.get("cfa_delegated_siret").map(|siret| RawBson::try_from(siret.clone()).unwrap());
        references.cfa = references.cfa.map(|cfa| Arc::new(Cfa { siret, ..(*cfa).clone() }));
        let id = JobId(ObjectId::parse_str("65102a7347a6ef7545b05ef0").unwrap());
        Case { recruiter, id, job, references, settings: settings(kind) }
    })
}

/// Edits of an offer: usual values and dirty ones.
fn edits() -> impl Strategy<Value = Document> {
    let edit = |field: &'static str| {
        prop_oneof![2 => usual(field), 1 => dirty()].prop_map(move |value| (field.to_owned(), value))
    };
    let one = select(TABLE.iter().map(|row| row.field).collect::<Vec<_>>()).prop_flat_map(edit);
    proptest::collection::vec(one, 0..10).prop_map(|edits| edits.into_iter().collect())
}

proptest! {
    #[test]
    fn what_is_written_into_any_offer_comes_back_or_is_named(case in case(), edits in edits()) {
        nothing_to_say_when_nothing_changed(&case);
        let mut offer = case.projected().map_or_else(|_| Document::new(), |offer| Document::try_from(offer).unwrap());
        offer.extend(edits);
        what_was_said_comes_back(&case, &raw(&offer));
        new_documents_give_the_offer(&case, &raw(&offer), Some(&raw(&case.recruiter)));
    }

    #[test]
    fn an_offer_of_any_shape_comes_back_or_is_named(case in case(), offer in fields(TABLE.iter().map(|row| row.field.to_owned()).collect())) {
        what_was_said_comes_back(&case, &raw(&offer));
        new_documents_give_the_offer(&case, &raw(&offer), None);
    }

    #[test]
    fn damaged_bytes_are_no_reason_to_stop(
        case in case(),
        offer in fields(TABLE.iter().map(|row| row.field.to_owned()).collect()),
        damages in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let damaged = |document: &Document| {
            let mut bytes = raw(document).into_bytes();
            for (index, byte) in &damages {
                let index = 4 + index.index(bytes.len() - 4);
                bytes[index] = *byte;
            }
            RawDocumentBuf::from_bytes(bytes).ok()
        };
        let [offer, recruiter, job] = [&offer, &case.recruiter, &case.job].map(|it| damaged(it).unwrap_or_else(|| raw(it)));
        let (Ok(recruiter), Ok(job)) = (RecruiterFields::read(&recruiter), JobFields::read(&job)) else { return Ok(()) };
        let offer: &RawDocument = &offer;
        let said = || unproject(offer, &recruiter, case.id, &job, &case.references, &case.settings);
        assert_eq!(format!("{:?}", said()), format!("{:?}", said()));
        let _ = super::super::new_job(offer, &recruiter, case.id, &case.references, &case.settings);
        let _ = super::super::new_recruiter(offer, Some(offer), &case.settings);
    }
}
