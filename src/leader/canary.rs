//! The canary: a document that the leader writes every few seconds to a watched collection (spec 03, "Lag").
//! Its event must come back through the pipeline. So a stuck stream is noticed even when nothing else happens, and the
//! position of an idle stream does not age.

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
use crate::write::{Writer, update_command};

/// The time to wait for the last answer at the end. The lease can be given back at once only if no command is
/// unanswered.
const LAST: Duration = Duration::from_millis(500);

/// Writes the canary every `interval` until `stop` is cancelled.
///
/// # Errors
/// Never. A canary that cannot be written does not come back, and the health reports that.
pub(crate) async fn write_heartbeats(
    writer: Writer,
    term: i64,
    interval: Duration,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Failure> {
    health.canary_every(interval);
    while !stop.is_cancelled() {
        // The canary of a later term is not overwritten: the upsert collides with it and changes nothing.
        let filter = rawdoc! { "_id": "canary", "term": { "$not": { "$gt": term } } };
        let body = rawdoc! { "q": filter, "u": [{ "$set": { "term": term, "at": "$$NOW" } }], "upsert": true };
        let sign = vec![Statement { id: None, body }];
        let mut write = std::pin::pin!(update_command::update(&writer, WatchedCollection::Canary.name(), sign));
        let written = tokio::select! {
            written = &mut write => written,
            () = stop.cancelled() => tokio::time::timeout(LAST, write).await.unwrap_or(Err(Failure::Overdue.into())),
        };
        if let Err(cause) = written {
            debug!(error = %cause, "the canary could not be written");
        }
        pause(&stop, interval).await;
    }
    Ok(())
}
