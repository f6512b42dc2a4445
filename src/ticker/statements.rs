//! The write statements of an edit: one for the offer, one for its job. Each one sets final values, so it can be sent
//! twice. Pure.

use bson::raw::{CString, RawArrayBuf, cstr};
use bson::{DateTime, Document, RawDocumentBuf, rawdoc};

use super::offer_and_job::Edit;
use crate::model::ids::{JobId, RecruiterId};
use crate::write::statements::{Statement, history, later_update, literals};

/// The statement that writes `edit` to an offer. The filter has our label, so offers of other partners stay untouched.
#[must_use]
pub(super) fn of_offer(offer: JobId, partner_label: &str, edit: &Edit) -> Statement {
    let mut set = literals(&encoded(&edit.offer));
    if let Some((status, reason, date)) = edit.status {
        set.append(cstr!("offer_status"), status.as_str());
        set.append(cstr!("offer_status_history"), history(status, reason, date));
    }
    if let Some(date) = edit.status.map(|(_, _, date)| date).max(edit.moved) {
        // With the same date as its job and our entry, the offer would count as written by us, and the projection would
        // overwrite what an application wrote.
        let date = DateTime::from_millis(date.timestamp_millis() + i64::from(edit.keeps_newer));
        set.append(cstr!("updated_at"), later_update(date));
    }
    let filter = rawdoc! { "_id": offer, "partner_label": partner_label };
    Statement { id: Some(offer.0), body: rawdoc! { "q": filter, "u": [{ "$set": set }] } }
}

/// The statement that writes `edit` to a job and its recruiter; `None` where `edit` changes neither of them.
#[must_use]
pub(super) fn of_job(recruiter: RecruiterId, job: JobId, edit: &Edit) -> Option<Statement> {
    let mut set = encoded(&edit.recruiter);
    for (name, value) in encoded(&edit.job).iter().flatten() {
        // This never fails: the names of fields come from the code and have no zero byte.
        if let Ok(path) = CString::try_from(format!("jobs.$[job].{name}")) {
            set.append(&path, value);
        }
    }
    if set.is_empty() {
        return None;
    }
    let mut update = RawDocumentBuf::new();
    update.append(cstr!("$set"), set);
    if let Some(date) = edit.moved {
        update.append(cstr!("$max"), rawdoc! { "jobs.$[job].job_update_date": date, "updatedAt": date });
    }
    let mut filters = RawArrayBuf::new();
    if !edit.job.is_empty() || edit.moved.is_some() {
        filters.push(rawdoc! { "job._id": job });
    }
    let filter = rawdoc! { "_id": recruiter, "jobs._id": job };
    let body = rawdoc! { "q": filter, "u": update, "arrayFilters": filters };
    Some(Statement { id: Some(recruiter.0), body })
}

/// The raw form of `fields`. Its values are built in the code or were read from BSON, so they always encode.
fn encoded(fields: &Document) -> RawDocumentBuf {
    RawDocumentBuf::try_from(fields).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bson::{doc, oid::ObjectId};

    use super::*;

    #[test]
    fn an_edit_without_a_job_leaves_recruiters_alone() {
        let edit = Edit { offer: doc! { "a": 1 }, ..Edit::default() };
        let (recruiter, job) = (RecruiterId(ObjectId::new()), JobId(ObjectId::new()));
        assert!(of_job(recruiter, job, &edit).is_none());
        let edit = Edit { recruiter: doc! { "status": "Actif" }, ..edit };
        let statement = of_job(recruiter, job, &edit).unwrap();
        let update: Document = statement.body.try_into().unwrap();
        // The server refuses a filter that no path uses.
        assert_eq!(update.get_array("arrayFilters").unwrap().len(), 0);
    }
}
