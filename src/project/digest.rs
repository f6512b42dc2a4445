//! Digests of offers and recruiters (spec 10, "The certificate"): SHA-256 over canonical bytes. The digest of a set is
//! the sum of its members' digests modulo 2^256, so that the order of a scan does not matter. Pure code.

use bson::RawDocument;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::canonical_bytes::{CanonicalBytes, put, put_document, put_text};
use super::written_fields::{Values, WRITTEN, in_order, is_repetition};
use crate::model::Offer;
use crate::model::ids::JobId;

/// A SHA-256, or a sum of such, as a number of 256 bits with the highest byte first. The sum of nothing is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    #[must_use]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The sum modulo 2^256.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        let mut sum = self;
        let mut carry = false;
        for (left, right) in sum.0.iter_mut().zip(other.0).rev() {
            let (half, first) = left.overflowing_add(right);
            let (whole, second) = half.overflowing_add(u8::from(carry));
            (*left, carry) = (whole, first || second);
        }
        sum
    }

    /// The difference modulo 2^256.
    #[must_use]
    pub(crate) fn minus(self, other: Self) -> Self {
        let mut one = [0; 32];
        one[31] = 1;
        // The complement of two.
        self.plus(Self(other.0.map(|byte| !byte))).plus(Self(one))
    }

    /// 64 hexadecimal digits in lower case.
    #[must_use]
    pub(crate) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`Self::hex`] writes; `None` for any other text.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 64 || !text.as_bytes().iter().all(digit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a digest has 64 hexadecimal digits in lower case"))
    }
}

/// The digest of a projection.
#[must_use]
pub(crate) fn of_projection(offer: &Offer) -> Digest {
    let values = in_order(&offer.fields);
    of_offer(offer.id, &values, &values)
}

/// The digest of the existing offer, over the fields that the projection has. It equals the digest of the projection
/// if and only if each of these fields has the projected value. Fields that only repeat others do not count.
#[must_use]
pub(crate) fn of_standing(offer: &Offer, standing: &RawDocument) -> Digest {
    of_offer(offer.id, &in_order(&offer.fields), &in_order(standing))
}

/// The digest of a whole document, with its fields in the order in which they are stored.
#[must_use]
pub(crate) fn of_document(document: &RawDocument) -> Digest {
    let mut bytes = CanonicalBytes::new();
    put_document(&mut bytes, document);
    Digest(bytes.sha256())
}

fn of_offer(id: JobId, projected: &Values<'_>, values: &Values<'_>) -> Digest {
    let mut bytes = CanonicalBytes::new();
    bytes.extend(id.0.bytes());
    // A field that the schema of the target omits is in no projection.
    let there = WRITTEN
        .iter()
        .zip(projected)
        .zip(values)
        .filter(|((name, projected), _)| projected.is_some() && !is_repetition(name.as_str()));
    for ((name, _), value) in there {
        put_text(&mut bytes, name.as_str());
        match value {
            Some(value) => put(&mut bytes, *value),
            // A missing field is not null: `verify` calls it different too.
            None => bytes.push(b'-'),
        }
    }
    Digest(bytes.sha256())
}

#[cfg(test)]
mod tests {

    use bson::raw::cstr;
    use bson::{DateTime, RawBsonRef, RawDocumentBuf, oid::ObjectId, rawdoc};

    use super::*;

