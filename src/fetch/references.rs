//! Looks up the references of projections, in batches, through bounded caches. An event of a reference removes its
//! cached value before recruiters are touched. An interrupted stream empties all caches. So cached values stay right.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use bson::{Document, RawDocument, doc};
use futures::try_join;
use quick_cache::unsync::Cache;

use super::found_reference::{FoundReference, is_readable, name};
use crate::error::Failure;
use crate::model::ids::UserId;
use crate::model::names::WatchedCollection;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::references::is_handicap_engagement;
use crate::model::user_id::user_id;
use crate::model::{Cfa, References, RomeSheet, User, UserStatus, value};
use crate::mongo::causal::CausalDatabase;
use crate::mongo::reads::{documents, find};
use crate::project::offer::first_rome_code;
use crate::project::settings::is_delegated_to_cfa;

/// The sum of all engagement documents of one establishment.
#[derive(Debug, Clone, Default)]
struct Engagement {
    is_handicap: bool,
    /// Collection and `_id` of an unreadable document, which may say `handicap`. `None` where another document says so.
    undecodable: Option<Arc<str>>,
}

/// At most one of `user`, `undecodable` and `is_anonymized` is set. None of them is set for an unknown user.
#[derive(Debug, Clone, Default)]
struct KnownUser {
    user: Option<Arc<User>>,
    /// Collection and `_id` of an unreadable document.
    undecodable: Option<Arc<str>>,
    is_anonymized: bool,
    status: UserStatus,
}

/// The keys of the references of one chunk of recruiters.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    rome_codes: HashSet<String>,
    cfa_sirets: HashSet<String>,
    sirets: HashSet<String>,
    users: HashSet<UserId>,
}

impl Keys {
    /// Adds the keys of the recruiter's user and engagement, and of its CFA where it is delegated.
    pub(crate) fn add_recruiter(&mut self, recruiter: &RecruiterFields<'_>) {
        self.users.extend(user_id(recruiter.managed_by));
        self.sirets.extend(value::text(recruiter.establishment_siret).map(str::to_owned));
        if is_delegated_to_cfa(recruiter) {
            self.cfa_sirets.extend(value::text(recruiter.cfa_delegated_siret).map(str::to_owned));
        }
    }

    /// Adds the first ROME code of the job.
    pub(crate) fn add_job(&mut self, job: &JobFields<'_>) {
        if let Some(code) = first_rome_code(job)
            && !self.rome_codes.contains(code)
        {
            self.rome_codes.insert(code.to_owned());
        }
    }
}

/// The references that were found for the [`Keys`] of one chunk.
#[derive(Debug, Default)]
pub struct Answers {
    rome: HashMap<String, FoundReference<RomeSheet>>,
    cfas: HashMap<String, FoundReference<Cfa>>,
    handicap: HashMap<String, Engagement>,
    users: HashMap<UserId, KnownUser>,
}

impl Answers {
    /// The references of one job.
    #[must_use]
    pub fn of(&self, recruiter: &RecruiterFields<'_>, job: &JobFields<'_>) -> References {
        let user = user_id(recruiter.managed_by).and_then(|id| self.users.get(&id)).cloned().unwrap_or_default();
        let is_known = user.user.is_some() || user.undecodable.is_some() || user.is_anonymized;
        let siret = value::text(recruiter.establishment_siret);
        let cfa = value::text(recruiter.cfa_delegated_siret).and_then(|siret| self.cfas.get(siret));
        let rome = first_rome_code(job).and_then(|code| self.rome.get(code));
        let engagement = siret.and_then(|siret| self.handicap.get(siret));
        let of_contact = || FoundReference::undecodable(cfa).or_else(|| user.undecodable.clone());
        let undecodable = FoundReference::undecodable(rome)
            .or_else(|| engagement.and_then(|engagement| engagement.undecodable.clone()))
            .or_else(|| of_contact().filter(|_| is_delegated_to_cfa(recruiter)));
        References {
            rome: FoundReference::document(rome),
            cfa: FoundReference::document(cfa),
            user: user.user,
            user_is_anonymized: user.is_anonymized,
            user_is_unknown: user_id(recruiter.managed_by).is_some() && !is_known,
            user_status: user.status,
            handicap: engagement.is_some_and(|engagement| engagement.is_handicap),
            undecodable,
            undecodable_user: user.undecodable,
        }
    }
}

/// The caches in front of the reference collections.
#[derive(Debug)]
pub(crate) struct ReferenceCaches {
    database: CausalDatabase,
    /// The value of [`CausalDatabase::continuity`] when the caches were last emptied.
    continuity: u64,
    rome: Cache<String, FoundReference<RomeSheet>>,
    cfas: Cache<String, FoundReference<Cfa>>,
    handicap: Cache<String, Engagement>,
    users: Cache<UserId, KnownUser>,
}

