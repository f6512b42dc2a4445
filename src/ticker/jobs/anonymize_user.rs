//! The anonymisation of one user (4.12, 4.13): stores copies without contact, and deletes the originals. A user with
//! few documents takes one transaction, a user with many takes several. Recruiters go first, so that nothing projects
//! their contact again. The user goes last, so that the next run finds the user of an interrupted run. The stream does
//! the rest when it sees the copies (spec 03).

use bson::raw::{CStr, cstr};
use bson::{Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc};

use super::super::attempts::{Attempts, NextAttempt};
use super::super::id_cursor::IdCursor;
use super::super::report::ReportLine;
use crate::apply::affected_recruiters::unnamed_offers;
use crate::error::Failure;
use crate::failpoint;
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, UserId};
use crate::model::names::OFFERS;
use crate::model::names::ROLES;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::model::user_id::spellings;
use crate::model::value;
use crate::mongo::reads::collection;
use crate::ticker::job_context::JobContext;
use crate::write::anonymize::AnonymizedUser;
use crate::write::fence_document::{StoredTicker, changing_anonymizing};
use crate::write::statements::Statement;
use crate::write::transaction::Transaction;

/// The fields of a user that the copy keeps (spec 05).
const KEPT_OF_USER: [&str; 4] = ["_id", "last_action_date", "origin", "status"];
/// The fields of a recruiter that the copy leaves out (spec 01).
const CONTACT_OF_RECRUITER: [&str; 5] = ["first_name", "last_name", "phone", "email", "managed_by"];
/// The maximal number of documents in one transaction. A transaction that takes longer than the lease allows is
/// repeated with fewer documents.
pub(super) const MOST: usize = 500;
/// The size of the recruiters, in bytes, after which a transaction copies no further recruiter.
const BYTES: usize = 8 * 1024 * 1024;

/// Anonymises a user by hand, whatever the date of the last action. The run gives up where the user does not exist.
///
/// # Errors
/// As [`anonymize`].
pub async fn run(job: &mut JobContext, user: UserId) -> Result<(), Unfinished> {
    anonymize(job, user, None).await?;
    if job.report.matched == 0 {
        let copies = collection(&job.context.database, WatchedCollection::AnonymizedUsers.name());
        let copies = crate::mongo::deadline::with_deadline(copies.count_documents(doc! { "_id": user })).await;
        match copies.map_err(Failure::Read)? {
            0 => job.report.gave_up = Some("there is no such user".into()),
            _ => job.report.skip("already_anonymized", 1),
        }
    }
    Ok(())
}

/// The users whose anonymisation has begun. Each of them is anonymised to the end, whatever they did since.
///
/// # Errors
/// [`Failure::Read`].
pub async fn begun(job: &JobContext) -> Result<Vec<UserId>, Failure> {
    Ok(StoredTicker::read(&job.context.database).await?.anonymizing)
}

/// Anonymises a user, unless the last action is later than `latest`. Where the server refuses a change of this user, or
/// has no time for it, the user is reported as failed.
///
/// # Errors
/// [`Unfinished`]: an interruption, or a failure that is not about this user. Changes so far stay, and the function can
/// be called again.
pub async fn anonymize(job: &mut JobContext, user: UserId, latest: Option<DateTime>) -> Result<(), Unfinished> {
    let mut cursor = Some(job.cursor(OFFERS, job.ours(of_user("managed_by", user))).await?);
    let mut rest = Rest { user, latest, offers: Vec::new(), most: MOST };
    if !job.phase.writes_offers() {
        let label = &job.context.settings.target.partner_label;
        rest.offers.extend(unnamed_offers(&job.context.database, label, &[user].into()).await?);
    }
    let mut attempts = Attempts::default();
    loop {
        job.begin_step().await?;
        rest.fill(job, &mut cursor).await?;
        let cause = match part(job, &rest).await {
            Ok(AnonymizationStep::NoUser) => return Ok(()),
            Ok(AnonymizationStep::Last) => break,
            Ok(AnonymizationStep::Part { offers }) => {
                job.write_access.iter().for_each(|access| access.pace.wrote(offers as u64));
                rest.offers.drain(..offers);
                // A user who comes back meanwhile has no use for half an account, so the rest goes too.
                rest.latest = None;
                attempts = Attempts::default();
                job.progress().await?;
                continue;
            }
            Err(cause) => cause,
        };
        match attempts.next(cause, rest.most > 1, &job.stop).await? {
            NextAttempt::Same => {}
            NextAttempt::Smaller => rest.most = rest.most.div_ceil(4),
            NextAttempt::Failed(fault, cause) => return job.fail(user.0, fault, cause),
        }
    }
    job.stuck = 0;
    job.write_access.iter().for_each(|access| access.pace.wrote(rest.offers.len() as u64));
    job.report.matched += 1;
    job.report.changed += 1;
    job.tell(ReportLine::new(user, "anonymized", [""; 0]));
    Ok(())
}

