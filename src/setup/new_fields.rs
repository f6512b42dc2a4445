//! The new fields of our offers: `setup` adds the missing ones with their defaults, `setup --down` removes them. The
//! work is done in chunks by `_id`. Each chunk is a short read and one statement per offer, so that no other writer
//! waits for long. Offers of other partners are never read. An existing value is never overwritten.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bson::raw::CString;
use bson::{Bson, Document, RawBson, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use futures::TryStreamExt as _;
use mongodb::Database;
use mongodb::options::Hint;

use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::model::names::SETUP;
use crate::mongo::reads::collection;
use crate::write::statements::Statement;
use crate::write::{Writer, update_command};

/// The fields that the projection writes and the live schema does not know (spec 02; spec 01, "Target").
pub const NEW: [&str; 9] = [
    "offer_rome_appellation",
    "managed_by",
    "establishment_id",
    "recruiter_status",
    "relance_mail_expiration_J7",
    "relance_mail_expiration_J1",
    "job_last_prolongation_date",
    "job_prolongation_count",
    "mer_sent",
];
/// The most offers in one chunk.
const CHUNK: i64 = 1_000;

/// The value of a new field in an existing offer (spec 02: null, and 0 prolongations).
fn default_of(name: &str) -> Bson {
    if name == "job_prolongation_count" { Bson::Int32(0) } else { Bson::Null }
}

/// The filter for our offers that lack at least one new field.
#[must_use]
pub fn lacking(partner_label: &str) -> Document {
    let missing = NEW.map(|name| doc! { name: { "$exists": false } });
    doc! { "partner_label": partner_label, "$or": missing.to_vec() }
}

/// The filter for our offers that have at least one new field.
#[must_use]
pub fn having(partner_label: &str) -> Document {
    let present = NEW.map(|name| doc! { name: { "$exists": true } });
    doc! { "partner_label": partner_label, "$or": present.to_vec() }
}

/// Numbers of our offers by their new fields. An offer can be in several of the numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldCounts {
    /// All our offers.
    pub offers: u64,
    /// Offers that lack at least one new field.
    pub lacking: u64,
    /// Offers that have at least one new field.
    pub having: u64,
    /// Offers in which at least one new field has another value than its default.
    pub filled: u64,
}

/// Counts our offers by their new fields, in one pass on the server: there may be a million offers.
///
/// # Errors
/// [`Failure::Read`].
pub async fn count(database: &Database, partner_label: &str) -> Result<FieldCounts, Failure> {
    // 0: the field is missing. 1: it has its default. 2: it has another value.
    let of_field = NEW.map(|name| {
        let path = format!("${name}");
        let is_default = doc! { "$eq": [&path, { "$literal": default_of(name) }] };
        let is_missing = doc! { "$eq": [{ "$type": &path }, "missing"] };
        doc! { "$cond": [is_missing, 0, { "$cond": [is_default, 1, 2] }] }
    });
    let sum = |condition: Document| doc! { "$sum": { "$cond": [condition, 1, 0] } };
    let pipeline = [
        doc! { "$match": of_jobs(doc! { "partner_label": partner_label }) },
        doc! { "$project": { "_id": 0, "fields": of_field.to_vec() } },
        doc! { "$group": {
            "_id": null,
            "offers": { "$sum": 1 },
            "lacking": sum(doc! { "$in": [0, "$fields"] }),
            "having": sum(doc! { "$gt": [{ "$max": "$fields" }, 0] }),
            "filled": sum(doc! { "$in": [2, "$fields"] }),
        } },
    ];
    let mut counts = collection(database, OFFERS).aggregate(pipeline).await.map_err(Failure::Read)?;
    let counts = counts.try_next().await.map_err(Failure::Read)?.unwrap_or_default();
    let number = |name: &str| {
        let number = counts.get(name).and_then(|value| value.as_i64().or_else(|| value.as_i32().map(i64::from)));
        number.unwrap_or_default().unsigned_abs()
    };
    Ok(FieldCounts {
        offers: number("offers"),
        lacking: number("lacking"),
        having: number("having"),
        filled: number("filled"),
    })
}

