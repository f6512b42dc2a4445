//! The jobs `remind-expiring-offers-j7` and `-j1` (4.1): send one e-mail to each user about all their offers that
//! expire soon, and mark these offers. The entry in the outbox decides whether a message is sent (spec 05, "E-mail").

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::Cursor;
use mongodb::raw_batch_cursor::RawBatch;

use super::super::offer_and_job::{Edit, Pair, PairFields, PairVerdict};
use super::emails::{self, Later, Subject, email, leave, recipients, send};
use super::unsettled::unsettled;
use crate::config::ReminderWindow;
use crate::error::Failure;
use crate::failpoint;
use crate::interruption::Unfinished;
use crate::mail::compose::iso_day;
use crate::mail::email::Template;
use crate::mail::mailer::{MailItem, Mailer};
use crate::mail::outbox;
use crate::model::ids::{JobId, UserId};
use crate::model::names::OFFERS;
use crate::model::user_id::spellings;
use crate::model::{OfferStatus, TargetSchema};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents, find};
use crate::ticker::job::TimedJob;
use crate::ticker::job_context::JobContext;

const DAY: i64 = 24 * 3_600_000;
/// The number of users whose offers are in memory at once.
const USERS: usize = 50;

/// The time between a reminder and the expiration of the offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threshold {
    /// Seven days.
    J7,
    /// One day.
    J1,
}

impl Threshold {
    /// The field that marks the offer, and its job, with the time of the e-mail.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::J7 => "relance_mail_expiration_J7",
            Self::J1 => "relance_mail_expiration_J1",
        }
    }

    /// The name of the job in the configuration.
    fn job(self) -> TimedJob {
        match self {
            Self::J7 => TimedJob::RemindExpiringOffersJ7,
            Self::J1 => TimedJob::RemindExpiringOffersJ1,
        }
    }

    fn template(self) -> Template {
        match self {
            Self::J7 => Template::RemindJ7,
            Self::J1 => Template::RemindJ1,
        }
    }

    fn fields(self) -> PairFields {
        match self {
            Self::J7 => PairFields {
                offer: &["relance_mail_expiration_J7"],
                job: &["relance_mail_expiration_J7"],
                recruiter: &[],
            },
            Self::J1 => PairFields {
                offer: &["relance_mail_expiration_J1"],
                job: &["relance_mail_expiration_J1"],
                recruiter: &[],
            },
        }
    }

    /// The first and the last expiration that this run is about. After a late run, the first one is where the window of
    /// `previous` ended: for J7 not below one day from now, unless the window itself begins there; for J1 not below now.
    #[must_use]
    pub fn expirations(
        self,
        window: ReminderWindow,
        now: DateTime,
        previous: Option<DateTime>,
    ) -> (DateTime, DateTime) {
        let now = now.timestamp_millis();
        let (from, to) = (milliseconds(window.from), milliseconds(window.to));
        let earliest = match self {
            Self::J7 => now + from.min(DAY),
            Self::J1 => now,
        };
        let usual = now + from;
        let seen = previous.map_or(usual, |previous| previous.timestamp_millis() + to);
        (DateTime::from_millis(usual.min(seen).max(earliest)), DateTime::from_millis(now + to))
    }

    /// The selection of the job among our offers: active offers that expire in the window and have no mark.
    #[must_use]
    pub fn selects(self, window: ReminderWindow, now: DateTime, previous: Option<DateTime>) -> Document {
        let (first, last) = self.expirations(window, now, previous);
        let mut selects = doc! {
            "offer_status": OfferStatus::Active.as_str(), "offer_expiration": { "$gte": first, "$lte": last },
        };
        selects.insert(self.field(), Bson::Null);
        selects
    }
}