/// The remaining work on a user.
struct Rest {
    user: UserId,
    /// The latest last action of an inactive user; `None` where the user is anonymised in any case.
    latest: Option<DateTime>,
    /// The next offers of the user, in order.
    offers: Vec<JobId>,
    /// The maximal number of documents in the next transaction.
    most: usize,
}

impl Rest {
    /// Reads offers until one more is known than a transaction takes, or until the cursor ends.
    async fn fill(&mut self, job: &mut JobContext, cursor: &mut Option<IdCursor>) -> Result<(), Failure> {
        while let Some(more) = cursor.as_mut().filter(|_| self.offers.len() <= self.most) {
            match job.next::<JobId>(more).await? {
                Some(offers) => self.offers.extend(offers),
                None => *cursor = None,
            }
        }
        Ok(())
    }
}

/// The result of one transaction.
enum AnonymizationStep {
    /// The user does not exist, or did something meanwhile.
    NoUser,
    /// The transaction anonymised this number of offers, and perhaps other documents. More work is left.
    Part { offers: usize },
    /// The transaction did all the remaining job. In a dry run, the user exists and nothing was changed.
    Last,
}

async fn part(job: &JobContext, rest: &Rest) -> Result<AnonymizationStep, Unfinished> {
    let _guard = job.offer_write_lock().await;
    let user = rest.user;
    let mut transaction = Transaction::begin(&job.context.database, job.fence()).await?;
    let mut one = doc! { "_id": user };
    if let Some(latest) = rest.latest {
        one.insert("last_action_date", doc! { "$lte": latest });
    }
    let found = transaction.read(WatchedCollection::Users.name(), one, doc! {}, 1).await?;
    let Some(found) = found.first().filter(|_| !job.is_dry_run()) else {
        let is_there = !found.is_empty();
        leave(transaction, rest).await?;
        return Ok(if is_there { AnonymizationStep::Last } else { AnonymizationStep::NoUser });
    };
    let mut left = rest.most;
    // From phase `shadow` on, `recruiters` is a backup, which the team removes itself.
    if job.phase.writes_offers() {
        left = recruiters(&mut transaction, user, left).await?;
    }
    left = roles(&mut transaction, user, left).await?;
    let settings = &job.context.settings;
    let anonymized = AnonymizedUser {
        partner_label: &settings.target.partner_label,
        email: &settings.privacy.anonymized_email,
        date: job.now,
        clears_manager: !job.phase.writes_offers(),
    };
    let offers = left.min(rest.offers.len());
    let schema = job.context.target.schema();
    let statement = |offer: &JobId| anonymized.offer(*offer).accepted_by(&schema);
    let statements: Vec<Statement> = rest.offers.iter().take(offers).map(statement).collect();
    let changed = if statements.is_empty() { 0 } else { transaction.update(OFFERS, statements).await?.changed };
    // A transaction that used its whole number of documents may have left some, so it is not the last one.
    let step = if left > offers && offers == rest.offers.len() {
        AnonymizationStep::Last
    } else {
        AnonymizationStep::Part { offers }
    };
    note(
        &mut transaction,
        user,
        if matches!(step, AnonymizationStep::Last) { cstr!("$pull") } else { cstr!("$addToSet") },
    )
    .await?;
    if matches!(step, AnonymizationStep::Last) {
        let copy = only(found, |name| KEPT_OF_USER.contains(&name));
        transaction.put(WatchedCollection::AnonymizedUsers.name(), vec![copy]).await?;
        transaction.delete(WatchedCollection::Users.name(), doc! { "_id": user }).await?;
    }
    transaction.commit().await?;
    failpoint::passed("user-part");
    job.context.metrics.offers_anonymized.inc_by(changed);
    Ok(step)
}

