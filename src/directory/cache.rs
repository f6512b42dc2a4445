//! The reader of the collection `cache_siret`. The platform fills this collection with answers of the API:
//! `{siret, updatedAt, error?, data?}`.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use mongodb::{Collection, Database};

use super::establishment::{DirectoryReply, EstablishmentState};
use super::{Directory, DirectoryTrouble};
use crate::error::Failure;
use crate::model::names::SIRET_CACHE;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;

/// The entries of `cache_siret` that are younger than `since`.
#[derive(Debug)]
pub struct Cache {
    collection: Collection<Document>,
    since: DateTime,
}

impl Cache {
    /// The cache as of `now`. Entries older than `age` are ignored.
    #[must_use]
    pub fn new(database: &Database, age: Duration, now: DateTime) -> Self {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let since = DateTime::from_millis(now.timestamp_millis().saturating_sub(age));
        Self { collection: collection(database, SIRET_CACHE), since }
    }

    /// A filter of the entries for one siret that are younger than `since`.
    #[must_use]
    pub fn selects(siret: &str, since: DateTime) -> Document {
        doc! { "siret": siret, "updatedAt": { "$gt": since } }
    }
}

impl Directory for Cache {
    async fn look_up(&self, siret: &str) -> Result<Option<EstablishmentState>, DirectoryTrouble> {
        let find = self.collection.find_one(Self::selects(siret, self.since));
        let entry = with_deadline(find).await.map_err(|error| DirectoryTrouble::Failed(Failure::Read(error).into()))?;
        let Some(mut entry) = entry else { return Ok(None) };
        if entry.get_str("error").is_ok_and(|error| !error.is_empty()) {
            return Ok(Some(EstablishmentState::Unpublished));
        }
        // An entry of another shape counts as missing, so the API is asked.
        let reply = entry.remove("data").and_then(|data| bson::deserialize_from_bson::<DirectoryReply>(data).ok());
        Ok(reply.and_then(|reply| reply.found()))
    }
}
