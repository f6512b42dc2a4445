//! The orphans of `anonymize-inactive-users` (4.13): recruiters whose user exists nowhere and that nobody touched for two
//! years (spec 09, "People"). Each one is anonymised in one transaction: a copy without contact is stored, the offers
//! are anonymised and cancelled, and the recruiter is deleted. The stream does the rest when it sees the copy (spec 03).

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::attempts::{Attempts, NextAttempt};
use super::super::report::ReportLine;
use super::anonymize_user::{MOST, of_user, without_contact};
use crate::error::Failure;
use crate::failpoint;
use crate::fetch::{IDS_PER_READ, links};
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, RecruiterId, UserId, typed};
use crate::model::names::{OFFERS, WatchedCollection};
use crate::model::user_id::user_id;
use crate::model::value;
use crate::mongo::reads::{documents, find};
use crate::phase::StreamWrites;
use crate::source::scan;
use crate::ticker::job_context::JobContext;
use crate::write::anonymize::recruiter_offer;
use crate::write::statements::Statement;
use crate::write::transaction::Transaction;

const RECRUITERS: &str = WatchedCollection::Recruiters.name();
const USERS: &str = WatchedCollection::Users.name();
/// The dates of a recruiter and of its jobs. One that is later than the limit says that the recruiter was touched.
const DATES: [&str; 2] = ["createdAt", "updatedAt"];
const DATES_OF_JOB: [&str; 4] =
    ["job_creation_date", "job_update_date", "job_expiration_date", "job_last_prolongation_date"];

/// The selection of the job among the recruiters: those without a date after `latest`. The plan looks again, because a
/// comparison in a query passes over values of other types.
#[must_use]
pub fn selects(latest: DateTime) -> Document {
    let of_jobs = DATES_OF_JOB.iter().map(|name| format!("jobs.{name}"));
    let dates = DATES.iter().map(|name| (*name).to_owned()).chain(of_jobs);
    dates.map(|date| (date, Bson::from(doc! { "$not": { "$gt": latest } }))).collect()
}

/// Walks over all recruiters by `_id`, and anonymises the orphans. From phase `shadow` on, `recruiters` is a backup, which
/// the team removes itself.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about one recruiter. Recruiters anonymised so far stay
/// anonymised.
pub(super) async fn run(job: &mut JobContext, latest: DateTime) -> Result<(), Unfinished> {
    if !job.context.settings.ticker.anonymizes_orphans || !job.phase.writes_offers() {
        return Ok(());
    }
    let database = job.context.database.clone();
    let filter = selects(latest);
    let mut after = None;
    loop {
        job.check()?;
        let ids = scan::ids_after(&database, RECRUITERS, &filter, after, scan::STEP).await?;
        after = ids.last().copied();
        if after.is_none() {
            return Ok(());
        }
        for recruiters in typed(&ids).chunks(IDS_PER_READ) {
            for recruiter in orphans(job, recruiters, latest).await? {
                anonymize(job, recruiter, latest).await?;
                job.progress().await?;
            }
        }
    }
}

/// The untouched ones of these recruiters whose user does not exist. A recruiter that names no user is reported and left:
/// nobody knows whose it is.
async fn orphans(
    job: &mut JobContext,
    recruiters: &[RecruiterId],
    latest: DateTime,
) -> Result<Vec<RecruiterId>, Failure> {
    let mut wanted = doc! { "managed_by": 1 };
    wanted.extend(DATES.iter().map(|name| ((*name).to_owned(), Bson::Int32(1))));
    wanted.extend(DATES_OF_JOB.iter().map(|name| (format!("jobs.{name}"), Bson::Int32(1))));
    let batches = find(&job.context.database, RECRUITERS, doc! { "_id": { "$in": recruiters } }, wanted).await?;
    let (mut managed, mut unmanaged) = (BTreeMap::new(), Vec::new());
    for recruiter in documents(&batches) {
        let recruiter = recruiter?;
        let Ok(id) = recruiter.get_object_id("_id").map(RecruiterId) else { continue };
        if is_touched(recruiter, latest) {
            continue;
        }
        match user_id(value::field(recruiter, "managed_by")) {
            Some(user) => drop(managed.insert(id, user)),
            None => unmanaged.push(id),
        }
    }
    for recruiter in unmanaged {
        job.report.matched += 1;
        job.report.skip("no_user_id", 1);
        job.tell(ReportLine::new(recruiter, "no_user_id", ["managed_by"]));
    }
    let existing = existing_users(job, managed.values().copied().collect()).await?;
    Ok(managed.into_iter().filter(|(_, user)| !existing.contains(user)).map(|(recruiter, _)| recruiter).collect())
}

