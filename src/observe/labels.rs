//! Values of the metrics' labels.

use crate::model::dead_letter::Reason;
use crate::model::names::WatchedCollection;

/// A value of a metric's label. It is one of few values and never comes from a document.
pub trait LabelValue: Copy {
    /// The text of the value in Prometheus.
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

/// The statuses of jobs in spec 02. Each has the spelling of the label and a second spelling in the documents.
pub(crate) const JOB_STATUSES: [(&str, &str); 4] =
    [("Active", "ACTIVE"), ("Pourvue", "POURVUE"), ("Annulée", "ANNULEE"), ("En attente", "EN_ATTENTE")];
pub(crate) const OFFER_STATUSES: [&str; 4] = ["Active", "Filled", "Cancelled", "Pending"];
/// The label for any other status, because a text of a document never becomes a label.
pub(crate) const OTHER: &str = "other";
