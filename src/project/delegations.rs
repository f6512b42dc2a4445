//! The delegations of an offer: those of its job, with dates for texts and without the address of an anonymised user.

use bson::raw::RawArrayBuf;
use bson::{RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use super::contact::Contact;
use crate::model::recruiter::JobFields;
use crate::model::value;

/// Turns each `cfa_read_company_detail_at` that is the text of a date into a date. Hides the address of an anonymised
/// managing user, which would come back with the delegations (spec 03, "It stays anonymised").
pub(super) fn delegations(job: &JobFields<'_>, contact: &Contact<'_>) -> RawBson {
    let Some(delegations) = value::list(job.delegations) else {
        return job.delegations.unwrap_or(RawBsonRef::Null).into();
    };
    let mut read = RawArrayBuf::new();
    for delegation in delegations.into_iter().flatten() {
        match delegation {
            RawBsonRef::Document(delegation) => read.push(with_read_date(delegation, contact)),
            other => read.push(other),
        }
    }
    RawBson::Array(read)
}

fn with_read_date(delegation: &RawDocument, contact: &Contact<'_>) -> RawDocumentBuf {
    let mut read = RawDocumentBuf::new();
    for (key, element) in delegation.iter().flatten() {
        let replaced = match (key.as_str(), element) {
            ("cfa_read_company_detail_at", RawBsonRef::String(text)) => {
                value::parse_date(text).map(RawBsonRef::DateTime)
            }
            ("email", RawBsonRef::String(email)) if contact.hides(email) => contact.email,
            _ => None,
        };
        read.append(key, replaced.unwrap_or(element));
    }
    read
}
