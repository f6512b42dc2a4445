//! The cron jobs of the platform's old server whose work the service does: whether their marks in the data say that
//! they still run (spec 09, "Jobs, as they ran before"). docs/migration.md has the same entries.

use std::time::Duration;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use serde_json::{Value, json};

use super::super::{Check, CheckVerdict};
use super::Part;
use super::text::{date, json_date};
use crate::context::Context;
use crate::error::Failure;
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::{TargetSchema, value};
use crate::mongo::deadline::while_server_works;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::phase::state;
use crate::ticker::job::TimedJob;
use crate::ticker::ticker_command::JobOrder;

/// A daily job whose last mark is younger seems to run. On some days a job finds nothing to do.
const RECENT: Duration = Duration::from_hours(7 * 24);
/// The least time between the last action of a user and the anonymisation: two years.
const INACTIVE: Duration = Duration::from_hours(2 * 365 * 24);

/// A cron entry of the old server.
struct OldJob {
    /// The name of the entry in `server/src/jobs/jobs.ts`.
    entry: &'static str,
    /// The time of the day, in Paris.
    at: &'static str,
    /// The job of the service that does the same.
    ours: &'static str,
    /// The mark that the job leaves in the data, for people; `None` where it leaves none.
    mark: Option<&'static str>,
}

/// The entries that must stop, in the order of docs/migration.md.
const OLD_JOBS: [OldJob; 6] = [
    OldJob {
        entry: "Envoi des mails de relance pour l'expiration des offres à J+7",
        at: "09:20",
        ours: "remind-expiring-offers-j7",
        mark: Some("jobs.relance_mail_expiration_J7"),
    },
    OldJob {
        entry: "Envoi des mails de relance pour l'expiration des offres à J+1",
        at: "09:25",
        ours: "remind-expiring-offers-j1",
        mark: Some("jobs.relance_mail_expiration_J1"),
    },
    OldJob {
        entry: "Annulation des offres expirées",
        at: "00:15",
        ours: "cancel-expired-offers",
        mark: Some("a job that became Annulée after its expiration"),
    },
    OldJob {
        entry: "Mise à jour des recruteurs en erreur",
        at: "00:10",
        ours: "refresh-pending-establishments",
        mark: None,
    },
    OldJob {
        entry: "Envoi des invitations de mise en relation…",
        at: "01:55",
        ours: "send-introductions",
        mark: Some("jobs.mer_sent"),
    },
    OldJob {
        entry: "Anonymisation des user recruteurs de plus de deux (2) ans",
        at: "01:00",
        ours: "anonymize-inactive-users",
        mark: Some("anonymised users, by the end of their two years"),
    },
];
const MAY_GO_ON: &str = "Expiration des offres jobs_partners";

/// The part about the old server's cron jobs. `last_expiry` is the last closing by "Expiration des offres
/// jobs_partners".
pub(super) async fn part(context: &Context, last_expiry: Option<DateTime>) -> Result<Part, Failure> {
    let now = server_time(&context.database).await?;
    let has_run = state::load(&context.database, context.settings.phase.initial).await?.since.is_some();
    let [j7, j1, cancelled, introduced] = marks_of_jobs(context).await?;
    let last = [j7, j1, cancelled, None, introduced, last_anonymisation(context, now).await?];
    context.target.refresh(&context.database).await?;
    let schema = context.target.schema();
    let told = |(job, last): (&OldJob, _)| idle(job, &schema).unwrap_or_else(|| told(job, last, now, has_run));
    let mut checks: Vec<Check> = OLD_JOBS.iter().zip(last).map(told).collect();
    let mut facts: Vec<Value> = OLD_JOBS.iter().zip(last).map(|(job, last)| fact(job, last, now, &schema)).collect();
    checks.push(Check {
        check: "old_jobs",
        verdict: CheckVerdict::Ok,
        found: format!("\"{MAY_GO_ON}\" (every 30 minutes): the last closing by it {}", date(last_expiry)),
        remedy: Some("nothing: this entry may go on".to_owned()),
    });
    facts.push(json!({ "entry": MAY_GO_ON, "must_stop": false, "last": json_date(last_expiry) }));
    Ok(Part { name: "old_jobs", checks, facts: Value::Array(facts) })
}

fn is_recent(last: Option<DateTime>, now: DateTime) -> bool {
    let age = last.map(|last| now.timestamp_millis().saturating_sub(last.timestamp_millis()));
    age.is_some_and(|age| u128::try_from(age).is_ok_and(|age| age < RECENT.as_millis()) || age < 0)
}

/// The warning about a job of the service that will not run, because the target's schema omits a field that it needs.
/// Its entry must run on, or nobody does the work.
fn idle(job: &OldJob, schema: &TargetSchema) -> Option<Check> {
    let OldJob { entry, ours, .. } = job;
    let lacks = lacks(job, schema)?;
    let found = format!("`{ours}` will not run here: {lacks}");
    let remedy = format!("let \"{entry}\" run on until {OFFERS} has the field (`stream-processor setup` adds it)");
    Some(Check::warning("old_jobs", found, remedy))
}

fn lacks(job: &OldJob, schema: &TargetSchema) -> Option<String> {
    TimedJob::named(job.ours).and_then(|ours| JobOrder::Job(ours).lacks(schema))
}

