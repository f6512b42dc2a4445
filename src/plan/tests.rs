//! Tests of the table of reactions, row by row, and of merging: a model checks that a batch may be split anywhere and
//! gives the same final state.

use std::collections::{BTreeMap, BTreeSet};

use bson::{DateTime, Timestamp, oid::ObjectId};
use proptest::prelude::*;
use resume_tokens::ResumeToken;

use super::covered::CoveredTouches;
use super::react::{Reaction, react};
use super::{Plan, Touch, plan};
use crate::model::ids::RecruiterId;
use crate::model::names::WatchedCollection;
use crate::source::event::{DocumentKey, Event, Operation};

fn event(collection: WatchedCollection, operation: Operation, paths: &[&str]) -> Event {
    Event {
        collection: Some(collection),
        renamed_to: None,
        operation,
        key: Some(DocumentKey::Id(ObjectId::from_bytes([1; 12]))),
        cluster_time: Timestamp { time: 1, increment: 1 },
        wall_time: DateTime::from_millis(1_000),
        paths: Some(paths.iter().map(|path| (*path).to_owned()).collect()),
        is_foreign: false,
        token: ResumeToken::parse("82650F1A2B000000012B0229296E04").unwrap(),
    }
}

fn update(paths: &[&str]) -> Reaction {
    react(&event(WatchedCollection::Recruiters, Operation::Update, paths))
}

fn positions<const N: usize>(positions: [usize; N]) -> Reaction {
    Reaction::TouchRecruiter(Touch::Positions(positions.into()))
}

#[test]
fn an_update_of_counters_only_asks_for_nothing() {
    assert_eq!(update(&["jobs.0.stats_detail_view", "jobs.12.stats_postuler"]), Reaction::Nothing);
}

#[test]
fn an_update_under_some_jobs_asks_for_these_jobs() {
    assert_eq!(update(&["jobs.0.job_count", "jobs.3.delegations.0.email"]), positions([0, 3]));
    assert_eq!(update(&["jobs.1.stats_detail_view", "jobs.2.job_count"]), positions([2]));
}

#[test]
fn any_other_update_asks_for_the_whole_recruiter() {
    for paths in [
        &["updatedAt", "jobs.0.job_count"][..],
        &["status"],
        &["jobs"],
        &["jobs.0"],
        &["jobs.0._id"],
        &["jobs.x.job_count"],
        &["jobs.0.stats_detail_view", "email"],
    ] {
        assert_eq!(update(paths), Reaction::TouchRecruiter(Touch::All), "{paths:?}");
    }
}

#[test]
fn the_other_rows_of_the_table_hold() {
    use Operation as O;
    use WatchedCollection as C;
    let new = Reaction::UserChanged { status: true, contact: true };
    let contact = Reaction::UserChanged { status: false, contact: true };
    let status = Reaction::UserChanged { status: true, contact: false };
    let reference = Reaction::ReferenceChanged { key: false };
    let rows: [(C, O, &[&str], Reaction); 21] = [
        (C::Recruiters, O::Insert, &[], Reaction::TouchRecruiter(Touch::All)),
        (C::Recruiters, O::Replace, &[], Reaction::TouchRecruiter(Touch::All)),
        (C::Recruiters, O::Delete, &[], Reaction::RecruiterDeleted),
        (C::AnonymizedRecruiters, O::Insert, &[], Reaction::AnonymizeRecruiter),
        (C::AnonymizedRecruiters, O::Update, &["x"], Reaction::AnonymizeRecruiter),
        (C::AnonymizedRecruiters, O::Replace, &[], Reaction::AnonymizeRecruiter),
        (C::AnonymizedRecruiters, O::Delete, &[], Reaction::Nothing),
        (C::Users, O::Insert, &[], new.clone()),
        (C::Users, O::Replace, &[], new),
        (C::Users, O::Update, &["email"], contact),
        (C::Users, O::Update, &["status.1"], status),
        (C::Users, O::Update, &["last_action_date"], Reaction::Nothing),
        (C::Users, O::Delete, &[], Reaction::AnonymizeUser),
        (C::AnonymizedUsers, O::Insert, &[], Reaction::AnonymizeUser),
        (C::AnonymizedUsers, O::Replace, &[], Reaction::AnonymizeUser),
        (C::Cfas, O::Insert, &[], reference.clone()),
        (C::RomeSheets, O::Update, &["definition"], reference),
        (C::Engagements, O::Update, &["siret"], Reaction::ReferenceChanged { key: true }),
        (C::Engagements, O::Delete, &[], Reaction::ReferenceDeleted),
        (C::Recruiters, O::Drop, &[], Reaction::SourceDropped),
        (C::Recruiters, O::DropDatabase, &[], Reaction::Invalidated),
    ];
    for (collection, operation, paths, expected) in rows {
        assert_eq!(react(&event(collection, operation, paths)), expected, "{collection:?} {operation:?} {paths:?}");
    }
}

#[test]
fn events_on_one_recruiter_become_one_touch() {
    let events = [&["jobs.0.a"][..], &["jobs.2.b"], &["jobs.0.c"]];
    let events = events.map(|paths| event(WatchedCollection::Recruiters, Operation::Update, paths));
    let planned = plan(&events);
    assert_eq!(planned.touches.into_values().collect::<Vec<_>>(), [Touch::Positions([0, 2].into())]);
}

