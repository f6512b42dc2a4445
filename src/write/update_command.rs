//! Sends statements with the `update` command (spec 03, "Writing"): `ordered: false`, `w: "majority"`, at most 500
//! statements and 8 MB in a command, two commands in flight.
//! The driver does not retry such a command and does not fail on `writeErrors`, so the reply is read here.

use std::collections::HashSet;

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, cstr};
use bson::{Document, RawDocumentBuf, doc, rawdoc};
use futures::{StreamExt as _, TryStreamExt as _};
use mongodb::ClientSession;
use mongodb::error::ErrorKind;

use super::Writer;
use super::statements::Statement;
use crate::error::FENCED;
use crate::error::{Failure, command_code, refusal};
use crate::interruption::{Interruption, Unfinished};
use crate::model::dead_letter::Reason;

/// The greatest number of statements in one command (spec 03).
const STATEMENTS: usize = 500;
/// The greatest size of the statements of one command, in bytes (spec 03). A larger statement is sent alone.
const BYTES: usize = 8 * 1024 * 1024;
/// The greatest size of one statement, in bytes. A command may not pass 16.79 MB (spec 03).
const LARGEST: usize = 16 * 1024 * 1024;
/// The server's code `BSONObjectTooLarge`.
const OBJECT_TOO_LARGE: i32 = 10334;
/// The number of commands that are sent at the same time (spec 03).
pub(super) const IN_FLIGHT: usize = 2;
/// The number of parts in which a command that overruns is sent again, until the slow statement is alone.
const PARTS: usize = 8;
/// The number of times that a statement overruns alone, while the server accepts other writes, before it counts as
/// refused.
const OVERRUNS: usize = 3;
/// The server's code `MaxTimeMSExpired`.
const OVERRAN: i32 = 50;
/// The code for an answer that cannot be read. The server has no such code.
const UNREADABLE: i32 = 0;
/// The greatest number of statements that go in one command. More statements are divided evenly among the commands in
/// flight, because the server works on one command with one thread.
const FEW: usize = 64;

/// The results of statements.
#[derive(Debug, Default)]
pub struct WriteOutcome {
    /// The number of documents that upserts created.
    pub created: u64,
    /// The number of changed documents.
    pub changed: u64,
    /// The number of statements that found no document.
    pub unmatched: u64,
    /// The documents whose write is uncertain, because they may have changed after the statement was made. These are
    /// all documents of a command in which some statement found nothing, and creations of existing documents.
    pub unsure: Vec<ObjectId>,
    /// The statements that the server refused for good.
    pub refused: Vec<Refused>,
}

