//! Aggregation expressions (MongoDB manual, "Aggregation Operators"), as far as the product's statements have them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bson::{Bson, DateTime, Document, Timestamp};

/// A command at work: the server's clock when it began, and the variables of the command.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) now: DateTime,
    /// The time of the cluster, where a model has one.
    cluster: Option<Timestamp>,
    /// Variables of `$let`, by name.
    variables: BTreeMap<String, Bson>,
}

/// The server cannot compute an expression; the command changes nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fails;

/// A value, or nothing where a field is missing.
pub(super) type Value = Result<Option<Bson>, Fails>;

impl Server {
    /// A server whose clock shows so many milliseconds.
    pub(crate) fn at(milliseconds: i64) -> Self {
        Self { now: DateTime::from_millis(milliseconds), cluster: None, variables: BTreeMap::new() }
    }

    /// The same, when the time of the cluster is so many milliseconds.
    pub(crate) fn in_cluster(self, milliseconds: i64) -> Self {
        let time = u32::try_from(milliseconds / 1_000).expect("a time of this century");
        Self { cluster: Some(Timestamp { time, increment: 1 }), ..self }
    }

    /// Computes an expression over a document.
    pub(crate) fn evaluate(&self, expression: &Bson, document: &Document) -> Value {
        match expression {
            Bson::String(path) => match path.strip_prefix("$$") {
                Some("NOW") => Ok(Some(self.now.into())),
                Some("CLUSTER_TIME") => Ok(Some(self.cluster.expect("a time of the cluster").into())),
                Some(name) => Ok(self.variable(name)),
                None => Ok(path.strip_prefix('$').map_or(Some(expression.clone()), |name| document.get(name).cloned())),
            },
            Bson::Document(operation) => match operation.iter().next() {
                Some((name, operand)) if name.starts_with('$') => self.operation(name, operand, document),
                _ => {
                    let mut object = Document::new();
                    for (name, value) in operation {
                        if let Some(value) = self.evaluate(value, document)? {
                            object.insert(name, value);
                        }
                    }
                    Ok(Some(object.into()))
                }
            },
            Bson::Array(items) => {
                let items: Result<Vec<Bson>, Fails> =
                    items.iter().map(|item| Ok(self.evaluate(item, document)?.unwrap_or(Bson::Null))).collect();
                Ok(Some(items?.into()))
            }
            constant => Ok(Some(constant.clone())),
        }
    }

    fn variable(&self, path: &str) -> Option<Bson> {
        let (name, field) = path.split_once('.').unwrap_or((path, ""));
        let value = self.variables.get(name).unwrap_or_else(|| panic!("no variable {name}"));
        match (value, field) {
            (value, "") => Some(value.clone()),
            // The field of each item of a list.
            (Bson::Array(items), field) => {
                let of = |item: &Bson| item.as_document().and_then(|item| item.get(field)).cloned();
                Some(items.iter().filter_map(of).collect::<Vec<_>>().into())
            }
            (Bson::Document(object), field) => object.get(field).cloned(),
            _ => None,
        }
    }

    fn operation(&self, name: &str, operand: &Bson, document: &Document) -> Value {
        let all = || -> Result<Vec<Option<Bson>>, Fails> {
            operands(operand).iter().map(|operand| self.evaluate(operand, document)).collect()
        };
        let compared = |is: fn(Ordering) -> bool| Ok(Some(Bson::from(is(order_of(&all()?)))));
        match name {
            "$literal" => Ok(Some(operand.clone())),
            "$or" => Ok(Some(all()?.iter().any(truth).into())),
            "$and" => Ok(Some(all()?.iter().all(truth).into())),
            "$not" => Ok(Some((!all()?.iter().all(truth)).into())),
            "$lte" => compared(Ordering::is_le),
            "$lt" => compared(Ordering::is_lt),
            "$gt" => compared(Ordering::is_gt),
            "$gte" => compared(Ordering::is_ge),
            "$eq" => compared(Ordering::is_eq),
            "$ne" => compared(Ordering::is_ne),
            "$ifNull" => Ok(all()?.into_iter().find(|value| !matches!(value, None | Some(Bson::Null))).flatten()),
            "$add" => Ok(Some(sum(&all()?))),
            // Only the branch that is taken is computed.
            "$cond" => match operands(operand) {
                [condition, yes, no] => {
                    let holds = truth(&self.evaluate(condition, document)?);
                    self.evaluate(if holds { yes } else { no }, document)
                }
                _ => panic!("$cond with three operands, not {operand}"),
            },
            "$max" => Ok(all()?.into_iter().flatten().max_by(order)),
            "$min" => Ok(all()?.into_iter().flatten().min_by(order)),
            "$isArray" => Ok(Some(matches!(all()?.first(), Some(Some(Bson::Array(_)))).into())),
            "$last" => Ok(list(all()?.into_iter().next().flatten()).pop()),
            "$concatArrays" => Ok(Some(all()?.into_iter().flat_map(list).collect::<Vec<_>>().into())),
            "$toInt" => match self.evaluate(operand, document)? {
                Some(Bson::String(text)) => text.parse::<i32>().map(|number| Some(number.into())).map_err(|_| Fails),
                other => Ok(other),
            },
            "$size" => match self.evaluate(operand, document)? {
                Some(Bson::Array(items)) => Ok(Some(i32::try_from(items.len()).map_err(|_| Fails)?.into())),
                _ => Err(Fails),
            },
            "$type" => Ok(Some(type_of(all()?.into_iter().next().flatten().as_ref()).into())),
            "$let" => self.with_variables(operand, document),
            other => panic!("the model of the server does not know {other}"),
        }
    }

