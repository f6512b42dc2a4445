//! A resume token, and the values that can be decoded from it: its cluster time and its kind. A token is never changed:
//! the server gets back the same bytes.

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, RawBinaryRef, RawBsonRef, RawDocument, Timestamp, doc};

const DATA: &str = "_data";
const TYPE_BITS: &str = "_typeBits";

// A token is a KeyString in hexadecimal. It has a type byte and a value for each field, in this order: cluster time,
// version, token type, … (server source, `resume_token.cpp` and `key_string.cpp`).
const TIMESTAMP: u8 = 0x82;
const TIMESTAMP_BYTES: usize = 9;
/// The type byte of an int of one byte. A KeyString stores twice the value of an int.
const SMALL_INT: u8 = 0x2B;
const ZERO: u8 = 0x29;
/// The token type 128 (an event): the type byte of an int of two bytes, and twice the value.
const EVENT: [u8; 3] = [0x2C, 0x01, 0x00];
/// The versions with a token type, 1 and 2, as twice the value.
const TYPED_VERSIONS: [u8; 2] = [2, 4];

/// A position in a change stream as the server made it: `{_data: "<hex>"}`.
///
/// The server adds `_typeBits` where the `_id` of the event's document is a number. This field is kept. Without it the
/// server refuses to resume after the event of a document with the `_id` 1.5 (error 50810).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResumeToken {
    data: String,
    type_bits: Option<Vec<u8>>,
    cluster_time: Timestamp,
}

/// The kind of position that a token names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    /// The position of one event. The stream goes on after this event.
    Event,
    /// A time without an event (a `postBatchResumeToken`). All earlier events have been sent.
    HighWaterMark,
    /// The token does not tell its kind. It comes from a server before 4.2, or from one that is newer than this code.
    Unknown,
}

/// The reason why a value is no resume token. The error does not say whether the server still has a position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The document has no string `_data`.
    #[error("a resume token has a string `_data`; this document has none")]
    NoData,
    /// `_typeBits` is not binary data, as the server writes it.
    #[error("`_typeBits` of a resume token must be general binary data; this one is not")]
    TypeBits,
    /// The number of digits is odd, so a part is missing.
    #[error("a resume token has an even number of hexadecimal digits; this one has {0} characters")]
    OddLength(usize),
    /// A character is no hexadecimal digit. The number is its position, from 0.
    #[error("a resume token consists of hexadecimal digits; the character at position {0} is not one")]
    NotHexadecimal(usize),
    /// The token is too short for a cluster time. The number is its length in bytes.
    #[error("a resume token has at least {TIMESTAMP_BYTES} bytes; this one has {0}")]
    TooShort(usize),
    /// The first field is no timestamp. The number is its type byte.
    #[error("a resume token begins with a timestamp (82); this one begins with {0:02X}")]
    NoTimestamp(u8),
}

