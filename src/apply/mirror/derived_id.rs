//! The `_id` of a recruiter that is made for an offer. It comes from the offer, so that two tries make one recruiter.
//! Pure code.

use bson::oid::ObjectId;
use bson::{RawBsonRef, RawDocument};
use sha2::{Digest as _, Sha256};

use crate::model::ids::{JobId, RecruiterId};
use crate::model::user_id::user_id;
use crate::model::value;

/// Derives the `_id` from the offer's `establishment_id`, else from its establishment and user, else from the offer's
/// own `_id`.
#[must_use]
pub(crate) fn recruiter_id(offer: &RawDocument, id: JobId) -> RecruiterId {
    let text = |name| value::text(value::field(offer, name));
    let key = match (text("establishment_id"), text("workplace_siret"), manager(value::field(offer, "managed_by"))) {
        (Some(establishment), ..) => format!("establishment/{establishment}"),
        (None, Some(siret), Some(manager)) => format!("siret/{siret}/{manager}"),
        (None, ..) => format!("offer/{id}"),
    };
    let mut bytes = [0; 12];
    bytes.iter_mut().zip(Sha256::digest(key)).for_each(|(byte, hashed)| *byte = hashed);
    RecruiterId(ObjectId::from_bytes(bytes))
}

/// The user in one spelling; a text that is no id stays as it is.
pub(super) fn manager(managed_by: Option<RawBsonRef<'_>>) -> Option<String> {
    let of_text = || value::text(managed_by).map(str::to_owned);
    user_id(managed_by).map(|user| user.to_string()).or_else(of_text)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn offers_of_one_establishment_have_one_recruiter_whatever_the_spelling_of_the_user() {
        let [one, other] = [JobId(ObjectId::new()), JobId(ObjectId::new())];
        let user = ObjectId::new();
        let by_form = rawdoc! { "establishment_id": "a", "workplace_siret": "1" };
        assert_eq!(recruiter_id(&by_form, one), recruiter_id(&rawdoc! { "establishment_id": "a" }, other));
        let by_siret = |user: RawBsonRef<'_>| {
            let mut offer = rawdoc! { "establishment_id": null, "workplace_siret": "1" };
            offer.append(bson::raw::cstr!("managed_by"), user);
            recruiter_id(&offer, one)
        };
        assert_eq!(by_siret(RawBsonRef::ObjectId(user)), by_siret(RawBsonRef::String(&user.to_hex())));
        assert_ne!(by_siret(RawBsonRef::ObjectId(user)), by_siret(RawBsonRef::ObjectId(ObjectId::new())));
        assert_ne!(recruiter_id(&rawdoc! {}, one), recruiter_id(&rawdoc! {}, other));
    }

    #[test]
    fn the_id_of_an_establishment_is_the_same_in_every_version() {
        let id = recruiter_id(&rawdoc! { "establishment_id": "65102a7347a6ef7545b05ef0" }, JobId(ObjectId::new()));
        assert_eq!(id.to_string(), "3f8f60b5eb696e8699b98df3");
    }
}
