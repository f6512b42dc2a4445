//! The texts of a recruiter and of its jobs that no field of an offer holds (spec 09, "Before `retired`"). Pure code.
//! The lists follow the tables of spec 01 and spec 02; docs/decisions.md gives the reason for each known field.

use bson::{RawBsonRef, RawDocument};

use crate::model::recruiter::OFFERED_FIELDS;
use crate::model::value;
use crate::project::european_level;

/// The further fields of a recruiter whose texts are not lost: another kind of loss counts them, or another collection
/// has them.
const ELSEWHERE: [&str; 7] =
    ["_id", "establishment_creation_date", "first_name", "last_name", "createdAt", "updatedAt", "jobs"];
/// The fields of a job whose texts are not lost. `job_level_label` is judged by its value.
const OF_JOB: [&str; 31] = [
    "_id",
    "rome_code",
    "rome_label",
    "rome_appellation_label",
    "rome_detail",
    "offer_title_custom",
    "job_level_label",
    "job_start_date",
    "job_description",
    "job_employer_description",
    "job_creation_date",
    "job_expiration_date",
    "job_update_date",
    "job_last_prolongation_date",
    "job_prolongation_count",
    "relance_mail_expiration_J7",
    "relance_mail_expiration_J1",
    "mer_sent",
    "job_status",
    "job_status_comment",
    "job_type",
    "job_delegation_count",
    "delegations",
    "is_disabled_elligible",
    "job_count",
    "job_duration",
    "job_rythm",
    "competences_rome",
    "stats_detail_view",
    "stats_search_view",
    "stats_postuler",
];
/// The label of a job that is open to every level. Its offer has no level, which means the same.
const ANY_LEVEL: &str = "Indifférent";

/// The fields of a recruiter, without its jobs, that hold a text which no offer has.
pub(super) fn texts_of_recruiter(recruiter: &RawDocument) -> impl Iterator<Item = &str> {
    texts(recruiter, |name| OFFERED_FIELDS.contains(&name) || ELSEWHERE.contains(&name))
}

/// The fields of a job that hold a text which no offer has.
pub(super) fn texts_of_job(job: &RawDocument) -> impl Iterator<Item = &str> {
    let level = "job_level_label";
    let is_lost = |label: &str| label != ANY_LEVEL && european_level(label).is_none();
    let lost_level = value::text(value::field(job, level)).is_some_and(is_lost);
    texts(job, |name| OF_JOB.contains(&name)).chain(lost_level.then_some(level))
}

fn texts<'a>(document: &'a RawDocument, is_known: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a str> {
    let fields = document.iter().flatten().map(|(name, value)| (name.as_str(), value));
    fields.filter(move |(name, value)| !is_known(name) && has_text(*value, DEPTH)).map(|(name, _)| name)
}

/// The number of levels of embedded documents and lists in which a text is searched.
const DEPTH: u8 = 8;

fn has_text(value: RawBsonRef<'_>, depth: u8) -> bool {
    match value {
        RawBsonRef::String(text) => !text.trim().is_empty(),
        RawBsonRef::Document(document) if depth > 0 => {
            document.iter().flatten().any(|(_, value)| has_text(value, depth - 1))
        }
        RawBsonRef::Array(list) if depth > 0 => list.into_iter().flatten().any(|value| has_text(value, depth - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn a_text_that_no_offer_holds_is_found_wherever_it_stands() {
        let job = rawdoc! {
            "job_description": "held", "custom_job_title": "lost", "custom_address": "", "custom_geo": { "city": ["lost"] },
            "custom_count": 3, "job_level_label": "Doctorat", "rome_detail": { "definition": "of the ROME sheet" },
        };
        assert_eq!(texts_of_job(&job).collect::<Vec<_>>(), ["custom_job_title", "custom_geo", "job_level_label"]);
        let recruiter =
            rawdoc! { "address": "held", "note": " ", "comment": "lost", "jobs": [{ "custom_x": "not here" }] };
        assert_eq!(texts_of_recruiter(&recruiter).collect::<Vec<_>>(), ["comment"]);
    }

    #[test]
    fn a_level_that_the_offer_has_is_not_lost() {
        for label in ["Indifférent", "BTS, DEUST, autres formations (Bac+2)", ""] {
            assert_eq!(texts_of_job(&rawdoc! { "job_level_label": label }).next(), None, "{label}");
        }
    }
}
