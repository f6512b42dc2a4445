//! What was written, and what a dry run would have written. A backfill counts; a replay keeps what each offer
//! would get, as the server itself says of a statement that is not sent.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, RawBsonRef, RawDocument, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::conflict_policy::Projected;
use super::portion::Stages;
use crate::deadline::with_deadline;
use crate::error::Failure;
use crate::fetch::raw;
use crate::model::dead_letter::Reason;
use crate::model::value;
use crate::phase::StreamWrites;
use crate::project::ON_INSERT;
use crate::project::diff::{self, Change};
use crate::source::OFFERS;
use crate::write::dead_letters::{Address, DeadLetter};
use crate::write::statements::{self, Statement};

/// Offers by what was done with them since the start.
#[derive(Debug, Clone, Copy, Default)]
pub struct WriteCounts {
    /// Created.
    pub created: u64,
    /// Changed.
    pub changed: u64,
    /// Stood as projected.
    pub unchanged: u64,
}

/// Counts of a dry run.
#[derive(Debug, Default, Clone)]
pub struct DryRun {
    /// Offers that would be created.
    pub created: u64,
    /// Offers that would be changed.
    pub changed: u64,
    /// Offers that stand as they should.
    pub unchanged: u64,
    /// Jobs that are gone: their offers would be cancelled where they are not.
    pub jobs_gone: u64,
    /// How often each field would be changed.
    pub fields: BTreeMap<String, u64>,
    /// Jobs that would be dead letters, by reason.
    pub dead_letters: BTreeMap<Reason, u64>,
    /// Offer by offer, where that is asked for.
    pub offers: Option<Rehearsed>,
}

/// What each offer would come to.
#[derive(Debug, Default, Clone)]
pub struct Rehearsed {
    /// Offers that were looked at.
    pub looked_at: BTreeSet<ObjectId>,
    /// Those of them that would be written.
    pub written: BTreeMap<ObjectId, Rewritten>,
    /// What would be dead letters.
    pub letters: BTreeMap<Address, Reason>,
}

/// What one offer would get.
#[derive(Debug, Default, Clone)]
pub struct Rewritten {
    /// There is none yet.
    pub created: bool,
    /// The fields that would have another value, with that value.
    pub fields: Document,
}

impl DryRun {
    /// Counts documents whose `_id` is no ObjectId.
    pub(super) fn add_unusable(&mut self, documents: u64) {
        if documents > 0 {
            *self.dead_letters.entry(Reason::Undecodable).or_default() += documents;
        }
    }

    /// Counts what would be dead letters.
    pub(super) fn add_letters(&mut self, letters: BTreeMap<Address, DeadLetter>) {
        letters.values().for_each(|letter| *self.dead_letters.entry(letter.reason).or_default() += 1);
        if let Some(foreseen) = &mut self.offers {
            foreseen.letters.extend(letters.into_iter().map(|(address, letter)| (address, letter.reason)));
        }
    }

    /// Counts one offer.
    pub fn add(&mut self, change: &Change) {
        match change {
            Change::Create => self.created += 1,
            Change::Nothing => self.unchanged += 1,
            Change::Update { fields, .. } => {
                self.changed += 1;
                for name in diff::names(fields) {
                    *self.fields.entry(name.to_owned()).or_default() += 1;
                }
            }
        }
    }
}

impl Stages {
    /// Takes note of what projections would write. Whatever was noted of an offer before is over: a projection
    /// says what all its fields are.
    pub(super) async fn dry_run_changes(
        &mut self,
        offers: &Projected,
        changes: &[(ObjectId, Change)],
    ) -> Result<(), Failure> {
        let (database, unless_newer) = (self.database.clone(), self.phase.stream() == StreamWrites::UnlessNewer);
        let Some(dry_run) = &mut self.dry_run else {
            return Ok(());
        };
        for (id, change) in changes {
            dry_run.add(change);
            let (Some(foreseen), Some((_, offer))) = (&mut dry_run.offers, offers.get(id)) else {
                continue;
            };
            let fields = match change {
                Change::Nothing => Document::new(),
                Change::Create => [document(&offer.fields), document(&ON_INSERT)].into_iter().flatten().collect(),
                Change::Update { fields, status_changes: false, .. } => document(fields),
                Change::Update { status_changes: true, .. } => {
                    match statements::of_change(offer, change, unless_newer) {
                        Some(statement) => would_change(&database, &statement).await?,
                        None => Document::new(),
                    }
                }
            };
            foreseen.looked_at.insert(*id);
            foreseen.written.remove(id);
            if !fields.is_empty() {
                foreseen.written.insert(*id, Rewritten { created: *change == Change::Create, fields });
            }
        }
        Ok(())
    }

    /// In a dry run, takes note of what these statements would write, and says that they must not be sent.
    pub(super) async fn count_in_dry_run(&mut self, statements: &[Statement]) -> Result<bool, Failure> {
        let database = self.database.clone();
        let Some(dry_run) = &mut self.dry_run else {
            return Ok(false);
        };
        let Some(foreseen) = &mut dry_run.offers else {
            return Ok(true);
        };
        for statement in statements {
            let Some(id) = statement.id else { continue };
            foreseen.looked_at.insert(id);
            let fields = would_change(&database, statement).await?;
            if !fields.is_empty() {
                foreseen.written.entry(id).or_default().fields.extend(fields);
            }
        }
        Ok(true)
    }
}

/// The fields that an update by a pipeline would give another value: the server computes it on the offer that
/// stands, without writing.
async fn would_change(database: &Database, statement: &Statement) -> Result<Document, Failure> {
    let filter = statement.body.get_document("q").map(document).unwrap_or_default();
    let stages = statement.body.get_array("u").into_iter().flatten().flatten();
    let stages: Vec<Document> = stages.filter_map(RawBsonRef::as_document).map(document).collect();
    let offers = raw(database, OFFERS).clone_with_type::<bson::RawDocumentBuf>();
    let pipeline = [vec![doc! { "$match": filter.clone() }], stages].concat();
    let (stands, becomes) = futures::try_join!(with_deadline(offers.find_one(filter)), async {
        let computed = with_deadline(offers.clone_with_type::<Document>().aggregate(pipeline)).await?;
        with_deadline(computed.try_collect::<Vec<Document>>()).await
    })
    .map_err(Failure::Read)?;
    let (Some(stands), Some(becomes)) = (stands, becomes.into_iter().next()) else {
        return Ok(Document::new());
    };
    let becomes = bson::RawDocumentBuf::try_from(&becomes).unwrap_or_default();
    let differs = |name: &str, value: RawBsonRef<'_>| {
        stands.get(name).ok().flatten().is_none_or(|stands| !value::same(stands, value))
    };
    let mut fields = bson::RawDocumentBuf::new();
    for (name, value) in becomes.iter().flatten().filter(|(name, value)| differs(name.as_str(), *value)) {
        fields.append(name, value);
    }
    Ok(document(&fields))
}

fn document(fields: &RawDocument) -> Document {
    Document::try_from(fields).unwrap_or_default()
}