impl WriteOutcome {
    fn add(&mut self, other: Self) {
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
}

impl Refused {
    /// Writes the detail of a dead letter. `what` names the document, for instance "the offer".
    #[must_use]
    pub fn detail(&self, what: &str) -> String {
        match self.code {
            UNREADABLE => {
                format!("the server refused {what} in words that are no UTF-8: it quotes what the document holds")
            }
            code => format!("the server refused {what} with code {code}"),
        }
    }
}

/// Sends all statements, and returns when a majority has acknowledged every statement that is not refused.
///
/// # Errors
/// [`Failure::Write`], [`Failure::WriteConcern`], [`Failure::Statement`]: some writes may be missing. All statements
/// can be sent again.
pub async fn update(writer: &Writer, collection: &str, statements: Vec<Statement>) -> Result<WriteOutcome, Unfinished> {
    let mut outcome = update_once(writer, collection, statements).await?;
    // Another process may insert the same offer at the same moment. The second attempt then finds the offer.
    let (again, refused) = outcome.refused.into_iter().partition(|refused| refused.reason == Reason::DuplicateOffer);
    outcome.refused = refused;
    let again: Vec<Refused> = again;
    if !again.is_empty() {
        let again = again.into_iter().map(|refused| refused.statement).collect();
        outcome.add(update_once(writer, collection, again).await?);
    }
    Ok(outcome)
}

async fn update_once(
    writer: &Writer,
    collection: &str,
    statements: Vec<Statement>,
) -> Result<WriteOutcome, Unfinished> {
    // A statement that fits into no command is never sent: the server would refuse the whole command each time.
    let (statements, oversized): (Vec<Statement>, Vec<Statement>) =
        statements.into_iter().partition(|statement| statement.body.as_bytes().len() <= LARGEST);
    let refused = |statement| Refused { statement, reason: Reason::TooLarge, code: OBJECT_TOO_LARGE };
    let refused = oversized.into_iter().map(refused).collect();
    futures::stream::iter(commands_of(statements, |statement| statement.body.as_bytes().len()))
        .map(|command| send(writer, collection, command))
        .buffer_unordered(IN_FLIGHT)
        .try_fold(WriteOutcome { refused, ..WriteOutcome::default() }, |mut all, outcome| async move {
            all.add(outcome);
            Ok(all)
        })
        .await
}

/// Writes a document of the service's own, or inserts it. A `filter` may exclude the document of a newer term. Then the
/// upsert collides with that document.
///
/// # Errors
/// As [`fn@update`]; [`Interruption::LeaseLost`] when a newer term has written the document.
pub async fn record(writer: &Writer, collection: &str, filter: Document, set: Document) -> Result<(), Unfinished> {
    own(writer, collection, doc! { "q": filter, "u": set, "upsert": true }).await
}

/// Sends one statement on a document of the service's own.
async fn own(writer: &Writer, collection: &str, statement: Document) -> Result<(), Unfinished> {
    // The statement has only texts, ids and numbers, so encoding cannot fail.
    let body = RawDocumentBuf::try_from(&statement).unwrap_or_default();
    let outcome = update(writer, collection, vec![Statement { id: None, body }]).await?;
    match outcome.refused.first() {
        None => Ok(()),
        Some(refused) if refused.reason == Reason::DuplicateOffer => Err(Interruption::LeaseLost.into()),
        Some(refused) => Err(Failure::Statement(refused.code).into()),
    }
}

/// Changes every document that `filter` selects. There may be none.
///
/// # Errors
/// As [`fn@update`].
pub async fn change(writer: &Writer, collection: &str, filter: Document, update: Document) -> Result<(), Unfinished> {
    own(writer, collection, doc! { "q": filter, "u": update, "multi": true }).await
}

/// Deletes the documents that `filter` selects, and returns when a majority has acknowledged that.
///
/// # Errors
/// As [`update`].
pub async fn delete(writer: &Writer, collection: &str, filter: Document) -> Result<(), Unfinished> {
    let command = doc! {
        "delete": collection, "deletes": [{ "q": filter, "limit": 0 }], "ordered": false,
        "writeConcern": { "w": "majority" },
    };
    // The command has only texts, ids and numbers, so encoding cannot fail.
    let command = RawDocumentBuf::try_from(&command).unwrap_or_default();
    let reply = writer.send(command).await?;
    read(&reply, Vec::new())?;
    Ok(())
}

/// Waits until a majority has everything that the primary wrote before. Even a write that changes nothing waits for
/// that. This is necessary between two attempts. The first attempt may have written on this primary alone. The second
/// one then compares, finds nothing to write, and so waits for no acknowledgement.
///
/// # Errors
/// As [`update`].
pub async fn confirm(writer: &Writer, collection: &str) -> Result<(), Unfinished> {
    let body = rawdoc! { "q": { "_id": "nothing" }, "u": { "$set": { "at": null } } };
    let nothing = Statement { id: None, body };
    read(&send_once(writer, collection, std::slice::from_ref(&nothing)).await?, vec![nothing])?;
    Ok(())
}

/// Divides `items` evenly among the commands in flight, within the limits of one command.
pub(super) fn commands_of<T>(items: Vec<T>, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let even = if items.len() <= FEW { FEW } else { items.len().div_ceil(IN_FLIGHT) };
    let most = even.min(STATEMENTS);
    let mut commands_of: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for item in items {
        let weight = weight(&item);
        match commands_of.last_mut() {
            Some(command) if command.len() < most && bytes + weight <= BYTES => {
                bytes += weight;
                command.push(item);
            }
            _ => {
                bytes = weight;
                commands_of.push(vec![item]);
            }
        }
    }
    commands_of
}

/// Sends the statements of one command. A command that takes longer than the lease allows, or whose answer cannot be
/// read, would fail the same way again. So it is sent again in ever smaller parts. Then one document does not keep the
/// others from being written.
async fn send(writer: &Writer, collection: &str, statements: Vec<Statement>) -> Result<WriteOutcome, Unfinished> {
    let mut outcome = WriteOutcome::default();
    let mut rest = vec![(statements, 0)];
    while let Some((mut statements, overruns)) = rest.pop() {
        writer.alive();
        let failure = match send_once(writer, collection, &statements).await {
            Ok(reply) => {
                outcome.add(read(&reply, statements)?);
                continue;
            }
            Err(Unfinished::Failed(failure)) => failure,
            Err(interrupted) => return Err(interrupted),
        };
        let unreadable = is_unreadable(&failure);
        match statements.len() {
            _ if !unreadable && !overran(&failure) => return Err(failure.into()),
            // The collection accepts no other write either, so these statements are not at fault.
            _ if Box::pin(confirm(writer, collection)).await.is_err() => return Err(failure.into()),
            2.. => {
                let part = statements.len().div_ceil(PARTS);
                while !statements.is_empty() {
                    rest.push((statements.split_off(statements.len().saturating_sub(part)), 0));
                }
            }
            _ if !unreadable && overruns + 1 < OVERRUNS => rest.push((statements, overruns + 1)),
            _ => {
                let (reason, code) =
                    if unreadable { (Reason::RefusedByServer, UNREADABLE) } else { (Reason::TooSlow, OVERRAN) };
                let refused = |statement| Refused { statement, reason, code };
                outcome.refused.extend(statements.into_iter().map(refused));
            }
        }
    }
    Ok(outcome)
}

/// True if a command overran: the server says so, or does not answer in time.
pub(super) fn overran(failure: &Failure) -> bool {
    match failure {
        Failure::Overdue => true,
        Failure::Write(error) => command_code(error) == Some(OVERRAN),
        _ => false,
    }
}

/// True if the answer cannot be read, because it quotes a text that is no UTF-8. Only refusals quote texts: for
/// instance the field name by which a validator refuses a document.
pub(super) fn is_unreadable(failure: &Failure) -> bool {
    let Failure::Write(error) = failure else { return false };
    matches!(*error.kind, ErrorKind::Bson(_) | ErrorKind::BsonDeserialization(_))
}

async fn send_once(writer: &Writer, collection: &str, statements: &[Statement]) -> Result<Document, Unfinished> {
    let mut command = command_of(collection, statements);
    command.append(cstr!("writeConcern"), &rawdoc! { "w": "majority" });
    writer.send(command).await
}

/// Sends statements as a part of a session's transaction. They must fit into one command. A majority acknowledges the
/// commit, not each command. After a refused statement nothing of the transaction is done.
///
/// # Errors
/// As [`update`].
pub async fn update_in(
    writer: &Writer,
    session: &mut ClientSession,
    collection: &str,
    statements: Vec<Statement>,
) -> Result<WriteOutcome, Unfinished> {
    match writer.send_in(session, command_of(collection, &statements)).await {
        Ok(reply) => Ok(read(&reply, statements)?),
        // An unreadable answer is about one of the statements. The caller finds out which one.
        Err(Unfinished::Failed(failure)) if is_unreadable(&failure) => Err(Failure::Statement(UNREADABLE).into()),
        Err(unfinished) => Err(unfinished),
    }
}

fn command_of(collection: &str, statements: &[Statement]) -> RawDocumentBuf {
    let mut updates = RawArrayBuf::new();
    for statement in statements {
        updates.push(&statement.body);
    }
    let mut command = RawDocumentBuf::new();
    command.append(cstr!("update"), collection);
    command.append(cstr!("updates"), &updates);
    command.append(cstr!("ordered"), false);
    command
}

/// Reads the errors and counts inside a reply. `Ok` from the driver means only that a reply came.
fn read(reply: &Document, statements: Vec<Statement>) -> Result<WriteOutcome, Failure> {
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
            (Some(reason), Some(statement)) => {
                outcome.refused.push(Refused { statement: statement.clone(), reason, code });
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
    let index = |entry: &bson::Bson| usize::try_from(entry.as_document()?.get("index").and_then(number)?).ok();
    let indices = |name: &str| reply.get_array(name).into_iter().flatten().filter_map(index);
    let told: HashSet<usize> = indices("upserted").chain(indices("writeErrors")).collect();
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
    use super::*;

    fn statements(count: usize, weight: usize) -> Vec<Statement> {
        let body = rawdoc! { "u": "x".repeat(weight) };
        (0..count).map(|_| Statement { id: Some(ObjectId::new()), body: body.clone() }).collect()
    }

    #[test]
    fn commands_stay_below_both_bounds_and_are_shared_out_evenly() {
        let counts = |count, weight| {
            let commands_of = commands_of(statements(count, weight), |statement| statement.body.as_bytes().len());
            commands_of.iter().map(Vec::len).collect::<Vec<usize>>()
        };
        assert_eq!(counts(1_201, 10), [500, 500, 201]);
        assert_eq!(counts(301, 10), [151, 150]);
        assert_eq!(counts(64, 10), [64]);
        assert_eq!(counts(5, 3 * 1024 * 1024), [2, 2, 1]);
    }

    #[test]
    fn a_refused_statement_is_named_and_its_neighbours_count() {
        let reply = doc! { "n": 2, "nModified": 1, "upserted": [{ "index": 0 }],
        "writeErrors": [{ "index": 1, "code": 121 }] };
        let statements = statements(3, 1);
        let refused = statements[1].id;
        let outcome = read(&reply, statements).unwrap();
        assert_eq!((outcome.created, outcome.changed), (1, 1));
        assert_eq!(outcome.refused[0].statement.id, refused);
        assert_eq!(outcome.refused[0].reason, Reason::RefusedByValidation);
    }

    #[test]
    fn a_command_that_began_after_the_lease_fails_as_a_whole_and_is_no_refusal() {
        let fenced = doc! { "n": 0, "writeErrors": [{ "index": 0, "code": 241 }] };
        assert!(matches!(read(&fenced, statements(1, 1)), Err(Failure::Overdue)));
    }

    #[test]
    fn passing_errors_inside_a_reply_fail_the_write() {
        let passing = doc! { "writeErrors": [{ "index": 0, "code": 112 }] };
        assert!(matches!(read(&passing, statements(1, 1)), Err(Failure::Statement(112))));
        let concern = doc! { "n": 1, "writeConcernError": { "code": 64 } };
        assert!(matches!(read(&concern, statements(1, 1)), Err(Failure::WriteConcern(64))));
    }
}