#[test]
fn a_document_with_another_kind_of_key_is_kept_for_a_dead_letter() {
    let mut strange = event(WatchedCollection::Recruiters, Operation::Insert, &[]);
    strange.key = Some(DocumentKey::Other("\"x\"".to_owned()));
    assert_eq!(plan(&[strange]).unusable_keys, BTreeSet::from([(WatchedCollection::Recruiters, "\"x\"".to_owned())]));
}

/// A change of one of a few recruiters.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Insert,
    Edit,
    Delete,
    Anonymize,
}

/// The offer of a recruiter in the model. An offer that was never written counts as anonymised, because the cut of the
/// batch decides whether it is written between an insert and an anonymisation (spec 03).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Offer {
    AnonymizedOrAbsent,
    Projected,
    Cancelled,
}

fn apply(
    plan: &Plan,
    present: &BTreeSet<RecruiterId>,
    copied: &BTreeSet<RecruiterId>,
    offers: &mut BTreeMap<RecruiterId, Offer>,
) {
    let written = |offers: &BTreeMap<RecruiterId, Offer>, id| offers.contains_key(id);
    for id in plan.anonymized_recruiters.keys().filter(|id| copied.contains(*id)) {
        if written(offers, id) {
            offers.insert(*id, Offer::AnonymizedOrAbsent);
        }
    }
    for id in plan.touches.keys().filter(|id| present.contains(*id)) {
        offers.insert(*id, Offer::Projected);
    }
    for id in plan.deleted_recruiters.keys().filter(|id| !present.contains(*id)) {
        if written(offers, id) {
            offers.insert(*id, if copied.contains(id) { Offer::AnonymizedOrAbsent } else { Offer::Cancelled });
        }
    }
}

proptest! {
    #[test]
    fn splitting_a_batch_anywhere_gives_the_same_state(
        happenings in prop::collection::vec((0_u8..3, prop::sample::select(
            vec![Happening::Insert, Happening::Edit, Happening::Delete, Happening::Anonymize])), 0..24),
        cuts in prop::collection::btree_set(0_usize..24, 0..6),
    ) {
        // At the beginning the recruiters exist with their offers.
        let ids: Vec<RecruiterId> = (0..3).map(|number| RecruiterId(ObjectId::from_bytes([number; 12]))).collect();
        let mut present: BTreeSet<RecruiterId> = ids.iter().copied().collect();
        let mut copied = BTreeSet::new();
        let mut events = Vec::new();
        for (number, happening) in happenings {
            let id = ids[usize::from(number)];
            let (collection, operation, paths): (_, _, &[&str]) = match happening {
                Happening::Insert if present.insert(id) => (WatchedCollection::Recruiters, Operation::Insert, &[]),
                Happening::Insert => continue,
                Happening::Edit if present.contains(&id) => (WatchedCollection::Recruiters, Operation::Update, &["status"]),
                Happening::Edit => continue,
                Happening::Delete if present.remove(&id) => (WatchedCollection::Recruiters, Operation::Delete, &[]),
                Happening::Delete => continue,
                Happening::Anonymize => {
                    copied.insert(id);
                    (WatchedCollection::AnonymizedRecruiters, Operation::Replace, &[])
                }
            };
            let cluster_time = Timestamp { time: 1, increment: u32::try_from(events.len()).unwrap() };
            let key = Some(DocumentKey::Id(id.0));
            events.push(Event { key, cluster_time, ..event(collection, operation, paths) });
        }
        let beginning: BTreeMap<RecruiterId, Offer> = ids.iter().map(|id| (*id, Offer::Projected)).collect();
        let mut at_once = beginning.clone();
        apply(&plan(&events), &present, &copied, &mut at_once);
        let mut in_parts = beginning.clone();
        let (mut without_covered, mut covered) = (beginning, CoveredTouches::default());
        let mut from = 0;
        for cut in cuts.into_iter().filter(|cut| *cut < events.len()).chain([events.len()]) {
            let part = &events[from..cut];
            apply(&plan(part), &present, &copied, &mut in_parts);
            let left = covered.plan(part, 0);
            apply(&left, &present, &copied, &mut without_covered);
            if left.touches_only() {
                // All documents are read after the last event here.
                covered.settled(left.touches.iter(), Timestamp { time: 2, increment: 0 }, 0);
            }
            from = cut;
        }
        prop_assert_eq!(&at_once, &in_parts);
        prop_assert_eq!(&at_once, &without_covered);
    }
}

#[test]
fn an_update_whose_names_are_unknown_touches_everything_of_its_document() {
    let unknown = |collection| react(&Event { paths: None, ..event(collection, Operation::Update, &[]) });
    assert_eq!(unknown(WatchedCollection::Recruiters), Reaction::TouchRecruiter(Touch::All));
    assert_eq!(unknown(WatchedCollection::Users), Reaction::UserChanged { status: true, contact: true });
    assert_eq!(unknown(WatchedCollection::Cfas), Reaction::ReferenceChanged { key: true });
}
