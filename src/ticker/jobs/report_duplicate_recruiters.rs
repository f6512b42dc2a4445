//! The job `report-duplicate-recruiters` (4.8): reports recruiters with the same siret and e-mail address, by id. The
//! job only reads.

use std::collections::HashMap;

use bson::{Document, RawDocument, doc};
use futures::TryStreamExt as _;

use super::super::report::ReportLine;
use crate::error::Failure;
use crate::interruption::Unfinished;
use crate::model::ids::RecruiterId;
use crate::model::names::WatchedCollection;
use crate::model::value;
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::{collection, documents};
use crate::source::scan::STEP;
use crate::ticker::job_context::JobContext;

const SIRET: &str = "establishment_siret";

/// Reads the recruiters in the order of their sirets, so that only the recruiters of one siret are in memory.
///
/// # Errors
/// [`Failure::Read`].
pub async fn run(job: &mut JobContext) -> Result<(), Unfinished> {
    let recruiters = collection(&job.context.database, WatchedCollection::Recruiters.name());
    let find = recruiters.find(selects()).sort(order()).projection(doc! { SIRET: 1, "email": 1 }).batch_size(STEP);
    let mut found = with_deadline(find.batch()).await.map_err(Failure::Read)?;
    let mut same = Same::default();
    while let Some(batch) = with_deadline(found.try_next()).await.map_err(Failure::Read)? {
        job.check()?;
        for recruiter in documents(&[batch]) {
            if let Some(line) = same.add(recruiter?) {
                job.tell(line);
            }
        }
    }
    job.report.matched = same.duplicates;
    Ok(())
}

/// The selection of the job among the recruiters: those whose siret is a text and not empty.
#[must_use]
pub fn selects() -> Document {
    doc! { SIRET: { "$gt": "" } }
}

/// The order in which the recruiters are read: by siret, along an index.
#[must_use]
pub fn order() -> Document {
    doc! { SIRET: 1 }
}

/// The first recruiter of each e-mail address, among the recruiters of one siret so far.
#[derive(Debug, Default)]
struct Same {
    siret: String,
    first: HashMap<String, RecruiterId>,
    duplicates: u64,
}

impl Same {
    fn add(&mut self, recruiter: &RawDocument) -> Option<ReportLine> {
        let siret = value::text(value::field(recruiter, SIRET))?;
        if siret != self.siret {
            siret.clone_into(&mut self.siret);
            self.first.clear();
        }
        let email = value::text(value::field(recruiter, "email"))?.to_lowercase();
        let id = RecruiterId(recruiter.get_object_id("_id").ok()?);
        let first = *self.first.entry(email).or_insert(id);
        if first == id {
            return None;
        }
        self.duplicates += 1;
        Some(ReportLine::new(id, "duplicate_of", [first.to_string()]))
    }
}

#[cfg(test)]
mod tests {
    use bson::{RawDocumentBuf, oid::ObjectId};

    use super::*;

    #[test]
    fn only_recruiters_with_both_in_common_are_duplicates() {
        let mut same = Same::default();
        let mut add = |siret: &str, email: &str| {
            let id = ObjectId::new();
            let recruiter = doc! { "_id": id, SIRET: siret, "email": email };
            (id, same.add(&RawDocumentBuf::try_from(&recruiter).unwrap()))
        };
        let (first, none) = add("1", "a@example.com");
        assert_eq!(none, None);
        assert_eq!(add("1", "b@example.com").1, None);
        let (second, line) = add("1", "A@example.com");
        assert_eq!(line, Some(ReportLine::new(second, "duplicate_of", [first.to_hex()])));
        assert_eq!(add("2", "a@example.com").1, None);
        assert_eq!(same.duplicates, 1);
    }
}
