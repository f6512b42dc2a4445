//! Reads the reply of an `update` command (spec 03, "Writing"): what was changed, refused, or is uncertain.

use std::collections::HashSet;

use bson::Document;
use bson::oid::ObjectId;

use super::refused_fields::named_fields;
use super::statements::{NOT_AS_COMPARED, Statement};
use crate::error::{FENCED, Failure, refusal};
use crate::model::dead_letter::Reason;

/// The code for an answer that cannot be read. The server has no such code.
pub(super) const UNREADABLE: i32 = 0;

/// The results of statements.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// The number of documents that upserts created.
    pub created: u64,
    /// The number of changed documents.
    pub changed: u64,
    /// The number of statements that found no document, or one that is not as it was compared.
    pub unmatched: u64,
    /// The documents whose write is uncertain, because they may have changed after the statement was made. These are
    /// creations of existing documents, and all documents of a command with unmatched statements: the writer that caused
    /// these may have written the others too, and some writers leave the date alone.
    pub unsure: Vec<ObjectId>,
    /// The statements that the server refused for good.
    pub refused: Vec<Refused>,
}

impl WriteOutcome {
    pub(super) fn add(&mut self, other: Self) {
        self.created += other.created;
        self.changed += other.changed;
        self.unmatched += other.unmatched;
        self.unsure.extend(other.unsure);
        self.refused.extend(other.refused);
    }
}

/// A statement that the server refused for good.
#[derive(Debug, Clone)]
pub struct Refused {
    pub statement: Statement,
    /// The reason for the dead letter.
    pub reason: Reason,
    /// The server's code; 0 if its answer cannot be read.
    pub code: i32,
    /// The fields that the server names, without their values ([`named_fields`]).
    pub fields: Vec<String>,
}

impl Refused {
    /// Writes the detail of a dead letter. `what` names the document, for instance "the offer".
    #[must_use]
    pub fn detail(&self, what: &str) -> String {
        match self.code {
            UNREADABLE => {
                format!("the server refused {what} in words that are no UTF-8: it quotes what the document holds")
            }
            code if self.fields.is_empty() => format!("the server refused {what} with code {code}"),
            code => format!("the server refused {what} with code {code}: {}", self.fields.join(", ")),
        }
    }
}

/// Reads the errors and counts inside a reply. `Ok` from the driver means only that a reply came.
pub(super) fn read(reply: &Document, statements: Vec<Statement>) -> Result<WriteOutcome, Failure> {
    let errors = reply.get_array("writeErrors").map(Vec::as_slice).unwrap_or_default();
    let found = reply.get("n").and_then(number).unwrap_or_default().unsigned_abs();
    let mut outcome = WriteOutcome {
        unmatched: (statements.len() as u64).saturating_sub(found + errors.len() as u64),
        created: reply.get_array("upserted").map_or(0, |upserted| upserted.len() as u64),
        changed: reply.get("nModified").and_then(number).unwrap_or_default().unsigned_abs(),
        unsure: Vec::new(),
        refused: Vec::new(),
    };
    let mut passing = None;
    for error in errors.iter().filter_map(|error| error.as_document()) {
        let code = error.get("code").and_then(number).and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
        let index = error.get("index").and_then(number).and_then(|index| usize::try_from(index).ok());
        if code == FENCED {
            return Err(Failure::Overdue);
        }
        match (refusal(code), index.and_then(|index| statements.get(index))) {
            _ if code == NOT_AS_COMPARED => outcome.unmatched += 1,
            (Some(reason), Some(statement)) => {
                let fields = error.get_document("errInfo").map(named_fields).unwrap_or_default();
                outcome.refused.push(Refused { statement: statement.clone(), reason, code, fields });
            }
            _ => passing = Some(code),
        }
    }
    if let Some(code) = passing {
        return Err(Failure::Statement(code));
    }
    outcome.unsure = unsure(reply, &statements, outcome.unmatched);
    if reply.contains_key("writeConcernError") { Err(unacknowledged(reply)) } else { Ok(outcome) }
}

fn unsure(reply: &Document, statements: &[Statement], unmatched: u64) -> Vec<ObjectId> {
    let of = |entry: &bson::Bson, field: &str| entry.as_document()?.get(field).and_then(number);
    let entries = |name: &str| reply.get_array(name).into_iter().flatten();
    let is_told = |entry: &&bson::Bson| of(entry, "code") != Some(NOT_AS_COMPARED.into());
    let told = entries("upserted").chain(entries("writeErrors")).filter(is_told);
    let told: HashSet<usize> = told.filter_map(|entry| usize::try_from(of(entry, "index")?).ok()).collect();
    let untold = statements.iter().enumerate().filter(|(place, _)| !told.contains(place));
    let unsure = untold.filter(|(_, statement)| unmatched > 0 || statement.only_creates());
    unsure.filter_map(|(_, statement)| statement.id).collect()
}

/// Makes the failure of a reply with a `writeConcernError`.
pub(super) fn unacknowledged(reply: &Document) -> Failure {
    let error = reply.get_document("writeConcernError");
    Failure::WriteConcern(error.and_then(|error| error.get_i32("code")).unwrap_or_default())
}

fn number(value: &bson::Bson) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}

#[cfg(test)]
mod tests {
    use bson::{doc, rawdoc};

    use super::*;

    fn statements(count: usize) -> Vec<Statement> {
        (0..count).map(|_| Statement { id: Some(ObjectId::new()), body: rawdoc! { "u": "x" } }).collect()
    }

    #[test]
    fn a_refused_statement_is_named_and_its_neighbours_count() {
        let reply = doc! { "n": 2, "nModified": 1, "upserted": [{ "index": 0 }],
        "writeErrors": [{ "index": 1, "code": 121, "errInfo": { "details": { "propertyName": "offer_title" } } }] };
        let statements = statements(3);
        let refused = statements[1].id;
        let outcome = read(&reply, statements).unwrap();
        assert_eq!((outcome.created, outcome.changed), (1, 1));
        assert_eq!(outcome.refused[0].statement.id, refused);
        assert_eq!(outcome.refused[0].reason, Reason::RefusedByValidation);
        assert_eq!(outcome.refused[0].detail("the offer"), "the server refused the offer with code 121: offer_title");
    }

    #[test]
    fn a_command_that_began_after_the_lease_fails_as_a_whole_and_is_no_refusal() {
        let fenced = doc! { "n": 0, "writeErrors": [{ "index": 0, "code": 241 }] };
        assert!(matches!(read(&fenced, statements(1)), Err(Failure::Overdue)));
    }

    #[test]
    fn passing_errors_inside_a_reply_fail_the_write() {
        let passing = doc! { "writeErrors": [{ "index": 0, "code": 112 }] };
        assert!(matches!(read(&passing, statements(1)), Err(Failure::Statement(112))));
        let concern = doc! { "n": 1, "writeConcernError": { "code": 64 } };
        assert!(matches!(read(&concern, statements(1)), Err(Failure::WriteConcern(64))));
    }

    #[test]
    fn of_a_command_with_an_offer_that_changed_meanwhile_all_are_compared_again() {
        let reply =
            doc! { "n": 1, "writeErrors": [{ "index": 0, "code": NOT_AS_COMPARED }, { "index": 2, "code": 121 }] };
        let statements = statements(3);
        let [changed, written, _] = [0, 1, 2].map(|place| statements[place].id.unwrap());
        let outcome = read(&reply, statements).unwrap();
        assert_eq!((outcome.unmatched, outcome.refused.len()), (1, 1));
        assert_eq!(outcome.unsure, [changed, written]);
    }
}
