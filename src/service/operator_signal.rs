//! What an operator can ask for with a document in `stream_processor_signals`: the words and fields, and the command that
//! each becomes.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, Timestamp};
use serde::Deserialize;

use crate::maintenance::command::{self, Command, Span, one_line, pause_limit};
use crate::model::ids::RecruiterId;

/// The fields of a signal that say nothing about what is asked for.
const ABOUT: [&str; 2] = ["_id", "by"];

/// The greatest length of the name of an operator, in characters.
const LONGEST_NAME: usize = 100;

/// A readable signal.
#[derive(Debug, PartialEq)]
pub(super) struct OperatorSignal {
    /// The name that the operator gave; `None` if the field `by` is missing.
    pub by: Option<String>,
    pub asked: Asked,
}

/// What a signal asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// The state of the service.
    Status,
    /// The end of a pause or of a halt.
    Resume {
        reason: String,
    },
    /// A replay, whose span is not checked yet.
    Replay(Span),
    Command(Command),
}

/// The document of a signal without the fields in [`ABOUT`].
#[derive(Debug, Deserialize)]
#[serde(tag = "signal", rename_all = "kebab-case", deny_unknown_fields)]
enum Fields {
    Status {},
    Pause { reason: String, limit: Option<String> },
    Resume { reason: String },
    Stepdown { seconds: Option<u32> },
    Resync { reason: String },
    Backfill { recruiter: Option<ObjectId>, active_only: Option<bool> },
    Replay { from: Bson, until: Option<Bson> },
    RetryDeadLetters { ids: Option<Vec<String>> },
    RunJob { job: String },
}

impl OperatorSignal {
    /// Reads a signal. `default_limit` is that of a pause. `now` is the server's time, from which durations such as `2h` count
    /// back.
    ///
    /// # Errors
    /// A sentence that says which field is wrong, and what belongs there.
    pub(super) fn read(document: &Document, default_limit: Duration, now: DateTime) -> Result<Self, String> {
        let by = match document.get("by") {
            None | Some(Bson::Null) => None,
            Some(Bson::String(by)) => {
                let wanted = || format!("by: must be one line of {LONGEST_NAME} characters at most, and not blank");
                Some(one_line(by, LONGEST_NAME).ok_or_else(wanted)?)
            }
            Some(_) => return Err("by: must be a text, the name of the operator".to_owned()),
        };
        let fields: Document = document
            .iter()
            .filter(|(name, _)| !ABOUT.contains(&name.as_str()))
            .map(|(n, v)| (n.clone(), v.clone()))
            .collect();
        // The messages of this reader name the field without the words of a library.
        let fields: Fields = serde_json::from_value(Bson::Document(fields).into_relaxed_extjson())
            .map_err(|error| format!("{error}; docs/operations.md has examples"))?;
        Ok(Self { by, asked: fields.asked(default_limit, now)? })
    }
}

impl Fields {
    fn asked(self, default_limit: Duration, now: DateTime) -> Result<Asked, String> {
        Ok(Asked::Command(match self {
            Self::Status {} => return Ok(Asked::Status),
            Self::Resume { reason } => return Ok(Asked::Resume { reason: reasoned(reason)? }),
            Self::Replay { from, until } => {
                let from = position("from", &from, now)?;
                // The last second of the span belongs to it in full.
                let until = until.map(|until| position("until", &until, now)).transpose()?;
                let until = until.map(|until| Timestamp { increment: u32::MAX, ..until });
                return Ok(Asked::Replay(Span { from, until, collection: None }));
            }
            Self::Pause { reason, limit } => {
                let limit = limit.map(|limit| limit_of(&limit)).transpose()?.unwrap_or(default_limit);
                let limit_seconds = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
                Command::Pause { reason: reasoned(reason)?, limit_seconds }
            }
            Self::Stepdown { seconds } => match seconds.unwrap_or(60) {
                seconds @ 1..=3_600 => Command::Stepdown { seconds: seconds.into() },
                seconds => return Err(format!("seconds: {seconds} is not from 1 to 3600")),
            },
            Self::Resync { reason } => Command::Resync { reason: reasoned(reason)? },
            Self::Backfill { recruiter, active_only } => Command::Backfill {
                recruiter: recruiter.map(RecruiterId),
                active_only: active_only.unwrap_or_default(),
            },
            Self::RetryDeadLetters { ids } => Command::RetryDeadLetters { ids: ids.unwrap_or_default(), due_at: None },
            Self::RunJob { job } => Command::RunJob { job, now: None },
        }))
    }
}

