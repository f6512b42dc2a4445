//! The anonymisation of one user (4.12, 4.13), in one transaction: copies without contact, then the originals go. What
//! the copies lead to beyond that is the stream's (spec 03, "Anonymising").

use bson::{Bson, DateTime, Document, RawDocument, RawDocumentBuf, doc, oid::ObjectId};

use super::super::report::Line;
use super::super::transaction::{Transaction, refusal_of};
use super::super::work::{Attempts, Work};
use crate::error::Failure;
use crate::fetch::raw;
use crate::model::user_id::spellings;
use crate::model::value;
use crate::source::OFFERS;
use crate::source::event::Collection as Watched;
use crate::write::anonymize::user_offer;
use crate::write::statements::Statement;

/// Who may do what; keyed by `user_id`.
pub const ROLES: &str = "rolemanagements";
/// What is kept of a user (spec 05).
const KEPT_OF_USER: [&str; 4] = ["_id", "last_action_date", "origin", "status"];
/// What is not kept of a recruiter (spec 01).
const CONTACT_OF_RECRUITER: [&str; 5] = ["first_name", "last_name", "phone", "email", "managed_by"];

/// Anonymises a user by hand, whatever the date of their last action.
///
/// # Errors
/// As [`anonymize`].
pub async fn run(work: &mut Work, user: ObjectId) -> Result<(), Failure> {
    anonymize(work, user, None).await?;
    if work.report.matched == 0 {
        let copies = raw(&work.app.database, Watched::AnonymizedUsers.name());
        let copies = crate::answer::answered(copies.count_documents(doc! { "_id": user })).await;
        match copies.map_err(Failure::Read)? {
            0 => work.report.gave_up = Some("there is no such user"),
            _ => work.report.skip("already_anonymized", 1),
        }
    }
    Ok(())
}

/// Anonymises a user, unless they did something after `latest`.
///
/// # Errors
/// A [`Failure`]; nothing was done, or all.
pub async fn anonymize(work: &mut Work, user: ObjectId, latest: Option<DateTime>) -> Result<(), Failure> {
    let mut attempts = Attempts::default();
    loop {
        work.check()?;
        match anonymize_once(work, user, latest).await {
            Ok(false) => return Ok(()),
            Ok(true) => {
                work.report.matched += 1;
                work.report.changed += 1;
                work.tell(Line::new(user, "anonymized", [""; 0]));
                return Ok(());
            }
            Err(failure) => match refusal_of(&failure) {
                Some(reason) => {
                    work.report.matched += 1;
                    work.report.failed += 1;
                    work.tell(Line::new(user, reason.as_str(), [""; 0]));
                    return Ok(());
                }
                None => attempts.wait_after(failure, &work.stop).await?,
            },
        }
    }
}

async fn anonymize_once(work: &Work, user: ObjectId, latest: Option<DateTime>) -> Result<bool, Failure> {
    let _pen = work.pen().await;
    let mut transaction = Transaction::begin(&work.app.database, work.hold.as_ref()).await?;
    let mut one = doc! { "_id": user };
    if let Some(latest) = latest {
        one.insert("last_action_date", doc! { "$lte": latest });
    }
    let found = transaction.read(Watched::Users.name(), one, doc! {}).await?;
    let Some(found) = found.first() else {
        return Ok(false);
    };
    let copy = only(found, |name| KEPT_OF_USER.contains(&name));
    transaction.put(Watched::AnonymizedUsers.name(), vec![copy]).await?;
    transaction.delete(ROLES, of_user("user_id", user)).await?;
    let ours = work.ours(of_user("managed_by", user));
    let offers = transaction.read(OFFERS, ours, doc! { "_id": 1 }).await?;
    let settings = &work.app.settings;
    let (label, email) = (&settings.target.partner_label, &settings.privacy.anonymized_email);
    let ids = offers.iter().filter_map(|offer| offer.get_object_id("_id").ok());
    let statements: Vec<Statement> = ids.map(|offer| user_offer(offer, label, email)).collect();
    let changed = match statements.is_empty() {
        true => 0,
        false => transaction.update(OFFERS, statements).await?.changed,
    };
    if work.phase.writes_offers() {
        anonymize_recruiters(&mut transaction, user).await?;
    }
    transaction.delete(Watched::Users.name(), doc! { "_id": user }).await?;
    transaction.commit().await?;
    work.app.metrics.offers_anonymized.inc_by(changed);
    Ok(true)
}

/// From phase `shadow` on, what is left in `recruiters` is a backup, and the team's to remove.
async fn anonymize_recruiters(transaction: &mut Transaction, user: ObjectId) -> Result<(), Failure> {
    let recruiters = transaction.read(Watched::Recruiters.name(), of_user("managed_by", user), doc! {}).await?;
    if recruiters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Bson> =
        recruiters.iter().filter_map(|recruiter| value::field(recruiter, "_id")?.try_into().ok()).collect();
    for recruiter in recruiters {
        // One by one: together they may be larger than a command.
        let copy = only(&recruiter, |name| !CONTACT_OF_RECRUITER.contains(&name));
        transaction.put(Watched::AnonymizedRecruiters.name(), vec![copy]).await?;
    }
    transaction.delete(Watched::Recruiters.name(), doc! { "_id": { "$in": ids } }).await.map(drop)
}

/// By the id of a user, however documents spell it.
#[must_use]
pub fn of_user(field: &str, user: ObjectId) -> Document {
    doc! { field: { "$in": spellings(&[user]) } }
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
