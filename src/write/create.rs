//! Creates many offers in one command. Single upserts cost the server about twice as much (docs/performance.md).
//! `insert` takes no `let`, so the server could not refuse it after the lease is lost. An aggregation that ends in
//! `$merge` inserts too, and takes a `let`.

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, cstr};
use bson::{RawDocumentBuf, rawdoc};
use futures::{StreamExt as _, TryStreamExt as _};

use super::Writer;
use super::own_writes::SentWrite;
use super::statements::Creation;
use super::update_command::{IN_FLIGHT, commands_of, is_unreadable, overran};
use super::update_reply::unacknowledged;
use crate::error::FENCED;
use crate::error::{Failure, command_code, refusal};
use crate::interruption::Unfinished;
use crate::model::names::OFFERS;

/// The number of creations from which such a command is worth it. Fewer ones are written by single statements.
pub const WORTH_IT: usize = 16;

/// The results of creations.
#[derive(Debug, Default)]
pub struct Created {
    /// The number of created documents.
    pub created: u64,
    /// All documents of a command that took too long or in which the server refused a document. Each of them may exist
    /// now or not. A single statement for each one then shows which one is at fault.
    pub unsure: Vec<ObjectId>,
}

/// Inserts documents, and returns when a majority has acknowledged all that are not `unsure`.
///
/// # Errors
/// [`Failure::Write`], [`Failure::Overdue`], or a lost lease: some documents may exist then.
pub async fn create(writer: &Writer, collection: &str, creations: Vec<Creation>) -> Result<Created, Unfinished> {
    futures::stream::iter(commands_of(creations, |creation| creation.document.as_bytes().len()))
        .map(|command| send(writer, collection, command))
        .buffer_unordered(IN_FLIGHT)
        .try_fold(Created::default(), |mut all, created| async move {
            all.created += created.created;
            all.unsure.extend(created.unsure);
            Ok(all)
        })
        .await
}

async fn send(writer: &Writer, collection: &str, creations: Vec<Creation>) -> Result<Created, Unfinished> {
    let mut documents = RawArrayBuf::new();
    let mut ids = Vec::with_capacity(creations.len());
    for creation in creations {
        ids.push(creation.id);
        documents.push(creation.document);
    }
    let mut command = rawdoc! { "aggregate": 1 };
    command.append(cstr!("pipeline"), stages(collection, &documents));
    drop(documents);
    command.append(cstr!("cursor"), rawdoc! {});
    command.append(cstr!("writeConcern"), rawdoc! { "w": "majority" });
    let sent = writer.sends(|| if collection == OFFERS { ids.clone() } else { Vec::new() });
    let reply = writer.send(command).await;
    if reply.is_ok() {
        sent.into_iter().for_each(SentWrite::answered);
    }
    match reply {
        Ok(reply) if reply.contains_key("writeConcernError") => Err(unacknowledged(&reply).into()),
        Ok(_) => Ok(Created { created: ids.len() as u64, unsure: Vec::new() }),
        // One of the documents may be at fault. Single statements find out.
        Err(Unfinished::Failed(failure)) if overran(&failure) || is_unreadable(&failure) => {
            Ok(Created { created: 0, unsure: ids })
        }
        Err(Unfinished::Failed(Failure::Write(error))) => match command_code(&error) {
            Some(FENCED) => Err(Failure::Overdue.into()),
            Some(code) if refusal(code).is_some() => Ok(Created { created: 0, unsure: ids }),
            _ => Err(Failure::Write(error).into()),
        },
        Err(unfinished) => Err(unfinished),
    }
}

fn stages(collection: &str, documents: &RawArrayBuf) -> RawArrayBuf {
    let mut stages = RawArrayBuf::new();
    // Without `$literal`, a text that begins with a dollar would be an expression.
    let mut literal = RawDocumentBuf::new();
    literal.append(cstr!("$literal"), documents);
    stages.push(rawdoc! { "$documents": literal });
    stages.push(rawdoc! { "$merge": {
        "into": collection, "on": "_id", "whenMatched": "fail", "whenNotMatched": "insert",
    } });
    stages
}
