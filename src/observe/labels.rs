//! Values of labels that are not enums of their own.

/// The statuses of jobs that spec 02 knows, as they are counted, with the other spelling of each.
pub const JOB_STATUSES: [(&str, &str); 4] =
    [("Active", "ACTIVE"), ("Pourvue", "POURVUE"), ("Annulée", "ANNULEE"), ("En attente", "EN_ATTENTE")];
/// The statuses of offers.
pub const OFFER_STATUSES: [&str; 3] = ["Active", "Filled", "Cancelled"];
/// Any other: what documents say is not a label.
pub const OTHER: &str = "other";
