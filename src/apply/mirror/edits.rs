//! The edits of one recruiter that its offers ask for, and the one statement that writes them. Pure code.

use std::collections::{BTreeMap, BTreeSet};

use bson::raw::{CString, RawArrayBuf, cstr};
use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc};

use crate::model::ids::JobId;
use crate::model::recruiter::Recruiter;
use crate::model::value;
use crate::project::written_fields::is_repetition;
use crate::project::{Unprojection, is_active};
use crate::write::statements::{Statement, StillConditions, add_literals, id_if};

/// The date by which newest wins goes for one job.
const JOB_DATE: &str = "job_update_date";
const RECRUITER_DATE: &str = "updatedAt";

/// What the offers of one recruiter ask for.
#[derive(Debug, Default)]
pub(super) struct Edits {
    /// Fields to set, by job.
    jobs: BTreeMap<JobId, Document>,
    /// The fields of the recruiter that each offer asks for. An offer without a wish is here too.
    wishes: BTreeMap<JobId, Document>,
    /// What cannot come back, by offer: names of fields.
    lost: BTreeMap<JobId, BTreeSet<String>>,
    /// True when a touched offer is anonymised: then the contact leaves the recruiter, whatever other offers say.
    hides_contact: bool,
    /// The latest date of an offer that asks for something.
    newest: Option<DateTime>,
}

/// The part of the wishes that all offers share, and the rest.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// Fields of the recruiter to set.
    pub agreed: Document,
    /// Fields on which the offers disagree, with the offers that asked for them.
    pub disputed: BTreeMap<String, BTreeSet<JobId>>,
}

impl Edits {
    /// Adds what a touched offer asks for.
    pub(super) fn add(&mut self, id: JobId, offer: &RawDocument, said: Unprojection, anonymized_email: &str) {
        if !said.job.is_empty() || !said.recruiter.is_empty() {
            self.newest = self.newest.max(value::field(offer, "updated_at").and_then(value::date));
        }
        if !said.job.is_empty() {
            self.jobs.insert(id, said.job);
        }
        self.hides_contact |= is_anonymised(offer, anonymized_email);
        let lost = said.not_invertible.into_iter().filter(|name| !is_repetition(name));
        self.lost.insert(id, lost.map(str::to_owned).collect());
        self.wishes.insert(id, said.recruiter);
    }

    /// Cancels the job of a deleted offer, unless it is cancelled already.
    pub(super) fn cancel(&mut self, id: JobId, job: &RawDocument, date: DateTime) {
        if matches!(value::text(value::field(job, "job_status")), Some("Annulée" | "ANNULEE")) {
            return;
        }
        let date = value::later_date(value::field(job, JOB_DATE), Some(RawBsonRef::DateTime(date))).unwrap_or(date);
        self.newest = self.newest.max(Some(date));
        self.jobs.insert(id, doc! { "job_status": "Annulée", JOB_DATE: date });
    }

    /// True when an offer asks for a field of the recruiter. The other offers of the recruiter must agree then.
    pub(super) fn needs_votes(&self) -> bool {
        self.wishes.values().any(|wishes| !wishes.is_empty())
    }

    /// True when this offer was added.
    pub(super) fn contains(&self, id: JobId) -> bool {
        self.wishes.contains_key(&id)
    }

    /// Adds what another offer of the recruiter says. Only its wishes for the recruiter count.
    pub(super) fn vote(&mut self, id: JobId, said: Unprojection) {
        self.wishes.insert(id, said.recruiter);
    }