/// Ends a transaction that changes nothing of the user. A user whose anonymisation had begun is taken off the list:
/// another process has deleted the user, and the stream anonymises the remaining offers.
async fn leave(mut transaction: Transaction, rest: &Rest) -> Result<(), Unfinished> {
    if rest.latest.is_none() {
        note(&mut transaction, rest.user, cstr!("$pull")).await?;
    }
    // An open transaction would keep its locks for a minute.
    Ok(transaction.commit().await?)
}

/// Adds the user to the list of begun users (`$addToSet`), or removes the user from the list (`$pull`).
async fn note(transaction: &mut Transaction, user: UserId, operator: &CStr) -> Result<(), Unfinished> {
    transaction.update(STATE, vec![changing_anonymizing(user, operator)]).await.map(drop)
}

/// Copies the user's recruiters without contact, and deletes them. Returns the number of documents that the transaction
/// may still change; zero once the size limit is reached.
async fn recruiters(transaction: &mut Transaction, user: UserId, most: usize) -> Result<usize, Unfinished> {
    let (name, theirs) = (WatchedCollection::Recruiters.name(), of_user("managed_by", user));
    let found = transaction.read(name, theirs, doc! { "_id": 1 }, most).await?;
    let (mut left, mut bytes) = (most, 0);
    let mut copied: Vec<Bson> = Vec::new();
    for recruiter in &found {
        let Some(id) = value::field(recruiter, "_id").and_then(|id| Bson::try_from(id).ok()) else { continue };
        // One recruiter at a time: all together may be too large for one command, and for the memory.
        let whole = transaction.read(name, doc! { "_id": id.clone() }, doc! {}, 1).await?;
        for whole in whole {
            bytes += whole.as_bytes().len();
            transaction.put(WatchedCollection::AnonymizedRecruiters.name(), vec![without_contact(&whole)]).await?;
        }
        copied.push(id);
        left -= 1;
        if bytes >= BYTES {
            left = 0;
            break;
        }
    }
    if !copied.is_empty() {
        transaction.delete(name, doc! { "_id": { "$in": copied } }).await?;
    }
    Ok(left)
}

/// Deletes the user's roles. Returns the number of documents that the transaction may still change.
async fn roles(transaction: &mut Transaction, user: UserId, most: usize) -> Result<usize, Unfinished> {
    if most == 0 {
        return Ok(0);
    }
    let found = transaction.read(ROLES, of_user("user_id", user), doc! { "_id": 1 }, most).await?;
    let ids: Vec<Bson> = found.iter().filter_map(|role| value::field(role, "_id")?.try_into().ok()).collect();
    let left = most - found.len();
    if !ids.is_empty() {
        transaction.delete(ROLES, doc! { "_id": { "$in": ids } }).await?;
    }
    Ok(left)
}

/// A filter of the documents whose `field` is the id of this user, in every spelling: an ObjectId or hex digits.
#[must_use]
pub fn of_user(field: &str, user: UserId) -> Document {
    doc! { field: { "$in": spellings(&[user]) } }
}

/// The copy of a recruiter for `anonymized_recruiters` (spec 01).
pub(super) fn without_contact(recruiter: &RawDocument) -> RawDocumentBuf {
    only(recruiter, |name| !CONTACT_OF_RECRUITER.contains(&name))
}

fn only(document: &RawDocument, keeps: impl Fn(&str) -> bool) -> RawDocumentBuf {
    let mut kept = RawDocumentBuf::new();
    for (name, value) in document.iter().flatten().filter(|(name, _)| keeps(name.as_str())) {
        kept.append(name, value);
    }
    kept
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    #[test]
    fn of_a_user_only_what_names_nobody_is_kept() {
        let user = doc! {
            "_id": ObjectId::new(), "email": "a@example.com", "first_name": "A", "last_name": "B", "phone": "0",
            "origin": "x", "status": [], "last_action_date": DateTime::MIN, "createdAt": DateTime::MIN, "new": "field",
        };
        let kept = only(&RawDocumentBuf::try_from(&user).unwrap(), |name| KEPT_OF_USER.contains(&name));
        let names: Vec<&str> = kept.iter().flatten().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["_id", "origin", "status", "last_action_date"]);
    }
}
