//! An `_id` that is no ObjectId. Other programs write the source collections, and every document of them must be
//! accounted for.

use bson::spec::{BinarySubtype, ElementType};
use bson::{Binary, Bson, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};

/// The number of bytes of an `_id` that are shown.
const LONGEST_KEY: usize = 200;

/// An `_id` of any type but ObjectId: the document `{_id: …}` as the server sent it. Its bytes may be invalid BSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OtherId(RawDocumentBuf);

impl OtherId {
    /// `document` has the field `_id` alone.
    #[must_use]
    pub(crate) fn of(document: &RawDocument) -> Self {
        Self(document.to_owned())
    }

    /// The text in the address of a dead letter (see [`key_text`]). An unreadable `_id` is shown as its bytes.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let readable = self.0.get("_id").ok().flatten().and_then(key_text);
        let bytes = || self.0.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        // This is not extended JSON, so that nobody looks for a document with it.
        readable.unwrap_or_else(|| cut(format!("bytes:{}", bytes())))
    }

    /// The stored form, from which an interrupted scan goes on. It has the bytes as binary data, because they may be no
    /// valid BSON.
    #[must_use]
    pub(crate) fn to_stored(&self) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: self.0.as_bytes().to_vec() })
    }

    /// `None` when nothing is stored, or when [`Self::to_stored`] did not make the value.
    #[must_use]
    pub(crate) fn from_stored(stored: Option<&Bson>) -> Option<Self> {
        match stored? {
            Bson::Binary(Binary { bytes, .. }) => RawDocumentBuf::from_bytes(bytes.clone()).ok().map(Self),
            _ => None,
        }
    }

    /// The type of the `_id`; `None` when the bytes cannot be read.
    #[must_use]
    pub(crate) fn element_type(&self) -> Option<ElementType> {
        Some(self.0.iter_elements().next()?.ok()?.element_type())
    }

    /// The document `{_id: …}`.
    #[must_use]
    pub(crate) fn document(&self) -> &RawDocument {
        &self.0
    }

    /// True when the `_id` sorts behind all ObjectIds (MongoDB manual, "BSON Comparison Order").
    #[must_use]
    pub(crate) fn is_above_object_ids(&self) -> bool {
        use ElementType as Type;
        let above = [Type::Boolean, Type::DateTime, Type::Timestamp, Type::RegularExpression, Type::DbPointer];
        let last = [Type::JavaScriptCode, Type::JavaScriptCodeWithScope, Type::MaxKey];
        self.element_type().is_some_and(|kind| above.contains(&kind) || last.contains(&kind))
    }
}

/// The text of an `_id` in the address of a dead letter: extended JSON, see [`cut`]. `None` when the value, or any text
/// inside it, cannot be read.
#[must_use]
pub(crate) fn key_text(id: RawBsonRef<'_>) -> Option<String> {
    let id = Bson::try_from(RawBson::from(id)).ok()?;
    Some(cut(id.into_relaxed_extjson().to_string()))
}

/// Shortens a text for an address. A long text is cut after 200 bytes and gets a digest of the whole text.
#[must_use]
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > LONGEST_KEY {
        // FNV-1a is written here, so that no library can change it: a dead letter is found again by its address.
        let digest = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        text.truncate(text.floor_char_boundary(LONGEST_KEY));
        text.push_str(&format!("… {digest:016x}"));
    }
    text
}
