//! Finds the recruiters and offers that a change of another document concerns (spec 03, "Reactions").
//! The other document is a user, a CFA, a ROME sheet, an engagement or an anonymised recruiter.
//! The queries read ids and keys only.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, RawBsonRef, RawDocument, doc, oid::ObjectId};

use crate::error::Failure;
use crate::fetch::IDS_PER_READ;
use crate::fetch::references::{anonymized_users, deactivated_users, key_at};
use crate::model::ids::{JobId, RecruiterId, UserId};
use crate::model::names::OFFERS;
use crate::model::names::WatchedCollection;
use crate::model::user_id::{spellings, user_id};
use crate::model::value;
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::plan::{Plan, Touch};

const ESTABLISHMENT: &str = "establishment_id";

/// Finds the recruiters that refer to a changed user or reference. Those of users with a new status are among them if a
/// deactivation `cancels` offers.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn recruiters(
    database: &CausalDatabase,
    plan: &Plan,
    cancels: bool,
) -> Result<BTreeSet<RecruiterId>, Failure> {
    let mut concerned = BTreeSet::new();
    if cancels {
        concerned.extend(recruiters_of_users(database, &plan.users_with_new_status).await?);
    }
    let users: Vec<UserId> = plan.changed_users.iter().copied().collect();
    for users in users.chunks(IDS_PER_READ) {
        let filter = doc! { "is_delegated": true, "managed_by": { "$in": spellings(users) } };
        concerned.extend(ids::<RecruiterId>(database, WatchedCollection::Recruiters.name(), filter).await?);
    }
    let mut references: BTreeMap<WatchedCollection, Vec<ObjectId>> = BTreeMap::new();
    for (collection, id) in &plan.changed_references {
        references.entry(*collection).or_default().push(*id);
    }
    for (collection, changed) in references {
        let Some((key, referred_by)) = join(collection) else {
            continue;
        };
        for changed in changed.chunks(IDS_PER_READ) {
            let keys = keys(database, collection, key, changed).await?;
            let filter = doc! { referred_by: { "$in": keys } };
            concerned.extend(ids::<RecruiterId>(database, WatchedCollection::Recruiters.name(), filter).await?);
        }
    }
    Ok(concerned)
}

/// Finds our offers that these users manage. `managed_by` of an offer may be a string or an ObjectId.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn offers(
    database: &CausalDatabase,
    partner_label: &str,
    users: &BTreeSet<UserId>,
) -> Result<Vec<JobId>, Failure> {
    let users: Vec<UserId> = users.iter().copied().collect();
    let mut offers = Vec::new();
    for users in users.chunks(IDS_PER_READ) {
        let filter = doc! { "partner_label": partner_label, "managed_by": { "$in": spellings(users) } };
        offers.extend(ids::<JobId>(database, OFFERS, filter).await?);
    }
    Ok(offers)
}

/// Finds the offers of jobs of recruiters that these users manage, where the offers name no user themselves because the
/// target's schema has or had no field for that. It has none on the first day of the platform. From `shadow` on the recruiters
/// are not projected again.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn unnamed_offers(
    database: &CausalDatabase,
    partner_label: &str,
    users: &BTreeSet<UserId>,
) -> Result<BTreeSet<JobId>, Failure> {
    let users: Vec<UserId> = users.iter().copied().collect();
    let mut jobs: Vec<JobId> = Vec::new();
    for users in users.chunks(IDS_PER_READ) {
        let of_users = doc! { "managed_by": { "$in": spellings(users) } };
        let recruiters = find(database, WatchedCollection::Recruiters.name(), of_users, doc! { "jobs._id": 1 }).await?;
        for recruiter in documents(&recruiters) {
            jobs.extend(job_ids(recruiter?));
        }
    }
    let mut unnamed = BTreeSet::new();
    for jobs in jobs.chunks(IDS_PER_READ) {
        let filter = doc! { "partner_label": partner_label, "_id": { "$in": jobs }, "managed_by": Bson::Null };
        let offers = find(database, OFFERS, filter, doc! { "_id": 1 }).await?;
        for offer in documents(&offers) {
            unnamed.extend(id_of::<JobId>(offer?));
        }
    }
    Ok(unnamed)
}

