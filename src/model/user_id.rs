//! The id of a user as other documents refer to it (spec 01, "`managed_by`"): an ObjectId, or a text of its 24 hex
//! digits in upper or lower case. This file reads such an id, and builds the query that finds all of its spellings.

use bson::raw::{CString, cstr};
use bson::{Bson, RawBsonRef, Regex, oid::ObjectId};

use super::ids::UserId;

/// The number of first digits that are spelled out in every mix of cases. An index search begins with them: six digits
/// are shared by the ids of about four minutes.
const SPELLED_OUT: usize = 6;

/// The user that a value names; `None` when the value is no id.
#[must_use]
pub(crate) fn user_id(value: Option<RawBsonRef<'_>>) -> Option<UserId> {
    match value? {
        RawBsonRef::ObjectId(id) => Some(UserId(id)),
        RawBsonRef::String(text) => ObjectId::parse_str(text).ok().map(UserId),
        _ => None,
    }
}

/// All spellings of these users' ids, for `$in`. The usual spellings are values. Spellings with upper-case digits are
/// regular expressions that begin with a fixed text, so that a query reads only a few keys of an index.
#[must_use]
pub fn spellings(users: &[UserId]) -> Vec<Bson> {
    users
        .iter()
        .flat_map(|user| [Bson::String(user.to_string()), Bson::from(user)].into_iter().chain(mixed(user)))
        .collect()
}

fn mixed(user: &UserId) -> Vec<Bson> {
    let hex = user.to_string();
    if hex.bytes().all(|digit| digit.is_ascii_digit()) {
        return Vec::new();
    }
    let (first, rest) = hex.split_at(SPELLED_OUT);
    let mut beginnings = vec![String::from("^")];
    for digit in first.chars() {
        let upper = digit.to_ascii_uppercase();
        let mut ways: Vec<String> = beginnings.iter().map(|beginning| format!("{beginning}{digit}")).collect();
        if upper != digit {
            ways.extend(beginnings.iter().map(|beginning| format!("{beginning}{upper}")));
        }
        beginnings = ways;
    }
    let either = |digit: char| {
        if digit.is_ascii_digit() { digit.to_string() } else { format!("[{digit}{}]", digit.to_ascii_uppercase()) }
    };
    let rest: String = rest.chars().map(either).collect();
    let expression = |beginning: String| {
        let pattern = CString::try_from(format!("{beginning}{rest}$")).ok()?;
        Some(Bson::RegularExpression(Regex { pattern, options: cstr!("").into() }))
    };
    beginnings.into_iter().filter_map(expression).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(spellings: &[Bson], text: &str) -> bool {
        spellings.iter().any(|spelling| match spelling {
            Bson::String(value) => value == text,
            Bson::RegularExpression(expression) => {
                regex::Regex::new(expression.pattern.as_str()).unwrap().is_match(text)
            }
            _ => false,
        })
    }

    #[test]
    fn whatever_is_read_as_a_user_is_found_and_nothing_else() {
        let id = UserId(ObjectId::parse_str("65a2bf7347a6ef7545b05ef0").unwrap());
        let spellings = spellings(&[id]);
        let mixed = "65A2bF7347a6EF7545b05eF0";
        for text in [id.to_string(), id.to_string().to_uppercase(), mixed.to_owned()] {
            assert_eq!(user_id(Some(RawBsonRef::String(&text))), Some(id), "{text}");
            assert!(finds(&spellings, &text), "{text}");
        }
        for text in ["65a2bf7347a6ef7545b05ef1", " 65a2bf7347a6ef7545b05ef0", "65a2bf7347a6ef7545b05ef0x", ""] {
            assert_ne!(user_id(Some(RawBsonRef::String(text))), Some(id), "{text}");
            assert!(!finds(&spellings, text), "{text}");
        }
        assert!(spellings.contains(&Bson::from(id)));
        let digits = UserId(ObjectId::parse_str("650000000000000000000001").unwrap());
        assert_eq!(super::spellings(&[digits]).len(), 2, "nothing to spell in another way");
    }
}
