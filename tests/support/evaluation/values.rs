//! Reading values as spec 02 does: null and missing are one, a wrong shape counts as missing where a shape is needed.
//! Written for being obviously right, not for speed.

use bson::{Bson, DateTime, Document};
use chrono::NaiveDate;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// The field's value; null when it is missing.
pub(crate) fn value(document: &Document, field: &str) -> Bson {
    document.get(field).cloned().unwrap_or(Bson::Null)
}

/// "Empty" is null, missing or `""`.
pub(super) fn non_empty(value: Bson) -> Option<Bson> {
    (value != Bson::Null && value != Bson::from("")).then_some(value)
}

/// What is not null.
pub(super) fn non_nullish(value: Bson) -> Option<Bson> {
    (value != Bson::Null).then_some(value)
}

/// The field's value, null when it is empty.
pub(super) fn empty_to_null(document: &Document, field: &str) -> Bson {
    non_empty(value(document, field)).unwrap_or(Bson::Null)
}

/// A hex id or an ObjectId, as a string.
pub(crate) fn id_text(value: &Bson) -> Option<String> {
    match value {
        Bson::ObjectId(id) => Some(id.to_hex()),
        Bson::String(text) => Some(text.clone()),
        _ => None,
    }
}

/// The documents of a list; anything else is none.
pub(super) fn documents(value: Option<&Bson>) -> Vec<&Document> {
    value.and_then(Bson::as_array).into_iter().flatten().filter_map(Bson::as_document).collect()
}

/// RFC 3339, or `YYYY-MM-DD` (midnight UTC).
pub(super) fn date(text: &str) -> Option<DateTime> {
    let instant = chrono::DateTime::parse_from_rfc3339(text).map(|instant| instant.timestamp_millis());
    let midnight = || {
        let shaped = text.len() == 10 && text.as_bytes()[4] == b'-' && text.as_bytes()[7] == b'-';
        let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| shaped)?;
        Some(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis())
    };
    instant.ok().or_else(midnight).map(DateTime::from_millis)
}

/// `"lat,lon"` as a GeoJSON point, when it is two numbers in range.
pub(super) fn point(text: &str) -> Option<Document> {
    let (latitude, longitude) = text.split_once(',')?;
    let latitude: f64 = latitude.trim().parse().ok()?;
    let longitude: f64 = longitude.trim().parse().ok()?;
    let in_range = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    in_range.then(|| bson::doc! { "type": "Point", "coordinates": [longitude, latitude] })
}

/// The title in kebab case, by the three sentences of spec 02, "slug".
pub(super) fn slug(title: &str) -> String {
    let characters: Vec<char> = title.chars().collect();
    let mut broken = String::new();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).map(|index| characters[index]);
        let after = characters.get(index + 1);
        let upper_after_lower =
            character.is_uppercase() && before.is_some_and(|before| before.is_lowercase() || before.is_ascii_digit());
        let last_of_run = character.is_uppercase()
            && before.is_some_and(char::is_uppercase)
            && after.is_some_and(|after| after.is_lowercase());
        if upper_after_lower || last_of_run {
            broken.push(' ');
        }
        broken.push(*character);
    }
    let in_word = |character: &char| {
        character.general_category_group() == GeneralCategoryGroup::Letter || character.is_ascii_digit()
    };
    let words = broken.split(|character: char| !in_word(&character)).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[test]
fn slugs_are_those_of_the_specification_s_examples() {
    for (title, expected) in [
        ("Développeur Web (H/F)", "développeur-web-h-f"),
        ("ÉLECTRICIEN", "électricien"),
        ("BTSNdrc2024", "bts-ndrc2024"),
        ("iOSDeveloper", "i-os-developer"),
        ("Manager d'Unité", "manager-d-unité"),
        ("Assistant RH 2.0", "assistant-rh-2-0"),
        ("!!!", ""),
    ] {
        assert_eq!(slug(title), expected);
    }
}