    fn with_variables(&self, operand: &Bson, document: &Document) -> Value {
        let operand = operand.as_document().expect("$let has an object");
        let mut inner = self.clone();
        for (name, value) in operand.get_document("vars").expect("vars") {
            inner.variables.insert(name.clone(), self.evaluate(value, document)?.unwrap_or(Bson::Null));
        }
        inner.evaluate(operand.get("in").expect("in"), document)
    }
}

/// The operands of an operator: one value counts as a list of one.
fn operands(operand: &Bson) -> &[Bson] {
    match operand {
        Bson::Array(operands) => operands,
        one => std::slice::from_ref(one),
    }
}

/// The name of a value's type, as far as the product asks for it.
fn type_of(value: Option<&Bson>) -> &'static str {
    match value {
        None => "missing",
        Some(Bson::DateTime(_)) => "date",
        Some(_) => "another",
    }
}

fn truth(value: &Option<Bson>) -> bool {
    !matches!(value, None | Some(Bson::Null | Bson::Boolean(false) | Bson::Int32(0) | Bson::Int64(0)))
}

fn list(value: Option<Bson>) -> Vec<Bson> {
    match value {
        Some(Bson::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn sum(values: &[Option<Bson>]) -> Bson {
    let number = |value: &Option<Bson>| match value {
        Some(Bson::DateTime(date)) => date.timestamp_millis(),
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Int32(number)) => i64::from(*number),
        other => panic!("no sum with {other:?}"),
    };
    let sum: i64 = values.iter().map(number).sum();
    let is_date = values.iter().any(|value| matches!(value, Some(Bson::DateTime(_))));
    if is_date { DateTime::from_millis(sum).into() } else { sum.into() }
}

fn order_of(values: &[Option<Bson>]) -> Ordering {
    match values {
        [left, right] => compare(left.as_ref(), right.as_ref()),
        _ => panic!("a comparison of two values, not {values:?}"),
    }
}

fn order(left: &Bson, right: &Bson) -> Ordering {
    compare(Some(left), Some(right))
}

/// Compares by the server's order of types, then by value. What is missing is lowest.
pub(super) fn compare(left: Option<&Bson>, right: Option<&Bson>) -> Ordering {
    let rank = |value: Option<&Bson>| match value {
        None => 0,
        Some(Bson::Null) => 1,
        Some(Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_)) => 2,
        Some(Bson::String(_)) => 3,
        Some(Bson::Document(_)) => 4,
        Some(Bson::Array(_)) => 5,
        Some(Bson::ObjectId(_)) => 7,
        Some(Bson::Boolean(_)) => 8,
        Some(Bson::DateTime(_)) => 9,
        Some(Bson::Timestamp(_)) => 10,
        Some(other) => panic!("the model of the server does not order {other}"),
    };
    let integer = |value: &Bson| value.as_i64().or(value.as_i32().map(i64::from));
    match (left, right) {
        (Some(Bson::String(left)), Some(Bson::String(right))) => left.cmp(right),
        (Some(Bson::DateTime(left)), Some(Bson::DateTime(right))) => left.cmp(right),
        (Some(Bson::Timestamp(left)), Some(Bson::Timestamp(right))) => left.cmp(right),
        (Some(Bson::ObjectId(left)), Some(Bson::ObjectId(right))) => left.cmp(right),
        (Some(Bson::Boolean(left)), Some(Bson::Boolean(right))) => left.cmp(right),
        (Some(left), Some(right)) if integer(left).is_some() && integer(right).is_some() => {
            integer(left).cmp(&integer(right))
        }
        // Objects and lists are only ever compared for equality.
        (Some(left), Some(right)) if left == right => Ordering::Equal,
        (None, None) => Ordering::Equal,
        _ => rank(left).cmp(&rank(right)).then(Ordering::Less),
    }
}
