//! Edits of a recruiter and a job, and the copies of both that have them.

use std::collections::BTreeMap;

use bson::raw::{CStr, CString, cstr};
use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::value;

/// Where the value of an offer's field goes back to. A name may have one dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Job(&'static str),
    Recruiter(&'static str),
}

/// One field of the job or of the recruiter with its new value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Edit {
    pub place: Place,
    pub value: Bson,
}

impl Edit {
    pub(super) fn job(name: &'static str, value: impl Into<Bson>) -> Self {
        Self { place: Place::Job(name), value: value.into() }
    }

    pub(super) fn recruiter(name: &'static str, value: impl Into<Bson>) -> Self {
        Self { place: Place::Recruiter(name), value: value.into() }
    }
}

/// A recruiter and a job with their edits; `None` for one that nothing edits.
pub(super) struct Edited {
    pub recruiter: Option<RawDocumentBuf>,
    pub job: Option<RawDocumentBuf>,
}

impl Edited {
    /// Copies the fields that the projection reads, and applies the edits. `None` for a value that BSON cannot hold.
    pub(super) fn new<'e>(
        recruiter: &RecruiterFields<'_>,
        job: &JobFields<'_>,
        edits: impl Iterator<Item = &'e Edit>,
    ) -> Option<Self> {
        let (mut of_recruiter, mut of_job) = (BTreeMap::new(), BTreeMap::new());
        for edit in edits {
            match edit.place {
                Place::Job(name) => of_job.insert(name, &edit.value),
                Place::Recruiter(name) => of_recruiter.insert(name, &edit.value),
            };
        }
        // The jobs of a recruiter are heavy, and no projection of one job reads them.
        let recruiter = recruiter.named().filter(|(name, _)| name.as_str() != "jobs");
        let recruiter = (!of_recruiter.is_empty()).then(|| applied(recruiter, &of_recruiter));
        let job = (!of_job.is_empty()).then(|| applied(job.named(), &of_job));
        // `None` inside `Some` is an edit that BSON cannot hold.
        let is_held = recruiter != Some(None) && job != Some(None);
        is_held.then(|| Self { recruiter: recruiter.flatten(), job: job.flatten() })
    }
}

fn applied<'a>(
    fields: impl Iterator<Item = (&'static CStr, Option<RawBsonRef<'a>>)>,
    edits: &BTreeMap<&'static str, &Bson>,
) -> Option<RawDocumentBuf> {
    let mut document = RawDocumentBuf::new();
    for (name, stands) in fields {
        let inner = inner_edits(name.as_str(), edits);
        if let Some(value) = edits.get(name.as_str()) {
            document.append(name, RawBson::try_from((*value).clone()).ok()?);
        } else if inner.is_empty() {
            stands.into_iter().for_each(|stands| document.append(name, stands));
        } else {
            document.append(name, with_inner(stands, &inner)?);
        }
    }
    Some(document)
}

/// The edits of fields inside the field `name`, by their names in there.
fn inner_edits<'e>(name: &str, edits: &BTreeMap<&'static str, &'e Bson>) -> BTreeMap<&'static str, &'e Bson> {
    let inner =
        |edited: &'static str| edited.split_once('.').filter(|(outer, _)| *outer == name).map(|(_, inner)| inner);
    edits.iter().filter_map(|(edited, value)| Some((inner(edited)?, *value))).collect()
}

/// A document with edits of its fields. A value that is no document gives way to one.
fn with_inner(stands: Option<RawBsonRef<'_>>, edits: &BTreeMap<&'static str, &Bson>) -> Option<RawDocumentBuf> {
    let mut document = RawDocumentBuf::new();
    let fields = value::object(stands).into_iter().flat_map(RawDocument::iter).flatten();
    for (name, stands) in fields.filter(|(name, _)| !edits.contains_key(name.as_str())) {
        document.append(name, stands);
    }
    for (name, value) in edits {
        let name = CString::try_from((*name).to_owned()).ok()?;
        document.append(name, RawBson::try_from((*value).clone()).ok()?);
    }
    Some(document)
}

/// What is to be written: the edits that change something. MongoDB cannot set a field inside a value that is no document,
/// so such a value is set whole. `whole` has the names that are always set whole. `None` where the document as it stands
/// has bytes that are no BSON beside the edit.
pub(super) fn written<'a>(
    fields: impl Iterator<Item = (&'static CStr, Option<RawBsonRef<'a>>)>,
    edits: &BTreeMap<&'static str, &Bson>,
    whole: &[&str],
) -> Option<Document> {
    let mut document = Document::new();
    for (name, stands) in fields {
        let name = name.as_str();
        let inner = inner_edits(name, edits);
        if let Some(value) = edits.get(name).filter(|value| !has(stands, value)) {
            document.insert(name, (*value).clone());
        }
        let object = value::object(stands);
        let changes = |(key, value): &(&&str, &&Bson)| {
            let stands = object.and_then(|object| object.get(**key).ok().flatten());
            stands.is_none() || !has(stands, value)
        };
        let mut changed = inner.iter().filter(changes).peekable();
        if changed.peek().is_none() {
            continue;
        }
        if object.is_none() || whole.contains(&name) {
            document.insert(name, Document::try_from(with_inner(stands, &inner)?).ok()?);
        } else {
            changed.for_each(|(key, value)| drop(document.insert(format!("{name}.{key}"), (*value).clone())));
        }
    }
    Some(document)
}

/// True for the same type and bytes: two values can be equal and have other projections, as 0.0 and -0.0 do.
fn has(stands: Option<RawBsonRef<'_>>, value: &Bson) -> bool {
    let document = |value: RawBsonRef<'_>| {
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("value"), value);
        document
    };
    let edited = RawBson::try_from(value.clone());
    edited.is_ok_and(|edited| document(stands.unwrap_or(RawBsonRef::Null)) == document(edited.as_raw_bson_ref()))
}