impl ResumeToken {
    /// Checks that `data` can be decoded, and keeps it unchanged.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn parse(data: impl Into<String>) -> Result<Self, TokenError> {
        let data = data.into();
        let cluster_time = decode_cluster_time(&data)?;
        Ok(Self { data, type_bits: None, cluster_time })
    }

    /// Reads the `_id` of a change event, or a `postBatchResumeToken`.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_document(document: &Document) -> Result<Self, TokenError> {
        let mut token = Self::parse(document.get_str(DATA).map_err(|_| TokenError::NoData)?)?;
        token.type_bits = match document.get(TYPE_BITS) {
            None => None,
            Some(Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })) => Some(bytes.clone()),
            Some(_) => return Err(TokenError::TypeBits),
        };
        Ok(token)
    }

    /// As [`Self::from_document`], for a raw document.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_raw(document: &RawDocument) -> Result<Self, TokenError> {
        let mut token = Self::parse(document.get_str(DATA).map_err(|_| TokenError::NoData)?)?;
        token.type_bits = match document.get(TYPE_BITS) {
            Ok(None) => None,
            Ok(Some(RawBsonRef::Binary(RawBinaryRef { subtype: BinarySubtype::Generic, bytes }))) => {
                Some(bytes.to_owned())
            }
            _ => return Err(TokenError::TypeBits),
        };
        Ok(token)
    }

    /// The value of `_data` in hexadecimal.
    #[must_use]
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The document for `resumeAfter` and `startAfter`.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = doc! { DATA: &self.data };
        if let Some(bytes) = &self.type_bits {
            document.insert(TYPE_BITS, Binary { subtype: BinarySubtype::Generic, bytes: bytes.clone() });
        }
        document
    }

    /// The cluster time of the position. For the token of an event it is the event's `clusterTime`.
    #[must_use]
    pub fn cluster_time(&self) -> Timestamp {
        self.cluster_time
    }

    #[must_use]
    pub fn kind(&self) -> TokenKind {
        let mut bytes = bytes(&self.data).skip(TIMESTAMP_BYTES);
        let version = (bytes.next(), bytes.next());
        if !matches!(version, (Some(SMALL_INT), Some(version)) if TYPED_VERSIONS.contains(&version)) {
            return TokenKind::Unknown;
        }
        match bytes.next() {
            Some(ZERO) => TokenKind::HighWaterMark,
            Some(first) if [Some(first), bytes.next(), bytes.next()] == EVENT.map(Some) => TokenKind::Event,
            _ => TokenKind::Unknown,
        }
    }
}

fn decode_cluster_time(data: &str) -> Result<Timestamp, TokenError> {
    if let Some(other) = data.bytes().position(|byte| !byte.is_ascii_hexdigit()) {
        // The position is counted in characters, as an editor shows it.
        let position = data.char_indices().take_while(|(byte, _)| *byte < other).count();
        return Err(TokenError::NotHexadecimal(position));
    }
    if !data.len().is_multiple_of(2) {
        return Err(TokenError::OddLength(data.len()));
    }
    if data.len() / 2 < TIMESTAMP_BYTES {
        return Err(TokenError::TooShort(data.len() / 2));
    }
    let mut bytes = bytes(data);
    match bytes.next() {
        Some(TIMESTAMP) => {}
        other => return Err(TokenError::NoTimestamp(other.unwrap_or_default())),
    }
    let mut number = || bytes.by_ref().take(4).fold(0, |number: u32, byte| (number << 8) | u32::from(byte));
    Ok(Timestamp { time: number(), increment: number() })
}

