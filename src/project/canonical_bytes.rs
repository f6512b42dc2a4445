//! Writes a BSON value as canonical bytes: two values have the same bytes if and only if they are equal to `verify`.

use bson::raw::{RawArray, RawBsonRef, RawDocument, RawDocumentBuf};
use sha2::{Digest as _, Sha256};

/// The number of bytes that are hashed together. A usual offer has three kilobytes, and a usual recruiter eight.
const TOGETHER: usize = 16 * 1024;

/// Canonical bytes on their way to a SHA-256. They are not kept, because a recruiter may have 16 MB.
pub(super) struct CanonicalBytes {
    hashed: Sha256,
    waiting: Vec<u8>,
}

impl CanonicalBytes {
    pub(super) fn new() -> Self {
        Self { hashed: Sha256::new(), waiting: Vec::with_capacity(4 * 1024) }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.extend([byte]);
    }

    pub(super) fn extend(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        if self.waiting.len() + bytes.len() > TOGETHER {
            self.hashed.update(&self.waiting);
            self.waiting.clear();
        }
        if bytes.len() > TOGETHER {
            self.hashed.update(bytes);
        } else {
            self.waiting.extend_from_slice(bytes);
        }
    }

    pub(super) fn sha256(mut self) -> [u8; 32] {
        self.hashed.update(&self.waiting);
        self.hashed.finalize().into()
    }
}

/// Appends the canonical bytes of a value: one letter for the kind, and then the value. Texts, documents and lists tell
/// their length or their end, so that no two values have the same bytes.
pub(super) fn put(bytes: &mut CanonicalBytes, value: RawBsonRef<'_>) {
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

pub(super) fn put_document(bytes: &mut CanonicalBytes, document: &RawDocument) {
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

fn put_array(bytes: &mut CanonicalBytes, array: &RawArray) {
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
fn put_integer(bytes: &mut CanonicalBytes, number: i64) {
    bytes.push(b'i');
    bytes.extend(number.to_be_bytes());
}

pub(super) fn put_text(bytes: &mut CanonicalBytes, text: &str) {
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
