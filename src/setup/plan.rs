//! Plans the steps of `setup` from the contents of the database. Pure: reads and writes nothing, so that a dry run and
//! a real run plan the same steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bson::{Bson, Document, doc};
use resume_tokens::HISTORY_COLLECTION;

use super::new_fields::FieldCounts;
use super::record::Memory;
use super::validator;
use crate::counted::counted;
use crate::model::names::COMMANDS;
use crate::model::names::DEAD_LETTERS;
use crate::model::names::EVENTS;
use crate::model::names::FOREIGN_WRITES;
use crate::model::names::GAPS;
use crate::model::names::INSTANCES;
use crate::model::names::JOB_RUNS;
use crate::model::names::LINKS;
use crate::model::names::OFFERS;
use crate::model::names::OUTBOX;
use crate::model::names::ROLES;
use crate::model::names::SETUP;
use crate::model::names::SIRET_CACHE;
use crate::model::names::STATE;
use crate::model::names::WatchedCollection;
use crate::ticker::ledger;

/// The required collections: the target and the service's own.
pub const COLLECTIONS: [&str; 13] = [
    OFFERS,
    STATE,
    HISTORY_COLLECTION,
    LINKS,
    DEAD_LETTERS,
    GAPS,
    COMMANDS,
    JOB_RUNS,
    OUTBOX,
    EVENTS,
    INSTANCES,
    FOREIGN_WRITES,
    SETUP,
];

/// Collections of the platform that the time-based jobs query. `setup` adds indexes for these queries where such a
/// collection exists, and never creates the collection.
const ASKED: [&str; 3] = [USERS, ROLES, SIRET_CACHE];
const USERS: &str = WatchedCollection::Users.name();