/// The bytes of a hexadecimal string, up to the first character that is no hexadecimal digit.
fn bytes(data: &str) -> impl Iterator<Item = u8> + '_ {
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    data.as_bytes().chunks_exact(2).map_while(move |pair| match pair {
        [high, low] => Some((digit(high)? << 4) | digit(low)?),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// This token and the next five were recorded from a MongoDB 6.0.5.
    const INSERT: &str = "826B056CD5000000072B022C0100296E5A10041FD09DA7C56C438BA463CBA3ADFE9CF946645F696400646B056CD53B18412DA3D953A80004";
    const SECOND_OF_TRANSACTION: &str =
        "826B056B9B000000032B022C01002B026E5A10041CCF7774407E42EE8001F4E5B9DB877E463C5F6964003C616263000004";
    const DROP: &str = "826B056B9B000000052B022C0100296E5A10041CCF7774407E42EE8001F4E5B9DB877E04";
    const DROP_DATABASE: &str = "826B056B9B000000062B022C0100296E04";
    const INVALIDATE: &str = "826B056B9B000000062B022C0100296F04";
    const HIGH_WATER_MARK: &str = "826B056CD5000000032B0229296E04";
    /// The same server was asked for tokens of version 2, which later servers write.
    const INSERT_OF_VERSION_2: &str = "826B056CD60000000C2B042C0100296E5A10041FD09DA7C56C438BA463CBA3ADFE9CF9463C6F7065726174696F6E54797065003C696E736572740046646F63756D656E744B65790046645F696400646B056CD63B18412DA3D953A9000004";
    const HIGH_WATER_MARK_OF_VERSION_2: &str = "826B056CD6000000082B0429296E1404";

    #[test]
    fn the_cluster_time_is_read_from_recorded_tokens() {
        let time = |data: &str| ResumeToken::parse(data).unwrap().cluster_time();
        assert_eq!(time(INSERT), Timestamp { time: 1_795_517_653, increment: 7 });
        assert_eq!(time(HIGH_WATER_MARK), Timestamp { time: 1_795_517_653, increment: 3 });
        assert_eq!(time(INSERT_OF_VERSION_2), Timestamp { time: 1_795_517_654, increment: 12 });
        assert_eq!(time(&INSERT.to_lowercase()), time(INSERT));
    }

    #[test]
    fn events_and_high_water_marks_are_told_apart_in_recorded_tokens() {
        let kind = |data: &str| ResumeToken::parse(data).unwrap().kind();
        for event in [INSERT, SECOND_OF_TRANSACTION, DROP, DROP_DATABASE, INVALIDATE, INSERT_OF_VERSION_2] {
            assert_eq!(kind(event), TokenKind::Event, "{event}");
        }
        for mark in [HIGH_WATER_MARK, HIGH_WATER_MARK_OF_VERSION_2] {
            assert_eq!(kind(mark), TokenKind::HighWaterMark, "{mark}");
        }
    }

    #[test]
    fn a_token_that_does_not_tell_its_kind_has_none() {
        let kind = |rest: &str| ResumeToken::parse(format!("826B056CD500000003{rest}")).unwrap().kind();
        for rest in ["", "2B", "2B02", "2B022C", "2B022C01", "2B022C0102", "2B062C0100", "295A", "FFFF"] {
            assert_eq!(kind(rest), TokenKind::Unknown, "{rest}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_reason() {
        let refusal = |data: &str| ResumeToken::parse(data).unwrap_err();
        assert_eq!(refusal(""), TokenError::TooShort(0));
        assert_eq!(refusal("82650F1A2B000000"), TokenError::TooShort(8));
        assert_eq!(refusal("82650F1A2B0000000"), TokenError::OddLength(17));
        assert_eq!(refusal("82650F1A2B00000g01"), TokenError::NotHexadecimal(15));
        assert_eq!(refusal("+2650F1A2B00000001"), TokenError::NotHexadecimal(0));
        assert_eq!(refusal("83650F1A2B00000001"), TokenError::NoTimestamp(0x83));
    }

    #[test]
    fn a_document_without_data_or_with_strange_type_bits_is_refused() {
        let refusal = |document: Document| ResumeToken::from_document(&document).unwrap_err();
        assert_eq!(refusal(doc! {}), TokenError::NoData);
        assert_eq!(refusal(doc! { "_data": 5 }), TokenError::NoData);
        assert_eq!(refusal(doc! { "_data": INSERT, "_typeBits": "x" }), TokenError::TypeBits);
    }

    #[test]
    fn the_type_bits_of_a_token_go_back_to_the_server() {
        let bits = Binary { subtype: BinarySubtype::Generic, bytes: vec![0x82, 0xC0, 0x1E] };
        let document = doc! { "_data": INSERT, "_typeBits": bits };
        assert_eq!(ResumeToken::from_document(&document).unwrap().to_document(), document);
    }

    proptest! {
        #[test]
        fn decoding_never_panics(data in any::<String>()) {
            if let Ok(token) = ResumeToken::parse(data) {
                let _: TokenKind = token.kind();
            }
        }

        #[test]
        fn hexadecimal_that_looks_like_a_token_never_panics(data in "82[0-9a-fA-F]{0,60}") {
            if let Ok(token) = ResumeToken::parse(data) {
                let _: TokenKind = token.kind();
            }
        }

        #[test]
        fn a_token_survives_its_document_and_tells_its_time(time: u32, increment: u32, rest: Vec<u8>) {
            let rest: String = rest.iter().map(|byte| format!("{byte:02X}")).collect();
            let data = format!("82{time:08X}{increment:08X}{rest}");
            let token = ResumeToken::parse(data.clone()).unwrap();
            prop_assert_eq!(token.cluster_time(), Timestamp { time, increment });
            prop_assert_eq!(token.data(), data);
            prop_assert_eq!(ResumeToken::from_document(&token.to_document()).unwrap(), token);
        }
    }
}
