//! The model of the server against what the product's statements rely on.

use bson::{Bson, DateTime, doc};

use super::{Server, matches, update};

#[test]
fn a_missing_field_is_lower_than_null_which_is_lower_than_any_date() {
    let server = Server::at(1_000);
    let is = |expression: Bson| server.evaluate(&expression, &doc! { "null": null }).unwrap();
    assert_eq!(is(doc! { "$lt": ["$missing", "$null"] }.into()), Some(true.into()));
    assert_eq!(is(doc! { "$lt": ["$null", "$$NOW"] }.into()), Some(true.into()));
    assert_eq!(is(doc! { "$max": ["$null", "$$NOW"] }.into()), Some(DateTime::from_millis(1_000).into()));
}

#[test]
fn a_filter_by_a_date_takes_other_types_for_not_later() {
    let server = Server::at(0);
    let filter = doc! { "date": { "$not": { "$gt": DateTime::from_millis(5) } } };
    for (date, is_matched) in [
        (Bson::Null, true),
        (Bson::from("text"), true),
        (DateTime::from_millis(5).into(), true),
        (DateTime::from_millis(6).into(), false),
    ] {
        assert_eq!(matches(&server, &filter, &doc! { "date": date }), is_matched);
    }
    assert!(matches(&server, &filter, &doc! {}), "a missing date");
}

#[test]
fn a_stage_sees_the_document_as_it_was_before_the_stage() {
    let swap: Bson = vec![doc! { "$set": { "a": "$b", "b": "$a" } }].into();
    assert_eq!(update(&Server::at(0), &swap, &doc! { "a": 1, "b": 2 }).unwrap(), doc! { "a": 2, "b": 1 });
}
