//! The three skill lists of an offer become those of the job's `competences_rome`. The projection reads only labels, so an
//! element whose label stays keeps its other fields, such as the codes of the ROME sheet.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawBson, RawBsonRef, RawDocument, doc};

use super::asked::Asked;
use super::edit::Edit;
use crate::model::value;
use crate::project::skills::{documents, elements};

pub(super) fn desired_skills(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    let labels = asked.value.as_array()?;
    let mut known = BTreeMap::new();
    for element in standing(asked, "savoir_etre_professionnel") {
        if let Some(label) = value::field(element, "libelle").and_then(RawBsonRef::as_str) {
            known.entry(label).or_insert(element);
        }
    }
    let of_label = |label: &Bson| {
        let element = label.as_str().and_then(|label| owned(known.get(label)?));
        Bson::Document(element.unwrap_or_else(|| doc! { "libelle": label.clone() }))
    };
    let elements: Vec<Bson> = labels.iter().map(of_label).collect();
    Some(vec![Edit::job("competences_rome.savoir_etre_professionnel", elements)])
}

pub(super) fn acquired_skills(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    Some(vec![Edit::job("competences_rome.savoir_faire", categories(asked, "savoir_faire")?)])
}

pub(super) fn acquired_knowledge(asked: &Asked<'_>) -> Option<Vec<Edit>> {
    Some(vec![Edit::job("competences_rome.savoirs", categories(asked, "savoirs")?)])
}

/// A category of the list that is made.
struct Category {
    /// Its name in the lines of the offer.
    name: String,
    /// Without `items`.
    fields: Document,
    items: Vec<Bson>,
}

/// The categories of the lines `category TAB item`. Lines that follow each other share their category.
fn categories(asked: &Asked<'_>, list: &str) -> Option<Vec<Bson>> {
    let lines = asked.value.as_array()?;
    let known = Known::of(asked, list);
    let mut categories: Vec<Category> = Vec::new();
    for line in lines {
        let line = line.as_str()?;
        let (name, item) = match known.items.get(line) {
            Some((name, item)) => (name.as_str(), item.clone()),
            None => line.split_once('\t').map(|(name, label)| (name, doc! { "libelle": label }))?,
        };
        match categories.last_mut().filter(|last| last.name == name) {
            Some(last) => last.items.push(item.into()),
            None => categories.push(Category {
                name: name.to_owned(),
                fields: known.categories.get(name).cloned().unwrap_or_else(|| doc! { "libelle": name }),
                items: vec![item.into()],
            }),
        }
    }
    let whole = |mut category: Category| {
        category.fields.insert("items", category.items);
        Bson::Document(category.fields)
    };
    Some(categories.into_iter().map(whole).collect())
}

/// What stands.
#[derive(Default)]
struct Known {
    /// The categories by their name, without `items`.
    categories: BTreeMap<String, Document>,
    /// The items by their line in the offer, with the name of their category.
    items: BTreeMap<String, (String, Document)>,
}

impl Known {
    fn of(asked: &Asked<'_>, list: &str) -> Self {
        let mut known = Self::default();
        for category in standing(asked, list) {
            let name = value::text(value::field(category, "libelle")).unwrap_or_default();
            for item in documents(value::field(category, "items")) {
                let label = value::field(item, "libelle").and_then(RawBsonRef::as_str);
                if let (Some(label), Some(item)) = (label, owned(item)) {
                    known.items.entry(format!("{name}\t{label}")).or_insert_with(|| (name.to_owned(), item));
                }
            }
            if let Some(mut fields) = owned(category) {
                fields.remove("items");
                known.categories.entry(name.to_owned()).or_insert(fields);
            }
        }
        known
    }
}

/// The elements that the projection reads now: the job's own, or those of the ROME sheet.
fn standing<'a>(asked: &Asked<'a>, list: &str) -> impl Iterator<Item = &'a RawDocument> {
    let sheet = asked.references.rome.as_deref().and_then(|rome| rome.competences.as_ref());
    let sheet = value::object(sheet.map(RawBson::as_raw_bson_ref));
    elements(list, value::object(asked.job.competences_rome), sheet)
}

fn owned(document: &RawDocument) -> Option<Document> {
    Document::try_from(document).ok()
}