    /// The wishes that all offers share. A single offer that is content with a field keeps it.
    pub(super) fn agreement(&self, anonymized_email: &str, recruiter: &RawDocument) -> Agreement {
        let mut agreement = Agreement::default();
        let fields: BTreeSet<&String> = self.wishes.values().flat_map(|wishes| wishes.keys()).collect();
        for field in fields {
            let mut wishes = self.wishes.values().map(|wishes| wishes.get(field));
            let first = wishes.next().flatten();
            match first.filter(|first| wishes.all(|wish| wish == Some(first))) {
                Some(wish) => drop(agreement.agreed.insert(field, wish.clone())),
                None => {
                    let asking = self.wishes.iter().filter(|(_, wishes)| wishes.contains_key(field));
                    agreement.disputed.insert(field.clone(), asking.map(|(id, _)| *id).collect());
                }
            }
        }
        if self.hides_contact {
            for (field, hidden) in hidden_contact(anonymized_email) {
                agreement.disputed.remove(field);
                agreement.agreed.remove(field);
                if value::non_empty(value::field(recruiter, field)).is_some_and(|stands| stands.as_str() != hidden) {
                    agreement.agreed.insert(field, hidden.map_or(Bson::Null, Bson::from));
                }
            }
        }
        agreement
    }

    /// The names of what each touched offer cannot bring back. An offer without any has an empty list.
    pub(super) fn lost(&self, agreement: &Agreement) -> BTreeMap<JobId, BTreeSet<String>> {
        let mut lost = self.lost.clone();
        for (field, offers) in &agreement.disputed {
            for offer in offers {
                if let Some(names) = lost.get_mut(offer) {
                    names.insert(field.clone());
                }
            }
        }
        lost
    }

    /// The statement that writes all edits; `None` when there are none. It does nothing if somebody else changed the
    /// recruiter or one of the jobs since they were read.
    pub(super) fn statement(
        &self,
        document: &RawDocument,
        recruiter: &Recruiter<'_>,
        agreement: &Agreement,
    ) -> Option<Statement> {
        if self.jobs.is_empty() && agreement.agreed.is_empty() {
            return None;
        }
        let mut conditions = StillConditions::default();
        for name in agreement.agreed.keys().map(String::as_str).chain(["status", RECRUITER_DATE]) {
            conditions.add(&CString::try_from(name).ok()?, at(document, name));
            // A field inside a document is asked for only there. The server would put a document in the place of another value.
            if let Some((outer, _)) = name.split_once('.') {
                conditions.add_expression(rawdoc! { "$eq": [{ "$type": format!("${outer}") }, "object"] });
            }
        }
        for (id, fields) in &self.jobs {
            let job = recruiter.jobs.iter().find(|job| job.id == Some(*id))?.document();
            let names: BTreeSet<&str> = fields.keys().map(String::as_str).chain([JOB_DATE, "job_status"]).collect();
            conditions.add_expression(job_is_still(*id, names.into_iter().map(|name| (name, at(job, name)))));
        }
        let mut set = rawdoc! { "_id": id_if(conditions.all()) };
        add_literals(&mut set, &RawDocumentBuf::try_from(&agreement.agreed).ok()?);
        if !self.jobs.is_empty() {
            set.append(cstr!("jobs"), with_edits(&self.jobs)?);
        }
        if let Some(newest) = self.newest.filter(|_| self.may_move(recruiter, agreement)) {
            set.append(cstr!("updatedAt"), rawdoc! { "$max": ["$updatedAt", newest] });
        }
        let body = rawdoc! { "q": { "_id": recruiter.id }, "u": [{ "$set": set }] };
        Some(Statement { id: Some(recruiter.id.0), body })
    }

    /// A name that the recruiter, or a job with edits, has twice. The server loses one of the two values when it computes
    /// such a document, and MongoDB 6.0 ends itself where the field is set.
    pub(super) fn repeated_name(&self, document: &RawDocument, recruiter: &Recruiter<'_>) -> Option<String> {
        let edited = recruiter.jobs.iter().filter(|job| job.id.is_some_and(|id| self.jobs.contains_key(&id)));
        std::iter::once(document).chain(edited.map(|job| job.document())).find_map(repeated_name)
    }

