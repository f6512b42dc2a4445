//! Stage 4, PROJECT: (recruiter, job, references) -> offer, and offer against what stands.
//! Pure: no clock, no I/O, no randomness; the same documents give the same offer (spec 02).

mod contact;
pub mod diff;
mod diploma;
mod fields;
pub mod offer;
pub mod settings;
pub mod skills;
mod slug;
mod status;

pub use fields::{ON_INSERT, WRITTEN};
pub use offer::{USER_DEACTIVATED, project};
pub use settings::ProjectionSettings;
pub use slug::slug;
pub use status::offer_status;
