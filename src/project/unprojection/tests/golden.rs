//! The laws over the golden documents: every job, with the values that other golden offers have.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use bson::oid::ObjectId;
use bson::{Bson, Document};
use proptest::prelude::*;

use super::super::table::TABLE;
use super::documents::{dirty, settings};
use super::laws::{
    Case, new_documents_give_the_offer, nothing_to_say_when_nothing_changed, raw, what_was_said_comes_back,
};
use crate::model::ids::JobId;
use crate::model::recruiter::{JobFields, RecruiterFields};
use crate::model::references::is_handicap_engagement;
use crate::model::user_id::user_id;
use crate::model::{Cfa, References, RomeSheet, User, UserStatus, value};
use crate::project::offer::first_rome_code;

macro_rules! golden {
    ($file:literal) => {
        xtask::golden::read(include_bytes!(concat!("../../../../tests/golden/", $file))).unwrap()
    };
}

/// The reference documents by what refers to them.
struct Golden {
    rome: HashMap<String, Document>,
    cfas: HashMap<String, Document>,
    users: HashMap<ObjectId, Document>,
    engagements: Vec<Document>,
}

impl Golden {
    fn read() -> Self {
        let text = |document: &Document, key: &str| document.get_str(key).unwrap().to_owned();
        let by = |documents: Vec<Document>, key: fn(&Document) -> &Document, name: &str| -> HashMap<String, Document> {
            documents.into_iter().map(|document| (text(key(&document), name), document)).collect()
        };
        let users = golden!("references/userswithaccounts.ejson.gz").into_iter();
        Self {
            rome: by(
                golden!("references/referentielromes.ejson.gz"),
                |it| it.get_document("rome").unwrap(),
                "code_rome",
            ),
            cfas: by(golden!("references/cfas.ejson.gz"), |it| it, "siret"),
            users: users.map(|user| (user.get_object_id("_id").unwrap(), user)).collect(),
            engagements: golden!("references/referentiel_engagement_entreprise.ejson.gz"),
        }
    }

    fn user(&self, recruiter: &RecruiterFields<'_>) -> Option<&Document> {
        user_id(recruiter.managed_by).and_then(|id| self.users.get(&id.0))
    }

    fn references(&self, recruiter: &RecruiterFields<'_>, job: &JobFields<'_>) -> References {
        let siret = value::text(recruiter.establishment_siret);
        let of_siret = |engagement: &&Document| engagement.get_str("siret").ok() == siret;
        let cfa = value::text(recruiter.cfa_delegated_siret).and_then(|siret| self.cfas.get(siret));
        let user = self.user(recruiter).map(raw);
        References {
            rome: first_rome_code(job).and_then(|code| self.rome.get(code)).map(sheet),
            cfa: cfa.map(|cfa| Arc::new(Cfa::read(&raw(cfa)).unwrap())),
            user_status: user.as_deref().map(UserStatus::read).unwrap_or_default(),
            user: user.map(|user| Arc::new(User::read(&user).unwrap())),
            handicap: self.engagements.iter().filter(of_siret).any(|it| is_handicap_engagement(&raw(it))),
            ..References::default()
        }
    }

    /// Every job whose `_id` is an ObjectId.
    fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for mut recruiter in golden!("recruiters.ejson.gz") {
            let Some(Bson::Array(jobs)) = recruiter.remove("jobs") else { continue };
            for job in jobs.into_iter().filter_map(|job| job.as_document().cloned()) {
                let Ok(id) = job.get_object_id("_id") else { continue };
                let (of_recruiter, of_job) = (raw(&recruiter), raw(&job));
                let fields = (RecruiterFields::read(&of_recruiter).unwrap(), JobFields::read(&of_job).unwrap());
                let references = self.references(&fields.0, &fields.1);
                let recruiter = recruiter.clone();
                cases.push(Case { recruiter, id: JobId(id), job, references, settings: settings(0) });
            }
        }
        cases
    }
}

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| Golden::read().cases());

fn sheet(document: &Document) -> Arc<RomeSheet> {
    Arc::new(RomeSheet::read(&raw(document)).unwrap())
}

#[test]
fn nothing_is_said_about_the_projection_of_any_golden_job() {
    assert!(CASES.iter().filter(|case| case.projected().is_ok()).count() > 500, "the golden jobs can be projected");
    CASES.iter().for_each(nothing_to_say_when_nothing_changed);
}

#[test]
fn whatever_another_golden_offer_says_comes_back_or_is_named() {
    let offers: Vec<_> = CASES.iter().filter_map(|case| case.projected().ok()).collect();
    let (mut brought, mut named) = (0, 0);
    for (number, case) in CASES.iter().enumerate() {
        let Ok(own) = case.projected().map(|own| Document::try_from(own).unwrap()) else { continue };
        for step in [1, 7, 50] {
            let other = Document::try_from(&*offers[(number * 31 + step) % offers.len()]).unwrap();
            let mut offer = own.clone();
            // All fields of the other offer, or each `step`th one.
            for row in TABLE.iter().skip(number % step).step_by(step) {
                offer.insert(row.field, other.get(row.field).unwrap().clone());
            }
            let said = what_was_said_comes_back(case, &raw(&offer));
            brought += said.job.len() + said.recruiter.len();
            named += said.not_invertible.len();
            new_documents_give_the_offer(case, &raw(&offer), None);
        }
    }
    assert!(brought > 3 * named, "{brought} edits, {named} fields named");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_written_into_a_golden_offer_comes_back_or_is_named(
        number in any::<proptest::sample::Index>(),
        edits in proptest::collection::vec((0..TABLE.len(), dirty()), 1..12),
        kind in 0_u8..8,
    ) {
        let case = Case { settings: settings(kind), ..number.get(&CASES).clone() };
        if let Ok(offer) = case.projected() {
            let mut offer = Document::try_from(offer).unwrap();
            offer.extend(edits.into_iter().map(|(row, value)| (TABLE[row].field.to_owned(), value)));
            nothing_to_say_when_nothing_changed(&case);
            what_was_said_comes_back(&case, &raw(&offer));
            new_documents_give_the_offer(&case, &raw(&offer), None);
        }
    }
}
