//! The document `verification` of `stream_processor_state`: the result of the last full verification. The document is
//! read and written here, because the conditions of a step rest on it. [`super::step_conditions`] judges it.

use bson::{Bson, DateTime, Document, doc};
use mongodb::Database;
use mongodb::error::Error as MongoError;

use super::Phase;
use super::sides::Sides;
use super::step_conditions::LastVerification;
use crate::model::names::STATE;
use crate::model::names::state_id::VERIFICATION;
use crate::mongo::reads::collection;

/// The field with the last result of before `retired`, beside a result of `retired`.
const BEFORE_RETIRED: &str = "before_retired";

/// The stored result. Every field may be missing: other versions wrote other ones.
#[derive(Debug, Default, Clone)]
pub(crate) struct StoredVerification {
    pub began: Option<DateTime>,
    pub ended: Option<DateTime>,
    /// The phase by whose rules offers were compared.
    pub phase: Option<String>,
    /// The number of differences. Each differing field counts as one.
    pub differences: Option<i64>,
    /// The number of differing offers by the name of the kind of difference, in the order in which they are stored.
    pub divergent_offers: Vec<(String, i64)>,
    /// The number of documents that exist in `recruiters` alone, by kind, in the order in which they are stored; `None`
    /// for a result of a version that did not count them.
    pub only_in_recruiters: Option<Vec<(String, i64)>>,
    /// The number of jobs without an offer that cannot be projected or written; `None` for a result of a version that did
    /// not count them.
    pub jobs_without_offer: Option<i64>,
    /// The number of recruiters and offers that changed at every recheck; `None` for a result of an older version.
    pub unsettled: Option<i64>,
    /// Numbers by status and digests of both sides; `None` for a result of an older version.
    pub sides: Option<Sides>,
    /// True when all recruiters and all our offers were compared.
    pub full: bool,
    /// The end of the last verification without differences. A result with differences keeps the stored one.
    pub last_success: Option<DateTime>,
}

impl StoredVerification {
    /// Reads the result; `None` before the first full verification.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) async fn read(database: &Database) -> Result<Option<Self>, MongoError> {
        let stored = collection(database, STATE).find_one(mine()).await?;
        Ok(stored.as_ref().map(Self::of))
    }

    /// Reads the last result of another phase than `retired`; `None` where there was none. In `retired` applications move
    /// on, so a verification there says nothing about what `recruiters` held.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) async fn read_before_retired(database: &Database) -> Result<Option<Self>, MongoError> {
        let stored = collection(database, STATE).find_one(mine()).await?;
        Ok(stored.and_then(|stored| match stored.get_str("phase") {
            Ok(phase) if phase == Phase::Retired.word() => stored.get_document(BEFORE_RETIRED).ok().map(Self::of),
            _ => Some(Self::of(&stored)),
        }))
    }

    fn of(stored: &Document) -> Self {
        let date = |field: &str| stored.get_datetime(field).ok().copied();
        let counts = |counts: &Document| {
            counts.iter().filter_map(|(kind, count)| Some((kind.clone(), count.as_i64()?))).collect()
        };
        Self {
            began: date("began"),
            ended: date("ended"),
            phase: stored.get_str("phase").ok().map(ToOwned::to_owned),
            differences: stored.get_i64("differences").ok(),
            divergent_offers: stored.get_document("divergent_offers").map(counts).unwrap_or_default(),
            only_in_recruiters: stored.get_document("only_in_recruiters").map(counts).ok(),
            jobs_without_offer: stored.get_i64("jobs_without_offer").ok(),
            unsettled: stored.get_i64("unsettled").ok(),
            sides: stored.get("sides").and_then(Sides::read),
            full: stored.get_bool("full").unwrap_or_default(),
            last_success: date("last_success"),
        }
    }

    /// Stores the result, unless a later result is stored. A process that was paused before storing must not overwrite
    /// the result on which a step of the phase rests. A stored result from the future does not count as later, because
    /// a clock was ahead.
    ///
    /// # Errors
    /// Those of the driver.
    pub(crate) async fn store(&self, database: &Database) -> Result<(), MongoError> {
        let counts = |counts: &[(String, i64)]| {
            counts.iter().map(|(kind, count)| (kind.clone(), Bson::Int64(*count))).collect::<Document>()
        };
        let mut fields = doc! {
            "began": self.began,
            "ended": self.ended,
            "phase": self.phase.clone(),
            "differences": self.differences,
            "divergent_offers": counts(&self.divergent_offers),
            "only_in_recruiters": self.only_in_recruiters.as_deref().map(counts),
            "jobs_without_offer": self.jobs_without_offer,
            "unsettled": self.unsettled,
            "sides": self.sides.as_ref().map(Sides::to_bson),
            "full": self.full,
        };
        fields.extend(self.last_success.map(|at| ("last_success".to_owned(), Bson::DateTime(at))));
        let later = doc! { "$and": [{ "$gt": ["$ended", self.ended] }, { "$lte": ["$ended", "$$NOW"] }] };
        let stored = doc! { "$mergeObjects": ["$$ROOT", { "$literal": fields }, { BEFORE_RETIRED: self.before() }] };
        let update = vec![doc! { "$replaceWith": { "$cond": [later, "$$ROOT", stored] } }];
        collection(database, STATE).update_one(mine(), update).upsert(true).await?;
        Ok(())
    }

    /// The expression for the result that is kept beside this one. A field without a value is removed.
    fn before(&self) -> Bson {
        let retired = Phase::Retired.word();
        if self.phase.as_deref() != Some(retired) {
            return "$$REMOVE".into();
        }
        let is_first = doc! { "$and": [{ "$ne": ["$phase", retired] }, { "$ne": [{ "$type": "$phase" }, "missing"] }] };
        doc! { "$cond": [is_first, "$$ROOT", format!("${BEFORE_RETIRED}")] }.into()
    }

    /// The part on which the conditions of a step rest; `None` for a sample, and where a field is missing.
    pub(super) fn last(self) -> Option<LastVerification> {
        let Self { phase, began, ended, differences, only_in_recruiters, jobs_without_offer, full: true, .. } = self
        else {
            return None;
        };
        Some(LastVerification {
            phase: phase?,
            began: began?,
            ended: ended?,
            differences: differences?,
            only_in_recruiters,
            jobs_without_offer,
        })
    }
}

fn mine() -> Document {
    doc! { "_id": VERIFICATION }
}
