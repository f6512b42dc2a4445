//! The leader's own sign of life: a document that it writes every few seconds to a watched collection and that
//! must come back through the pipeline (spec 03, "Lag"). So a stream that is stuck is noticed even when nothing
//! else happens, and an idle one has a position that does not age.

use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::error::Failure;
use crate::model::names::WatchedCollection;
use crate::observe::health::Health;
use crate::tasks::pause;
use crate::write::statements::Statement;
use crate::write::{Writer, command};

/// So long the last answer is waited for at the end: a lease is given back at once only when no command is without one.
const LAST: Duration = Duration::from_millis(500);

/// Writes it every `interval`, until `stop`.
///
/// # Errors
/// Never: where it cannot be written, it does not come back, and that is what is told.
pub(crate) async fn write_heartbeats(
    writer: Writer,
    (term, interval): (i64, Duration),
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    health.canary_every(interval);
    while !stop.is_cancelled() {
        // Not over that of a later term: the upsert then meets its document and changes nothing.
        let filter = rawdoc! { "_id": "canary", "term": { "$not": { "$gt": term } } };
        let body = rawdoc! { "q": filter, "u": [{ "$set": { "term": term, "at": "$$NOW" } }], "upsert": true };
        let sign = vec![Statement { id: None, body }];
        let mut write = std::pin::pin!(command::update(&writer, WatchedCollection::Canary.name(), sign));
        let written = tokio::select! {
            written = &mut write => written,
            () = stop.cancelled() => tokio::time::timeout(LAST, write).await.unwrap_or(Err(Failure::Overdue)),
        };
        if let Err(failure) = written {
            debug!(error = %failure, "the canary could not be written");
        }
        pause(&stop, interval).await;
    }
    Ok(())
}
