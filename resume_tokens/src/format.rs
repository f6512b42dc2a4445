//! The two formats of a checkpoint: a document of MongoDB, and JSON that a person can read.
//! Reading is strict: a stored checkpoint with a missing field is an error.

use bson::{Bson, DateTime, Document, Timestamp, doc};
use serde::{Deserialize, Serialize};

use crate::{Checkpoint, History, ResumeToken, TokenError};

/// The reason why a checkpoint cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// A field is missing or has a wrong type.
    #[error("`{field}` is missing or not {expected}")]
    Field {
        field: &'static str,
        /// The expected type, with its article.
        expected: &'static str,
    },
    /// The token cannot be decoded.
    #[error("`token` cannot be decoded: {0}")]
    Token(#[from] TokenError),
    /// Token and time contradict each other: one of them was changed.
    #[error("`cluster_time` is not the time of `token`")]
    Contradiction,
    /// The text is not the JSON of a checkpoint.
    #[error("not the JSON of a checkpoint: {0}")]
    Json(#[from] serde_json::Error),
    /// A date has no time zone, or is outside the years 0 to 9999.
    #[error("`{field}` is not a date in the form of RFC 3339")]
    Date { field: &'static str },
}

impl Checkpoint {
    /// The document of spec 03, "Checkpoints", without its `_id`.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = doc! {
            "token": self.token.to_document(),
            "cluster_time": self.cluster_time,
            "wall_time": self.wall_time,
            "term": self.term,
            "fingerprint": &self.fingerprint,
            "events": self.events,
            "updated_at": self.updated_at,
        };
        if let Some(History { set, database, collection }) = &self.history {
            document.insert("history", doc! { "set": set, "database": database, "collection": collection });
        }
        document
    }

    /// Reads a document of [`Checkpoint::to_document`]. Other fields are ignored.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn from_document(document: &Document) -> Result<Self, FormatError> {
        let missing = |field, expected| move |_| FormatError::Field { field, expected };
        let integer = |field| {
            let number = document.get(field).and_then(integer);
            number.ok_or(FormatError::Field { field, expected: "an integer" })
        };
        let wall_time = match document.get("wall_time") {
            None | Some(Bson::Null) => None,
            Some(Bson::DateTime(date)) => Some(*date),
            Some(_) => return Err(FormatError::Field { field: "wall_time", expected: "a date" }),
        };
        Self {
            token: ResumeToken::from_document(document.get_document("token").map_err(missing("token", "a document"))?)?,
            cluster_time: document.get_timestamp("cluster_time").map_err(missing("cluster_time", "a timestamp"))?,
            wall_time,
            term: integer("term")?,
            fingerprint: document.get_str("fingerprint").map_err(missing("fingerprint", "a string"))?.to_owned(),
            events: integer("events")?,
            updated_at: *document.get_datetime("updated_at").map_err(missing("updated_at", "a date"))?,
            history: document.get("history").map(read_history).transpose()?,
        }
        .consistent()
    }

    /// A JSON object for `tokens export` and the file store. The crate's README describes it.
    ///
    /// # Errors
    /// [`FormatError::Date`] for a date outside the years 0 to 9999.
    pub fn to_json(&self) -> Result<String, FormatError> {
        Ok(serde_json::to_string_pretty(&Json::of(self)?)? + "\n")
    }

    /// Reads the JSON of [`Checkpoint::to_json`]. Other fields are ignored.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn from_json(json: &str) -> Result<Self, FormatError> {
        serde_json::from_str::<Json>(json)?.checkpoint()
    }

    /// One line of the history file, with its line feed.
    pub(crate) fn to_history_line(&self) -> Result<String, FormatError> {
        let line = HistoryLine { id: self.history_id(), checkpoint: Json::of(self)? };
        Ok(serde_json::to_string(&line)? + "\n")
    }

    fn consistent(self) -> Result<Self, FormatError> {
        if self.cluster_time == self.token.cluster_time() { Ok(self) } else { Err(FormatError::Contradiction) }
    }
}

/// A whole number of any numeric type, because a MongoDB shell writes `1` as a double.
pub(crate) fn integer(number: &Bson) -> Option<i64> {
    match number {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) if number.fract() == 0.0 => Some(*number as i64),
        _ => None,
    }
}

