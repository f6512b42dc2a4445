//! The job owner: the recruiter that owns the offer where several recruiters have a job with the same `_id`.
//! The recruiter with the later `updatedAt` wins, then the one with the lower `_id`. A recruiter that cannot be projected
//! does not compete: it has no offer to show, and the offer of another one would stand still.
//! Within one recruiter, the job at the lowest position wins (`Recruiter::repeated`).

use std::cmp::Reverse;

use bson::{Bson, DateTime, Document, RawBsonRef, RawDocument};

use super::ids::RecruiterId;
use super::value;

/// A candidate for the ownership of a job. The greatest candidate wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JobOwner {
    /// `None` when `updatedAt` is no date. `None` loses against every date.
    updated_at: Option<DateTime>,
    recruiter: Reverse<RecruiterId>,
}

impl JobOwner {
    #[must_use]
    pub(crate) fn new(recruiter: RecruiterId, updated_at: Option<RawBsonRef<'_>>) -> Self {
        Self { updated_at: updated_at.and_then(RawBsonRef::as_datetime), recruiter: Reverse(recruiter) }
    }

    /// The fields that [`Self::of`] reads beside `_id`.
    pub(crate) const FIELDS: [&str; 2] = ["updatedAt", "address"];

    /// The projection of a read that asks which jobs the candidates hold.
    #[must_use]
    pub(crate) fn wanted() -> Document {
        Self::FIELDS.into_iter().chain(["jobs._id"]).map(|name| (name.to_owned(), Bson::Int32(1))).collect()
    }

    /// Makes the candidate of a recruiter's document. `None` if it has no address, because its jobs then have no offers
    /// (spec 02), or no ObjectId.
    #[must_use]
    pub(crate) fn of(recruiter: &RawDocument) -> Option<Self> {
        let id = recruiter.get_object_id("_id").ok().map(RecruiterId)?;
        value::non_empty(value::field(recruiter, "address"))?;
        Some(Self::new(id, value::field(recruiter, "updatedAt")))
    }

    /// The recruiter's `_id`.
    #[must_use]
    pub(crate) fn recruiter(&self) -> RecruiterId {
        self.recruiter.0
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;

    #[test]
    fn a_recruiter_without_address_is_no_candidate() {
        let of = |document: bson::RawDocumentBuf| JobOwner::of(&document).map(|owner| owner.recruiter());
        let id = ObjectId::from_bytes([1; 12]);
        assert_eq!(of(bson::rawdoc! { "_id": id, "address": "1 rue Inventée" }), Some(RecruiterId(id)));
        for without in [bson::rawdoc! { "_id": id }, bson::rawdoc! { "_id": id, "address": "" }] {
            assert_eq!(of(without), None);
        }
        assert_eq!(of(bson::rawdoc! { "_id": 1, "address": "1 rue Inventée" }), None);
    }

    #[test]
    fn the_later_one_wins_then_the_lower_id_and_a_date_wins_over_none() {
        let [low, high] = [[1; 12], [2; 12]].map(|bytes| RecruiterId(ObjectId::from_bytes(bytes)));
        let at = |millis| Some(RawBsonRef::DateTime(DateTime::from_millis(millis)));
        let winner = |a: Option<RawBsonRef<'_>>, b: Option<RawBsonRef<'_>>| {
            JobOwner::new(low, a).max(JobOwner::new(high, b)).recruiter()
        };
        assert_eq!(winner(at(2), at(1)), low);
        assert_eq!(winner(at(1), at(2)), high);
        assert_eq!(winner(at(1), at(1)), low);
        assert_eq!(winner(None, None), low);
        assert_eq!(winner(Some(RawBsonRef::String("2999-01-01")), at(-1)), high);
    }
}
