//! The company directory (spec 05, "Company directory"): what is officially known of an establishment. Two places know it,
//! the collection `cache_siret` and the API Entreprise; the first is asked first. Nothing here writes.

pub(crate) mod api;
pub(crate) mod cache;
mod establishment;

use std::time::Duration;

use bson::DateTime;
use mongodb::Database;

use crate::config::DirectorySettings;
use crate::error::Failure;
use api::Api;
use cache::Cache;

pub(crate) use establishment::{Company, EstablishmentState};

/// A place that knows establishments.
pub(crate) trait Directory {
    /// What it knows of this one; `None` when it does not know whether it exists.
    fn look_up(&self, siret: &str)
    -> impl Future<Output = Result<Option<EstablishmentState>, DirectoryTrouble>> + Send;
}

/// Why nothing was found out.
#[derive(Debug)]
pub(crate) enum DirectoryTrouble {
    /// The directory is down, or does not let us in: others need not be asked about now. A word for reports.
    Down(&'static str),
    /// It cannot tell about this one now. A word for reports.
    Unreadable(&'static str),
    /// It asks to be left alone for so long.
    Later(Duration),
    /// The database failed.
    Failed(Failure),
}

/// Both places.
#[derive(Debug)]
pub(crate) struct Companies {
    cache: Cache,
    api: Option<Api>,
}

impl Companies {
    /// As the settings say; `now` decides how old an entry of the cache is.
    ///
    /// # Errors
    /// A sentence that names the setting that cannot be used.
    pub(crate) fn new(database: &Database, settings: &DirectorySettings, now: DateTime) -> Result<Self, String> {
        let cache = Cache::new(database, settings.cache_age, now);
        Ok(Self { cache, api: Api::new(settings)? })
    }
}

impl Directory for Companies {
    async fn look_up(&self, siret: &str) -> Result<Option<EstablishmentState>, DirectoryTrouble> {
        if let Some(found) = self.cache.look_up(siret).await? {
            return Ok(Some(found));
        }
        match &self.api {
            Some(api) => api.look_up(siret).await,
            None => Ok(None),
        }
    }
}
