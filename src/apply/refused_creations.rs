//! The offers that a dry run would create and that the validator of the target refuses.

use bson::raw::RawArrayBuf;
use bson::{Document, RawDocumentBuf, rawdoc};
use mongodb::Database;

use super::dry_run::{DryRun, Projected};
use crate::error::Failure;
use crate::model::ids::JobId;
use crate::mongo::deadline::with_deadline;
use crate::project::diff::OfferChange;
use crate::target;
use crate::write::statements;

/// The greatest size of an offer that is judged, in bytes. With the validator it must fit into one command. A heavier offer
/// counts as created.
const LARGEST_JUDGED: usize = 15 * 1024 * 1024;

/// Counts the creations among these changes that the server would refuse as dead letters instead of creations. The
/// server itself judges them, and writes nothing.
///
/// # Errors
/// [`Failure::Read`].
pub(super) async fn note_refused_creations(
    dry_run: &mut DryRun,
    database: &Database,
    offers: &Projected,
    changes: &[(JobId, OfferChange)],
) -> Result<(), Failure> {
    let created = changes.iter().filter(|(_, change)| *change == OfferChange::Create);
    let created = created.filter_map(|(id, _)| offers.get(id)).map(|(_, offer)| statements::created(offer).document);
    let created: RawArrayBuf = created.filter(|offer| offer.as_bytes().len() <= LARGEST_JUDGED).collect();
    if created.is_empty() {
        return Ok(());
    }
    let validator = target::validator(database).await?;
    if !validator.refuses_creations() {
        return Ok(());
    }
    dry_run.refuse_creations(count_refused(database, created, &validator.rules).await?);
    Ok(())
}

async fn count_refused(database: &Database, offers: RawArrayBuf, rules: &Document) -> Result<u64, Failure> {
    let rules = RawDocumentBuf::try_from(rules).unwrap_or_default();
    // A text that begins with `$` would be the path of a field without `$literal`.
    let stages = RawArrayBuf::from_iter([
        rawdoc! { "$documents": { "$literal": offers } },
        rawdoc! { "$match": { "$nor": [rules] } },
        rawdoc! { "$count": "refused" },
    ]);
    let command = rawdoc! { "aggregate": 1, "pipeline": stages, "cursor": {} };
    let reply = with_deadline(database.run_raw_command(command)).await.map_err(Failure::Read)?;
    let counts = reply.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
    let count = counts.ok().and_then(|counts| counts.first()?.as_document()?.get_i32("refused").ok());
    Ok(u64::try_from(count.unwrap_or_default()).unwrap_or_default())
}