fn told(job: &OldJob, last: Option<DateTime>, now: DateTime, has_run: bool) -> Check {
    let OldJob { entry, at, ours, mark } = job;
    let remedy =
        format!("stop the entry \"{entry}\" in server/src/jobs/jobs.ts before the first `run`: `{ours}` does its work");
    let Some(mark) = mark else {
        let found = format!("\"{entry}\" ({at}) leaves no mark in the data: nobody can see whether it runs");
        return Check::warning("old_jobs", found, remedy);
    };
    match last {
        None => Check::ok("old_jobs", format!("\"{entry}\" ({at}) has left no mark ({mark})")),
        Some(_) if !is_recent(last, now) => {
            Check::ok("old_jobs", format!("\"{entry}\" ({at}) seems stopped: its last mark ({mark}) {}", date(last)))
        }
        Some(_) => {
            let own = if has_run { "; this service has run here, so the mark may be its own" } else { "" };
            let found = format!("\"{entry}\" ({at}) seems to run: its last mark ({mark}) {}{own}", date(last));
            Check::warning("old_jobs", found, remedy)
        }
    }
}

fn fact(job: &OldJob, last: Option<DateTime>, now: DateTime, schema: &TargetSchema) -> Value {
    let lacks = lacks(job, schema);
    json!({
        "entry": job.entry, "at": job.at, "must_stop": lacks.is_none(), "instead": job.ours, "last": json_date(last),
        "lacks": lacks,
        "seems_to_run": job.mark.map(|_| is_recent(last, now)),
    })
}

/// The last dates of the marks in the jobs of recruiters: reminders J+7 and J+1, cancellation, introduction. One pass.
async fn marks_of_jobs(context: &Context) -> Result<[Option<DateTime>; 4], Failure> {
    let dates = |values: Bson| {
        let is_date = doc! { "$eq": [{ "$type": "$$date" }, "date"] };
        doc! { "$max": { "$filter": { "input": values, "as": "date", "cond": is_date } } }
    };
    let of = |field: &str| {
        let values = doc! { "$map": { "input": "$jobs", "as": "job", "in": format!("$$job.{field}") } };
        Bson::from(dates(values.into()))
    };
    let cancelled = doc! { "$and": [
        { "$in": ["$$job.job_status", ["Annulée", "ANNULEE"]] },
        { "$gt": ["$$job.job_update_date", "$$job.job_expiration_date"] },
        { "$eq": [{ "$type": "$$job.job_expiration_date" }, "date"] },
    ] };
    let cancelled = doc! { "$filter": { "input": "$jobs", "as": "job", "cond": cancelled } };
    let cancelled = doc! { "$map": { "input": cancelled, "as": "job", "in": "$$job.job_update_date" } };
    let group = doc! {
        "_id": null,
        "j7": { "$max": of("relance_mail_expiration_J7") }, "j1": { "$max": of("relance_mail_expiration_J1") },
        "cancelled": { "$max": dates(cancelled.into()) }, "introduced": { "$max": of("mer_sent") },
    };
    let stages = vec![doc! { "$match": { "jobs": { "$type": "array" } } }, doc! { "$group": group }];
    let found = first(context, WatchedCollection::Recruiters, stages).await?;
    let last = |name: &str| value::field(found.as_deref()?, name)?.as_datetime();
    Ok(["j7", "j1", "cancelled", "introduced"].map(last))
}

/// The end of the two years of the anonymised user with the latest last action. The job ran then or later. A copy has
/// no date of its own. A user whose two years are not over was anonymised by hand.
async fn last_anonymisation(context: &Context, now: DateTime) -> Result<Option<DateTime>, Failure> {
    let years = i64::try_from(INACTIVE.as_millis()).unwrap_or(i64::MAX);
    let limit = DateTime::from_millis(now.timestamp_millis().saturating_sub(years));
    let stages = vec![
        doc! { "$match": { "last_action_date": { "$type": "date", "$lte": limit } } },
        doc! { "$group": { "_id": null, "last": { "$max": "$last_action_date" } } },
    ];
    let found = first(context, WatchedCollection::AnonymizedUsers, stages).await?;
    let last = found.as_deref().and_then(|found| value::field(found, "last")?.as_datetime());
    Ok(last.map(|last| DateTime::from_millis(last.timestamp_millis().saturating_add(years))))
}

/// The first result of a pass over a collection. There is no fixed time limit.
async fn first(
    context: &Context,
    over: WatchedCollection,
    stages: Vec<Document>,
) -> Result<Option<RawDocumentBuf>, Failure> {
    let comment = Bson::from(ObjectId::new());
    let asked = collection(&context.database, over.name());
    let asked = asked.aggregate(stages).comment(comment.clone()).with_type::<RawDocumentBuf>();
    let asked = async { asked.await?.try_next().await };
    while_server_works(context.database.client(), &comment, asked).await.map_err(Failure::Read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::CheckVerdict;

    #[test]
    fn a_mark_of_this_week_means_that_the_entry_runs_and_it_is_named() {
        let now = DateTime::from_millis(100 * 24 * 3_600_000);
        let days_ago = |days: i64| Some(DateTime::from_millis(now.timestamp_millis() - days * 24 * 3_600_000));
        let [job, ..] = OLD_JOBS;
        let verdict = |last| told(&job, last, now, false).verdict;
        assert_eq!([verdict(days_ago(1)), verdict(days_ago(-1))], [CheckVerdict::Warning; 2]);
        assert_eq!([verdict(days_ago(8)), verdict(None)], [CheckVerdict::Ok; 2]);
        let remedy = told(&job, days_ago(1), now, false).remedy.unwrap();
        assert!(remedy.contains(job.entry) && remedy.contains(job.ours), "{remedy}");
    }
}
