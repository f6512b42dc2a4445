//! The two laws (spec 10, "Unprojection"), and what else must hold, for one case. The edits are applied here as MongoDB
//! applies a `$set`, not as the product does.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawBsonRef, RawDocument, RawDocumentBuf};

use super::super::table::TABLE;
use super::super::{Unprojection, new_job, new_recruiter, unproject};
use crate::model::dead_letter::Reason;
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::user_id::user_id;
use crate::model::{References, value};
use crate::project::offer::project;
use crate::project::settings::ProjectionSettings;

/// Documents that belong together.
#[derive(Clone)]
pub(super) struct Case {
    pub recruiter: Document,
    pub id: JobId,
    pub job: Document,
    pub references: References,
    pub settings: ProjectionSettings,
}

/// Documents are printed as JSON, because a failure is long enough.
impl std::fmt::Debug for Case {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} / {} / {:?}", self.recruiter, self.job, self.references)
    }
}

pub(super) fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(document).unwrap()
}

impl Case {
    pub(super) fn projected(&self) -> Result<RawDocumentBuf, Reason> {
        let (recruiter, job) = (raw(&self.recruiter), raw(&self.job));
        let (recruiter, job) = (RecruiterFields::read(&recruiter).unwrap(), JobFields::read(&job).unwrap());
        project(&recruiter, self.id, &job, &self.references, &self.settings).map(|offer| offer.fields)
    }

    pub(super) fn unprojected(&self, offer: &RawDocument) -> Unprojection {
        let (recruiter, job) = (raw(&self.recruiter), raw(&self.job));
        let (recruiter, job) = (RecruiterFields::read(&recruiter).unwrap(), JobFields::read(&job).unwrap());
        unproject(offer, &recruiter, self.id, &job, &self.references, &self.settings)
    }

    pub(super) fn edited(&self, said: &Unprojection) -> Self {
        let mut edited = self.clone();
        set(&mut edited.recruiter, &said.recruiter);
        set(&mut edited.job, &said.job);
        edited
    }
}

/// As `$set` does, which refuses a field inside a value that is no document.
fn set(document: &mut Document, edits: &Document) {
    for (name, value) in edits {
        let Some((outer, inner)) = name.split_once('.') else {
            document.insert(name, value.clone());
            continue;
        };
        let outer = document.entry(outer.to_owned()).or_insert_with(|| Document::new().into());
        outer.as_document_mut().unwrap().insert(inner, value.clone());
    }
}

fn is_same(field: &str, left: RawBsonRef<'_>, right: RawBsonRef<'_>) -> bool {
    let (left, right) = (value::present(left), value::present(right));
    let users = (user_id(left), user_id(right));
    match (left, right) {
        (None, None) => true,
        (Some(left), Some(right)) if value::same(left, right) => true,
        _ => field == "managed_by" && users.0.is_some() && users.0 == users.1,
    }
}

/// The fields that the offer has and that the projection gives with another value.
pub(super) fn differing(offer: &RawDocument, projected: &RawDocument) -> BTreeSet<&'static str> {
    let differs = |field: &&str| {
        let (said, given) = (offer.get(field), projected.get(field));
        said.unwrap().zip(given.unwrap()).is_some_and(|(said, given)| !is_same(field, said, given))
    };
    TABLE.iter().map(|row| row.field).filter(differs).collect()
}

/// Law 1.
pub(super) fn nothing_to_say_when_nothing_changed(case: &Case) {
    if let Ok(offer) = case.projected() {
        assert_eq!(case.unprojected(&offer), Unprojection::default(), "{case:?}");
    }
}

/// Law 2, and that there is nothing more to say afterwards. Gives what was said.
pub(super) fn what_was_said_comes_back(case: &Case, offer: &RawDocument) -> Unprojection {
    let said = case.unprojected(offer);
    assert!(said.job.keys().all(|name| !name.contains('.')), "{:?}", said.job);
    let edited = case.edited(&said);
    let Ok(after) = edited.projected() else {
        assert!(said.job.is_empty() && said.recruiter.is_empty(), "edits without a projection: {said:?} of {case:?}");
        let names = TABLE.iter().map(|row| row.field);
        let has = |field: &&str| offer.get(field).unwrap().is_some() && !case.settings.schema.omits(field);
        assert_eq!(said.not_invertible, names.filter(has).collect());
        return said;
    };
    assert_eq!(differing(offer, &after), said.not_invertible, "{said:?} of {case:?} for {offer:?}");
    if let Ok(before) = case.projected() {
        let changed = differing(&before, &after);
        for row in TABLE.iter().filter(|row| said.not_invertible.contains(row.field) && changed.contains(row.field)) {
            let has_followed = row.follows.iter().any(|leader| changed.contains(leader));
            assert!(has_followed, "{} is written half: {said:?} of {case:?} for {offer:?}", row.field);
        }
    }
    let again = Unprojection { not_invertible: said.not_invertible.clone(), ..Unprojection::default() };
    assert_eq!(edited.unprojected(offer), again, "after {said:?} of {case:?} for {offer:?}");
    said
}

/// Law 3: a job and a recruiter that are made for the offer give it.
pub(super) fn new_documents_give_the_offer(case: &Case, offer: &RawDocument, user: Option<&RawDocument>) {
    let made = raw(&new_recruiter(offer, user, &case.settings));
    for recruiter in [raw(&case.recruiter), made] {
        let recruiter = RecruiterFields::read(&recruiter).unwrap();
        let (job, not_invertible) = new_job(offer, &recruiter, case.id, &case.references, &case.settings);
        assert_eq!(job.get("_id"), Some(&Bson::ObjectId(case.id.0)));
        let raw = raw(&job);
        let job = JobFields::read(&raw).unwrap();
        match project(&recruiter, case.id, &job, &case.references, &case.settings) {
            Ok(after) => assert_eq!(differing(offer, &after.fields), not_invertible, "{raw:?} for {offer:?}"),
            Err(Reason::UnknownJobStatus) => panic!("a new job has a known status"),
            Err(_) => assert!(TABLE.iter().all(|row| {
                not_invertible.contains(row.field)
                    || offer.get(row.field).unwrap().is_none()
                    || case.settings.schema.omits(row.field)
            })),
        }
    }
}
