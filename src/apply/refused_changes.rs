//! The offers that a dry run would create or change and that the validator of the target refuses.

use bson::raw::RawArrayBuf;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf, rawdoc};
use mongodb::Database;
use mongodb::error::Error as MongoError;

use super::dry_run::{DryRun, Projected};
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
/// counts as created.
const LARGEST_JUDGED: usize = 15 * 1024 * 1024;

/// The number of changes in one command. A pipeline has at most a thousand stages.
const CHANGES: usize = 100;

/// Counts those of these changes that the server would refuse as dead letters. The server itself judges them, and writes
/// nothing.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn note_refused_changes(
    dry_run: &mut DryRun,
    database: &Database,
    offers: &Projected,
    (changes, newest_wins): (&[(JobId, OfferChange)], bool),
    schema: &TargetSchema,
) -> Result<(), Failure> {
    if changes.iter().all(|(_, change)| *change == OfferChange::Nothing) {
        return Ok(());
    }
    let validator = target::validator(database).await?;
    if !validator.refuses_creations() {
        return Ok(());
    }
    let rules = RawDocumentBuf::try_from(&validator.rules).unwrap_or_default();
    let statement = |(id, change): &(JobId, OfferChange)| {
        let statement = statements::of_change(&offers.get(id)?.1, change, newest_wins)?;
        (*change != OfferChange::Create).then(|| statement.accepted_by(schema))
    };
    let changed: Vec<Statement> = changes.iter().filter_map(statement).collect();
    for changed in changed.chunks(CHANGES) {
        dry_run.refuse_changes(count_refused_changes(database, changed, &validator, &rules).await?);
    }
    let created = changes.iter().filter(|(_, change)| *change == OfferChange::Create);
    let created = created.filter_map(|(id, _)| offers.get(id)).map(|(_, offer)| statements::created(offer).document);
    let created: RawArrayBuf = created.filter(|offer| offer.as_bytes().len() <= LARGEST_JUDGED).collect();
    if !created.is_empty() {
        dry_run.refuse_creations(count_refused_creations(database, created, &rules).await?);
    }
    Ok(())
}

/// The number of these statements after which an offer would be against the rules. With the level `moderate`, the server
/// refuses no change of an offer that is against them already.
async fn count_refused_changes(
    database: &Database,
    changed: &[Statement],
    validator: &Validator,
    rules: &RawDocumentBuf,
) -> Result<u64, Failure> {
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
    stages.push(rawdoc! { "$count": "refused" });
    match counted(database, rawdoc! { "aggregate": OFFERS, "pipeline": stages, "cursor": {} }).await {
        // Somebody changed one of the offers meanwhile, so nobody knows what would become of it.
        Err(error) if command_code(&error) == Some(NOT_AS_COMPARED) => Ok(0),
        count => count.map_err(Failure::Read),
    }
}

async fn counted(database: &Database, command: RawDocumentBuf) -> Result<u64, MongoError> {
    let reply = with_deadline(database.run_raw_command(command)).await?;
    let counts = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let count = counts.ok().and_then(|counts| counts.first()?.as_document()?.get_i32("refused").ok());
    Ok(u64::try_from(count.unwrap_or_default()).unwrap_or_default())
}

async fn count_refused_creations(
    database: &Database,
    offers: RawArrayBuf,
    rules: &RawDocumentBuf,
) -> Result<u64, Failure> {
    // A text that begins with `$` would be the path of a field without `$literal`.
    let stages = RawArrayBuf::from_iter([
        rawdoc! { "$documents": { "$literal": offers } },
        rawdoc! { "$match": { "$nor": [rules.clone()] } },
        rawdoc! { "$count": "refused" },
    ]);
    counted(database, rawdoc! { "aggregate": 1, "pipeline": stages, "cursor": {} }).await.map_err(Failure::Read)
}
