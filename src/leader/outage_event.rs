//! Tells the timeline of an outage of MongoDB when it is over: from when to when, and why. Every instance saw the outage, and
//! the one that leads afterwards tells it.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::context::Context;
use crate::interruption::Unfinished;
use crate::model::names::EVENTS;
use crate::model::timeline::{DATABASE_AWAY, TimelineEvent};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::observe::reachability::Outage;
use crate::tasks::pause;
use crate::write::Writer;

/// The time between two looks for an outage.
const LOOK: Duration = Duration::from_secs(1);

/// Tells each outage until `stop`.
///
/// # Errors
/// None: the timeline is for people.
pub(super) async fn tell(context: Context, writer: Writer, stop: CancellationToken) -> Result<(), Unfinished> {
    loop {
        if let Some(outage) = context.health.reachability.take_outage() {
            let Outage { lasted, ended, cause } = outage;
            let back = |time: DateTime, by: Duration| {
                DateTime::from_millis(time.timestamp_millis() - i64::try_from(by.as_millis()).unwrap_or_default())
            };
            let to = back(clock::now(), ended.elapsed());
            let from = back(to, lasted);
            if !is_told(&context, from).await {
                let seconds = i64::try_from(lasted.as_secs()).unwrap_or(i64::MAX);
                writer.note(TimelineEvent::DatabaseAway { from, to, seconds, cause });
            }
        }
        if !pause(&stop, LOOK).await {
            return Ok(());
        }
    }
}

/// True if another leader has told an outage that ended after this time.
async fn is_told(context: &Context, from: DateTime) -> bool {
    let events = collection(&context.database, EVENTS);
    let told = events.find_one(doc! { "kind": DATABASE_AWAY, "to": { "$gte": from } });
    let told: Option<Document> = with_deadline(told).await.ok().flatten();
    told.is_some()
}