impl ReferenceCaches {
    /// The caches begin empty. Full, they hold a few megabytes together.
    #[must_use]
    pub(crate) fn new(database: &CausalDatabase) -> Self {
        Self {
            database: database.clone(),
            continuity: database.continuity(),
            rome: Cache::new(600),
            cfas: Cache::new(2_000),
            handicap: Cache::new(20_000),
            users: Cache::new(10_000),
        }
    }

    /// Finds all `keys`, in the caches or else with one read per collection.
    ///
    /// # Errors
    /// [`Failure::Read`].
    pub(crate) async fn look_up(&mut self, keys: Keys) -> Result<Answers, Failure> {
        let continuity = self.database.continuity();
        if self.continuity != continuity {
            self.clear();
            self.continuity = continuity;
        }
        let mut answers = Answers::default();
        let rome = missing(keys.rome_codes, &mut self.rome, &mut answers.rome);
        let cfas = missing(keys.cfa_sirets, &mut self.cfas, &mut answers.cfas);
        let sirets = missing(keys.sirets, &mut self.handicap, &mut answers.handicap);
        let users = missing(keys.users, &mut self.users, &mut answers.users);
        let database = &self.database;
        let (rome, cfas, handicap, users) = try_join!(
            read_rome_sheets(database, rome),
            read_cfas(database, cfas),
            read_engagements(database, sirets),
            read_users(database, users),
        )?;
        keep(rome, &mut self.rome, &mut answers.rome);
        keep(cfas, &mut self.cfas, &mut answers.cfas);
        keep(handicap, &mut self.handicap, &mut answers.handicap);
        keep(users, &mut self.users, &mut answers.users);
        Ok(answers)
    }

    pub(crate) fn clear(&mut self) {
        self.rome.clear();
        self.cfas.clear();
        self.handicap.clear();
        self.users.clear();
    }

    /// Removes a user from the cache, after an event of this user.
    pub(crate) fn forget_user(&mut self, id: &UserId) {
        self.users.remove(id);
    }

    /// Empties the cache of a collection of references, after an event of that collection.
    pub(crate) fn forget(&mut self, collection: WatchedCollection) {
        match collection {
            WatchedCollection::Cfas => self.cfas.clear(),
            WatchedCollection::RomeSheets => self.rome.clear(),
            WatchedCollection::Engagements => self.handicap.clear(),
            WatchedCollection::Users | WatchedCollection::AnonymizedUsers => self.users.clear(),
            WatchedCollection::Recruiters
            | WatchedCollection::AnonymizedRecruiters
            | WatchedCollection::Canary
            | WatchedCollection::Offers => {}
        }
    }
}

/// Copies cached values to the answers. Returns the keys that the cache lacks.
fn missing<K: Eq + Hash + Clone, V: Clone>(
    keys: HashSet<K>,
    cache: &mut Cache<K, V>,
    answers: &mut HashMap<K, V>,
) -> Vec<K> {
    let mut missing = Vec::new();
    for key in keys {
        match cache.get(&key).cloned() {
            Some(value) => {
                answers.insert(key, value);
            }
            None => missing.push(key),
        }
    }
    missing
}

fn keep<K: Eq + Hash + Clone, V: Clone>(found: HashMap<K, V>, cache: &mut Cache<K, V>, answers: &mut HashMap<K, V>) {
    for (key, value) in found {
        cache.insert(key.clone(), value.clone());
        answers.insert(key, value);
    }
}

/// One read by `field`. Of several documents with the same key, the first one in the order of `_id` counts. So the
/// result does not depend on the order in which the server finds them.
async fn read_by<T>(
    database: &CausalDatabase,
    watched: WatchedCollection,
    field: &str,
    projection: Document,
    keys: Vec<String>,
    take: impl Fn(&RawDocument) -> bson::error::Result<T>,
) -> Result<HashMap<String, FoundReference<T>>, Failure> {
    let mut found = HashMap::with_capacity(keys.len());
    if keys.is_empty() {
        return Ok(found);
    }
    let batches = find(database, watched.name(), doc! { field: { "$in": &keys } }, projection).await?;
    let mut read: Vec<&RawDocument> = documents(&batches).collect::<Result<_, _>>()?;
    // An `_id` that is no ObjectId comes first, as most other types do in the server's order.
    read.sort_by_cached_key(|document| (document.get_object_id("_id").ok(), name(watched, document)));
    for document in read {
        if let Some(key) = key_at(document, field) {
            found.entry(key.to_owned()).or_insert_with(|| FoundReference::read(watched, document, &take));
        }
    }
    for key in keys {
        found.entry(key).or_insert(FoundReference::Nothing);
    }
    Ok(found)
}

/// The non-empty text at a dotted path.
#[must_use]
pub(crate) fn key_at<'a>(document: &'a RawDocument, path: &str) -> Option<&'a str> {
    match path.split_once('.') {
        Some((first, rest)) => key_at(value::object(value::field(document, first))?, rest),
        None => value::text(value::field(document, path)),
    }
}

