//! Records the writes that a dry run would make.

use super::dry_run::Rewritten;
use super::stages::Projected;
use super::stages::Stages;
use crate::error::Failure;
use crate::model::names::OFFERS;
use crate::model::value;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::phase::StreamWrites;
use crate::project::ON_INSERT;
use crate::project::diff::OfferChange;
use crate::write::statements::{self, Statement};
use bson::{Document, RawBsonRef, RawDocument, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use mongodb::Database;

impl Stages {
    /// Records the changes of projected offers. A later projection of an offer replaces its earlier record, because a
    /// projection sets all fields.
    pub(crate) async fn dry_run_changes(
        &mut self,
        offers: &Projected,
        changes: &[(ObjectId, OfferChange)],
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
                OfferChange::Nothing => Document::new(),
                OfferChange::Create => [document(&offer.fields), document(&ON_INSERT)].into_iter().flatten().collect(),
                OfferChange::Update { fields, status_changes: false, .. } => document(fields),
                // A change of the status also extends the history. The history is not read, so the server computes it.
                OfferChange::Update { status_changes: true, .. } => {
                    match statements::of_change(offer, change, unless_newer) {
                        Some(statement) => would_change(&database, &statement).await?,
                        None => Document::new(),
                    }
                }
            };
            foreseen.looked_at.insert(*id);
            foreseen.written.remove(id);
            if !fields.is_empty() {
                foreseen.written.insert(*id, Rewritten { created: *change == OfferChange::Create, fields });
            }
        }
        Ok(())
    }

    /// Records the changes of these statements in a dry run. Returns true in a dry run: then they must not be sent.
    pub(crate) async fn count_in_dry_run(&mut self, statements: &[Statement]) -> Result<bool, Failure> {
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

/// Returns the fields that an update by a pipeline would change, with their new values. The server computes them from
/// the existing offer and writes nothing.
async fn would_change(database: &Database, statement: &Statement) -> Result<Document, Failure> {
    let filter = statement.body.get_document("q").map(document).unwrap_or_default();
    let stages = statement.body.get_array("u").into_iter().flatten().flatten();
    let stages: Vec<Document> = stages.filter_map(RawBsonRef::as_document).map(document).collect();
    let offers = collection(database, OFFERS).clone_with_type::<bson::RawDocumentBuf>();
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
