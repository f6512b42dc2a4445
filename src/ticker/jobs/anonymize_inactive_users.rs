//! The job `anonymize-inactive-users` (4.13): anonymises users whose last action is two years old, and then recruiters
//! whose user exists nowhere.

use bson::{DateTime, Document, doc};

use super::super::calendar::months_ago;
use super::{anonymize_orphans, anonymize_user};
use crate::interruption::Unfinished;
use crate::model::names::WatchedCollection;
use crate::ticker::job_context::JobContext;

/// The age of the last action from which a user is inactive, in months.
const MONTHS: u32 = 24;

/// Anonymises the users whom an earlier run has begun, then the selected users, then orphans.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one user. Users anonymised so far stay anonymised.
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let Some(latest) = months_ago(job.now, job.zone(), MONTHS) else { return Ok(()) };
    let begun = anonymize_user::begun(job).await?;
    for user in &begun {
        anonymize_user::anonymize(job, *user, None).await?;
    }
    let mut cursor = job.cursor(WatchedCollection::Users.name(), selects(latest)).await?;
    while let Some(users) = job.next(&mut cursor).await? {
        for user in users.into_iter().filter(|user| !begun.contains(user)) {
            anonymize_user::anonymize(job, user, Some(latest)).await?;
            job.progress().await?;
        }
    }
    anonymize_orphans::run(job, latest).await
}

/// The selection of the job among the users: those with a last action at `latest` or before.
#[must_use]
pub fn selects(latest: DateTime) -> Document {
    doc! { "last_action_date": { "$lte": latest } }
}