/// Offers by the state of their managing user. The lists may overlap.
#[derive(Debug)]
pub(crate) struct Managed {
    /// Offers whose user has a copy in `anonymized_userswithaccounts` and is no longer in `userswithaccounts`.
    pub anonymized: Vec<JobId>,
    /// Offers whose user has `DESACTIVE` as last status.
    pub deactivated: Vec<JobId>,
    /// Offers whose user is in `userswithaccounts`, deactivated or not.
    pub present: Vec<JobId>,
}

/// Sorts these offers by the state of their managing user.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn offers_of_gone_users(database: &CausalDatabase, offers: &[JobId]) -> Result<Managed, Failure> {
    let filter = doc! { "_id": { "$in": offers } };
    let batches = find(database, OFFERS, filter, doc! { "managed_by": 1 }).await?;
    let mut managed = Vec::new();
    for offer in documents(&batches) {
        let offer = offer?;
        let user = user_id(value::field(offer, "managed_by"));
        managed.extend(user.zip(id_of::<JobId>(offer)));
    }
    let users: BTreeSet<UserId> = managed.iter().map(|(user, _)| *user).collect();
    let of = |users: &BTreeSet<UserId>| {
        managed.iter().filter(|(user, _)| users.contains(user)).map(|(_, offer)| *offer).collect()
    };
    let anonymized = of(&anonymized_users(database, users.clone()).await?);
    let deactivated = of(&deactivated_users(database, users.clone()).await?);
    let ids_of_users: Vec<UserId> = users.into_iter().collect();
    let found = ids(database, WatchedCollection::Users.name(), doc! { "_id": { "$in": ids_of_users } }).await?;
    let present = of(&found.into_iter().collect());
    Ok(Managed { anonymized, deactivated, present })
}

/// Reads the jobs of these recruiters in their copies in `anonymized_recruiters`. A recruiter without copy is left out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn anonymized_jobs(
    database: &CausalDatabase,
    recruiters: &[RecruiterId],
) -> Result<BTreeMap<RecruiterId, BTreeSet<JobId>>, Failure> {
    let batches = find(
        database,
        WatchedCollection::AnonymizedRecruiters.name(),
        doc! { "_id": { "$in": recruiters } },
        doc! { "jobs._id": 1 },
    )
    .await?;
    let mut jobs = BTreeMap::new();
    for document in documents(&batches) {
        let document = document?;
        if let Some(recruiter) = id_of(document) {
            jobs.insert(recruiter, job_ids(document).collect());
        }
    }
    Ok(jobs)
}

/// Finds our offers that show the establishment of an anonymised recruiter, by recruiter. Some of them are not in its
/// copy: offers of jobs that were removed before, and of jobs whose new recruiter cannot be projected. An establishment
/// that another recruiter has too is left out.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn shown(
    database: &CausalDatabase,
    partner_label: &str,
    recruiters: &[RecruiterId],
) -> Result<BTreeMap<RecruiterId, BTreeSet<JobId>>, Failure> {
    let mut shown = BTreeMap::new();
    let copies = with_establishment(
        database,
        WatchedCollection::AnonymizedRecruiters.name(),
        doc! { "_id": { "$in": recruiters } },
    )
    .await?;
    if copies.is_empty() {
        return Ok(shown);
    }
    let mut recruiter_of: BTreeMap<String, RecruiterId> = copies.into_iter().collect();
    // An offer of an establishment that another recruiter has too may show that recruiter.
    let named: Vec<&String> = recruiter_of.keys().collect();
    let others =
        with_establishment(database, WatchedCollection::Recruiters.name(), doc! { ESTABLISHMENT: { "$in": named } })
            .await?;
    for (establishment, id) in others {
        if recruiter_of.get(&establishment).is_some_and(|recruiter| *recruiter != id) {
            recruiter_of.remove(&establishment);
        }
    }
    let named: Vec<&String> = recruiter_of.keys().collect();
    let filter = doc! { "partner_label": partner_label, ESTABLISHMENT: { "$in": named } };
    for (establishment, offer) in with_establishment(database, OFFERS, filter).await? {
        if let Some(recruiter) = recruiter_of.get(&establishment) {
            shown.entry(*recruiter).or_insert_with(BTreeSet::new).insert(offer);
        }
    }
    Ok(shown)
}

