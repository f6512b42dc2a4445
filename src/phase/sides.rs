//! The two sides as a full verification saw them: numbers by status, and order-independent digests of the projected and
//! of the stored offers (spec 10, "The certificate"). The verification fills them, and stores them with its result.

use std::collections::BTreeMap;

use bson::{Bson, RawDocument};
use serde::{Deserialize, Serialize};

use crate::model::{Offer, OfferStatus, value};
use crate::project::digest::{Digest, of_document, of_projection, of_standing};
use crate::project::written_fields::has_same_bytes;

/// The name under which offers with an unknown status are counted: a value of a document is not shown.
const OTHER: &str = "other";

/// The sums over all jobs that were compared, and over the recruiters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sides {
    /// The recruiters as they are stored, whole.
    pub recruiters: DocumentSum,
    /// The projections of the jobs that were compared.
    pub projected: OfferSum,
    /// The offers of these jobs, over the fields that the projections have.
    pub stored: OfferSum,
    /// The part of both sums that differs and may differ: a closing by somebody else stands, a person is anonymised, or
    /// in `dual-write` the offer is newer.
    pub may_differ: DifferingPart,
}

/// A number of documents, and the sum of their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DocumentSum {
    pub count: u64,
    pub digest: Digest,
}

/// Numbers of offers by status, and the sum of their digests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OfferSum {
    pub by_status: BTreeMap<String, u64>,
    pub digest: Digest,
}

/// Offers that differ from their projections without a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DifferingPart {
    pub offers: u64,
    pub projected: Digest,
    pub stored: Digest,
}

/// One projection with its offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    projected: (OfferStatus, Digest),
    /// `None` where there is no offer.
    stored: Option<(Option<OfferStatus>, Digest)>,
}

impl Pair {
    #[must_use]
    pub(crate) fn of(offer: &Offer, standing: Option<&RawDocument>) -> Self {
        let status =
            |standing: &RawDocument| value::text(value::field(standing, "offer_status")).and_then(OfferStatus::read);
        let projected = of_projection(offer);
        let stored = |standing: &RawDocument| {
            if has_same_bytes(offer, standing) {
                (Some(offer.status), projected)
            } else {
                (status(standing), of_standing(offer, standing))
            }
        };
        Self { projected: (offer.status, projected), stored: standing.map(stored) }
    }

    fn is_equal(&self) -> bool {
        self.stored.is_some_and(|(_, stored)| stored == self.projected.1)
    }
}

impl OfferSum {
    fn add(&mut self, status: Option<OfferStatus>, digest: Digest) {
        let status = status.map_or(OTHER, OfferStatus::as_str);
        *self.by_status.entry(status.to_owned()).or_default() += 1;
        self.digest = self.digest.plus(digest);
    }

    fn extend(&mut self, other: Self) {
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        self.digest = self.digest.plus(other.digest);
    }
}

impl Sides {
    pub(crate) fn add_recruiter(&mut self, recruiter: &RawDocument) {
        self.recruiters.count += 1;
        self.recruiters.digest = self.recruiters.digest.plus(of_document(recruiter));
    }

    /// Adds a pair in which the comparison found a fault.
    pub(crate) fn add_faulty(&mut self, pair: Pair) {
        self.projected.add(Some(pair.projected.0), pair.projected.1);
        if let Some((status, digest)) = pair.stored {
            self.stored.add(status, digest);
        }
    }

    /// Adds a pair in which the comparison found no fault. Where the two differ nevertheless, they may.
    pub(crate) fn add(&mut self, pair: Pair) {
        self.add_faulty(pair);
        if let (false, Some((_, stored))) = (pair.is_equal(), pair.stored) {
            self.may_differ.offers += 1;
            self.may_differ.projected = self.may_differ.projected.plus(pair.projected.1);
            self.may_differ.stored = self.may_differ.stored.plus(stored);
        }
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.recruiters.count += other.recruiters.count;
        self.recruiters.digest = self.recruiters.digest.plus(other.recruiters.digest);
        self.projected.extend(other.projected);
        self.stored.extend(other.stored);
        self.may_differ.offers += other.may_differ.offers;
        self.may_differ.projected = self.may_differ.projected.plus(other.may_differ.projected);
        self.may_differ.stored = self.may_differ.stored.plus(other.may_differ.stored);
    }

    /// The sums as a value of a stored document.
    #[must_use]
    pub(crate) fn to_bson(&self) -> Bson {
        bson::serialize_to_bson(self).unwrap_or(Bson::Null)
    }

    /// Reads what [`Self::to_bson`] made; `None` for anything else, such as what another version stored.
    #[must_use]
    pub(crate) fn read(stored: &Bson) -> Option<Self> {
        bson::deserialize_from_bson(stored.clone()).ok()
    }

    /// True when the digests of both sides are equal, apart from the offers that may differ.
    #[must_use]
    pub(crate) fn agree(&self) -> bool {
        let Self { projected, stored, may_differ, .. } = self;
        projected.digest.minus(may_differ.projected) == stored.digest.minus(may_differ.stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(projected: &str, stored: Option<&str>) -> Pair {
        let digest = |text: &str| Digest::of(text.as_bytes());
        Pair {
            projected: (OfferStatus::Active, digest(projected)),
            stored: stored.map(|stored| (None, digest(stored))),
        }
    }

    #[test]
    fn the_sides_agree_where_nothing_differs_or_what_differs_may() {
        let mut sides = Sides::default();
        sides.add(pair("a", Some("a")));
        assert!(sides.agree());
        sides.add(pair("b", Some("closed by somebody else")));
        assert!(sides.agree() && sides.projected.digest != sides.stored.digest);
        assert_eq!((sides.may_differ.offers, &sides.stored.by_status[OTHER]), (1, &2));
        for faulty in [pair("c", Some("d")), pair("c", None)] {
            let mut sides = sides.clone();
            sides.add_faulty(faulty);
            assert!(!sides.agree());
        }
    }

    #[test]
    fn parts_add_up_to_the_whole_and_come_back_from_where_they_are_stored() {
        let pairs = [pair("a", Some("a")), pair("b", Some("c")), pair("d", Some("d"))];
        let mut whole = Sides::default();
        pairs.into_iter().for_each(|pair| whole.add(pair));
        let mut parts = Sides::default();
        for pair in pairs.into_iter().rev() {
            let mut part = Sides::default();
            part.add(pair);
            parts.extend(part);
        }
        assert_eq!(parts, whole);
        assert_eq!(Sides::read(&whole.to_bson()), Some(whole));
    }
}
