//! The rules of the table for values that do not go back as they are. A rule may promise too much: its edits are projected
//! again, and edits that did not bring their field about are taken back.

use bson::{Bson, RawBsonRef};

use super::asked::Asked;
use super::edit::Edit;
use crate::model::user_id::user_id;
use crate::model::{OfferStatus, value};
use crate::project::diploma::european_level;

/// The label of a job for any level. The platform's forms write it, and the projection gives null for it.
const ANY_LEVEL: &str = "Indifférent";

pub(super) fn created_at(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    let says_creation = asked.offer.get("offer_creation").ok().flatten().is_some();
    (!says_creation).then(|| vec![Edit::job("job_creation_date", asked.value.clone())])
}

pub(super) fn geopoint(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    let mut edits = vec![Edit::recruiter("geopoint", asked.value.clone())];
    if asked.recruiter.geo_coordinates.is_some() {
        let coordinates = if asked.value == Bson::Null { Some(Bson::Null) } else { coordinates(&asked.value) };
        edits.extend(coordinates.map(|coordinates| Edit::recruiter("geo_coordinates", coordinates)));
    }
    Some(edits)
}

/// The text `"lat,lon"` of a GeoJSON point.
pub(super) fn coordinates(point: &Bson) -> Option<Bson> {
    let [longitude, latitude] = point.as_document()?.get_array("coordinates").ok()?.as_slice() else { return None };
    Some(format!("{},{}", latitude.as_f64()?, longitude.as_f64()?).into())
}

pub(super) fn address(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    (!is_empty(&asked.value)).then(|| vec![Edit::recruiter("address", asked.value.clone())])
}

pub(super) fn city(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    let detail = value::object(asked.recruiter.address_detail);
    let has = |key: &str| detail.is_some_and(|detail| detail.get(key).ok().flatten().is_some());
    let is_of_api = !has("localite") && has("libelle_commune");
    let key = if is_of_api { "address_detail.libelle_commune" } else { "address_detail.localite" };
    let is_old = value::non_empty(asked.recruiter.establishment_location).is_some();
    let city = asked.value.clone();
    Some(match (is_old, is_empty(&city)) {
        (true, false) => vec![Edit::recruiter("establishment_location", city)],
        (true, true) => vec![Edit::recruiter("establishment_location", Bson::Null), Edit::recruiter(key, city)],
        (false, _) => vec![Edit::recruiter(key, city)],
    })
}

pub(super) fn diploma(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    if asked.value == Bson::Null {
        return Some(vec![Edit::job("job_level_label", ANY_LEVEL)]);
    }
    let label = asked.value.as_document()?.get_str("label").ok()?;
    european_level(label).map(|_| vec![Edit::job("job_level_label", label)])
}

pub(super) fn status(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    job_status(&asked.value).map(|status| vec![Edit::job("job_status", status)])
}

/// The status of a job for that of an offer; `None` for a status that no offer has.
pub(super) fn job_status(status: &Bson) -> Option<&'static str> {
    OfferStatus::read(status.as_str()?).map(|status| match status {
        OfferStatus::Active => "Active",
        OfferStatus::Filled => "Pourvue",
        OfferStatus::Cancelled => "Annulée",
        OfferStatus::Pending => "En attente",
    })
}

pub(super) fn cfa_siret(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    (asked.value != Bson::String(String::new()))
        .then(|| vec![Edit::recruiter("cfa_delegated_siret", asked.value.clone())])
}

pub(super) fn managed_by(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    let has_object_id = asked.recruiter.managed_by.is_some_and(|standing| standing.as_object_id().is_some());
    let managed_by = match &asked.value {
        Bson::ObjectId(id) if !has_object_id => Bson::String(id.to_hex()),
        Bson::String(text) if has_object_id => {
            let user = user_id(Some(RawBsonRef::String(text)));
            user.map_or_else(|| asked.value.clone(), |user| Bson::ObjectId(user.0))
        }
        other => other.clone(),
    };
    Some(vec![Edit::recruiter("managed_by", managed_by)])
}

fn is_empty(value: &Bson) -> bool {
    matches!(value, Bson::Null) || value.as_str() == Some("")
}
