//! The indexes that our queries need on the platform's collections, and what gets slower where one is missing.

use std::collections::BTreeMap;

use bson::Document;
use serde_json::json;

use super::super::Check;
use super::super::database::present;
use super::Part;
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::{
    APPLICATIONS, COURSES, DELEGATED, ESTABLISHMENTS, OFFERS, ROLES, SIRET_CACHE, WatchedCollection,
};

const RECRUITERS: &str = WatchedCollection::Recruiters.name();
const USERS: &str = WatchedCollection::Users.name();

/// A collection, the first keys of an index, and the work that needs the index.
const NEEDED: [(&str, &[&str], &str); 19] = [
    (OFFERS, &["partner_label"], "verify, resyncs and repair-offer-data"),
    (OFFERS, &["offer_status", "partner_label"], "cancel-expired-offers, fill-missing-start-dates, send-introductions"),
    (OFFERS, &["offer_expiration"], "both reminders and cap-offer-expirations"),
    (OFFERS, &["managed_by"], "the anonymisation of a user, and reactions to users"),
    (OFFERS, &["establishment_id"], "the anonymisation of a recruiter, and verify"),
    (RECRUITERS, &["establishment_id"], "verify, and jobs that moved to another recruiter"),
    (RECRUITERS, &["establishment_siret"], "reactions to engagements"),
    (RECRUITERS, &["cfa_delegated_siret"], "reactions to CFAs"),
    (RECRUITERS, &["managed_by"], "reactions to users, and the anonymisation of a user"),
    (USERS, &["last_action_date"], "anonymize-inactive-users"),
    (ROLES, &["user_id"], "the anonymisation of a user"),
    (SIRET_CACHE, &["siret"], "refresh-pending-establishments"),
    (APPLICATIONS, &["job_id"], "send-introductions"),
    (COURSES, &["lieu_formation_geopoint"], "send-introductions"),
    (WatchedCollection::Cfas.name(), &["siret"], "the projection of delegated recruiters"),
    (WatchedCollection::RomeSheets.name(), &["rome.code_rome"], "the projection of every job"),
    (WatchedCollection::Engagements.name(), &["siret"], "the projection of every recruiter"),
    (ESTABLISHMENTS, &["siret"], "the count of what exists in recruiters alone"),
    (DELEGATED, &["entreprise_id"], "the count of what exists in recruiters alone"),
];

pub(super) async fn part(context: &Context) -> Result<Part, Failure> {
    let mut found: BTreeMap<&str, Option<Vec<Document>>> = BTreeMap::new();
    let mut missing: Vec<(&str, String, &str)> = Vec::new();
    let mut checks = Vec::new();
    for (collection, keys, work) in NEEDED {
        if !found.contains_key(collection) {
            let indexes = present(context, collection).await.unwrap_or_else(|failure| {
                let found = format!("the indexes of {collection} are unknown: {failure}");
                checks.push(Check::warning("query_indexes", found, "grant `listIndexes` on it, or the role `read`"));
                None
            });
            found.insert(collection, indexes);
        }
        // A missing collection lacks no index; the check `collections` names the ones that are needed.
        let Some(Some(indexes)) = found.get(collection) else { continue };
        if !indexes.iter().any(|index| begins_with(index, keys)) {
            missing.push((collection, keys.join(", "), work));
        }
    }
    let check = |(collection, keys, work): &(&str, String, &str)| {
        let found = format!("no index of {collection} begins with {keys}");
        let remedy = format!(
            "`stream-processor setup` adds its own indexes, the others belong to the platform's model; without it slower: \
             {work}"
        );
        Check::warning("query_indexes", found, remedy)
    };
    checks.extend(missing.iter().map(check));
    if checks.is_empty() {
        checks.push(Check::ok("query_indexes", "each query of the service has an index"));
    }
    let fact = |(collection, keys, work): &(&str, String, &str)| json!({ "collection": collection, "keys": keys, "slower": work });
    Ok(Part { name: "missing_indexes", checks, facts: missing.iter().map(fact).collect() })
}

fn begins_with(index: &Document, keys: &[&str]) -> bool {
    index.len() >= keys.len() && index.keys().zip(keys).all(|(key, wanted)| key == wanted)
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn an_index_serves_the_queries_on_its_first_keys() {
        let index = doc! { "offer_status": 1, "partner_label": 1, "offer_expiration": 1 };
        assert!(begins_with(&index, &["offer_status"]) && begins_with(&index, &["offer_status", "partner_label"]));
        assert!(!begins_with(&index, &["partner_label"]) && !begins_with(&doc! { "a": 1 }, &["a", "b"]));
    }
}
