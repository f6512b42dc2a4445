//! What a rule of the unprojection looks at.

use bson::{Bson, RawDocument};

use crate::model::References;
use crate::model::recruiter::{JobFields, RecruiterFields};

/// The value of the rule's field, and the documents as they stand.
pub(super) struct Asked<'a> {
    pub value: Bson,
    pub offer: &'a RawDocument,
    pub recruiter: &'a RecruiterFields<'a>,
    pub job: &'a JobFields<'a>,
    pub references: &'a References,
}
