//! Small invented recruiters for tests that need to know every field: all alike but for what a test sets.
//! Contacts are under `example.com`; [`PERSONAL`] is in each of them, so that a leak is easy to find.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};

/// In every contact field of a recruiter: must not appear in logs, metrics or dead letters.
pub(crate) const PERSONAL: &str = "Quetzalcoatl";

/// An active recruiter, not delegated, with these jobs.
pub(crate) fn recruiter(jobs: impl IntoIterator<Item = Document>) -> Document {
    let id = ObjectId::new();
    let jobs: Vec<Bson> = jobs.into_iter().map(Bson::from).collect();
    doc! {
        "_id": id,
        "establishment_id": id.to_hex(),
        "establishment_siret": siret(id),
        "establishment_raison_sociale": "Boulangerie d'essai",
        "address": "1 rue de l'Essai 75001 Paris",
        "address_detail": { "code_postal": "75001", "localite": "Paris" },
        "geopoint": { "type": "Point", "coordinates": [2.35, 48.85] },
        "is_delegated": false,
        "first_name": PERSONAL,
        "last_name": PERSONAL,
        "phone": format!("06 {PERSONAL}"),
        "email": format!("{PERSONAL}-{}@example.com", id.to_hex()),
        "status": "Actif",
        "managed_by": ObjectId::new().to_hex(),
        "createdAt": DateTime::from_millis(1_700_000_000_000),
        "updatedAt": DateTime::from_millis(1_700_000_000_000),
        "jobs": jobs,
    }
}

/// An active job with this title.
pub(crate) fn job(title: &str) -> Document {
    doc! {
        "_id": ObjectId::new(),
        "rome_code": ["D1102"],
        "offer_title_custom": title,
        "job_description": format!("Écrire à {PERSONAL}"),
        "job_status": "Active",
        "job_type": ["Apprentissage"],
        "job_creation_date": DateTime::from_millis(1_700_000_000_000),
        "job_update_date": DateTime::from_millis(1_700_000_000_000),
    }
}

/// The document with other values for these fields.
pub(crate) fn with(mut document: Document, fields: Document) -> Document {
    document.extend(fields);
    document
}

/// The document's `_id`, which is an ObjectId.
pub(crate) fn id(document: &Document) -> ObjectId {
    document.get_object_id("_id").unwrap()
}

/// 14 digits that hardly another id has.
fn siret(id: ObjectId) -> String {
    let bytes = id.bytes();
    let number = bytes[4..].iter().fold(0_u64, |number, byte| number.wrapping_mul(257).wrapping_add(u64::from(*byte)));
    format!("{:014}", number % 10_u64.pow(14))
}
