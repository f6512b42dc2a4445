//! Reads the validator and the indexes of `jobs_partners`, and the type of `managed_by` in existing offers.

use bson::{Document, RawDocumentBuf, doc};
use futures::TryStreamExt as _;
use mongodb::options::{ValidationAction, ValidationLevel};
use mongodb::{Database, IndexModel};

use super::{SEARCHED, TargetState};
use crate::config::ManagedByChoice;
use crate::error::{Failure, command_code};
use crate::model::names::OFFERS;
use crate::model::target_schema::{Validator, managed_by_type};
use crate::model::{ManagedByType, TargetSchema};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::project::all_written;

/// The number of offers whose `managed_by` is looked at: the newest ones.
const SAMPLE: i64 = 1_000;

/// The server's code for a missing privilege.
const UNAUTHORIZED: i32 = 13;

/// Reads the state. `known` is the type of `managed_by` in force until now: without a validator that names one, the type
/// does not change while the service runs.
pub(super) async fn state(
    database: &Database,
    label: &str,
    choice: ManagedByChoice,
    known: Option<ManagedByType>,
) -> Result<TargetState, Failure> {
    let (validator, indexed) = match (validator(database).await, indexed_fields(database).await) {
        (Err(Failure::Read(error)), _) | (_, Err(Failure::Read(error)))
            if command_code(&error) == Some(UNAUTHORIZED) =>
        {
            return Ok(TargetState { is_hidden: true, ..TargetState::default() });
        }
        (validator, indexed) => (validator?, indexed?),
    };
    let managed_by = match (choice, managed_by_type(&validator.rules), known) {
        (ManagedByChoice::String, ..) => ManagedByType::String,
        (ManagedByChoice::ObjectId, ..) => ManagedByType::ObjectId,
        (ManagedByChoice::Auto, Some(named), _) | (ManagedByChoice::Auto, None, Some(named)) => named,
        (ManagedByChoice::Auto, None, None) => of_offers(database, label).await?,
    };
    let schema = TargetSchema::read(&validator, managed_by, all_written());
    let unindexed = match indexed {
        Some(indexed) => {
            let searched = SEARCHED.iter().map(|field| field.name).filter(|name| !schema.omits(name));
            searched.filter(|name| !indexed.iter().any(|keys| begins_with(keys, name))).collect()
        }
        None => Vec::new(),
    };
    let action = validator.is_in_force().then_some(validator.action);
    Ok(TargetState { schema: schema.into(), is_hidden: false, unindexed, action })
}

/// The validator of `jobs_partners`; empty when the collection has none or does not exist.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn validator(database: &Database) -> Result<Validator, Failure> {
    let found = with_deadline(async {
        let mut found = database.list_collections().filter(doc! { "name": OFFERS }).await?;
        found.try_next().await
    });
    let target = found.await.map_err(Failure::Read)?;
    let Some(options) = target.map(|target| target.options) else { return Ok(Validator::default()) };
    let Some(rules) = options.validator else { return Ok(Validator::default()) };
    let action = match options.validation_action {
        Some(ValidationAction::Warn) => "warn",
        _ => "error",
    };
    let level = match options.validation_level {
        Some(ValidationLevel::Off) => "off",
        Some(ValidationLevel::Moderate) => "moderate",
        _ => "strict",
    };
    Ok(Validator { rules, action, level })
}

/// True where an index with these keys begins with the searched fields.
fn begins_with(keys: &Document, searched: &str) -> bool {
    let mut keys = keys.keys();
    searched.split(", ").all(|field| keys.next().is_some_and(|key| key == field))
}

/// The keys of the indexes of `jobs_partners`; `None` when the collection does not exist.
///
/// # Errors
/// [`Failure::Read`].
async fn indexed_fields(database: &Database) -> Result<Option<Vec<Document>>, Failure> {
    let listed = with_deadline(async {
        let indexes = collection(database, OFFERS).list_indexes().await?;
        indexes.try_collect::<Vec<IndexModel>>().await
    });
    match listed.await {
        Ok(indexes) => Ok(Some(indexes.into_iter().map(|index| index.keys).collect())),
        Err(error) if command_code(&error) == Some(26) => Ok(None),
        Err(error) => Err(Failure::Read(error)),
    }
}

/// The type that most of the newest offers have; text where there are as many of both.
async fn of_offers(database: &Database, label: &str) -> Result<ManagedByType, Failure> {
    let offers = collection(database, OFFERS).clone_with_type::<RawDocumentBuf>();
    let find = offers.find(doc! { "partner_label": label }).projection(doc! { "_id": 0, "managed_by": 1 });
    let find = find.sort(doc! { "_id": -1 }).limit(SAMPLE);
    let sample: Vec<RawDocumentBuf> =
        with_deadline(async { find.await?.try_collect().await }).await.map_err(Failure::Read)?;
    let of = |is: fn(&RawDocumentBuf) -> bool| sample.iter().filter(|offer| is(offer)).count();
    let object_ids = of(|offer| offer.get_object_id("managed_by").is_ok());
    let texts = of(|offer| offer.get_str("managed_by").is_ok());
    Ok(if object_ids > texts { ManagedByType::ObjectId } else { ManagedByType::String })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_serves_a_search_by_its_first_keys_in_their_order() {
        let keys = doc! { "offer_status": 1, "partner_label": 1, "rank": -1 };
        assert!(begins_with(&keys, "offer_status") && begins_with(&keys, "offer_status, partner_label"));
        assert!(
            !begins_with(&keys, "partner_label")
                && !begins_with(&doc! { "offer_status": 1 }, "offer_status, partner_label")
        );
    }
}