/// The keys of the required indexes, by collection: the indexes of the migration (spec 01, "Target"), the service's own
/// indexes, as the service itself creates them, and the indexes for the queries of the time-based jobs.
#[must_use]
pub fn indexes() -> [(&'static str, Vec<Document>); 10] {
    let migration = vec![
        doc! { "managed_by": 1 },
        doc! { "establishment_id": 1 },
        doc! { "relance_mail_expiration_J7": 1, "offer_status": 1 },
        doc! { "relance_mail_expiration_J1": 1, "offer_status": 1 },
        doc! { "recruiter_status": 1 },
        doc! { "managed_by": 1, "offer_status": 1, "offer_expiration": -1 },
    ];
    let history = vec![doc! { "updated_at": -1, "cluster_time": -1 }, doc! { "cluster_time": 1 }];
    [
        (OFFERS, migration),
        (LINKS, vec![doc! { "jobs": 1 }]),
        (HISTORY_COLLECTION, history),
        (DEAD_LETTERS, vec![doc! { "next_retry": 1 }]),
        (EVENTS, vec![doc! { "at": -1 }]),
        (FOREIGN_WRITES, vec![doc! { "at": -1 }]),
        (JOB_RUNS, ledger::indexes()),
        (USERS, vec![doc! { "last_action_date": 1 }]),
        (ROLES, vec![doc! { "user_id": 1 }]),
        (SIRET_CACHE, vec![doc! { "siret": 1 }]),
    ]
}

/// The default name of an index with these keys in MongoDB, such as `job_1_at_-1`.
#[must_use]
pub fn index_name(keys: &Document) -> String {
    keys.iter().map(|(key, direction)| format!("{key}_{direction}")).collect::<Vec<_>>().join("_")
}

/// The state of the database before a `setup`.
#[derive(Debug, Clone, Default)]
pub struct DatabaseContents {
    /// The names of all collections of the database.
    pub collections: BTreeSet<String>,
    /// The keys of the existing indexes, by collection, for the collections of [`indexes`] that exist.
    pub indexes: BTreeMap<&'static str, Vec<Document>>,
    /// The validator of the target; empty when the target has none.
    pub validator: Document,
    /// Our offers, counted by their new fields.
    pub counts: FieldCounts,
    /// The memory of an earlier `setup`; `None` when there was none.
    pub memory: Option<Memory>,
}

/// One step of `setup` or `setup --down`. Its `Display` is the text for the user.
#[derive(Debug, Clone, PartialEq)]
pub enum SetupStep {
    /// Creates these collections.
    CreateCollections(Vec<&'static str>),
    /// Adds these new fields to the validator of the target.
    AllowFields(Vec<&'static str>),
    /// Creates the indexes with these keys in a collection, in one pass over the collection.
    CreateIndexes(&'static str, Vec<Document>),
    /// Remembers the new fields that offers already have. The number is the number of these offers.
    Remember(u64),
    /// Adds the new fields to this number of offers.
    AddFields(u64),
    /// Removes the new fields, except the remembered ones.
    RemoveFields {
        /// The number of offers with new fields.
        offers: u64,
        /// The number of offers in which a new field has another value than its default. These values are lost.
        filled: u64,
    },
    /// Removes these new fields from the validator of the target.
    RefuseFields(Vec<String>),
    /// Drops an index, given by the collection and the name of the index.
    DropIndex(String, String),
    /// Drops a collection with its documents.
    DropCollection(String),
    /// Keeps the target, which `setup` created, because it has offers.
    LeaveTarget,
    /// Deletes the memory of `setup`.
    Forget,
}

/// The missing steps of `setup`, in the order in which they must be taken: fields are added to offers only after the
/// validator allows them.
#[must_use]
pub fn up(found: &DatabaseContents) -> Vec<SetupStep> {
    let mut steps = Vec::new();
    let missing: Vec<&str> = COLLECTIONS.into_iter().filter(|name| !found.collections.contains(*name)).collect();
    if !missing.is_empty() {
        steps.push(SetupStep::CreateCollections(missing));
    }
    if !found.memory.as_ref().is_some_and(|memory| memory.remembered) {
        steps.push(SetupStep::Remember(found.counts.having));
    }
    let refused = validator::refused(&found.validator);
    if !refused.is_empty() {
        steps.push(SetupStep::AllowFields(refused));
    }
    let is_there = |name: &str| !ASKED.contains(&name) || found.collections.contains(name);
    for (collection, mut wanted) in indexes().into_iter().filter(|(collection, _)| is_there(collection)) {
        let present = found.indexes.get(collection).map(Vec::as_slice).unwrap_or_default();
        wanted.retain(|keys| !present.iter().any(|present| same_keys(present, keys)));
        if !wanted.is_empty() {
            steps.push(SetupStep::CreateIndexes(collection, wanted));
        }
    }
    if found.counts.lacking > 0 {
        steps.push(SetupStep::AddFields(found.counts.lacking));
    }
    steps
}

/// The steps of `setup --down`, which take back all remembered changes. The memory itself goes last.
#[must_use]
pub fn down(found: &DatabaseContents) -> Vec<SetupStep> {
    let Some(memory) = &found.memory else { return Vec::new() };
    let mut steps = Vec::new();
    // Once the validator refuses the fields again, no offer may have them, not even from another writer than `setup`.
    let FieldCounts { offers, having, filled, .. } = found.counts;
    if having > 0 && (memory.added || !memory.allowed.is_empty()) {
        steps.push(SetupStep::RemoveFields { offers: having, filled });
    }
    if !memory.allowed.is_empty() {
        steps.push(SetupStep::RefuseFields(memory.allowed.clone()));
    }
    let drops = memory.indexes.iter().filter(|(collection, _)| found.collections.contains(collection));
    steps.extend(drops.map(|(collection, name)| SetupStep::DropIndex(collection.clone(), name.clone())));
    let (target, own): (Vec<&String>, Vec<&String>) = memory.collections.iter().partition(|name| *name == OFFERS);
    steps.extend(target.into_iter().map(|name| match offers {
        0 => SetupStep::DropCollection(name.clone()),
        _ => SetupStep::LeaveTarget,
    }));
    // The memory is a document of `STATE`. This collection goes last, so that a crash leaves the memory.
    steps.extend(own.iter().filter(|name| **name != STATE).map(|name| SetupStep::DropCollection((*name).clone())));
    steps.push(if own.iter().any(|name| *name == STATE) {
        SetupStep::DropCollection(STATE.to_owned())
    } else {
        SetupStep::Forget
    });
    steps
}

/// True when two indexes have the same keys in the same order and direction. Drivers write a direction as int32, int64
/// or double, so the numbers are compared by value.
#[must_use]
pub fn same_keys(one: &Document, other: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(number) => Some(f64::from(*number)),
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    };
    let same = |((name, one), (other_name, other)): ((&String, &Bson), (&String, &Bson))| {
        name == other_name && direction(one).is_some() && direction(one) == direction(other)
    };
    one.len() == other.len() && one.iter().zip(other).all(same)
}

impl fmt::Display for SetupStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateCollections(names) => write!(f, "create the collections {}", names.join(", ")),
            Self::AllowFields(names) => write!(f, "allow in the validator of {OFFERS}: {}", names.join(", ")),
            Self::CreateIndexes(collection, indexes) => {
                let names: Vec<String> = indexes.iter().map(index_name).collect();
                write!(f, "create indexes of {collection}: {}", names.join(", "))
            }
            Self::Remember(offers) => {
                let offers = counted(*offers, "offer", "offers");
                write!(f, "record, for --down, which new fields are there already: {offers}")
            }
            Self::AddFields(offers) => {
                write!(f, "add the new fields with their defaults to {}", counted(*offers, "offer", "offers"))
            }
            Self::RemoveFields { offers, filled } => {
                let offers = counted(*offers, "offer", "offers");
                write!(f, "remove the new fields from {offers}, except the values from before setup")?;
                match filled {
                    0 => Ok(()),
                    _ => write!(
                        f,
                        "; {filled} of them have values other than the defaults: these are lost, and only setup and a \
                         backfill restore them"
                    ),
                }
            }
            Self::RefuseFields(names) => write!(f, "remove from the validator of {OFFERS}: {}", names.join(", ")),
            Self::DropIndex(collection, name) => write!(f, "drop the index {name} of {collection}"),
            Self::DropCollection(name) => write!(f, "drop the collection {name} with all its documents"),
            Self::LeaveTarget => write!(f, "keep the collection {OFFERS}, which setup created: it has offers"),
            Self::Forget => write!(f, "delete the record of setup"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::WRITTEN;
    use crate::setup::new_fields::NEW;

    #[test]
    fn the_new_fields_are_those_that_the_live_schema_does_not_know() {
        let schema: serde_json::Value = serde_json::from_str(include_str!("../../tests/golden/schema.json")).unwrap();
        let known = &schema["jobs_partners"]["options"]["validator"]["$jsonSchema"]["properties"];
        let unknown: Vec<&str> =
            WRITTEN.iter().map(|name| name.as_str()).filter(|name| known.get(name).is_none()).collect();
        assert_eq!(unknown, NEW);
    }

    #[test]
    fn nothing_is_missing_where_everything_is_there_whatever_type_the_directions_have() {
        let as_doubles = |keys: Document| -> Document {
            keys.into_iter().map(|(key, value)| (key, Bson::from(f64::from(value.as_i32().unwrap())))).collect()
        };
        let mut found = DatabaseContents {
            collections: COLLECTIONS.map(ToOwned::to_owned).into(),
            memory: Some(Memory { remembered: true, ..Memory::default() }),
            ..DatabaseContents::default()
        };
        for (collection, keys) in indexes() {
            found.indexes.insert(collection, keys.into_iter().map(as_doubles).collect());
        }
        assert_eq!(up(&found), []);
        found.indexes.insert(LINKS, vec![doc! { "jobs": -1 }]);
        assert_eq!(up(&found), [SetupStep::CreateIndexes(LINKS, vec![doc! { "jobs": 1 }])]);
    }

    #[test]
    fn down_without_memory_does_nothing_and_the_memory_goes_last() {
        let mut found = DatabaseContents {
            counts: FieldCounts { having: 5, ..FieldCounts::default() },
            ..DatabaseContents::default()
        };
        assert_eq!(down(&found), []);
        let collections = vec![STATE.to_owned(), LINKS.to_owned()];
        found.memory = Some(Memory { collections, ..Memory::default() });
        assert_eq!(down(&found).last(), Some(&SetupStep::DropCollection(STATE.to_owned())));
        found.memory = Some(Memory::default());
        assert_eq!(down(&found), [SetupStep::Forget]);
    }
}
