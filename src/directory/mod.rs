//! The company directory (spec 05, "Company directory"): the official state of establishments. It has two sources. The
//! collection `cache_siret` is asked first, then the API Entreprise. A geocoding service gives the points of addresses,
//! which the directory does not know (spec 09, "Pending establishments"). Nothing here writes.

pub(crate) mod api;
pub(crate) mod cache;
mod client;
mod establishment;
mod geocoder;
mod point;

use std::time::Duration;

use bson::DateTime;
use mongodb::Database;

use crate::config::DirectorySettings;
use crate::interruption::Unfinished;
use api::Api;
use cache::Cache;
use geocoder::Geocoder;

pub(crate) use establishment::{Address, Company, EstablishmentState};
pub(crate) use point::Point;

/// A source of the states of establishments.
pub(crate) trait Directory {
    /// The state of the establishment with this siret; `None` when the source has no answer.
    fn look_up(&self, siret: &str)
    -> impl Future<Output = Result<Option<EstablishmentState>, DirectoryTrouble>> + Send;
}

/// The reason why a lookup failed. "The directory" is the directory or the geocoding service.
#[derive(Debug)]
pub(crate) enum DirectoryTrouble {
    /// The directory is down or refuses our login, so no other siret can be looked up now; a label for reports.
    Down(&'static str),
    /// The directory fails for this siret now; a label for reports.
    Unreadable(&'static str),
    /// The directory asks to wait for this time, and the client does not wait any longer.
    Later(Duration),
    /// A read from `cache_siret` failed, or the run must end.
    Failed(Unfinished),
}

/// The two sources: the cache, then the API; and the geocoding service.
#[derive(Debug)]
pub(crate) struct Companies {
    cache: Cache,
    api: Option<Api>,
    geocoder: Option<Geocoder>,
}

impl Companies {
    /// The sources that the settings name. The age of an entry in the cache is its age at `now`.
    ///
    /// # Errors
    /// A sentence that names the faulty setting.
    pub(crate) fn new(database: &Database, settings: &DirectorySettings, now: DateTime) -> Result<Self, String> {
        let cache = Cache::new(database, settings.cache_age, now);
        Ok(Self { cache, api: Api::new(settings)?, geocoder: Geocoder::new(settings)? })
    }

    /// The point of an address; `None` where the geocoding service does not know the address, or where there is no such
    /// service.
    ///
    /// # Errors
    /// [`DirectoryTrouble`] of the geocoding service.
    pub(crate) async fn locate(&self, address: &Address) -> Result<Option<Point>, DirectoryTrouble> {
        match &self.geocoder {
            Some(geocoder) => geocoder.locate(address).await,
            None => Ok(None),
        }
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