    #[test]
    fn sums_do_not_depend_on_the_order_and_what_was_added_can_be_taken_away() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Digest::of(text.as_bytes()));
        assert_eq!(a.plus(b).plus(c), c.plus(a).plus(b));
        assert_ne!(a.plus(a), a, "two equal members count twice");
        assert_eq!(a.plus(b).minus(b), a);
        assert_eq!(a.minus(a), Digest::default());
        let most = Digest([255; 32]);
        let mut one = [0; 32];
        one[31] = 1;
        assert_eq!(most.plus(Digest(one)), Digest::default(), "the carry goes through all bytes and is lost");
    }

    #[test]
    fn a_digest_is_written_as_64_digits_and_read_back_and_nothing_else_is() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Digest::parse(&digest.hex()), Some(digest));
        for wrong in ["", "ba78", &digest.hex().to_uppercase(), &format!("{}é", &digest.hex()[2..])] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_order_of_stored_fields_and_the_types_of_numbers_do_not_matter() {
        let projected = rawdoc! {
            "partner_label": "x", "updated_at": DateTime::from_millis(5), "contract_duration": 12, "offer_title": "t",
        };
        let standing = rawdoc! {
            "rank": 3, "offer_title": "t", "contract_duration": 12.0, "_id": 1, "updated_at": DateTime::from_millis(5),
            "partner_label": "x", "contract_type": "not projected",
        };
        let offer = Offer::with_fields(projected);
        assert_eq!(of_standing(&offer, &standing), of_projection(&offer));
    }

    #[test]
    fn every_other_difference_matters() {
        let projected = rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [], "managed_by": null };
        let same = of_projection(&Offer::with_fields(projected.clone()));
        for other in [
            rawdoc! { "offer_title": "u", "contract_duration": 12, "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12.5, "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": "12", "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [1], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": {}, "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [], "managed_by": false },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [] },
        ] {
            assert_ne!(of_standing(&Offer::with_fields(projected.clone()), &other), same, "{other:?}");
        }
        let mut moved = Offer::with_fields(projected);
        moved.id = JobId(ObjectId::from_bytes([8; 12]));
        assert_ne!(of_projection(&moved), same, "the same values in another offer");
    }

    #[test]
    fn a_long_document_has_the_digest_of_all_its_bytes_wherever_they_are_divided() {
        let text = |length: usize| "x".repeat(length);
        for lengths in [[1, 16_000], [16_383, 1], [16_384, 16_384], [16_385, 3], [40_000, 200], [200, 40_000]] {
            let document = rawdoc! { "a": text(lengths[0]), "b": text(lengths[1]), "c": 1 };
            let mut bytes = b"{".to_vec();
            for (name, length) in [("a", lengths[0]), ("b", lengths[1])] {
                bytes.extend([&1_u64.to_be_bytes(), name.as_bytes(), b"s"].concat());
                bytes.extend([&(length as u64).to_be_bytes(), text(length).as_bytes()].concat());
            }
            bytes.extend([&1_u64.to_be_bytes(), b"ci".as_slice(), &1_u64.to_be_bytes(), b"}"].concat());
            assert_eq!(of_document(&document), Digest::of(&bytes), "{lengths:?}");
        }
    }

    #[test]
    fn numbers_go_by_value_and_values_do_not_run_into_each_other() {
        let of = |value: RawBsonRef<'_>| {
            let mut document = RawDocumentBuf::new();
            document.append(cstr!("a"), value);
            of_document(&document)
        };
        assert_eq!(of(RawBsonRef::Int32(1)), of(RawBsonRef::Double(1.0)));
        assert_eq!(of(RawBsonRef::Int64(-3)), of(RawBsonRef::Double(-3.0)));
        assert_eq!(of(RawBsonRef::Double(f64::NAN)), of(RawBsonRef::Double(f64::NAN)));
        assert_ne!(of(RawBsonRef::Int64(9_007_199_254_740_993)), of(RawBsonRef::Double(9_007_199_254_740_992.0)));
        assert_ne!(of(RawBsonRef::Double(9_223_372_036_854_775_808.0)), of(RawBsonRef::Int64(i64::MAX)));
        assert_ne!(of(RawBsonRef::Undefined), of(RawBsonRef::Null));
        assert_ne!(of_document(&rawdoc! { "a": ["b", "c"] }), of_document(&rawdoc! { "a": ["bc"] }));
        assert_ne!(of_document(&rawdoc! { "a": [["b"], "c"] }), of_document(&rawdoc! { "a": [["b", "c"]] }));
        assert_ne!(of_document(&rawdoc! { "a": 1, "b": 2 }), of_document(&rawdoc! { "b": 2, "a": 1 }));
    }
}
