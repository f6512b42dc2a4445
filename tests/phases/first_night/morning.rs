//! What must hold after the first run and in the morning after the first night.

use std::collections::{BTreeMap, BTreeSet};

use bson::Document;
use bson::oid::ObjectId;
use serde_json::{Value, json};
use xtask::golden::TargetModel;

use super::day_before::{DAY, Kind, LABEL};
use super::{MORNING, Night, at};
use crate::support::fields::text;
use crate::support::offers::{self, history_faults};
use crate::support::platform::Closing;
use crate::support::processor::Processor;
use crate::support::runs::stopped;
use crate::support::state::{settled, until_no_resync, writes};
use crate::support::waiting::cluster_time_now;

/// The number of messages that are sent at the same time by default.
const UNDER_WAY: usize = 4;

type Offers = BTreeMap<ObjectId, Document>;

/// The offers and fields that changed are those of the dry run, field by field.
pub(super) fn assert_foretold(dry_run: &Value, before: &Offers, after: &Offers) {
    assert_eq!((&dry_run["created"], before.len()), (&json!(0), after.len()));
    let mut fields: BTreeMap<&str, u64> = BTreeMap::new();
    let mut changed = 0;
    for (id, offer) in after {
        let stood = &before[id];
        let names: BTreeSet<&String> = offer.keys().chain(stood.keys()).collect();
        let differ = names.into_iter().filter(|name| offer.get(*name) != stood.get(*name));
        // The dry run tells a new entry of the history as a change of the status.
        let differ: Vec<&String> = differ.filter(|name| *name != "offer_status_history").collect();
        changed += u64::from(!differ.is_empty());
        for name in differ {
            *fields.entry(name).or_default() += 1;
        }
    }
    assert_eq!((&dry_run["changed"], &dry_run["fields"]), (&json!(changed), &json!(fields)));
    assert!(changed > 0, "something was left to do");
}

/// The status in the morning of the particular offer of a recruiter and of the plain one: what was decided last.
/// On the second morning, what ended in between is closed.
fn decided(kind: Kind, model: TargetModel, morning: Morning) -> [&'static str; 2] {
    match kind {
        Kind::EndsTomorrow if morning == Morning::Second => ["Cancelled", "Active"],
        Kind::Closed(closing) => [closing.status(), "Active"],
        Kind::Filled | Kind::ProvidedByLink => ["Filled", "Active"],
        Kind::Cancelled | Kind::EndsAtMidnight | Kind::CappedAtNight => ["Cancelled", "Active"],
        Kind::Waiting if model == TargetModel::Live => ["Pending", "Active"],
        Kind::Waiting => ["Cancelled", "Active"],
        Kind::Archived | Kind::PendingEstablishment | Kind::OfInactiveUser | Kind::Orphan | Kind::ArchivedAtNight => {
            ["Cancelled", "Cancelled"]
        }
        Kind::OpenedAgain
        | Kind::MissedOpening
        | Kind::EndsInSevenDays
        | Kind::EndsTomorrow
        | Kind::MissedTitle
        | Kind::Young
        | Kind::OtherTypeOfUserId
        | Kind::CappedThenEdited
        | Kind::Delegated
        | Kind::ProlongedLate
        | Kind::Prolonged => ["Active", "Active"],
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Morning {
    First,
    Second,
}

pub(super) async fn assert_decisions_stand(night: &Night, morning: Morning) {
    let offers = offers::read(&night.test.database).await;
    for case in &night.cases {
        let found = [case.particular, case.plain].map(|offer| text(&offers[&offer], "offer_status"));
        let history = offers[&case.particular].get("offer_status_history");
        assert_eq!(found, decided(case.kind, night.model.0, morning), "{:?}: {history:?}", case.kind);
    }
    for (id, offer) in &offers {
        assert_eq!(text(offer, "partner_label"), LABEL.1);
        let faults = history_faults(*id, offer);
        assert!(faults.is_empty(), "{faults:?}: {:?}", offer.get("offer_status_history"));
    }
}

/// No message is about an offer and a threshold that another one was about, and each offer that was due is in one.
/// Messages that were under way when the service was killed may be there twice, under the same Message-ID.
pub(super) async fn assert_each_message_once(night: &Night) {
    let received = night.mail.received();
    let ids: BTreeSet<Option<String>> = received.iter().map(|message| message.header("Message-ID")).collect();
    assert!(received.len() - ids.len() <= UNDER_WAY, "{} messages, {} Message-IDs", received.len(), ids.len());
    let mut told = BTreeSet::new();
    for entry in night.all("stream_processor_outbox").await {
        assert_eq!(text(&entry, "state"), "sent");
        let (kind, rest) = text(&entry, "_id").split_once('/').unwrap();
        if kind == "introduction" {
            assert!(told.insert((kind.to_owned(), ObjectId::parse_str(rest).unwrap())), "{rest}");
            continue;
        }
        for offer in entry.get_array("offers").unwrap() {
            assert!(told.insert((kind.to_owned(), offer.as_object_id().unwrap())), "{kind} of {offer}");
        }
    }
    let due = |name: &'static str, kind: Kind| night.of(kind).map(move |case| (name.to_owned(), case.particular));
    let all = due("remind-J7", Kind::EndsInSevenDays)
        .chain(due("remind-J1", Kind::EndsTomorrow))
        .chain(due("introduction", Kind::Young));
    let all = all.filter(|_| night.sends_mail());
    assert_eq!(told, all.collect());
    assert_eq!(ids.len(), night.all("stream_processor_outbox").await.len());
}

pub(super) fn assert_verified(night: &Night, verified: &Value) {
    // The job of an offer that expired is closed too by now.
    let closed = |case: &&super::Case| match case.kind {
        Kind::Closed(closing) => closing != Closing::Expired,
        kind => [Kind::CappedAtNight, Kind::ProvidedByLink].contains(&kind),
    };
    let closed = night.cases.iter().filter(closed).count();
    assert_eq!(
        (&verified["differences"], &verified["closed_elsewhere"]["count"]),
        (&json!(0), &json!(closed)),
        "{verified:#}"
    );
}

/// A start, a backfill, and the jobs once more: none of them writes an offer.
pub(super) async fn assert_nothing_more_to_do(night: &Night, processor: Processor) {
    stopped(processor).await;
    let before = offers::read(&night.test.database).await;
    let since = cluster_time_now(&night.test.database).await;
    let processor = night.started().await;
    until_no_resync(&night.test.database).await;
    night.pass_to((MORNING + DAY) / 60_000 + 1).await;
    let now = at(MORNING + DAY).try_to_rfc3339_string().unwrap();
    for job in ["cancel-expired-offers", "sync-recruiter-status", "full-sync", "anonymize-inactive-users"] {
        night.command(&["jobs", "run", job, "--json", "--now", &now]).await;
    }
    night.command(&["backfill", "--json"]).await;
    settled(&night.test.database).await;
    offers::assert_same(&before, &offers::read(&night.test.database).await);
    let written = writes(&night.test.database, "jobs_partners", since).await;
    assert!(written.is_empty(), "{} writes", written.len());
    stopped(processor).await;
}