#[derive(Serialize, Deserialize)]
struct Json {
    /// Relaxed Extended JSON. Without type bits in the token it is plain JSON.
    token: serde_json::Value,
    cluster_time: JsonTimestamp,
    wall_time: Option<String>,
    term: i64,
    fingerprint: String,
    events: i64,
    updated_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    history: Option<History>,
}

#[derive(Serialize, Deserialize)]
struct JsonTimestamp {
    t: u32,
    i: u32,
}

#[derive(Serialize)]
struct HistoryLine {
    id: String,
    #[serde(flatten)]
    checkpoint: Json,
}

impl Json {
    fn of(checkpoint: &Checkpoint) -> Result<Self, FormatError> {
        let Timestamp { time, increment } = checkpoint.cluster_time;
        Ok(Self {
            token: Bson::Document(checkpoint.token.to_document()).into_relaxed_extjson(),
            cluster_time: JsonTimestamp { t: time, i: increment },
            wall_time: checkpoint.wall_time.map(|date| write_date("wall_time", date)).transpose()?,
            term: checkpoint.term,
            fingerprint: checkpoint.fingerprint.clone(),
            events: checkpoint.events,
            updated_at: write_date("updated_at", checkpoint.updated_at)?,
            history: checkpoint.history.clone(),
        })
    }

    fn checkpoint(self) -> Result<Checkpoint, FormatError> {
        let token = Bson::try_from(self.token).ok();
        let token = token.as_ref().and_then(Bson::as_document);
        let token = token.ok_or(FormatError::Field { field: "token", expected: "an object" })?;
        Checkpoint {
            token: ResumeToken::from_document(token)?,
            cluster_time: Timestamp { time: self.cluster_time.t, increment: self.cluster_time.i },
            wall_time: self.wall_time.map(|date| read_date("wall_time", &date)).transpose()?,
            term: self.term,
            fingerprint: self.fingerprint,
            events: self.events,
            updated_at: read_date("updated_at", &self.updated_at)?,
            history: self.history,
        }
        .consistent()
    }
}

fn read_history(stored: &Bson) -> Result<History, FormatError> {
    let read = |stored: &Document| {
        let collection = match stored.get("collection") {
            None | Some(Bson::Null) => None,
            Some(uuid) => Some(uuid.as_str()?.to_owned()),
        };
        let text = |field| stored.get_str(field).ok().map(str::to_owned);
        Some(History { set: text("set")?, database: text("database")?, collection })
    };
    stored.as_document().and_then(read).ok_or(FormatError::Field { field: "history", expected: "that of a database" })
}

fn write_date(field: &'static str, date: DateTime) -> Result<String, FormatError> {
    let written = date.try_to_rfc3339_string().map_err(|_| FormatError::Date { field })?;
    // `bson` writes a date out of range as the last possible date, so the text is read again and compared.
    if read_date(field, &written)? == date { Ok(written) } else { Err(FormatError::Date { field }) }
}

fn read_date(field: &'static str, date: &str) -> Result<DateTime, FormatError> {
    DateTime::parse_rfc3339_str(date).map_err(|_| FormatError::Date { field })
}

#[cfg(test)]
mod tests {
    use bson::Binary;
    use bson::spec::BinarySubtype;
    use proptest::prelude::*;

    use super::*;

    fn checkpoint() -> Checkpoint {
        let token = ResumeToken::parse("826B056CD5000000032B0229296E04").unwrap();
        Checkpoint {
            cluster_time: token.cluster_time(),
            token,
            wall_time: Some(DateTime::from_millis(1_795_517_653_123)),
            term: 3,
            fingerprint: "abc".to_owned(),
            events: 42,
            updated_at: DateTime::from_millis(1_795_517_660_000),
            history: Some(History {
                set: "rs0".to_owned(),
                database: "production".to_owned(),
                collection: Some("0badc0de".to_owned()),
            }),
        }
    }