async fn read_rome_sheets(
    database: &CausalDatabase,
    codes: Vec<String>,
) -> Result<HashMap<String, FoundReference<RomeSheet>>, Failure> {
    let projection = doc! { "rome.code_rome": 1, "definition": 1, "acces_metier": 1, "competences": 1 };
    read_by(database, WatchedCollection::RomeSheets, "rome.code_rome", projection, codes, RomeSheet::read).await
}

async fn read_cfas(
    database: &CausalDatabase,
    sirets: Vec<String>,
) -> Result<HashMap<String, FoundReference<Cfa>>, Failure> {
    let projection = doc! { "siret": 1, "raison_sociale": 1, "address": 1 };
    read_by(database, WatchedCollection::Cfas, "siret", projection, sirets, Cfa::read).await
}

async fn read_engagements(
    database: &CausalDatabase,
    sirets: Vec<String>,
) -> Result<HashMap<String, Engagement>, Failure> {
    let mut handicap: HashMap<String, Engagement> =
        sirets.iter().map(|siret| (siret.clone(), Engagement::default())).collect();
    if sirets.is_empty() {
        return Ok(handicap);
    }
    let projection = doc! { "siret": 1, "engagement": 1, "sources": 1 };
    let batches =
        find(database, WatchedCollection::Engagements.name(), doc! { "siret": { "$in": sirets } }, projection).await?;
    for document in documents(&batches) {
        let document = document?;
        let Some(siret) = key_at(document, "siret") else { continue };
        let known = handicap.entry(siret.to_owned()).or_default();
        if is_readable(document) {
            known.is_handicap |= is_handicap_engagement(document)
        } else {
            known.undecodable = known.undecodable.take().or(Some(name(WatchedCollection::Engagements, document)))
        }
    }
    // One document that says `handicap` is enough, so an unreadable one beside it does not matter.
    handicap.values_mut().filter(|known| known.is_handicap).for_each(|known| known.undecodable = None);
    Ok(handicap)
}

/// Reads users. A user who is gone is looked up among the anonymised users (spec 03, "It stays anonymised").
async fn read_users(database: &CausalDatabase, ids: Vec<UserId>) -> Result<HashMap<UserId, KnownUser>, Failure> {
    let mut users: HashMap<UserId, KnownUser> = ids.iter().map(|id| (*id, KnownUser::default())).collect();
    if ids.is_empty() {
        return Ok(users);
    }
    let status = doc! { "status.status": 1, "status.date": 1 };
    let mut projection = doc! { "email": 1, "phone": 1 };
    projection.extend(status.clone());
    let batches = find(database, WatchedCollection::Users.name(), by_id(&ids), projection).await?;
    for document in documents(&batches) {
        let document = document?;
        let Ok(id) = document.get_object_id("_id").map(UserId) else { continue };
        let known = match FoundReference::read(WatchedCollection::Users, document, User::read) {
            FoundReference::Document(user) => {
                KnownUser { user: Some(user), status: UserStatus::read(document), ..KnownUser::default() }
            }
            found => KnownUser { undecodable: FoundReference::undecodable(Some(&found)), ..KnownUser::default() },
        };
        users.insert(id, known);
    }
    // The platform inserts the anonymised copy before it deletes the user. So only a user who is gone is anonymised.
    let is_there = |known: &KnownUser| known.user.is_some() || known.undecodable.is_some();
    let absent: Vec<UserId> = ids.into_iter().filter(|id| !users.get(id).is_some_and(is_there)).collect();
    if absent.is_empty() {
        return Ok(users);
    }
    let batches = find(database, WatchedCollection::AnonymizedUsers.name(), by_id(&absent), status).await?;
    for document in documents(&batches) {
        let document = document?;
        if let Ok(id) = document.get_object_id("_id").map(UserId) {
            let status = UserStatus::read(document);
            users.insert(id, KnownUser { is_anonymized: true, status, ..KnownUser::default() });
        }
    }
    Ok(users)
}

/// The users among `ids` that were anonymised and are gone.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn anonymized_users(
    database: &CausalDatabase,
    ids: BTreeSet<UserId>,
) -> Result<BTreeSet<UserId>, Failure> {
    let known = read_users(database, ids.into_iter().collect()).await?;
    Ok(known.into_iter().filter(|(_, user)| user.is_anonymized).map(|(id, _)| id).collect())
}

/// The users among `ids` whose last status is `DESACTIVE`.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn deactivated_users(
    database: &CausalDatabase,
    ids: BTreeSet<UserId>,
) -> Result<BTreeSet<UserId>, Failure> {
    let known = read_users(database, ids.into_iter().collect()).await?;
    Ok(known.into_iter().filter(|(_, user)| user.status.is_deactivated).map(|(id, _)| id).collect())
}

fn by_id(ids: &[UserId]) -> Document {
    doc! { "_id": { "$in": ids } }
}
