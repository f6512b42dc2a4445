//! The offers that a dry run would create or change and that the validator of the target refuses.

use std::collections::BTreeSet;

use bson::raw::{RawArrayBuf, cstr};
use bson::{Bson, RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use mongodb::Database;
use mongodb::error::Error as MongoError;

use super::dry_run::Projected;
use crate::error::{Failure, command_code};
use crate::model::TargetSchema;
use crate::model::ids::JobId;
use crate::model::names::OFFERS;
use crate::model::target_schema::Validator;
use crate::mongo::deadline::with_deadline;
use crate::project::diff::OfferChange;
use crate::target;
use crate::write::statements::{self, NOT_AS_COMPARED, Statement};

/// The greatest size of an offer that is judged, in bytes. With the validator it must fit into one command. A heavier offer
/// counts as accepted.
const LARGEST_JUDGED: usize = 15 * 1024 * 1024;

/// The number of changes in one command. A pipeline has at most a thousand stages.
const CHANGES: usize = 100;

/// Finds those of these changes that the server would refuse. The server itself judges them, and writes nothing.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn refused_changes(
    database: &Database,
    offers: &Projected,
    (changes, newest_wins): (&[(JobId, OfferChange)], bool),
    schema: &TargetSchema,
) -> Result<BTreeSet<JobId>, Failure> {
    let mut refused = BTreeSet::new();
    if changes.iter().all(|(_, change)| *change == OfferChange::Nothing) {
        return Ok(refused);
    }
    let validator = target::validator(database).await?;
    if !validator.refuses_creations() {
        return Ok(refused);
    }
    let rules = RawDocumentBuf::try_from(&validator.rules).unwrap_or_default();
    let statement = |(id, change): &(JobId, OfferChange)| {
        let statement = statements::of_change(&offers.get(id)?.1, change, newest_wins)?;
        (*change != OfferChange::Create).then(|| statement.accepted_by(schema))
    };
    let changed: Vec<Statement> = changes.iter().filter_map(statement).collect();
    for changed in changed.chunks(CHANGES) {
        refused.extend(refused_updates(database, changed, &validator, &rules).await?);
    }
    let created = changes.iter().filter(|(_, change)| *change == OfferChange::Create);
    let created = created.filter_map(|(id, _)| offers.get(id)).map(|(_, offer)| statements::created(offer).document);
    let created: RawArrayBuf = created.filter(|offer| offer.as_bytes().len() <= LARGEST_JUDGED).collect();
    if !created.is_empty() {
        refused.extend(refused_creations(database, created, &rules).await?);
    }
    Ok(refused)
}

/// The offers that would be against the rules after these statements. With the level `moderate`, the server
/// refuses no change of an offer that is against them already.
async fn refused_updates(
    database: &Database,
    changed: &[Statement],
    validator: &Validator,
    rules: &RawDocumentBuf,
) -> Result<Vec<JobId>, Failure> {
    let mut stages = RawArrayBuf::new();
    for (number, statement) in changed.iter().enumerate() {
        let mut one = RawArrayBuf::new();
        let filter = statement.body.get_document("q").map(RawDocument::to_owned).unwrap_or_default();
        one.push(rawdoc! { "$match": filter });
        if validator.level == "moderate" {
            one.push(rawdoc! { "$match": rules.clone() });
        }
        let update = statement.body.get_array("u").into_iter().flatten().flatten();
        update.filter_map(RawBsonRef::as_document).for_each(|stage| one.push(stage));
        if number == 0 {
            one.into_iter().flatten().for_each(|stage| stages.push(stage));
        } else {
            stages.push(rawdoc! { "$unionWith": { "coll": OFFERS, "pipeline": one } });
        }
    }
    stages.push(rawdoc! { "$match": { "$nor": [rules.clone()] } });
    match found(database, rawdoc! { "aggregate": OFFERS }, stages).await {
        // Somebody changed one of the offers meanwhile, so nobody knows what would become of it.
        Err(error) if command_code(&error) == Some(NOT_AS_COMPARED) => Ok(Vec::new()),
        found => found.map_err(Failure::Read),
    }
}

/// The ids that an aggregation finds, in one reply.
async fn found(
    database: &Database,
    mut command: RawDocumentBuf,
    mut stages: RawArrayBuf,
) -> Result<Vec<JobId>, MongoError> {
    stages.push(rawdoc! { "$project": { "_id": 1 } });
    command.append(cstr!("pipeline"), stages);
    command.append(cstr!("cursor"), rawdoc! { "batchSize": i32::MAX });
    let reply = with_deadline(database.run_raw_command(command)).await?;
    let offers = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let offers = offers.into_iter().flatten().filter_map(Bson::as_document);
    Ok(offers.filter_map(|offer| offer.get_object_id("_id").ok().map(JobId)).collect())
}

async fn refused_creations(
    database: &Database,
    offers: RawArrayBuf,
    rules: &RawDocumentBuf,
) -> Result<Vec<JobId>, Failure> {
    // A text that begins with `$` would be the path of a field without `$literal`.
    let stages = RawArrayBuf::from_iter([
        rawdoc! { "$documents": { "$literal": offers } },
        rawdoc! { "$match": { "$nor": [rules.clone()] } },
    ]);
    found(database, rawdoc! { "aggregate": 1 }, stages).await.map_err(Failure::Read)
}