/// The result of one chunk.
#[derive(Debug, Clone, Copy)]
pub struct FieldsChunk {
    /// The last offer of this chunk. The next chunk begins after it.
    pub last: JobId,
    /// Offers that were read.
    pub offers: u64,
    /// Offers that the server refused to change.
    pub refused: u64,
}

/// Remembers which new fields the next offers already have: `--down` must leave these fields. `None` at the end.
///
/// # Errors
/// [`Failure::Read`], [`Failure::Write`].
pub async fn remember(
    database: &Database,
    partner_label: &str,
    after: Option<JobId>,
) -> Result<Option<FieldsChunk>, Failure> {
    let offers = next(database, having(partner_label), after).await?;
    let Some((last, _)) = offers.last() else { return Ok(None) };
    let chunk = FieldsChunk { last: *last, offers: offers.len() as u64, refused: 0 };
    let mut groups: BTreeMap<&[&str], Vec<JobId>> = BTreeMap::new();
    for (offer, names) in &offers {
        groups.entry(names).or_default().push(*offer);
    }
    let groups: Vec<Document> =
        groups.into_iter().map(|(names, offers)| doc! { "fields": names.to_vec(), "offers": offers }).collect();
    let update = doc! { "$set": { "kept": groups } };
    let kept = collection(database, SETUP);
    kept.update_one(doc! { "_id": chunk.last }, update).upsert(true).await.map_err(Failure::Write)?;
    Ok(Some(chunk))
}

/// Adds the missing fields to the next offers that lack one. `None` at the end.
///
/// # Errors
/// [`Failure::Read`]; the errors of [`update_command::update`].
pub async fn add(
    database: &Database,
    partner_label: &str,
    after: Option<JobId>,
) -> Result<Option<FieldsChunk>, Unfinished> {
    let offers = next(database, lacking(partner_label), after).await?;
    let Some((last, _)) = offers.last() else { return Ok(None) };
    let chunk = FieldsChunk { last: *last, offers: offers.len() as u64, refused: 0 };
    let update = defaults_where_missing();
    let statement = |offer: JobId| {
        let filter = rawdoc! { "_id": offer, "partner_label": partner_label };
        Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [update.clone()] } }
    };
    let statements = offers.iter().map(|(offer, _)| statement(*offer)).collect();
    let outcome = update_command::update(&Writer::free(database), OFFERS, statements).await?;
    Ok(Some(FieldsChunk { refused: outcome.refused.len() as u64, ..chunk }))
}