/// The users among these that exist. Another spelling of an `_id` is found by the transaction.
async fn existing_users(job: &JobContext, users: BTreeSet<UserId>) -> Result<BTreeSet<UserId>, Failure> {
    let users: Vec<UserId> = users.into_iter().collect();
    let batches = find(&job.context.database, USERS, doc! { "_id": { "$in": users } }, doc! { "_id": 1 }).await?;
    let mut existing = BTreeSet::new();
    for user in documents(&batches) {
        existing.extend(user_id(value::field(user?, "_id")));
    }
    Ok(existing)
}

/// True where a date of the recruiter or of a job is later than `latest`, or cannot be read. The `_id` has the time of the
/// creation.
fn is_touched(recruiter: &RawDocument, latest: DateTime) -> bool {
    let is_late = |document: &RawDocument, name: &&str| {
        value::field(document, name).is_some_and(|date| value::date(date).is_none_or(|date| date > latest))
    };
    let created = recruiter.get_object_id("_id").ok().map(|id| id.timestamp());
    let jobs = value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten();
    let mut jobs = jobs.filter_map(RawBsonRef::as_document);
    created.is_none_or(|created| created > latest)
        || DATES.iter().any(|name| is_late(recruiter, name))
        || jobs.any(|job| DATES_OF_JOB.iter().any(|name| is_late(job, name)))
}

/// Anonymises an orphan. Where the server refuses a change of it, or has no time for it, it is reported as failed.
async fn anonymize(job: &mut JobContext, recruiter: RecruiterId, latest: DateTime) -> Result<(), Unfinished> {
    failpoint::passed("orphan-found");
    let (mut attempts, mut most) = (Attempts::default(), MOST);
    let changed = loop {
        job.begin_step().await?;
        match transaction(job, recruiter, latest, most).await {
            Ok(Some(changed)) => break changed,
            Ok(None) => return Ok(()),
            Err(cause) => match attempts.next(cause, most > 1, &job.stop).await? {
                NextAttempt::Same => {}
                NextAttempt::Smaller => most = most.div_ceil(4),
                NextAttempt::Failed(fault, cause) => return job.fail(recruiter.0, fault, cause),
            },
        }
    };
    job.stuck = 0;
    job.write_access.iter().for_each(|access| access.pace.wrote(changed));
    job.context.metrics.offers_anonymized.inc_by(changed);
    job.report.matched += 1;
    job.report.changed += 1;
    job.report.change_as("orphans");
    job.tell(ReportLine::new(recruiter, "orphan_anonymized", [""; 0]));
    Ok(())
}

/// Anonymises the recruiter and at most `most` of its offers; the stream anonymises the others. Returns the number of
/// changed offers, or `None` where the recruiter is no orphan any more.
async fn transaction(
    job: &JobContext,
    recruiter: RecruiterId,
    latest: DateTime,
    most: usize,
) -> Result<Option<u64>, Unfinished> {
    let _guard = job.offer_write_lock().await;
    let mut transaction = Transaction::begin(&job.context.database, job.fence()).await?;
    let one = doc! { "_id": recruiter };
    // All is read again. Whoever writes the recruiter from here on makes the deletion fail: then it is looked at anew.
    let found = transaction.read(RECRUITERS, one.clone(), doc! {}, 1).await?;
    let untouched = found.first().filter(|found| !is_touched(found, latest));
    let Some((found, user)) = untouched.and_then(|found| Some((found, user_id(value::field(found, "managed_by"))?)))
    else {
        return Ok(transaction.abort().await.map(|()| None)?);
    };
    let jobs = jobs_of(found);
    let user_is_there = !transaction.read(USERS, of_user("_id", user), doc! { "_id": 1 }, 1).await?.is_empty();
    if user_is_there || has_newer_offer(job, &mut transaction, &jobs, latest).await? {
        return Ok(transaction.abort().await.map(|()| None)?);
    }
    transaction.put(WatchedCollection::AnonymizedRecruiters.name(), vec![without_contact(found)]).await?;
    transaction.delete(RECRUITERS, one).await?;
    let settings = &job.context.settings;
    let (label, email) = (&settings.target.partner_label, &settings.privacy.anonymized_email);
    let offers = own_jobs(job, recruiter, jobs.into_iter().take(most).collect()).await?;
    let schema = job.context.target.schema();
    let statement = |offer| recruiter_offer(offer, label, email, job.now).accepted_by(&schema);
    let statements: Vec<Statement> = offers.into_iter().map(statement).collect();
    let changed = if statements.is_empty() { 0 } else { transaction.update(OFFERS, statements).await?.changed };
    failpoint::passed("orphan-written");
    // The transaction sees no user who came back since it began.
    let back = find(&job.context.database, USERS, of_user("_id", user), doc! { "_id": 1 }).await?;
    if documents(&back).next().is_some() {
        return Ok(transaction.abort().await.map(|()| None)?);
    }
    transaction.commit().await?;
    failpoint::passed("orphan-anonymized");
    Ok(Some(changed))
}

