//! An `_id` that is no ObjectId: sources are not ours, and every document of theirs must be accounted for.

use bson::spec::{BinarySubtype, ElementType};
use bson::{Binary, Bson, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

/// So many bytes of an `_id` are shown.
const LONGEST_KEY: usize = 200;

/// An `_id` that is no ObjectId, of whatever type: `{_id: …}` as the server sent it, which need not be readable.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherId(RawDocumentBuf);

impl OtherId {
    /// Of a document that was asked for its `_id` alone.
    #[must_use]
    pub fn of(document: &RawDocument) -> Self {
        Self(document.to_owned())
    }

    /// As the address of a dead letter has it: see [`key_text`]. What cannot be read is shown as its bytes.
    #[must_use]
    pub fn text(&self) -> String {
        let readable = self.0.get("_id").ok().flatten().and_then(key_text);
        let bytes = || self.0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // Not extended JSON, so that nobody takes it for an `_id` to look for.
        readable.unwrap_or_else(|| cut(format!("bytes:{}", bytes())))
    }

    /// As the place of a walk is stored.
    #[must_use]
    pub fn to_stored(&self) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: self.0.as_bytes().to_vec() })
    }

    /// The place of a walk that was stored.
    #[must_use]
    pub fn from_stored(stored: Option<&Bson>) -> Option<Self> {
        match stored? {
            Bson::Binary(Binary { bytes, .. }) => RawDocumentBuf::from_bytes(bytes.clone()).ok().map(Self),
            _ => None,
        }
    }

    /// The type of the `_id`.
    #[must_use]
    pub fn element_type(&self) -> Option<ElementType> {
        Some(self.0.iter_elements().next()?.ok()?.element_type())
    }

    /// The `_id`, as a document of this one field.
    #[must_use]
    pub fn document(&self) -> &RawDocument {
        &self.0
    }

    /// Sorts behind all ObjectIds (MongoDB manual, "BSON Comparison Order").
    #[must_use]
    pub fn is_above_object_ids(&self) -> bool {
        use ElementType as Type;
        let above = [Type::Boolean, Type::DateTime, Type::Timestamp, Type::RegularExpression, Type::DbPointer];
        let last = [Type::JavaScriptCode, Type::JavaScriptCodeWithScope, Type::MaxKey];
        self.element_type().is_some_and(|kind| above.contains(&kind) || last.contains(&kind))
    }
}

/// An `_id` as the address of a dead letter has it: extended JSON, cut where it is long, with a digest of the whole; `None`
/// where it cannot be read, down to the last text in it.
#[must_use]
pub fn key_text(id: RawBsonRef<'_>) -> Option<String> {
    let id = Bson::try_from(RawBson::from(id)).ok()?;
    Some(cut(id.into_relaxed_extjson().to_string()))
}

/// A text that is short enough for an address.
#[must_use]
pub fn cut(mut text: String) -> String {
    if text.len() > LONGEST_KEY {
        // FNV-1a, which no version of a library changes: a letter must be found again by its address.
        let digest = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        text.truncate(text.floor_char_boundary(LONGEST_KEY));
        text.push_str(&format!("… {digest:016x}"));
    }
    text
}
