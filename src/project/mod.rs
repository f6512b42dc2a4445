//! PROJECT, the fourth stage: (recruiter, job, references) -> offer, and its comparison with the existing offer.
//! Pure code without clock, I/O and randomness: the same documents give the same offer (spec 02).

mod canonical_bytes;
pub(crate) mod closing;
pub(crate) mod closing_alone;
mod contact;
mod delegations;
pub(crate) mod diff;
pub(crate) mod digest;
mod diploma;
pub(crate) mod newest_wins;
pub(crate) mod offer;
pub(crate) mod settings;
pub(crate) mod skills;
mod slug;
mod status;
mod unprojection;
pub(crate) mod written_fields;

pub(crate) use diploma::european_level;
pub(crate) use offer::project;
pub(crate) use settings::ProjectionSettings;
pub(crate) use status::{RECRUITER_ANONYMIZED, USER_ANONYMIZED, USER_DEACTIVATED, is_active, offer_status};
pub use unprojection::{Unprojection, new_job, new_recruiter, unproject};
pub(crate) use written_fields::{FieldLabel, WRITTEN, all_written, on_insert};
