//! Watched collections that were dropped or renamed away, and the time at which a resync may look at their new content.
//! A resync waits while they are filled again, because documents that are not back yet would count as gone.

use std::collections::BTreeMap;

use super::react::{Reaction, react};
use crate::model::names::WatchedCollection;
use crate::source::event::{Event, Operation};

/// The name of the source when the whole database was dropped, or the stream ended.
pub(crate) const WHOLE_DATABASE: &str = "the database";
/// The seconds of the stream's time after the last insert, after which a collection counts as filled again.
const QUIET: u32 = 5;
/// The greatest number of seconds that a resync waits after the first sign of a collection. A busy collection is never
/// quiet.
const LONGEST: u32 = 600;

/// The state of a dropped source. Times are the seconds of cluster times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// The source was not seen again since its drop.
    Gone,
    /// The source exists again since `since`. `last` is the time of its last insert.
    Back { since: u32, last: u32 },
    /// The resync that was asked for looks at the new content.
    InRepair,
}

/// The sources that were dropped and are not repaired yet, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    sources: BTreeMap<&'static str, Sign>,
}

impl Dropped {
    /// The dropped sources that an earlier leader stored under these names, without those that are not watched now.
    pub(crate) fn of<'a>(names: impl IntoIterator<Item = &'a str>, watched: &[WatchedCollection]) -> Self {
        let known = |name: &str| match name {
            WHOLE_DATABASE => Some(WHOLE_DATABASE),
            name => WatchedCollection::from_name(name)
                .filter(|source| watched.contains(source))
                .map(WatchedCollection::name),
        };
        Self { sources: names.into_iter().filter_map(known).map(|name| (name, Sign::Gone)).collect() }
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.sources.keys().copied()
    }

    /// Records an event. The caller gives the events in the order of the stream. True when the event is a drop.
    pub(crate) fn note(&mut self, event: &Event) -> bool {
        let time = event.cluster_time.time;
        let replaced = event.renamed_to.filter(|source| *source != WatchedCollection::Canary);
        if let Some(source) = replaced {
            self.sources.insert(source.name(), Sign::Gone);
            self.is_there(source.name(), time);
        }
        let writes = matches!(event.operation, Operation::Insert | Operation::Update | Operation::Replace);
        let source = event.collection.filter(|source| writes && *source != WatchedCollection::Canary);
        for name in source.map(WatchedCollection::name).into_iter().chain(source.map(|_| WHOLE_DATABASE)) {
            match self.sources.get_mut(name) {
                Some(Sign::Back { last, .. }) if event.operation == Operation::Insert => *last = time,
                _ => self.is_there(name, time),
            }
        }
        let dropped = match react(event) {
            Reaction::Invalidated => Some(WHOLE_DATABASE),
            Reaction::SourceDropped => event.collection.map(WatchedCollection::name),
            _ => None,
        };
        self.sources.extend(dropped.map(|name| (name, Sign::Gone)));
        dropped.is_some() || replaced.is_some()
    }

    /// Records that a collection does not exist, without an event that tells it. True when this was not known.
    pub(crate) fn note_absent(&mut self, source: WatchedCollection) -> bool {
        self.sources.insert(source.name(), Sign::Gone) != Some(Sign::Gone)
    }

    /// Records that a collection exists at this time.
    pub(crate) fn is_there(&mut self, name: &str, time: u32) {
        for name in [name, WHOLE_DATABASE] {
            if let Some(sign @ Sign::Gone) = self.sources.get_mut(name) {
                *sign = Sign::Back { since: time, last: time };
            }
        }
    }

    /// True while a resync must wait: it would count documents as gone that are still coming back.
    #[must_use]
    pub(crate) fn is_unsettled(&self, now: u32) -> bool {
        let is_filled = |sign: &Sign| match sign {
            Sign::Back { since, last } => now < last.saturating_add(QUIET) && now < since.saturating_add(LONGEST),
            Sign::Gone | Sign::InRepair => false,
        };
        self.sources.get(WatchedCollection::Recruiters.name()) == Some(&Sign::Gone)
            || self.sources.values().any(is_filled)
    }

    /// Marks the sources that a resync can repair now. True when there are some: the caller then asks for a resync.
    /// When a dropped database exists again, sources that are still absent were left out on purpose and are marked too.
    pub(crate) fn take_up(&mut self, now: u32) -> bool {
        let is_back = |sign: &Sign| matches!(sign, Sign::Back { .. });
        if self.is_unsettled(now) || !self.sources.values().any(is_back) {
            return false;
        }
        let with_absent = self.sources.get(WHOLE_DATABASE).is_some_and(is_back);
        for sign in self.sources.values_mut().filter(|sign| with_absent || is_back(sign)) {
            *sign = Sign::InRepair;
        }
        true
    }

    /// Forgets the sources that the finished resync repaired. True when there were some.
    pub(crate) fn repaired(&mut self) -> bool {
        let before = self.sources.len();
        self.sources.retain(|_, sign| *sign != Sign::InRepair);
        self.sources.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(names: &[&str]) -> Dropped {
        Dropped::of(names.iter().copied(), &WatchedCollection::ALL)
    }

    #[test]
    fn a_collection_is_repaired_once_it_was_quiet_for_a_while() {
        let mut dropped = dropped(&["recruiters"]);
        assert!(dropped.is_unsettled(1_000), "no resync without recruiters");
        assert!(!dropped.take_up(1_000));
        dropped.is_there("recruiters", 1_000);
        assert!(dropped.is_unsettled(1_004) && !dropped.take_up(1_004));
        assert!(!dropped.is_unsettled(1_005) && dropped.take_up(1_005));
        assert!(!dropped.take_up(1_006), "once");
        assert!(dropped.repaired() && dropped == Dropped::default());
    }

    #[test]
    fn one_that_is_never_quiet_is_repaired_all_the_same() {
        let sign = Sign::Back { since: 1_000, last: 1_599 };
        let mut dropped = Dropped { sources: BTreeMap::from([("recruiters", sign)]) };
        assert!(!dropped.take_up(1_599) && dropped.take_up(1_600));
    }

    #[test]
    fn one_that_stays_absent_is_told_for_ever_and_keeps_no_other_from_being_repaired() {
        let mut dropped = dropped(&["cfas", "userswithaccounts", "no source"]);
        dropped.is_there("cfas", 1_000);
        assert!(dropped.take_up(1_005) && dropped.repaired());
        assert_eq!(dropped.names().collect::<Vec<_>>(), ["userswithaccounts"]);
        assert!(!dropped.is_unsettled(1_005) && !dropped.take_up(1_005));
    }

    #[test]
    fn a_database_without_some_of_its_collections_is_repaired_with_its_recruiters() {
        let mut dropped = dropped(&["cfas", "recruiters", "userswithaccounts", WHOLE_DATABASE]);
        dropped.is_there("userswithaccounts", 1_000);
        assert!(!dropped.take_up(1_005), "the recruiters are not there");
        dropped.is_there("recruiters", 1_100);
        assert!(!dropped.take_up(1_104));
        assert!(dropped.take_up(1_105) && dropped.repaired() && dropped == Dropped::default());
    }
}
