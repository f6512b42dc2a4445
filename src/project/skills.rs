//! The three skill lists of an offer, from a job's `competences_rome` or the ROME sheet (spec 02).
//! An element without a usable label is left out, so that it does not cost the offer its sync.

use bson::raw::RawArrayBuf;
use bson::{RawBsonRef, RawDocument};

use crate::model::value;

/// The `libelle` of each `savoir_etre_professionnel`.
#[must_use]
pub(crate) fn desired(job: Option<&RawDocument>, rome: Option<&RawDocument>) -> RawArrayBuf {
    let mut labels = RawArrayBuf::new();
    for element in elements("savoir_etre_professionnel", job, rome) {
        if let Some(label) = value::field(element, "libelle") {
            labels.push(label);
        }
    }
    labels
}

/// The text `category.libelle + "\t" + item.libelle` for each item of each category. `list` is `savoir_faire` or
/// `savoirs`.
#[must_use]
pub(crate) fn by_category(list: &str, job: Option<&RawDocument>, rome: Option<&RawDocument>) -> RawArrayBuf {
    let mut labels = RawArrayBuf::new();
    let mut line = String::new();
    for category in elements(list, job, rome) {
        let name = value::text(value::field(category, "libelle")).unwrap_or_default();
        for item in documents(value::field(category, "items")) {
            if let Some(label) = value::field(item, "libelle").and_then(RawBsonRef::as_str) {
                line.clear();
                line.push_str(name);
                line.push('\t');
                line.push_str(label);
                labels.push(line.as_str());
            }
        }
    }
    labels
}

/// The elements of the job's list. Where the job has no such list, the elements of the ROME sheet's list.
pub(super) fn elements<'a>(
    list: &str,
    job: Option<&'a RawDocument>,
    rome: Option<&'a RawDocument>,
) -> impl Iterator<Item = &'a RawDocument> {
    let own = job.and_then(|competences| value::list(value::field(competences, list)));
    let of_sheet = || rome.and_then(|competences| value::list(value::field(competences, list)));
    documents(own.or_else(of_sheet).map(RawBsonRef::Array))
}

/// The documents of a list, without its other elements.
pub(super) fn documents(list: Option<RawBsonRef<'_>>) -> impl Iterator<Item = &RawDocument> {
    value::list(list).into_iter().flatten().flatten().filter_map(RawBsonRef::as_document)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn texts(list: &RawArrayBuf) -> Vec<String> {
        list.into_iter().map(|label| label.unwrap().as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_list_of_the_job_wins_even_when_it_is_empty_and_a_nullish_one_falls_back() {
        let rome = rawdoc! { "savoirs": [{ "libelle": "C", "items": [{ "libelle": "rome" }] }] };
        let none = rawdoc! { "savoirs": null };
        let empty = rawdoc! { "savoirs": [] };
        let wrong = rawdoc! { "savoirs": "x" };
        assert_eq!(texts(&by_category("savoirs", Some(&none), Some(&rome))), ["C\trome"]);
        assert_eq!(texts(&by_category("savoirs", Some(&wrong), Some(&rome))), ["C\trome"]);
        assert_eq!(texts(&by_category("savoirs", None, Some(&rome))), ["C\trome"]);
        assert!(texts(&by_category("savoirs", Some(&empty), Some(&rome))).is_empty());
        assert!(texts(&by_category("savoirs", None, None)).is_empty());
    }

    #[test]
    fn a_category_without_items_has_none_and_dirty_elements_are_left_out() {
        let job = rawdoc! {
            "savoir_faire": [{ "libelle": "A" }, { "libelle": "B", "items": "x" }, 3,
                { "libelle": "C", "items": [{ "libelle": "c\t1" }, { "autre": 1 }, null] }],
            "savoir_etre_professionnel": [{ "libelle": "S" }, {}],
        };
        assert_eq!(texts(&by_category("savoir_faire", Some(&job), None)), ["C\tc\t1"]);
        assert_eq!(texts(&desired(Some(&job), None)), ["S"]);
    }
}
