//! Sends statements with the `update` command (spec 03, "Writing"): `ordered: false`, `w: "majority"`, at most 500
//! statements and 8 MB in a command, two commands in flight.
//! The driver does not retry such a command and does not fail on `writeErrors`, so [`super::update_reply`] reads the reply.

use bson::raw::{RawArrayBuf, cstr};
use bson::{Document, RawDocumentBuf, doc, rawdoc};
use futures::{StreamExt as _, TryStreamExt as _};
use mongodb::ClientSession;
use mongodb::error::ErrorKind;

use super::Writer;
use super::own_writes::{SentWrite, offers_of};
use super::statements::Statement;
use super::update_reply::{Refused, UNREADABLE, WriteOutcome, read};
use crate::error::{Failure, command_code};
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
/// The greatest number of statements that go in one command. More statements are divided evenly among the commands in
/// flight, because the server works on one command with one thread.
const FEW: usize = 64;

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
    let refused =
        |statement| Refused { statement, reason: Reason::TooLarge, code: OBJECT_TOO_LARGE, fields: Vec::new() };
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
                let refused = |statement| Refused { statement, reason, code, fields: Vec::new() };
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
    let sent = writer.sends(|| offers_of(collection, statements));
    let mut command = command_of(collection, statements);
    command.append(cstr!("writeConcern"), &rawdoc! { "w": "majority" });
    let reply = writer.send(command).await?;
    sent.into_iter().for_each(SentWrite::answered);
    Ok(reply)
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

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

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
}
