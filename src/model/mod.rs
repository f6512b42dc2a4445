//! The documents of spec 01, borrowed from the bytes that MongoDB sent: one pass per document, no generic tree.
//! Reading is lenient: unknown fields are ignored, and a value of a wrong type is kept as it is. This module does
//! no I/O.

pub(crate) mod dead_letter;
pub(crate) mod decode;
pub(crate) mod ids;
pub(crate) mod job_owner;
pub(crate) mod names;
pub(crate) mod offer;
pub(crate) mod other_id;
pub(crate) mod recruiter;
pub(crate) mod references;
pub(crate) mod target_schema;
pub(crate) mod time;
pub(crate) mod timeline;
pub(crate) mod user_id;
pub(crate) mod value;

pub(crate) use offer::{Offer, OfferStatus};
pub(crate) use recruiter::Recruiter;
pub(crate) use references::{Cfa, References, RomeSheet, User, UserStatus};
pub(crate) use target_schema::{ManagedByType, TargetSchema};
