//! Compares the target with the evaluation of the specification, offer by offer. Where the specification leaves what
//! stands to the moment at which something was seen, exactly that is allowed, and the comment says why.

use std::collections::{BTreeMap, BTreeSet};

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::documents::{FORGOTTEN_USER, USERS, contact_of_recruiter, contact_of_user, user_id};
use crate::support::evaluation::{Evaluation, JobOwner, Rules, Source, at_creation, evaluate, id_text, value};
use crate::support::fields::text;
use crate::support::offers::{self, anonymisation_faults, cancellation_faults, difference, history_faults};
use crate::support::recruiters::id;

const CONTACT: [&str; 4] = ["apply_email", "apply_phone", "cfa_apply_email", "cfa_apply_phone"];

/// When the comparison is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Moment {
    /// The stream has applied everything; users may be deleted whose copy is still to come.
    Midway,
    /// The same, and every anonymisation that has begun is done.
    Settled,
    /// A backfill has looked at every recruiter once more: nothing depends on moments any more.
    Backfilled,
}

/// Both sides, and who is there.
pub(super) struct Sides {
    evaluation: Evaluation,
    moment: Moment,
    /// An offer that is newer than its projection is left alone (spec 04).
    newest_wins: bool,
    target: BTreeMap<ObjectId, Document>,
    dead_letters: BTreeMap<String, String>,
    /// Fields that another process wrote into offers.
    enriched: BTreeMap<ObjectId, Document>,
    /// The recruiters that are there, and who manages them.
    recruiters: BTreeMap<ObjectId, Bson>,
    /// Recruiters with a copy in `anonymized_recruiters`.
    copied: BTreeSet<ObjectId>,
    users: BTreeSet<String>,
    copied_users: BTreeSet<String>,
}

impl Sides {
    /// `newest_wins`: the rule of `dual-write`.
    pub(super) async fn read(
        database: &Database,
        moment: Moment,
        enriched: &BTreeMap<ObjectId, Document>,
        newest_wins: bool,
    ) -> Self {
        let source = Source::read(database).await;
        let rules = Rules::default();
        let dead_letters =
            database.collection::<Document>("stream_processor_dead_letters").find(doc! {}).await.unwrap();
        let dead_letters: Vec<Document> = dead_letters.try_collect().await.unwrap();
        let mut target = offers::read(database).await;
        target.retain(|_, offer| text(offer, "partner_label") == rules.partner_label);
        Self {
            evaluation: evaluate(&source, &rules),
            moment,
            newest_wins,
            target,
            dead_letters: dead_letters
                .iter()
                .map(|it| (text(it, "_id").to_owned(), text(it, "reason").to_owned()))
                .collect(),
            enriched: enriched.clone(),
            recruiters: source.recruiters.iter().map(|it| (id(it), value(it, "managed_by"))).collect(),
            copied: source.anonymized_recruiters.iter().map(id).collect(),
            users: source.users.iter().map(|user| id(user).to_hex()).collect(),
            copied_users: source.anonymized_users.iter().map(|user| id(user).to_hex()).collect(),
        }
    }

