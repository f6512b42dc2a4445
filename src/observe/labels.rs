//! Values of the metrics' labels.

use crate::model::dead_letter::Reason;
use crate::model::names::WatchedCollection;

/// A value that a label of a metric may have: one of few, none of which comes from a document.
pub trait LabelValue: Copy {
    /// As Prometheus shows it.
    fn label(self) -> &'static str;
}

impl LabelValue for Reason {
    fn label(self) -> &'static str {
        self.as_str()
    }
}

impl LabelValue for WatchedCollection {
    fn label(self) -> &'static str {
        self.name()
    }
}

/// The statuses of jobs that spec 02 knows, as they are counted, with the other spelling of each.
pub(crate) const JOB_STATUSES: [(&str, &str); 4] =
    [("Active", "ACTIVE"), ("Pourvue", "POURVUE"), ("Annulée", "ANNULEE"), ("En attente", "EN_ATTENTE")];
/// The statuses of offers.
pub(crate) const OFFER_STATUSES: [&str; 3] = ["Active", "Filled", "Cancelled"];
/// Any other: what documents say is not a label.
pub(crate) const OTHER: &str = "other";