fn jobs_of(recruiter: &RawDocument) -> BTreeSet<JobId> {
    let jobs = value::list(value::field(recruiter, "jobs")).into_iter().flatten().flatten();
    jobs.filter_map(|job| job.as_document()?.get_object_id("_id").ok()).map(JobId).collect()
}

/// True in `dual-write` where an offer of the recruiter is later than `latest`: an application may have touched the offer
/// alone, and the newer document wins (spec 04).
async fn has_newer_offer(
    job: &JobContext,
    transaction: &mut Transaction,
    jobs: &BTreeSet<JobId>,
    latest: DateTime,
) -> Result<bool, Failure> {
    if job.phase.stream() != StreamWrites::UnlessNewer || jobs.is_empty() {
        return Ok(false);
    }
    let jobs: Vec<Bson> = jobs.iter().copied().map(Bson::from).collect();
    let newer = job.ours(doc! { "_id": { "$in": jobs }, "updated_at": { "$gt": latest } });
    Ok(!transaction.read(OFFERS, newer, doc! { "_id": 1 }, 1).await?.is_empty())
}

/// The jobs that no other recruiter holds. An offer of the others shows the other recruiter, as the stream sees to.
async fn own_jobs(job: &JobContext, recruiter: RecruiterId, jobs: BTreeSet<JobId>) -> Result<Vec<JobId>, Failure> {
    let owners = links::owners(&job.context.database, &jobs).await?;
    let is_own = |job: &JobId| owners.get(job).is_none_or(|owners| owners.iter().all(|owner| *owner == recruiter));
    Ok(jobs.into_iter().filter(is_own).collect())
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;
    use bson::oid::ObjectId;

    use super::*;

    const LATEST: DateTime = DateTime::from_millis(1_700_000_000_000);

    fn touched(fields: Document) -> bool {
        let mut recruiter = doc! {
            "_id": ObjectId::parse_str("600000000000000000000001").unwrap(), "createdAt": LATEST, "updatedAt": LATEST,
            "jobs": [{ "job_creation_date": LATEST, "job_expiration_date": "2023-01-01", "job_update_date": null }, 1],
        };
        recruiter.extend(fields);
        is_touched(&RawDocumentBuf::try_from(&recruiter).unwrap(), LATEST)
    }

    #[test]
    fn one_later_date_says_that_a_recruiter_was_touched_and_so_does_one_that_cannot_be_read() {
        assert!(!touched(doc! {}));
        assert!(!touched(doc! { "createdAt": null, "updatedAt": null, "jobs": null }));
        let later = DateTime::from_millis(LATEST.timestamp_millis() + 1);
        for name in DATES {
            for date in [Bson::from(later), Bson::from("2023-12-01"), Bson::from("hier"), Bson::Int32(1)] {
                let fields: Document = [(name.to_owned(), date.clone())].into_iter().collect();
                assert!(touched(fields), "{name}: {date}");
            }
        }
        for name in DATES_OF_JOB {
            let job: Document = [(name.to_owned(), Bson::from(later))].into_iter().collect();
            assert!(touched(doc! { "jobs": [{}, job] }), "{name}");
        }
        assert!(touched(doc! { "_id": ObjectId::parse_str("700000000000000000000001").unwrap() }), "a new one");
        assert!(touched(doc! { "_id": "another" }));
    }

    #[test]
    fn the_query_names_every_date_that_the_plan_looks_at() {
        assert_eq!(selects(LATEST).len(), DATES.len() + DATES_OF_JOB.len());
    }
}
