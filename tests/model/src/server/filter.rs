//! Query filters over one document, as far as the product's statements have them.

use std::cmp::Ordering;

use bson::{Bson, Document};

use super::expression::{Server, compare};

/// True if the document matches the filter.
pub(crate) fn matches(server: &Server, filter: &Document, document: &Document) -> bool {
    filter.iter().all(|(name, condition)| match name.as_str() {
        "$expr" => server.evaluate(condition, document).is_ok_and(|value| value == Some(Bson::Boolean(true))),
        "$or" => condition.as_array().expect("a list").iter().any(|one| matches(server, object(one), document)),
        name => field(document.get(name), condition),
    })
}

fn object(value: &Bson) -> &Document {
    value.as_document().expect("an object")
}

fn field(value: Option<&Bson>, condition: &Bson) -> bool {
    match condition {
        Bson::Document(operators) if operators.keys().next().is_some_and(|name| name.starts_with('$')) => {
            operators.iter().all(|(name, operand)| operator(value, name, operand))
        }
        constant => is_equal(value, constant),
    }
}

fn operator(value: Option<&Bson>, name: &str, operand: &Bson) -> bool {
    match name {
        "$eq" => is_equal(value, operand),
        "$ne" => !is_equal(value, operand),
        "$exists" => value.is_some() == operand.as_bool().expect("$exists has a boolean"),
        // A comparison sees values of one type only.
        "$gt" => is_of_one_type(value, operand) && compare(value, Some(operand)) == Ordering::Greater,
        "$not" => !field(value, operand),
        "$in" => operand.as_array().expect("a list").iter().any(|operand| is_equal(value, operand)),
        other => panic!("the model of the server does not know {other} in a filter"),
    }
}

/// For a filter, null equals a missing field.
fn is_equal(value: Option<&Bson>, operand: &Bson) -> bool {
    match (value, operand) {
        (None, Bson::Null) => true,
        (None, _) => false,
        (Some(value), operand) => compare(Some(value), Some(operand)) == Ordering::Equal,
    }
}

fn is_of_one_type(value: Option<&Bson>, operand: &Bson) -> bool {
    let number = |value: &Bson| matches!(value, Bson::Int32(_) | Bson::Int64(_));
    value.is_some_and(|value| value.element_type() == operand.element_type() || number(value) && number(operand))
}
