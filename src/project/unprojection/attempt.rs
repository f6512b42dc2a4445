//! Asks the table for edits, projects them, and takes back what did not bring its field about.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bson::{Bson, Document, RawBsonRef, RawDocument};

use super::asked::Asked;
use super::edit::{Edit, Edited, Place, written};
use super::table::{DECIDING, Row, TABLE};
use crate::model::dead_letter::Reason;
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::user_id::user_id;
use crate::model::{Offer, References, value};
use crate::project::offer::{first_rome_code, project};
use crate::project::settings::ProjectionSettings;
use crate::project::written_fields::{Values, in_order, place};

/// The documents as they stand, and the edits so far.
pub(super) struct Attempt<'a> {
    offer: &'a RawDocument,
    said: Values<'a>,
    recruiter: &'a RecruiterFields<'a>,
    id: JobId,
    job: &'a JobFields<'a>,
    references: &'a References,
    settings: &'a ProjectionSettings,
    /// The edits by the row that asked for them.
    edits: BTreeMap<usize, Vec<Edit>>,
    /// Rows that are not asked any more, because their edits spoil another field.
    given_up: BTreeSet<usize>,
    /// True when the ROME sheet is that of the offer.
    has_own_sheet: bool,
    /// The projection with the present edits. `None` after a change of the edits, until it is asked for. The inner value
    /// is `None` where nothing can be projected.
    projection: Option<Option<Rc<Projected>>>,
}

/// A projection, compared with the offer.
struct Projected {
    offer: Offer,
    /// The rows whose field the offer has and the projection gives with another value.
    differing: BTreeSet<usize>,
}

