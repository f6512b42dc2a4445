//! Digests of offers and recruiters (spec 10, "The certificate"): SHA-256 over canonical bytes. The digest of a set is
//! the sum of its members' digests modulo 2^256, so that the order of a scan does not matter. Pure code.

use bson::raw::RawArray;
use bson::{RawBsonRef, RawDocument, RawDocumentBuf};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use super::written_fields::{WRITTEN, is_repetition, place};
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
    of_offer(offer.id, &in_order(&offer.fields), &in_order(&offer.fields))
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
    let mut bytes = Vec::with_capacity(document.as_bytes().len());
    put_document(&mut bytes, document);
    Digest::of(&bytes)
}

type Values<'a> = [Option<RawBsonRef<'a>>; WRITTEN.len()];

/// The values at the places of [`WRITTEN`]: the order of stored fields is arbitrary.
fn in_order(document: &RawDocument) -> Values<'_> {
    let mut values = [None; WRITTEN.len()];
    for (name, value) in document.iter().flatten() {
        if let Some(slot) = place(name.as_str()).and_then(|place| values.get_mut(place)) {
            *slot = Some(value);
        }
    }
    values
}

fn of_offer(id: JobId, projected: &Values<'_>, values: &Values<'_>) -> Digest {
    let mut bytes = id.0.bytes().to_vec();
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
    Digest::of(&bytes)
}

/// Appends the canonical bytes of a value: one letter for the kind, and then the value. Texts, documents and lists tell
/// their length or their end, so that no two values have the same bytes.
fn put(bytes: &mut Vec<u8>, value: RawBsonRef<'_>) {
    match value {
        RawBsonRef::Int32(number) => put_integer(bytes, i64::from(number)),
        RawBsonRef::Int64(number) => put_integer(bytes, number),
        RawBsonRef::Double(number) => match whole(number) {
            Some(number) => put_integer(bytes, number),
            None => {
                bytes.push(b'f');
                bytes.extend(number.to_bits().to_be_bytes());
            }
        },
        RawBsonRef::String(text) => {
            bytes.push(b's');
            put_text(bytes, text);
        }
        RawBsonRef::Boolean(true) => bytes.push(b'T'),
        RawBsonRef::Boolean(false) => bytes.push(b'F'),
        RawBsonRef::Null => bytes.push(b'0'),
        RawBsonRef::DateTime(date) => {
            bytes.push(b'd');
            bytes.extend(date.timestamp_millis().to_be_bytes());
        }
        RawBsonRef::ObjectId(id) => {
            bytes.push(b'o');
            bytes.extend(id.bytes());
        }
        RawBsonRef::Document(document) => put_document(bytes, document),
        RawBsonRef::Array(array) => put_array(bytes, array),
        // No field of an offer has such a type where the data is right.
        other => {
            let mut alone = RawDocumentBuf::new();
            alone.append(bson::raw::cstr!(""), other);
            bytes.push(b'x');
            bytes.extend(alone.as_bytes());
        }
    }
}

fn put_document(bytes: &mut Vec<u8>, document: &RawDocument) {
    bytes.push(b'{');
    for field in document {
        // What cannot be read is taken as it is.
        let Ok((name, value)) = field else {
            bytes.push(b'!');
            bytes.extend(document.as_bytes());
            break;
        };
        put_text(bytes, name.as_str());
        put(bytes, value);
    }
    bytes.push(b'}');
}

fn put_array(bytes: &mut Vec<u8>, array: &RawArray) {
    bytes.push(b'[');
    for value in array {
        let Ok(value) = value else {
            bytes.push(b'!');
            bytes.extend(array.as_bytes());
            break;
        };
        put(bytes, value);
    }
    bytes.push(b']');
}

/// Numbers go by their value, because the source mixes int32, int64 and double (spec 01).
fn put_integer(bytes: &mut Vec<u8>, number: i64) {
    bytes.push(b'i');
    bytes.extend(number.to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// The double as an integer, where it is one.
fn whole(number: f64) -> Option<i64> {
    /// 2^63, the first double that no int64 reaches.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let is_whole = number.fract() == 0.0 && (-BOUND..BOUND).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "the double is whole and in range")]
    is_whole.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bson::raw::cstr;
    use bson::{DateTime, RawBson, oid::ObjectId, rawdoc};

    use super::*;
    use crate::model::OfferStatus;
    use crate::model::offer::StatusChange;

    fn offer(fields: RawDocumentBuf) -> Offer {
        Offer {
            id: JobId(ObjectId::from_bytes([7; 12])),
            fields,
            workplace_description: RawBson::Null,
            status: OfferStatus::Active,
            status_change: StatusChange { reason: String::new(), date: DateTime::from_millis(0) },
            job_updated: None,
            schema: Arc::default(),
            hides_contact: false,
        }
    }

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
        let offer = offer(projected);
        assert_eq!(of_standing(&offer, &standing), of_projection(&offer));
    }

    #[test]
    fn every_other_difference_matters() {
        let projected = rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [], "managed_by": null };
        let same = of_projection(&offer(projected.clone()));
        for other in [
            rawdoc! { "offer_title": "u", "contract_duration": 12, "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12.5, "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": "12", "delegations": [], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [1], "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": {}, "managed_by": null },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [], "managed_by": false },
            rawdoc! { "offer_title": "t", "contract_duration": 12, "delegations": [] },
        ] {
            assert_ne!(of_standing(&offer(projected.clone()), &other), same, "{other:?}");
        }
        let mut moved = offer(projected);
        moved.id = JobId(ObjectId::from_bytes([8; 12]));
        assert_ne!(of_projection(&moved), same, "the same values in another offer");
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