/// Reads the establishment of each document that has one, with the `_id` of the document.
async fn with_establishment<I: From<ObjectId>>(
    database: &CausalDatabase,
    collection: &str,
    filter: Document,
) -> Result<Vec<(String, I)>, Failure> {
    let batches = find(database, collection, filter, doc! { ESTABLISHMENT: 1 }).await?;
    let pair = |document: &RawDocument| Some((key_at(document, ESTABLISHMENT)?.to_owned(), id_of(document)?));
    documents(&batches).map(|document| Ok(pair(document?))).filter_map(Result::transpose).collect()
}

/// Finds the recruiters that these users manage, delegated or not.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn recruiters_of_users(
    database: &CausalDatabase,
    users: &BTreeSet<UserId>,
) -> Result<BTreeSet<RecruiterId>, Failure> {
    let users: Vec<UserId> = users.iter().copied().collect();
    let mut recruiters = BTreeSet::new();
    for users in users.chunks(IDS_PER_READ) {
        let filter = doc! { "managed_by": { "$in": spellings(users) } };
        recruiters.extend(ids::<RecruiterId>(database, WatchedCollection::Recruiters.name(), filter).await?);
    }
    Ok(recruiters)
}

/// Returns the key field of a collection of references, and the field of recruiters that refers to it. `None` for other
/// collections.
fn join(collection: WatchedCollection) -> Option<(&'static str, &'static str)> {
    match collection {
        WatchedCollection::Cfas => Some(("siret", "cfa_delegated_siret")),
        WatchedCollection::RomeSheets => Some(("rome.code_rome", "jobs.rome_code")),
        WatchedCollection::Engagements => Some(("siret", "establishment_siret")),
        WatchedCollection::Recruiters
        | WatchedCollection::AnonymizedRecruiters
        | WatchedCollection::Users
        | WatchedCollection::AnonymizedUsers
        | WatchedCollection::Canary
        | WatchedCollection::Offers => None,
    }
}

async fn keys(
    database: &CausalDatabase,
    collection: WatchedCollection,
    key: &str,
    ids: &[ObjectId],
) -> Result<Vec<String>, Failure> {
    let filter = doc! { "_id": { "$in": ids } };
    let batches = find(database, collection.name(), filter, doc! { key: 1 }).await?;
    let mut keys = Vec::new();
    for document in documents(&batches) {
        keys.extend(key_at(document?, key).map(str::to_owned));
    }
    Ok(keys)
}

async fn ids<I: From<ObjectId>>(
    database: &CausalDatabase,
    collection: &str,
    filter: Document,
) -> Result<Vec<I>, Failure> {
    let batches = find(database, collection, filter, doc! { "_id": 1 }).await?;
    documents(&batches).map(|document| Ok(id_of(document?))).filter_map(Result::transpose).collect()
}

fn job_ids(recruiter: &RawDocument) -> impl Iterator<Item = JobId> {
    let jobs = value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten();
    jobs.filter_map(RawBsonRef::as_document).filter_map(id_of::<JobId>)
}

fn id_of<I: From<ObjectId>>(document: &RawDocument) -> Option<I> {
    document.get_object_id("_id").ok().map(I::from)
}

/// Makes a touch of all jobs for each recruiter.
pub(super) fn whole(recruiters: impl IntoIterator<Item = RecruiterId>) -> BTreeMap<RecruiterId, Touch> {
    recruiters.into_iter().map(|recruiter| (recruiter, Touch::All)).collect()
}