/// The edits that hold, and the fields that none of them brings about.
#[derive(Default)]
pub(super) struct Held {
    pub job: Document,
    pub recruiter: Document,
    pub not_invertible: BTreeSet<&'static str>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(
        offer: &'a RawDocument,
        recruiter: &'a RecruiterFields<'a>,
        id: JobId,
        job: &'a JobFields<'a>,
        references: &'a References,
        settings: &'a ProjectionSettings,
    ) -> Self {
        let (edits, given_up) = (BTreeMap::new(), BTreeSet::new());
        let said = in_order(offer);
        let (has_own_sheet, projection) = (false, None);
        Self { offer, said, recruiter, id, job, references, settings, edits, given_up, has_own_sheet, projection }
    }

    /// For a job that is made for the offer: gives up all rows that edit the recruiter, and takes the references for those
    /// of the offer.
    pub(super) fn for_new_job(mut self) -> Self {
        self.has_own_sheet = true;
        let edits_recruiter = |row: &Row| row.places().any(|place| matches!(place, Place::Recruiter(_)));
        self.given_up.extend(TABLE.iter().enumerate().filter(|(_, row)| edits_recruiter(row)).map(|(row, _)| row));
        self
    }

    /// Finds the edits.
    pub(super) fn held(mut self) -> Held {
        let before = project(self.recruiter, self.id, self.job, self.references, self.settings);
        let before = match before {
            Ok(before) => {
                let before = self.compared(before);
                if before.differing.is_empty() && !self.names_other_cfa(&before.offer) {
                    return Held::default();
                }
                Some(Rc::new(before))
            }
            // The offer may say a status that the projection knows.
            Err(Reason::UnknownJobStatus) => None,
            Err(_) => return self.nothing(),
        };
        loop {
            // There are no edits at first, and none after a row was given up.
            self.projection = Some(before.clone());
            self.ask(before.as_deref());
            let Some(after) = self.without_failed() else {
                if !self.give_up_unprojectable() {
                    return self.nothing();
                }
                continue;
            };
            match before.as_deref().and_then(|before| self.spoiling(&before.offer, &after)) {
                Some(spoiling) => self.give_up(spoiling),
                None => return self.result(&after.differing).unwrap_or_else(|| self.nothing()),
            }
        }
    }

    /// Asks the rows of all fields that differ, also of those that begin to differ by the edits of others.
    fn ask(&mut self, before: Option<&Projected>) {
        if before.is_none() {
            self.ask_rows(&["recruiter_status", "offer_status"].into_iter().filter_map(place).collect());
        }
        if before.is_some_and(|before| self.names_other_cfa(&before.offer)) {
            self.ask_rows(&place("cfa_siret").into_iter().collect());
        }
        if let Some(now) = self.projected() {
            let deciding = |row: &usize| TABLE.get(*row).is_some_and(|row| DECIDING.contains(&row.field));
            self.ask_rows(&now.differing.iter().copied().filter(deciding).collect());
        }
        while let Some(now) = self.projected() {
            if !self.ask_rows(&now.differing) {
                break;
            }
            if !self.has_own_sheet && self.changes_sheet() {
                self.ask_rows(&self.of_sheet());
            }
        }
    }

    /// True when one of these rows has an edit that it did not have.
    fn ask_rows(&mut self, rows: &BTreeSet<usize>) -> bool {
        let new: Vec<(usize, Vec<Edit>)> = rows
            .iter()
            .filter(|row| !self.edits.contains_key(row) && !self.given_up.contains(row))
            .filter_map(|row| Some((*row, self.edits_of(*row)?)))
            .collect();
        let has_new = !new.is_empty();
        if has_new {
            self.edits.extend(new);
            self.projection = None;
        }
        has_new
    }

    fn edits_of(&self, row: usize) -> Option<Vec<Edit>> {
        let said = at(&self.said, row)?;
        let value = Bson::try_from(value::present(said).unwrap_or(RawBsonRef::Null)).ok()?;
        let Self { offer, recruiter, job, references, .. } = *self;
        TABLE.get(row)?.edits(&Asked { value, offer, recruiter, job, references })
    }

    /// True when the offer has another first ROME code than the job: then the job will have another ROME sheet.
    fn changes_sheet(&self) -> bool {
        let Some(row) = place("offer_rome_codes").filter(|row| self.edits.contains_key(row)) else { return false };
        let said = JobFields { rome_code: at(&self.said, row), ..JobFields::default() };
        first_rome_code(&said) != first_rome_code(self.job)
    }

    /// The rows of the fields that the job takes from the ROME sheet and that it can have itself.
    fn of_sheet(&self) -> BTreeSet<usize> {
        let own = value::object(self.job.competences_rome);
        let has = |list: &str| own.is_some_and(|own| value::list(value::field(own, list)).is_some());
        let fields = [
            ("offer_description", self.job.job_description.is_some()),
            ("offer_desired_skills", has("savoir_etre_professionnel")),
            ("offer_to_be_acquired_skills", has("savoir_faire")),
            ("offer_to_be_acquired_knowledge", has("savoirs")),
        ];
        fields.into_iter().filter(|(_, has_own)| !has_own).filter_map(|(field, _)| place(field)).collect()
    }

    /// True when the CFA that was looked up is that of the offer, and the recruiter names another.
    fn names_other_cfa(&self, before: &Offer) -> bool {
        let projected = value::text(value::field(&before.fields, "cfa_siret"));
        let said = value::text(place("cfa_siret").and_then(|row| at(&self.said, row)));
        let named = value::text(self.recruiter.cfa_delegated_siret);
        said.is_some() && said == projected && named.is_some() && named != said
    }

    /// The projection of the edited documents; `None` where there is none.
    fn projected(&mut self) -> Option<Rc<Projected>> {
        let known = self.projection.take();
        let projection = known.unwrap_or_else(|| {
            let offer = self.projected_with(self.edits.values().flatten())?;
            Some(Rc::new(self.compared(offer)))
        });
        self.projection.insert(projection).clone()
    }

    fn projected_with<'e>(&self, edits: impl Iterator<Item = &'e Edit>) -> Option<Offer> {
        let edited = Edited::new(self.recruiter, self.job, edits)?;
        let recruiter = edited.recruiter.as_deref().map(RecruiterFields::read).transpose().ok()?;
        let job = edited.job.as_deref().map(JobFields::read).transpose().ok()?;
        let (recruiter, job) = (recruiter.as_ref().unwrap_or(self.recruiter), job.as_ref().unwrap_or(self.job));
        project(recruiter, self.id, job, self.references, self.settings).ok()
    }

    fn compared(&self, projected: Offer) -> Projected {
        let given = in_order(&projected.fields);
        let pairs = TABLE.iter().zip(self.said.iter().zip(given)).enumerate();
        let differing = pairs
            .filter(|(_, (row, (said, given)))| {
                said.zip(*given).is_some_and(|(said, given)| !is_same(row, said, given))
            })
            .map(|(row, _)| row)
            .collect();
        Projected { offer: projected, differing }
    }

    /// Takes back the edits whose field they do not bring about. Gives the projection of the others, if there is one.
    fn without_failed(&mut self) -> Option<Rc<Projected>> {
        loop {
            let now = self.projected()?;
            let asked = self.edits.len();
            self.edits.retain(|row, _| !now.differing.contains(row));
            if self.edits.len() == asked {
                return Some(now);
            }
            self.projection = None;
        }
    }

    /// The row whose edits change a field that stays different. A field that is made from another one may follow it.
    fn spoiling(&self, before: &Offer, after: &Projected) -> Option<usize> {
        if after.differing.is_empty() {
            return None;
        }
        let (stood, stands) = (in_order(&before.fields), in_order(&after.offer.fields));
        let changed = after.differing.iter().copied().find(|row| {
            let leaders = TABLE.get(*row).into_iter().flat_map(|row| row.follows).copied().filter_map(place);
            let follows = leaders.into_iter().any(|leader| self.edits.contains_key(&leader));
            !follows && !is_same_value(at(&stood, *row), at(&stands, *row))
        })?;
        let restores = |row: &&usize| {
            let fields = self.without(**row).map(|offer| offer.fields);
            fields.is_some_and(|fields| is_same_value(at(&in_order(&fields), changed), at(&stood, changed)))
        };
        self.edits.keys().find(restores).or_else(|| self.edits.keys().next()).copied()
    }

    /// Gives up the row without which there is a projection, or all rows. False when there is nothing to give up.
    fn give_up_unprojectable(&mut self) -> bool {
        let single = self.edits.keys().copied().find(|row| self.without(*row).is_some());
        let rows: Vec<usize> = single.map_or_else(|| self.edits.keys().copied().collect(), |row| vec![row]);
        rows.iter().for_each(|row| self.give_up(*row));
        !rows.is_empty()
    }

    fn give_up(&mut self, row: usize) {
        self.given_up.insert(row);
        self.edits.clear();
    }

    fn without(&self, row: usize) -> Option<Offer> {
        self.projected_with(self.edits.iter().filter(|(other, _)| **other != row).flat_map(|(_, edits)| edits))
    }

    fn result(&self, open: &BTreeSet<usize>) -> Option<Held> {
        let (mut job, mut recruiter) = (BTreeMap::new(), BTreeMap::new());
        for edit in self.edits.values().flatten() {
            match edit.place {
                Place::Job(name) => job.insert(name, &edit.value),
                Place::Recruiter(name) => recruiter.insert(name, &edit.value),
            };
        }
        // The job is set by its fields, so a list inside `competences_rome` is not set alone.
        let job = written(self.job.named(), &job, &["competences_rome"])?;
        let recruiter = written(self.recruiter.named(), &recruiter, &[])?;
        Some(Held { job, recruiter, not_invertible: fields(open) })
    }

    /// No edit, because nothing can be projected: every field of the offer that the projection writes is named.
    fn nothing(&self) -> Held {
        let omits = |row: &usize| TABLE.get(*row).is_some_and(|row| self.settings.schema.omits(row.field));
        let said = self.said.iter().enumerate().filter(|(_, said)| said.is_some()).map(|(row, _)| row);
        Held { not_invertible: fields(&said.filter(|row| !omits(row)).collect()), ..Held::default() }
    }
}

fn fields(rows: &BTreeSet<usize>) -> BTreeSet<&'static str> {
    rows.iter().filter_map(|row| TABLE.get(*row)).map(|row| row.field).collect()
}

fn at<'v>(values: &Values<'v>, row: usize) -> Option<RawBsonRef<'v>> {
    values.get(row).copied().flatten()
}

/// True when the offer says what the projection gives. A user has several spellings.
fn is_same(row: &Row, said: RawBsonRef<'_>, given: RawBsonRef<'_>) -> bool {
    let is_same_user = || user_id(Some(said)).is_some_and(|user| user_id(Some(given)) == Some(user));
    is_same_value(Some(said), Some(given)) || row.field == "managed_by" && is_same_user()
}

fn is_same_value(left: Option<RawBsonRef<'_>>, right: Option<RawBsonRef<'_>>) -> bool {
    match (left.and_then(value::present), right.and_then(value::present)) {
        (Some(left), Some(right)) => value::same(left, right),
        (left, right) => left.is_none() && right.is_none(),
    }
}