/// The milliseconds of a duration. The configuration bounds windows to sixty days.
fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Sends the reminders of one threshold. The run gives up where the mailer cannot be opened.
///
/// # Errors
/// As [`JobContext::change`]; a failure of the database while sending.
pub(crate) async fn run(job: &mut JobContext, threshold: Threshold) -> Result<(), Unfinished> {
    let mailer = emails::mailer(job).await;
    if job.report.gave_up.is_some() {
        return Ok(());
    }
    let outcome = Box::pin(remind(job, threshold, mailer.as_ref())).await;
    match mailer {
        Some(mailer) => emails::conclude(job, &mailer, outcome).await,
        None => outcome,
    }
}

async fn remind(job: &mut JobContext, threshold: Threshold, mailer: Option<&Mailer>) -> Result<(), Unfinished> {
    let settings = job.context.settings.ticker.jobs.get(threshold.job().name());
    let Some(window) = settings.and_then(|settings| settings.window) else { return Ok(()) };
    let filter = job.ours(threshold.selects(window, job.now, job.previous));
    let mut users = users(job, &filter).await?;
    let mut later = Later::default();
    loop {
        job.check()?;
        let some = next(&mut users).await?;
        if some.is_empty() {
            break;
        }
        let some = later.set_aside(job, some, named).await?;
        if !remind_some(job, threshold, mailer, &filter, &some).await? {
            return Ok(());
        }
    }
    for some in later.in_turn().chunks(USERS) {
        if !remind_some(job, threshold, mailer, &filter, some).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// The id of the user in `managed_by`, an ObjectId or hex digits; `None` for any other value.
fn named(managed_by: &Bson) -> Option<UserId> {
    managed_by.as_object_id().or_else(|| ObjectId::parse_str(managed_by.as_str()?).ok()).map(UserId)
}

/// Sends the reminders to these users. False when the mail server is down, and the run must end.
async fn remind_some(
    job: &mut JobContext,
    threshold: Threshold,
    mailer: Option<&Mailer>,
    filter: &Document,
    some: &[Bson],
) -> Result<bool, Unfinished> {
    job.check()?;
    let mut filter = filter.clone();
    let spelled = |user: &Bson| named(user).map_or_else(|| vec![user.clone()], |user| spellings(&[user]));
    filter.insert("managed_by", doc! { "$in": some.iter().flat_map(spelled).collect::<Vec<Bson>>() });
    Box::pin(remind_users(job, threshold, mailer, filter)).await?;
    job.progress().await?;
    Ok(!mailer.is_some_and(Mailer::is_down))
}

/// A cursor over the users of the selected offers. The server groups the offers, so that a run needs the same memory
/// for ten users and for a million.
async fn users(job: &JobContext, filter: &Document) -> Result<Cursor<Document>, Failure> {
    // Each user must come once, although offers spell the same id in different ways.
    let is_hex = doc! { "$regexMatch": { "input": "$managed_by", "regex": "^[0-9a-fA-F]{24}$" } };
    let user = doc! { "$switch": { "default": "$managed_by", "branches": [
        { "case": { "$eq": [{ "$type": "$managed_by" }, "objectId"] }, "then": { "$toString": "$managed_by" } },
        { "case": { "$ne": [{ "$type": "$managed_by" }, "string"] }, "then": "$managed_by" },
        { "case": is_hex, "then": { "$toLower": "$managed_by" } },
    ] } };
    let group = doc! { "$group": { "_id": user } };
    // The order is stable, so the next run begins with the users whom a killed run left open.
    let pipeline = [doc! { "$match": filter }, group, doc! { "$sort": { "_id": 1 } }];
    let offers = collection(&job.context.database, OFFERS);
    // The batches are small: the server closes a cursor that nobody reads for ten minutes.
    let users = offers.aggregate(pipeline).allow_disk_use(true).batch_size(100);
    with_deadline(users).await.map_err(Failure::Read)
}

async fn next(users: &mut Cursor<Document>) -> Result<Vec<Bson>, Failure> {
    let mut some = Vec::new();
    while some.len() < USERS {
        match with_deadline(users.try_next()).await.map_err(Failure::Read)? {
            Some(mut user) => some.push(user.remove("_id").unwrap_or(Bson::Null)),
            None => break,
        }
    }
    Ok(some)
}

async fn remind_users(
    job: &mut JobContext,
    threshold: Threshold,
    mailer: Option<&Mailer>,
    filter: Document,
) -> Result<(), Unfinished> {
    let batches = find(&job.context.database, OFFERS, filter, emails::fields()).await?;
    let reminded = reminded(job, threshold, &batches).await?;
    let unsettled = unsettled(job, &batches, threshold.field()).await?;
    let mut by_user: BTreeMap<UserId, Vec<Subject>> = BTreeMap::new();
    for document in documents(&batches) {
        let Some(subject) = Subject::read(document?) else { continue };
        match subject.user {
            Some(_) if reminded.contains(&subject.id) => leave(job, subject.id, "reminded_before"),
            Some(_) if unsettled.contains(&subject.id) => leave(job, subject.id, "not_settled"),
            Some(user) => by_user.entry(user).or_default().push(subject),
            None => leave(job, subject.id, "no_user"),
        }
    }
    drop(batches);
    let known = recipients(job, &by_user.keys().copied().collect::<BTreeSet<_>>()).await?;
    // The day at which the run was due, not the current one: a repeated run must find its messages in the outbox.
    let day = iso_day(job.scheduled_for);
    let base = |user: &UserId| format!("{}/{user}/{day}", threshold.template().name());
    let ids: Vec<String> = by_user.keys().flat_map(|user| outbox::ids(&base(user))).collect();
    let mut entries = outbox::read(&job.context.database, &ids).await?;
    let (mut items, mut marks) = (Vec::new(), Vec::new());
    for (user, subjects) in &by_user {
        let recipient = match known.get(user) {
            Some(Ok(recipient)) => recipient,
            Some(Err(reason)) => {
                subjects.iter().for_each(|subject| leave(job, subject.id, reason));
                continue;
            }
            None => continue,
        };
        let offers: Vec<JobId> = subjects.iter().map(|subject| subject.id).collect();
        let share = outbox::share(&base(user), &entries, &offers);
        // An interrupted run sent a message about these offers, but did not mark them.
        marks.extend(share.done);
        share.left.into_iter().for_each(|offer| leave(job, offer, "reminded_often_enough"));
        let Some((id, offers)) = share.message else { continue };
        let about: Vec<&Subject> = subjects.iter().filter(|subject| offers.contains(&subject.id)).collect();
        let email = email(job, threshold.template(), recipient, &about);
        let (entry, to) = (entries.remove(&id), recipient.to.clone());
        items.push(MailItem { entry, id, user: *user, to, email, offers });
    }
    match mailer {
        Some(mailer) => marks.extend(send(job, mailer, items).await?),
        None => marks.extend(items.into_iter().flat_map(|item| item.offers)),
    }
    let (now, schema) = (job.now, job.context.target.schema());
    job.change(&marks, &threshold.fields(), &|pair| plan(pair, threshold, now, &schema)).await?;
    failpoint::passed("mail_marked");
    Ok(())
}

/// The offers, of these, about which the user got this reminder on an earlier day, where the target's schema omits the
/// mark of the offer. Else the mark has kept such offers out of the selection.
async fn reminded(job: &JobContext, threshold: Threshold, batches: &[RawBatch]) -> Result<HashSet<JobId>, Failure> {
    if !job.context.target.schema().omits(threshold.field()) {
        return Ok(HashSet::new());
    }
    let mut users = BTreeSet::new();
    for document in documents(batches) {
        users.extend(Subject::read(document?).and_then(|subject| subject.user));
    }
    let prefixes: Vec<String> = users.iter().map(|user| format!("{}/{user}", threshold.template().name())).collect();
    outbox::sent_about(&job.context.database, &prefixes).await
}

fn plan(pair: &Pair<'_>, threshold: Threshold, now: DateTime, schema: &TargetSchema) -> PairVerdict {
    let field = threshold.field();
    match pair.mark(field, schema) {
        Some(_) => PairVerdict::default(),
        None => PairVerdict::edit(Edit::both(field, field, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime {
        DateTime::parse_rfc3339_str(text).unwrap()
    }

    fn of_days(from: u64, to: u64) -> ReminderWindow {
        ReminderWindow { from: Duration::from_hours(24 * from), to: Duration::from_hours(24 * to) }
    }

    fn usual(threshold: Threshold) -> ReminderWindow {
        match threshold {
            Threshold::J7 => of_days(6, 7),
            Threshold::J1 => of_days(0, 1),
        }
    }

    /// True where an offer that expires `days` days and `milliseconds` after `now` is in the window.
    fn takes(threshold: Threshold, now: DateTime, previous: Option<DateTime>, days: i64, milliseconds: i64) -> bool {
        let (first, last) = threshold.expirations(usual(threshold), now, previous);
        let expires = DateTime::from_millis(now.timestamp_millis() + days * DAY + milliseconds);
        first <= expires && expires <= last
    }

    #[test]
    fn the_window_is_right_to_the_millisecond_around_midnight_in_paris_in_summer_and_winter() {
        // 23:59:59.999, midnight and a millisecond later, and the nights in which the clocks change.
        for now in [
            "2026-07-14T21:59:59.999Z",
            "2026-07-14T22:00:00Z",
            "2026-07-14T22:00:00.001Z",
            "2026-12-14T22:59:59.999Z",
            "2026-12-14T23:00:00Z",
            "2026-12-14T23:00:00.001Z",
            "2026-03-28T23:00:00Z",
            "2026-10-24T22:00:00Z",
        ] {
            let now = at(now);
            for (threshold, first) in [(Threshold::J7, 6), (Threshold::J1, 0)] {
                let takes = |days, milliseconds| takes(threshold, now, None, days, milliseconds);
                assert!(!takes(first, -1) && takes(first, 0), "{threshold:?} begins");
                assert!(takes(first + 1, 0) && !takes(first + 1, 1), "{threshold:?} ends");
            }
        }
    }

    #[test]
    fn what_a_late_run_missed_is_added_below_as_far_as_the_message_is_right() {
        let now = at("2026-07-14T07:20:00Z");
        let ago = |days: i64| Some(DateTime::from_millis(now.timestamp_millis() - days * DAY));
        let takes = |threshold, previous, days, milliseconds| takes(threshold, now, previous, days, milliseconds);
        assert!(takes(Threshold::J7, ago(3), 4, 0) && !takes(Threshold::J7, ago(3), 4, -1));
        assert!(takes(Threshold::J7, ago(30), 1, 0) && !takes(Threshold::J7, ago(30), 1, -1), "not below a day");
        assert!(takes(Threshold::J1, ago(3), 0, 0) && !takes(Threshold::J1, ago(3), 0, -1), "not what has ended");
        // An early run, or a run by hand a moment ago, does not make the window smaller.
        assert!(takes(Threshold::J7, ago(0), 6, 0) && !takes(Threshold::J7, ago(0), 6, -1));
    }

    #[test]
    fn the_window_is_that_of_the_configuration() {
        let now = at("2026-07-14T07:20:00Z");
        let days = |days: i64| DateTime::from_millis(now.timestamp_millis() + days * DAY);
        for threshold in [Threshold::J7, Threshold::J1] {
            assert_eq!(threshold.expirations(of_days(3, 5), now, None), (days(3), days(5)));
        }
        assert_eq!(Threshold::J1.expirations(of_days(1, 2), now, Some(days(-3))), (days(0), days(2)));
        assert_eq!(Threshold::J7.expirations(of_days(7, 8), now, Some(days(-3))), (days(5), days(8)));
        assert_eq!(Threshold::J7.expirations(of_days(0, 2), now, None), (days(0), days(2)));
    }
}
