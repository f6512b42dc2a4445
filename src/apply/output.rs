//! The output of the stages: writes go to the database, or into the results of a dry run.
//! Each write of the stages is a method here, so that none can forget the dry run.

use std::collections::BTreeMap;

use bson::{Document, RawBsonRef, RawDocument, doc};
use futures::TryStreamExt as _;
use mongodb::Database;

use super::dry_run::Projected;
use super::dry_run::{DryRun, Rewritten};
use crate::error::{Failure, command_code};
use crate::interruption::Unfinished;
use crate::model::ids::{JobId, RecruiterId};
use crate::model::names::OFFERS;
use crate::model::value;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::project::diff::OfferChange;
use crate::project::on_insert;
use crate::write::Writer;
use crate::write::create::{self, Created};
use crate::write::dead_letters::{Address, DeadLetter};
use crate::write::links::{self, Jobs};
use crate::write::statements::{self, Creation, NOT_AS_COMPARED, Statement};
use crate::write::update_command;
use crate::write::update_reply::{Refused, WriteOutcome};

/// The destination of all writes.
#[derive(Debug)]
pub(crate) enum Output {
    /// The database.
    Live(Writer),
    /// The results of a dry run. Nothing is written.
    DryRun(Box<DryRun>),
}

impl Output {
    /// Returns the writer; `None` in a dry run.
    pub(crate) fn writer(&self) -> Option<&Writer> {
        match self {
            Self::Live(writer) => Some(writer),
            Self::DryRun(_) => None,
        }
    }

    /// True where the mirror is wanted: always in the database, and in a dry run of the mirror itself.
    pub(crate) fn mirrors(&self) -> bool {
        match self {
            Self::Live(_) => true,
            Self::DryRun(dry_run) => dry_run.mirrors,
        }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        matches!(self, Self::DryRun(_))
    }

    /// Sends statements about offers. A dry run records which fields each one would change; its outcome is empty.
    ///
    /// # Errors
    /// As [`update_command::update`]; [`Failure::Read`] in a dry run.
    pub(crate) async fn update_offers(
        &mut self,
        database: &Database,
        statements: Vec<Statement>,
    ) -> Result<WriteOutcome, Unfinished> {
        match self {
            Self::Live(writer) => update_command::update(writer, OFFERS, statements).await,
            Self::DryRun(dry_run) => {
                note_statements(dry_run, database, &statements).await?;
                Ok(WriteOutcome::default())
            }
        }
    }

    /// Creates offers. A dry run has recorded them with the changes of its chunk.
    ///
    /// # Errors
    /// As [`create::create`].
    pub(crate) async fn create_offers(&self, creations: Vec<Creation>) -> Result<Created, Unfinished> {
        match self {
            Self::Live(writer) => create::create(writer, OFFERS, creations).await,
            Self::DryRun(_) => Ok(Created::default()),
        }
    }

    /// Adds jobs to links; see [`links::grow`].
    ///
    /// # Errors
    /// As [`links::grow`].
    pub(crate) async fn grow_links(&self, jobs: &Jobs) -> Result<Vec<Refused>, Unfinished> {
        match self {
            Self::Live(writer) => links::grow(writer, jobs).await,
            Self::DryRun(_) => Ok(Vec::new()),
        }
    }

    /// Takes jobs out of links; see [`links::shrink`].
    ///
    /// # Errors
    /// As [`links::shrink`].
    pub(crate) async fn shrink_links(&self, jobs: &Jobs) -> Result<Vec<Refused>, Unfinished> {
        match self {
            Self::Live(writer) => links::shrink(writer, jobs).await,
            Self::DryRun(_) => Ok(Vec::new()),
        }
    }

    /// Sets jobs aside in their links; see [`links::set_aside`].
    ///
    /// # Errors
    /// As [`links::set_aside`].
    pub(crate) async fn set_aside_in_links(&self, jobs: &Jobs) -> Result<Vec<Refused>, Unfinished> {
        match self {
            Self::Live(writer) => links::set_aside(writer, jobs).await,
            Self::DryRun(_) => Ok(Vec::new()),
        }
    }