fn reasoned(reason: String) -> Result<String, String> {
    command::reason(&reason).map_err(|fault| format!("reason: {fault}"))
}

fn limit_of(text: &str) -> Result<Duration, String> {
    let wanted = || format!("limit: {text:?} is no duration such as 30m or 2h, of 30 days at most");
    pause_limit(text).ok_or_else(wanted)
}

/// A date, the text of a date, or a duration before `now`.
fn position(field: &str, value: &Bson, now: DateTime) -> Result<Timestamp, String> {
    let date = match value {
        Bson::DateTime(date) => Some(*date),
        Bson::String(text) => match humantime::parse_duration(text) {
            Ok(ago) => {
                i64::try_from(ago.as_millis()).ok().map(|ago| DateTime::from_millis(now.timestamp_millis() - ago))
            }
            Err(_) => DateTime::parse_rfc3339_str(text).ok(),
        },
        _ => None,
    };
    let seconds = date.and_then(|date| u32::try_from(date.timestamp_millis().div_euclid(1_000)).ok());
    let wrong = || format!("{field}: must be a date, a text such as 2026-11-28T14:00:00Z, or a duration such as 2h");
    Ok(Timestamp { time: seconds.ok_or_else(wrong)?, increment: 0 })
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn read(document: &Document) -> Result<OperatorSignal, String> {
        OperatorSignal::read(document, Duration::from_secs(3_600), DateTime::from_millis(7_200_000))
    }

    #[test]
    fn each_word_becomes_its_command() {
        let id = ObjectId::new();
        let recruiter = RecruiterId(id);
        let span = Span {
            from: Timestamp { time: 3_600, increment: 0 },
            until: Some(Timestamp { time: 7_000, increment: u32::MAX }),
            collection: None,
        };
        let pause = Command::Pause { reason: "x".to_owned(), limit_seconds: 1_800 };
        for (document, asked) in [
            (doc! { "signal": "status" }, Asked::Status),
            (doc! { "signal": "resume", "reason": "x" }, Asked::Resume { reason: "x".to_owned() }),
            (doc! { "signal": "replay", "from": "1h", "until": DateTime::from_millis(7_000_500) }, Asked::Replay(span)),
            (doc! { "_id": id, "signal": "pause", "reason": "x", "limit": "30m" }, Asked::Command(pause)),
            (doc! { "signal": "stepdown" }, Asked::Command(Command::Stepdown { seconds: 60 })),
            (
                doc! { "signal": "backfill", "recruiter": id },
                Asked::Command(Command::Backfill { recruiter: Some(recruiter), active_only: false }),
            ),
        ] {
            assert_eq!(read(&document).unwrap(), OperatorSignal { by: None, asked }, "{document}");
        }
        assert_eq!(read(&doc! { "signal": "status", "by": "Support" }).unwrap().by.as_deref(), Some("Support"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (document, word) in [
            (doc! {}, "signal"),
            (doc! { "signal": "drop" }, "status"),
            (doc! { "signal": "pause" }, "reason"),
            (doc! { "signal": "pause", "reason": " " }, "reason"),
            (doc! { "signal": "pause", "reason": "x\nverdict  In step" }, "reason"),
            (doc! { "signal": "pause", "reason": "x".repeat(501) }, "reason"),
            (doc! { "signal": "pause", "reason": "x", "limit": "1ms" }, "limit"),
            (doc! { "signal": "pause", "reason": "x", "limit": "1000000000y" }, "limit"),
            (doc! { "signal": "status", "by": "x".repeat(LONGEST_NAME + 1) }, "by"),
            (doc! { "signal": "run-job", "job": "verify", "now": DateTime::MAX }, "now"),
            (doc! { "signal": "status", "state": Bson::Null }, "state"),
            (doc! { "signal": "resync", "reason": "x", "order": {} }, "order"),
            (doc! { "signal": "pause", "reason": "x", "limit": "soon" }, "limit"),
            (doc! { "signal": "resync", "reason": "x", "force": true }, "force"),
            (doc! { "signal": "stepdown", "seconds": 0 }, "seconds"),
            (doc! { "signal": "replay", "from": 7 }, "from"),
            (doc! { "signal": "replay", "from": "then" }, "from"),
            (doc! { "signal": "status", "by": 7 }, "by"),
        ] {
            let told = read(&document).unwrap_err();
            assert!(told.contains(word) && !told.contains("BSON"), "{document}: {told}");
        }
    }
}
