//! The documents of spec 01, borrowed from the bytes that MongoDB sent: one pass per document, no generic tree.
//! Reading is lenient: unknown fields are ignored, and a value of a wrong type is kept as it is. The module does no I/O.

pub mod dead_letter;
mod fields;
pub mod job_owner;
pub mod names;
pub mod offer;
pub mod other_id;
pub mod recruiter;
pub mod references;
pub mod time;
pub mod user_id;
pub mod value;

pub use offer::{Offer, OfferStatus};
pub use recruiter::{Job, Recruiter};
pub use references::{Cfa, References, RomeSheet, User, UserStatus};
