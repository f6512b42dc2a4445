//! Scans a collection by `_id` in steps, for the touches of backfills and resyncs. ObjectIds have one scan, and `_id`s
//! of all other types have a second one. No server cursor stays open between two steps. So a scan may pause for any
//! time and go on after a crash.

use bson::raw::cstr;
use bson::spec::ElementType;
use bson::{Binary, Bson, DateTime, Document, RawBsonRef, RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use futures::TryStreamExt as _;

use crate::error::Failure;
use crate::model::ids::RecruiterId;
use crate::model::other_id::OtherId;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::deadline::while_server_works;
use crate::mongo::reads::{collection, documents};

/// The greatest number of ids of one step.
pub(crate) const STEP: u32 = 1_000;
/// The longest `_id` that is stored as the place of a scan, in bytes.
const LONGEST_PLACE: usize = 16 * 1024;

/// The next ObjectIds after `after`, at most so many, among the documents that `filter` selects, in their order. [`others_after`] finds
/// documents with an `_id` of another type.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn ids_after(
    database: &CausalDatabase,
    name: &str,
    filter: &Document,
    after: Option<ObjectId>,
    most: u32,
) -> Result<Vec<ObjectId>, Failure> {
    // The comparison selects ObjectIds only. Otherwise ids of other types could fill a step and end the scan.
    let next = after.map_or_else(|| doc! { "$gte": LOWEST }, |after| doc! { "$gt": after });
    let filter = doc! { "$and": [filter.clone(), { "_id": next }] };
    let mut session = database.session().await?;
    let collection = collection(database, name);
    // There is no fixed time limit, because a step may pass over millions of other partners' offers.
    let (client, comment) = (database.client(), Bson::from(ObjectId::new()));
    let find = collection
        .find(filter)
        .projection(doc! { "_id": 1 })
        .sort(doc! { "_id": 1 })
        .limit(i64::from(most))
        .batch_size(most)
        .comment(comment.clone())
        .session(&mut session);
    let mut answers = while_server_works(client, &comment, find.batch()).await.map_err(Failure::Read)?;
    let answers = answers.stream(&mut session).try_collect();
    let batches: Vec<_> = while_server_works(client, &comment, answers).await.map_err(Failure::Read)?;
    documents(&batches).map(|document| Ok(document?.get_object_id("_id").ok())).filter_map(Result::transpose).collect()
}

const LOWEST: ObjectId = ObjectId::from_bytes([0; 12]);
const HIGHEST: ObjectId = ObjectId::from_bytes([0xff; 12]);

/// False for a place that is too long to be stored. After a crash the scan then begins at an earlier place.
#[must_use]
pub(crate) fn is_storable(place: Option<&Bson>) -> bool {
    !matches!(place, Some(Bson::Binary(Binary { bytes, .. })) if bytes.len() > LONGEST_PLACE)
}

/// The next `_id`s after `after` that are no ObjectIds, among the documents that `filter` selects. The scan goes by
/// bounds of the index of `_id`, because a comparison in a query sees values of one type only.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn others_after(
    database: &CausalDatabase,
    collection: &str,
    filter: &Document,
    after: Option<&OtherId>,
) -> Result<Vec<OtherId>, Failure> {
    if after.and_then(OtherId::element_type) == Some(ElementType::MaxKey) {
        return Ok(Vec::new());
    }
    let filter = RawDocumentBuf::try_from(filter).map_err(|error| Failure::Read(error.into()))?;
    // A raw command instead of the driver's `find`, because a bound may be an `_id` that is not valid BSON.
    let comment = ObjectId::new();
    let command = || {
        rawdoc! {
            "find": collection, "filter": filter.clone(), "projection": { "_id": 1 }, "hint": { "_id": 1 },
            "limit": i64::from(STEP) + 1, "batchSize": i64::from(STEP) + 1, "readConcern": database.read_concern(), "comment": comment,
        }
    };
    if after.is_none_or(|after| !after.is_above_object_ids()) {
        let mut below = command();
        below.append(
            cstr!("min"),
            after.map_or_else(|| rawdoc! { "_id": RawBsonRef::MinKey }, |after| after.document().to_owned()),
        );
        below.append(cstr!("max"), &rawdoc! { "_id": LOWEST });
        let found = step(database, below, comment, after).await?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let last = after.filter(|after| after.is_above_object_ids());
    let mut above = command();
    above.append(cstr!("min"), last.map_or_else(|| rawdoc! { "_id": HIGHEST }, |after| after.document().to_owned()));
    let found = step(database, above, comment, last).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    // `MaxKey` is the one value that no bound includes.
    let greatest = rawdoc! { "$and": [filter.clone(), { "_id": RawBsonRef::MaxKey }] };
    let mut greatest_of_all = rawdoc! { "find": collection, "filter": greatest, "projection": { "_id": 1 } };
    greatest_of_all.append(cstr!("readConcern"), database.read_concern());
    greatest_of_all.append(cstr!("comment"), comment);
    step(database, greatest_of_all, comment, last).await
}

/// The `_id`s of the first reply that has others than `after`, which the bounds include. A step ends with this reply,
/// because `_id`s can be long.
async fn step(
    database: &CausalDatabase,
    command: RawDocumentBuf,
    comment: ObjectId,
    after: Option<&OtherId>,
) -> Result<Vec<OtherId>, Failure> {
    let (client, comment) = (database.client(), Bson::from(comment));
    let asking = database.run_raw_cursor_command(command).batch();
    let mut replies = while_server_works(client, &comment, asking).await.map_err(Failure::Read)?;
    let is_new = |id: &OtherId| after != Some(id) && id.element_type() != Some(ElementType::ObjectId);
    while let Some(reply) = while_server_works(client, &comment, replies.try_next()).await.map_err(Failure::Read)? {
        let batch = [reply];
        let ids = documents(&batch).map(|document| Ok(OtherId::of(document?)));
        let ids: Vec<OtherId> = ids.collect::<Result<_, Failure>>()?;
        let new: Vec<OtherId> = ids.into_iter().filter(is_new).collect();
        if !new.is_empty() {
            return Ok(new);
        }
    }
    Ok(Vec::new())
}

/// The filter for the recruiters that changed since this time, by their dates and those of their jobs.
#[must_use]
pub(crate) fn changed_since(time: DateTime) -> Document {
    let dates = ["updatedAt", "createdAt", "jobs.job_update_date", "jobs.job_creation_date"];
    let later: Vec<Document> = dates.iter().map(|date| doc! { *date: { "$gte": time } }).collect();
    doc! { "$or": later }
}

/// The filter for the recruiters that a backfill touches.
#[must_use]
pub(crate) fn backfill_filter(recruiter: Option<RecruiterId>, active_only: bool) -> Document {
    let mut filter = Document::new();
    if let Some(recruiter) = recruiter {
        filter.insert("_id", recruiter);
    }
    if active_only {
        filter.insert("status", doc! { "$in": ["Actif", "ACTIF"] });
        filter.insert("jobs.job_status", doc! { "$in": ["Active", "ACTIVE"] });
    }
    filter
}
