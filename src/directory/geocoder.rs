//! The client of the geocoding service, which gives the point of an address: the national address service, or another one
//! with the same search (`q`, `postcode`, `limit`) and GeoJSON answers.

use url::Url;

use super::DirectoryTrouble;
use super::client::{Client, Reading};
use super::establishment::Address;
use super::point::{GeocodingReply, Point};
use crate::config::DirectorySettings;
use crate::outgoing::Answer;

/// The maximal length of a search, in characters. The service refuses a longer one.
const LONGEST_SEARCH: usize = 200;

/// The client, with the URL of the search.
#[derive(Debug)]
pub(crate) struct Geocoder {
    search: Url,
    client: Client,
}

impl Geocoder {
    /// A client; `None` without `directory.geocoding_url`.
    ///
    /// # Errors
    /// A sentence that names the faulty setting.
    pub(crate) fn new(settings: &DirectorySettings) -> Result<Option<Self>, String> {
        let Some(search) = &settings.geocoding_url else { return Ok(None) };
        let search = Url::parse(search).map_err(|error| format!("directory.geocoding_url: {error}"))?;
        let client = Client::new(settings).map_err(|error| format!("directory.geocoding_url: {error}"))?;
        Ok(Some(Self { search, client }))
    }

    /// The point of an address: that of its street, else that of its town; `None` where the service knows neither.
    ///
    /// # Errors
    /// [`DirectoryTrouble`].
    pub(crate) async fn locate(&self, address: &Address) -> Result<Option<Point>, DirectoryTrouble> {
        let town = address.town();
        if let Some(street) = &address.street
            && let Some(point) = self.search(&format!("{street} {town}"), &address.zipcode).await?
        {
            return Ok(Some(point));
        }
        self.search(&town, &address.zipcode).await
    }

    async fn search(&self, text: &str, postcode: &str) -> Result<Option<Point>, DirectoryTrouble> {
        let text: String = text.chars().take(LONGEST_SEARCH).collect();
        let mut url = self.search.clone();
        url.query_pairs_mut().append_pair("q", &text).append_pair("postcode", postcode).append_pair("limit", "1");
        self.client.ask(&url, None, |answer| reading(answer, postcode)).await
    }
}

fn reading(answer: &Answer, postcode: &str) -> Reading<Option<Point>> {
    match answer.status {
        200 => match serde_json::from_slice::<GeocodingReply>(&answer.body) {
            Ok(reply) => Reading::Known(reply.point(postcode)),
            Err(_) => Reading::Unreadable,
        },
        _ => Reading::Refused,
    }
}