    /// True when a later `updatedAt` moves the date of no offer: the recruiter is active, and each job has a date of
    /// its own (spec 09, "Dates").
    fn may_move(&self, recruiter: &Recruiter<'_>, agreement: &Agreement) -> bool {
        let is_edited = |field: &str| agreement.agreed.contains_key(field);
        is_active(recruiter.fields.status)
            && !is_edited("status")
            && !is_edited(RECRUITER_DATE)
            && recruiter.jobs.iter().all(|job| {
                let edited = job.id.and_then(|id| self.jobs.get(&id)?.get(JOB_DATE));
                edited.map_or_else(|| value::field(job.document(), JOB_DATE).is_some(), |edited| *edited != Bson::Null)
            })
    }
}

/// True when the contact of this offer is anonymised.
pub(super) fn is_anonymised(offer: &RawDocument, anonymized_email: &str) -> bool {
    value::text(value::field(offer, "apply_email")) == Some(anonymized_email)
}

/// The contact of a recruiter, and what stands in its place once it is anonymised.
fn hidden_contact(anonymized_email: &str) -> [(&'static str, Option<&str>); 4] {
    [("email", Some(anonymized_email)), ("phone", None), ("first_name", None), ("last_name", None)]
}

fn repeated_name(document: &RawDocument) -> Option<String> {
    let mut names: Vec<&str> = document.iter().flatten().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.array_windows().find(|[one, next]| one == next).map(|[name, _]| (*name).to_owned())
}

/// Makes the expression that there is one such job and that these fields of it still have these values; `None` means that
/// a field is missing.
fn job_is_still<'a>(id: JobId, fields: impl Iterator<Item = (&'a str, Option<RawBsonRef<'a>>)>) -> RawDocumentBuf {
    let (mut now, mut stood) = (RawArrayBuf::new(), RawArrayBuf::new());
    for (name, value) in fields {
        let path = format!("$$job.{name}");
        // In a list, a missing field and undefined become null, so these are told by their types.
        let of_type = match value {
            None => "missing",
            Some(RawBsonRef::Undefined) => "undefined",
            Some(RawBsonRef::Null) => "null",
            Some(value) => {
                now.push(path);
                stood.push(value);
                continue;
            }
        };
        now.push(rawdoc! { "$type": path });
        stood.push(of_type);
    }
    let is_job = rawdoc! { "$eq": ["$$job._id", id] };
    let found = rawdoc! { "$filter": { "input": jobs(), "as": "job", "cond": is_job } };
    let now = rawdoc! { "$map": { "input": found, "as": "job", "in": now } };
    rawdoc! { "$eq": [now, { "$literal": [stood] }] }
}

/// Makes the expression of the jobs with these edits; `None` for a value that BSON cannot hold.
fn with_edits(edits: &BTreeMap<JobId, Document>) -> Option<RawDocumentBuf> {
    let mut branches = RawArrayBuf::new();
    for (id, fields) in edits {
        let fields = RawDocumentBuf::try_from(fields).ok()?;
        let edited = rawdoc! { "$mergeObjects": ["$$job", { "$literal": fields }] };
        branches.push(rawdoc! { "case": { "$eq": ["$$job._id", *id] }, "then": edited });
    }
    let edited = rawdoc! { "$switch": { "branches": branches, "default": "$$job" } };
    Some(rawdoc! { "$map": { "input": jobs(), "as": "job", "in": edited } })
}

/// Makes the expression of the jobs. What is no list has none.
fn jobs() -> RawDocumentBuf {
    rawdoc! { "$cond": [{ "$isArray": "$jobs" }, "$jobs", []] }
}

/// The value at a dotted path, null included.
fn at<'a>(document: &'a RawDocument, path: &str) -> Option<RawBsonRef<'a>> {
    match path.split_once('.') {
        Some((first, rest)) => at(document.get_document(first).ok()?, rest),
        None => document.get(path).ok().flatten(),
    }
}
