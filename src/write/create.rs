//! Creates many offers at once. An upsert of each costs the server about twice as much as inserting them together
//! (docs/performance.md), but `insert` takes no `let`, so that nothing would refuse it under another leader's lease;
//! an aggregation that ends in `$merge` inserts, and takes one.

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, cstr};
use bson::{RawDocumentBuf, rawdoc};
use futures::{StreamExt as _, TryStreamExt as _};

use super::Writer;
use super::command::{IN_FLIGHT, commands_of, is_unreadable, overran, unacknowledged};
use super::statements::Creation;
use crate::error::FENCED;
use crate::error::{Failure, command_code, refusal};

/// Below this many, statements of their own are as good.
pub const WORTH_IT: usize = 16;

/// What became of the creations.
#[derive(Debug, Default)]
pub struct Created {
    /// Documents created.
    pub created: u64,
    /// Of commands in which the server refused one, or which took too long: each may stand now or not, and is to be
    /// written by a statement of its own, which tells which one it is.
    pub unsure: Vec<ObjectId>,
}

/// Inserts all; returns when a majority has acknowledged those that are not `unsure`.
///
/// # Errors
/// [`Failure::Write`], [`Failure::Overdue`], [`Failure::LeaseLost`]: some may stand.
pub async fn create(writer: &Writer, collection: &str, creations: Vec<Creation>) -> Result<Created, Failure> {
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

async fn send(writer: &Writer, collection: &str, creations: Vec<Creation>) -> Result<Created, Failure> {
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
    match writer.send(command).await {
        Ok(reply) if reply.contains_key("writeConcernError") => Err(unacknowledged(&reply)),
        Ok(_) => Ok(Created { created: ids.len() as u64, unsure: Vec::new() }),
        // Whether it is about one of them, each tells for itself.
        Err(failure) if overran(&failure) || is_unreadable(&failure) => Ok(Created { created: 0, unsure: ids }),
        Err(Failure::Write(error)) => match command_code(&error) {
            Some(FENCED) => Err(Failure::Overdue),
            Some(code) if refusal(code).is_some() => Ok(Created { created: 0, unsure: ids }),
            _ => Err(Failure::Write(error)),
        },
        Err(failure) => Err(failure),
    }
}

fn stages(collection: &str, documents: &RawArrayBuf) -> RawArrayBuf {
    let mut stages = RawArrayBuf::new();
    // Literally: a text that begins with a dollar is no expression.
    let mut literal = RawDocumentBuf::new();
    literal.append(cstr!("$literal"), documents);
    stages.push(rawdoc! { "$documents": literal });
    stages.push(rawdoc! { "$merge": {
        "into": collection, "on": "_id", "whenMatched": "fail", "whenNotMatched": "insert",
    } });
    stages
}