/// Removes the new fields from the next offers that have one, except the remembered fields. `None` at the end.
///
/// # Errors
/// [`Failure::Read`]; the errors of [`update_command::update`].
pub async fn remove(
    database: &Database,
    partner_label: &str,
    after: Option<JobId>,
) -> Result<Option<FieldsChunk>, Unfinished> {
    let offers = next(database, having(partner_label), after).await?;
    let (Some((first, _)), Some((last, _))) = (offers.first(), offers.last()) else { return Ok(None) };
    let kept = kept(database, *first, *last).await?;
    let chunk = FieldsChunk { last: *last, offers: offers.len() as u64, refused: 0 };
    let mut statements = Vec::new();
    for (offer, names) in &offers {
        let stay = kept.get(offer);
        let mut unset = RawDocumentBuf::new();
        for name in names.iter().filter(|name| stay.is_none_or(|stay| !stay.contains(**name))) {
            append(&mut unset, name, RawBson::String(String::new()));
        }
        if !unset.is_empty() {
            let filter = rawdoc! { "_id": *offer, "partner_label": partner_label };
            statements.push(Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": { "$unset": unset } } });
        }
    }
    let outcome = update_command::update(&Writer::free(database), OFFERS, statements).await?;
    Ok(Some(FieldsChunk { refused: outcome.refused.len() as u64, ..chunk }))
}

/// An update that sets each missing new field to its default. The server decides field by field within the write, so a
/// value that the service writes meanwhile stays.
fn defaults_where_missing() -> RawDocumentBuf {
    let mut set = RawDocumentBuf::new();
    for name in NEW {
        let path = format!("${name}");
        let default = RawBson::try_from(default_of(name)).unwrap_or(RawBson::Null);
        let value = rawdoc! { "$cond": [
            { "$eq": [{ "$type": path.as_str() }, "missing"] }, { "$literal": default }, path.as_str(),
        ] };
        append(&mut set, name, RawBson::Document(value));
    }
    rawdoc! { "$set": set }
}

/// Appends a field whose name is one of [`NEW`]: no such name has a zero byte, so the conversion always succeeds.
fn append(document: &mut RawDocumentBuf, name: &str, value: RawBson) {
    if let Ok(name) = CString::try_from(name) {
        document.append(name, value);
    }
}

/// The next offers after `after` that `filter` selects, each with its new fields.
async fn next(
    database: &Database,
    filter: Document,
    after: Option<JobId>,
) -> Result<Vec<(JobId, Vec<&'static str>)>, Failure> {
    let mut filter = of_jobs(filter);
    if let Some(after) = after {
        filter.insert("_id", doc! { "$gt": after });
    }
    let mut projection = doc! { "_id": 1 };
    projection.extend(NEW.map(|name| (name.to_owned(), Bson::Int32(1))));
    // The hint makes the server read in the order of `_id`. Otherwise the planner may sort a million offers for each
    // chunk.
    let offers = collection(database, OFFERS);
    let find = offers.find(filter).projection(projection).sort(doc! { "_id": 1 }).limit(CHUNK);
    let cursor = find.hint(Hint::Keys(doc! { "_id": 1 })).await.map_err(Failure::Read)?;
    let offers: Vec<Document> = cursor.try_collect().await.map_err(Failure::Read)?;
    let names = |offer: &Document| NEW.into_iter().filter(|name| offer.contains_key(*name)).collect();
    Ok(offers.iter().filter_map(|offer| Some((JobId(offer.get_object_id("_id").ok()?), names(offer)))).collect())
}

/// Restricts a filter to offers whose `_id` is an ObjectId, as the `_id` of a job is. An `_id` of another type would
/// end a pass early.
fn of_jobs(mut filter: Document) -> Document {
    filter.insert("_id", doc! { "$gte": ObjectId::from_bytes([0; 12]) });
    filter
}

/// The new fields that [`remember`] found in the offers from `first` to `last`. A document of [`SETUP`] has the `_id`
/// of the last offer of its chunk.
async fn kept(database: &Database, first: JobId, last: JobId) -> Result<HashMap<JobId, BTreeSet<String>>, Failure> {
    let mut kept = HashMap::new();
    let remembered = collection(database, SETUP);
    let find = remembered.find(doc! { "_id": { "$gte": first } }).sort(doc! { "_id": 1 }).batch_size(8);
    let mut documents = find.await.map_err(Failure::Read)?;
    while let Some(document) = documents.try_next().await.map_err(Failure::Read)? {
        let groups = document.get_array("kept").map(Vec::as_slice).unwrap_or_default();
        for group in groups.iter().filter_map(Bson::as_document) {
            let list = |key: &str| group.get_array(key).map(Vec::as_slice).unwrap_or_default();
            let names: BTreeSet<String> =
                list("fields").iter().filter_map(Bson::as_str).map(ToOwned::to_owned).collect();
            kept.extend(
                list("offers").iter().filter_map(Bson::as_object_id).map(|offer| (JobId(offer), names.clone())),
            );
        }
        if document.get_object_id("_id").is_ok_and(|until| JobId(until) >= last) {
            break;
        }
    }
    Ok(kept)
}
