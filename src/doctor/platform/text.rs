//! What may be printed of texts in documents: names of programs, statuses and labels, never the id or address of a
//! person. Pure.

use bson::{DateTime, oid::ObjectId};

/// The longest text that is printed.
const LONGEST: usize = 40;

/// The kinds of texts that are not printed.
const KINDS: [&str; 5] = ["(none)", "(no text)", "(an address)", "(an id)", "(a text)"];

/// The text where it looks like the name of a program, a status or a label, else its kind in brackets. An id may be
/// that of a person, and so may an address.
pub(super) fn plain(text: &str) -> &str {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    match text {
        _ if KINDS.contains(&text) => text,
        "" => "(none)",
        _ if text.contains('@') => "(an address)",
        _ if ObjectId::parse_str(text).is_ok() => "(an id)",
        _ if text.len() > LONGEST || !text.bytes().all(is_name) => "(a text)",
        _ => text,
    }
}

/// A number of offers, in the singular where it is one.
pub(super) fn offers(count: u64) -> String {
    format!("{count} {}", if count == 1 { "offer" } else { "offers" })
}

/// A date for people: day and minute in UTC; `never` without a date.
pub(super) fn date(date: Option<DateTime>) -> String {
    let text = date.and_then(|date| date.try_to_rfc3339_string().ok());
    text.and_then(|text| text.get(..16).map(|text| text.replace('T', " "))).unwrap_or_else(|| "never".to_owned())
}

/// A date for JSON, in RFC 3339; `None` without a date.
pub(super) fn json_date(date: Option<DateTime>) -> Option<String> {
    date.and_then(|date| date.try_to_rfc3339_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_are_printed_and_persons_are_not() {
        for name in ["application.service", "SERVEUR", "offres_emploi_lba", "(none)"] {
            assert_eq!(plain(name), name);
        }
        for (text, printed) in [
            ("jean@example.com", "(an address)"),
            ("65102a7347a6ef7545b05ef0", "(an id)"),
            ("Jean Dupont", "(a text)"),
            ("", "(none)"),
        ] {
            assert_eq!(plain(text), printed);
        }
        assert_eq!(date(Some(DateTime::from_millis(1_700_000_000_000))), "2023-11-14 22:13");
    }
}