    #[test]
    fn the_json_is_for_people() {
        let json = r#"{
  "token": {
    "_data": "826B056CD5000000032B0229296E04"
  },
  "cluster_time": {
    "t": 1795517653,
    "i": 3
  },
  "wall_time": "2026-11-24T10:54:13.123Z",
  "term": 3,
  "fingerprint": "abc",
  "events": 42,
  "updated_at": "2026-11-24T10:54:20Z",
  "history": {
    "set": "rs0",
    "database": "production",
    "collection": "0badc0de"
  }
}
"#;
        assert_eq!(checkpoint().to_json().unwrap(), json);
        assert_eq!(Checkpoint::from_json(json).unwrap(), checkpoint());
    }

    #[test]
    fn a_line_of_the_history_is_one_line_that_begins_with_its_id() {
        let line = checkpoint().to_history_line().unwrap();
        assert!(line.starts_with(r#"{"id":"1795517653-3","token":{"#), "{line}");
        assert_eq!(line.find('\n'), Some(line.len() - 1));
        assert_eq!(Checkpoint::from_json(&line).unwrap(), checkpoint());
    }

    #[test]
    fn type_bits_survive_both_formats() {
        let bits = Binary { subtype: BinarySubtype::Generic, bytes: vec![0x82, 0xC0, 0x1E] };
        let token = doc! { "_data": checkpoint().token.data(), "_typeBits": bits };
        let checkpoint = Checkpoint { token: ResumeToken::from_document(&token).unwrap(), ..checkpoint() };
        assert_eq!(Checkpoint::from_document(&checkpoint.to_document()).unwrap(), checkpoint);
        let read = Checkpoint::from_json(&checkpoint.to_json().unwrap()).unwrap();
        assert_eq!(read.token.to_document(), token);
    }

    #[test]
    fn numbers_that_a_shell_wrote_as_doubles_are_read() {
        let mut document = checkpoint().to_document();
        document.insert("term", 3.0);
        document.insert("events", 42);
        assert_eq!(Checkpoint::from_document(&document).unwrap(), checkpoint());
    }

    #[test]
    fn only_the_wall_time_and_what_version_1_0_0_did_not_know_may_be_missing() {
        let whole = checkpoint().to_document();
        let optional = ["wall_time", "history"];
        for field in whole.keys() {
            let mut document = whole.clone();
            document.remove(field);
            assert_eq!(Checkpoint::from_document(&document).is_ok(), optional.contains(&field.as_str()), "{field}");
            document.insert(field, doc! { "of": "another type" });
            let message = Checkpoint::from_document(&document).unwrap_err().to_string();
            assert!(message.contains(field), "{message}");
        }
    }

    #[test]
    fn a_time_that_is_not_the_token_s_is_refused() {
        let mut document = checkpoint().to_document();
        document.insert("cluster_time", Timestamp { time: 1, increment: 1 });
        assert!(matches!(Checkpoint::from_document(&document), Err(FormatError::Contradiction)));
    }

    #[test]
    fn json_that_is_something_else_is_refused() {
        let json = checkpoint().to_json().unwrap();
        let refused = |json: &str| Checkpoint::from_json(json).is_err();
        assert!(refused("") && refused("null") && refused("[]") && refused("{}"));
        assert!((1..json.trim_end().len()).all(|end| refused(&json[..end])), "a torn file");
        assert!(refused(&json.replace("2026-11-24T10:54:20Z", "yesterday")));
        assert!(refused(&json.replace("{\n    \"_data\": \"826B056CD5000000032B0229296E04\"\n  }", "\"82\"")));
    }

    #[test]
    fn a_date_that_json_cannot_tell_is_refused() {
        for updated_at in [DateTime::MIN, DateTime::MAX] {
            let checkpoint = Checkpoint { updated_at, ..checkpoint() };
            assert!(matches!(checkpoint.to_json(), Err(FormatError::Date { field: "updated_at" })));
        }
    }

    proptest! {
        #[test]
        fn every_checkpoint_survives_both_formats(
            time: u32, increment: u32, term: i64, events: i64, fingerprint: String,
            set: String, uuid: Option<String>, is_bound: bool,
            wall_time in proptest::option::of(0_i64..253_402_300_799_999),
        ) {
            let token = ResumeToken::parse(format!("82{time:08X}{increment:08X}")).unwrap();
            let wall_time = wall_time.map(DateTime::from_millis);
            let cluster_time = token.cluster_time();
            let history = is_bound.then(|| History { set, database: String::new(), collection: uuid });
            let checkpoint =
                Checkpoint { token, cluster_time, wall_time, term, events, fingerprint, history, ..checkpoint() };
            prop_assert_eq!(&Checkpoint::from_document(&checkpoint.to_document()).unwrap(), &checkpoint);
            prop_assert_eq!(&Checkpoint::from_json(&checkpoint.to_json().unwrap()).unwrap(), &checkpoint);
        }

        #[test]
        fn reading_json_never_panics(json in any::<String>()) {
            let _: Result<Checkpoint, FormatError> = Checkpoint::from_json(&json);
        }
    }
}
