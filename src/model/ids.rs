//! Typed ids of documents: the compiler refuses the id of a recruiter where the id of a job is expected.

use std::fmt;

use bson::oid::ObjectId;
use bson::{Bson, RawBson, RawBsonRef};
use serde::{Deserialize, Serialize};

/// Gives each of these ids the type `I`.
#[must_use]
pub(crate) fn typed<I: From<ObjectId>>(ids: &[ObjectId]) -> Vec<I> {
    ids.iter().copied().map(I::from).collect()
}

/// Defines a type of id.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub ObjectId);

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<ObjectId> for $name {
            fn from(id: ObjectId) -> Self {
                Self(id)
            }
        }

        impl From<$name> for Bson {
            fn from(id: $name) -> Self {
                Self::ObjectId(id.0)
            }
        }

        impl From<$name> for ObjectId {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl From<$name> for RawBson {
            fn from(id: $name) -> Self {
                Self::ObjectId(id.0)
            }
        }

        impl From<$name> for RawBsonRef<'_> {
            fn from(id: $name) -> Self {
                Self::ObjectId(id.0)
            }
        }
    };
}

id! {
    /// The `_id` of a document of `recruiters`, and of its copy in `anonymized_recruiters`.
    RecruiterId
}
id! {
    /// The `_id` of a job of a recruiter, and of its offer in `jobs_partners`.
    JobId
}
id! {
    /// The `_id` of a document of `userswithaccounts`, and of its copy in `anonymized_userswithaccounts`.
    UserId
}