    /// One line per difference: ids and fields, no values.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (id, offer) in &self.target {
            faults.extend(history_faults(*id, offer));
            faults.extend(self.persons_left(*id, offer));
            faults.extend(match self.evaluation.job_owners.get(id) {
                Some(owners) => self.owned(*id, offer, owners),
                None => self.gone(*id, offer),
            });
        }
        let missing = self.evaluation.job_owners.iter().filter(|(id, owners)| {
            // The copy of a recruiter that is not deleted yet wins over a touch in the same batch (spec 03, "Batches").
            let is_projectable = |owner: &JobOwner| owner.offer.is_some() && !self.may_be_anonymised(owner);
            !self.target.contains_key(*id) && owners.iter().any(is_projectable)
        });
        faults.extend(missing.map(|(id, _)| format!("{id}: the offer is missing")));
        faults.extend(self.dead_letter_faults());
        faults
    }

    /// An offer whose job at least one recruiter holds.
    fn owned(&self, id: ObjectId, offer: &Document, owners: &[JobOwner]) -> Vec<String> {
        if owners.iter().any(|owner| self.may_be_anonymised(owner)) && anonymisation_faults(id, offer).is_empty() {
            return Vec::new();
        }
        // It stays as it was while its job is a dead letter or its recruiter has no address.
        let expected: Option<Vec<&Document>> = owners.iter().map(|owner| owner.offer.as_ref()).collect();
        let Some(expected) = expected else {
            return self.contact_left(id, offer);
        };
        let faults = expected.into_iter().map(|expected| self.differences(id, expected, offer));
        faults.min_by_key(Vec::len).unwrap_or_default()
    }

    fn differences(&self, id: ObjectId, expected: &Document, actual: &Document) -> Vec<String> {
        let updated_at = |offer: &Document| offer.get_datetime("updated_at").ok().copied();
        if self.newest_wins && updated_at(expected).is_some() && updated_at(actual) > updated_at(expected) {
            return Vec::new();
        }
        let differing = |expected: &Document| -> Vec<String> {
            let lines = expected.iter().filter_map(|(field, value)| {
                let difference = difference(Some(value), actual.get(field))?;
                Some(format!("{id}: {field} {difference}"))
            });
            lines.collect()
        };
        let mut full = at_creation();
        full.extend(self.enriched.get(&id).cloned().unwrap_or_default());
        full.extend(expected.clone());
        // What is no date loses to a date (spec 09, "Dates").
        if self.newest_wins && updated_at(expected).is_none() && updated_at(actual).is_some() {
            full.remove("updated_at");
        }
        // An anonymisation moves the date, and the documents do not have the time of it.
        let is_of_nobody = self.evaluation.anonymised_users.contains(text(expected, "managed_by"));
        if is_of_nobody && updated_at(actual).is_some() && updated_at(actual) > updated_at(expected) {
            full.remove("updated_at");
        }
        let faults = differing(&full);
        if faults.is_empty() || !self.contact_may_be_gone(text(expected, "managed_by")) {
            return faults;
        }
        let email = Rules::default().anonymized_email;
        let of_cfa = if full.get("cfa_apply_email") == Some(&Bson::Null) { Bson::Null } else { email.clone().into() };
        full.extend(doc! {
            "apply_email": email, "apply_phone": null, "cfa_apply_email": of_cfa, "cfa_apply_phone": null,
            "offer_status": "Cancelled",
        });
        for field in ["delegations", "updated_at"] {
            full.remove(field);
        }
        if differing(&full).is_empty() { Vec::new() } else { faults }
    }

    fn gone(&self, id: ObjectId, offer: &Document) -> Vec<String> {
        let mut faults = cancellation_faults(id, offer);
        faults.extend(self.contact_left(id, offer));
        // A job that went on to another recruiter before it was lost is that one's, who may not be anonymised.
        let shown = ObjectId::parse_str(text(offer, "establishment_id")).unwrap();
        if self.evaluation.anonymised.contains(&id) && self.is_anonymised(shown) {
            faults.extend(anonymisation_faults(id, offer));
        }
        faults
    }

    /// What is left of the contact of a managing user who is anonymised.
    fn contact_left(&self, id: ObjectId, offer: &Document) -> Vec<String> {
        if !self.evaluation.anonymised_users.contains(text(offer, "managed_by")) {
            return Vec::new();
        }
        let email = Bson::from(Rules::default().anonymized_email);
        let is_left =
            |field: &&&str| !matches!(offer.get(**field), Some(Bson::Null)) && offer.get(**field) != Some(&email);
        CONTACT.iter().filter(is_left).map(|field| format!("{id}: {field} is left of an anonymised user")).collect()
    }

    /// Whoever is anonymised, or a user who is gone, has no contact in any offer.
    fn persons_left(&self, id: ObjectId, offer: &Document) -> Vec<String> {
        let recruiters = self.copied.iter().filter(|recruiter| self.is_anonymised(**recruiter));
        let mut gone: Vec<String> = recruiters.map(|recruiter| contact_of_recruiter(*recruiter)).collect();
        let forgotten = user_id(FORGOTTEN_USER).to_hex();
        let users = self.copied_users.iter().chain([&forgotten]).filter(|user| !self.users.contains(*user));
        gone.extend(users.map(|user| contact_of_user(user)));
        let carries = |field: &&&str| gone.iter().any(|contact| text(offer, field).contains(contact));
        CONTACT.iter().filter(carries).map(|field| format!("{id}: {field} is that of a person who is gone")).collect()
    }

    fn dead_letter_faults(&self) -> Vec<String> {
        let expected = &self.evaluation.dead_letters;
        let all: BTreeSet<&String> = expected.keys().chain(self.dead_letters.keys()).collect();
        let differing =
            all.into_iter().filter(|dead_letter| expected.get(*dead_letter) != self.dead_letters.get(*dead_letter));
        let differing = differing.filter(|dead_letter| !self.dead_letter_is_open(dead_letter));
        let line = |dead_letter: &String| match (expected.get(dead_letter), self.dead_letters.get(dead_letter)) {
            (Some(reason), None) => format!("{dead_letter}: no dead letter, but {reason}"),
            (None, Some(reason)) => format!("{dead_letter}: a dead letter of {reason}, but there is no reason"),
            _ => format!("{dead_letter}: a dead letter with another reason"),
        };
        differing.map(line).collect()
    }

    /// Whether this dead letter may be there or not.
    fn dead_letter_is_open(&self, dead_letter: &str) -> bool {
        let mut parts = dead_letter.split('/').skip(1).map(|id| ObjectId::parse_str(id).unwrap());
        let recruiter = parts.next().unwrap();
        let reasons = [self.evaluation.dead_letters.get(dead_letter), self.dead_letters.get(dead_letter)];
        let manager = self.recruiters.get(&recruiter).and_then(id_text).unwrap_or_default();
        let of_user = reasons
            .into_iter()
            .flatten()
            .any(|reason| matches!(reason.as_str(), "missing_cfa_user" | "unknown_job_status"))
            && self.contact_may_be_gone(&manager);
        self.moment != Moment::Backfilled
            // Deleted without a copy: no recruiter is touched (spec 03, "Reactions").
            && (of_user || (self.copied.contains(&recruiter) && self.recruiters.contains_key(&recruiter)))
    }

    /// The recruiter was copied and is not deleted: anonymised by the copy, shown again by the next touch.
    fn may_be_anonymised(&self, owner: &JobOwner) -> bool {
        self.moment != Moment::Backfilled && self.copied.contains(&owner.recruiter)
    }

    fn is_anonymised(&self, recruiter: ObjectId) -> bool {
        self.copied.contains(&recruiter) && !self.recruiters.contains_key(&recruiter)
    }

    /// The contact leaves at the deletion of a user without a copy, and stays away until the user is there again
    /// (docs/decisions.md, "Users deleted without a copy"). It also leaves at the copy of a user who is still there, and
    /// comes back with the next touch. A user who is there again touches delegated recruiters only (spec 03, "Reactions").
    fn contact_may_be_gone(&self, user: &str) -> bool {
        let is = |number: u8| user_id(number).to_hex() == user;
        let is_both = self.users.contains(user) && self.copied_users.contains(user);
        match self.moment {
            Moment::Midway => (0..USERS).any(is),
            Moment::Settled => is(FORGOTTEN_USER) || is_both,
            Moment::Backfilled => is(FORGOTTEN_USER) && !self.users.contains(user),
        }
    }
}