    /// Deletes the links of these recruiters.
    ///
    /// # Errors
    /// As [`links::delete`].
    pub(crate) async fn delete_links(&self, recruiters: &[RecruiterId]) -> Result<(), Unfinished> {
        match self {
            Self::Live(writer) => links::delete(writer, recruiters).await,
            Self::DryRun(_) => Ok(()),
        }
    }

    /// Counts removed jobs in a dry run.
    pub(crate) fn note_removals(&mut self, jobs: usize) {
        if let Self::DryRun(dry_run) = self {
            dry_run.jobs_gone += jobs as u64;
        }
    }

    /// Counts dead letters in a dry run.
    pub(crate) fn note_dead_letters(&mut self, dead_letters: &BTreeMap<Address, DeadLetter>) {
        if let Self::DryRun(dry_run) = self {
            dry_run.add_dead_letters(dead_letters);
        }
    }

    /// Counts documents whose `_id` is no ObjectId in a dry run.
    pub(crate) fn note_unusable(&mut self, documents: usize) {
        if let Self::DryRun(dry_run) = self {
            dry_run.add_unusable(documents as u64);
        }
    }

    /// Returns the results of the dry run. They are empty if everything was written.
    pub(crate) fn into_dry_run(self) -> DryRun {
        match self {
            Self::Live(_) => DryRun::default(),
            Self::DryRun(dry_run) => *dry_run,
        }
    }
}

/// Records the changes of projected offers. A later projection of an offer replaces its earlier record, because a
/// projection sets all fields.
///
/// # Errors
/// [`Failure::Read`].
pub(crate) async fn note_changes(
    dry_run: &mut DryRun,
    database: &Database,
    offers: &Projected,
    changes: &[(JobId, OfferChange)],
    newest_wins: bool,
) -> Result<(), Failure> {
    for (id, change) in changes {
        dry_run.add(change);
        let (Some(foreseen), Some((_, offer))) = (&mut dry_run.offers, offers.get(id)) else {
            continue;
        };
        let fields = match change {
            OfferChange::Nothing | OfferChange::OtherLabel => Document::new(),
            OfferChange::Create => {
                [document(&offer.fields), document(&on_insert(offer))].into_iter().flatten().collect()
            }
            OfferChange::Update { fields, status_changes: false, .. } => document(fields),
            // A change of the status also extends the history. The history is not read, so the server computes it.
            OfferChange::Update { status_changes: true, .. } => {
                match statements::of_change(offer, change, newest_wins) {
                    Some(statement) => would_change(database, &statement).await?,
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

async fn note_statements(dry_run: &mut DryRun, database: &Database, statements: &[Statement]) -> Result<(), Failure> {
    let Some(foreseen) = &mut dry_run.offers else { return Ok(()) };
    for statement in statements {
        let Some(id) = statement.id.map(JobId) else { continue };
        foreseen.looked_at.insert(id);
        let fields = would_change(database, statement).await?;
        if !fields.is_empty() {
            foreseen.written.entry(id).or_default().fields.extend(fields);
        }
    }
    Ok(())
}

/// Returns the fields that an update by a pipeline would change, with their new values. The server computes them from
/// the existing offer and writes nothing. An offer that is no longer as it was compared would not change.
async fn would_change(database: &Database, statement: &Statement) -> Result<Document, Failure> {
    let filter = statement.body.get_document("q").map(document).unwrap_or_default();
    let stages = statement.body.get_array("u").into_iter().flatten().flatten();
    let stages: Vec<Document> = stages.filter_map(RawBsonRef::as_document).map(document).collect();
    let offers = collection(database, OFFERS).clone_with_type::<bson::RawDocumentBuf>();
    let pipeline = [vec![doc! { "$match": filter.clone() }], stages].concat();
    let computed = futures::try_join!(with_deadline(offers.find_one(filter)), async {
        let computed = with_deadline(offers.clone_with_type::<Document>().aggregate(pipeline)).await?;
        with_deadline(computed.try_collect::<Vec<Document>>()).await
    });
    let (stands, becomes) = match computed {
        Err(error) if command_code(&error) == Some(NOT_AS_COMPARED) => return Ok(Document::new()),
        computed => computed.map_err(Failure::Read)?,
    };
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
