//! The events of the timeline (`stream_processor_events`): the one place that decides what an event is and which fields
//! it has. Fields are words, numbers and names of instances, never a value of a document and never a person's name.

use bson::{Bson, DateTime, Document, doc};

/// The longest text of a field, in characters.
const LONGEST: usize = 200;

/// The kind of an outage. The next leader looks whether it is told already.
pub(crate) const DATABASE_AWAY: &str = "database_away";

/// Whether an event of a kind is sent to `notices.webhook_url`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    Sent,
    /// The event happens every day, or something else sends a notice of it.
    Unsent,
}

/// The kinds of events, with their meaning: the one table of what is worth a notice.
pub(crate) const KINDS: [(&str, &str, Notice); 21] = [
    (
        "leadership",
        "An instance began to lead: from whom, and how long after the leadership before began.",
        Notice::Unsent,
    ),
    ("phase_step", "The phase changed.", Notice::Sent),
    ("gap_opened", "A span of the stream was not read, and why.", Notice::Sent),
    ("gaps_repaired", "A resync repaired these gaps.", Notice::Sent),
    ("resync_began", "Every recruiter is projected again, and why.", Notice::Sent),
    (
        "resync_ended",
        "The resync is finished, with the offers that it wrote since this leader took it up.",
        Notice::Sent,
    ),
    (
        "command_ended",
        "A stored command ended, such as a replay or a backfill: with its counts, or why it was refused.",
        Notice::Unsent,
    ),
    ("position_moved", "`tokens import` or `tokens reset` moved the position.", Notice::Sent),
    ("verified", "A full verification ended, with its counts.", Notice::Unsent),
    ("job_failed", "A run of a time-based job failed, and why.", Notice::Unsent),
    ("halted", "The position is lost, and the leader waits for a decision.", Notice::Sent),
    ("source_dropped", "A watched collection was dropped or renamed away.", Notice::Sent),
    ("schema_changed", "The validator or an index of `jobs_partners` changed.", Notice::Unsent),
    (
        "foreign_writes",
        "Others changed many of our offers: when it began and ended, the writes, and the times that each field changed.",
        Notice::Sent,
    ),
    ("slowed", "The server is under pressure, so work beside the stream is slowed: why.", Notice::Sent),
    ("slowed_ended", "Work is not slowed any more, after so long.", Notice::Sent),
    ("throttled", "An operator ordered a ceiling of writes per second, or left it to the configuration.", Notice::Sent),
    ("paused", "An operator paused the service; an alert fires when the limit is over.", Notice::Sent),
    ("resumed", "An operator ended the pause or the halt, which lasted so long.", Notice::Sent),
    (
        "database_away",
        "MongoDB did not answer: from when to when, by the clock of the instance, and why.",
        Notice::Sent,
    ),
    ("stepped_down", "A leader gave the lease back, and does not ask for it for so long.", Notice::Sent),
];

/// An event of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimelineEvent {
    Leadership {
        instance: String,
        term: i64,
        /// The instance that led before; `None` if the timeline has no earlier leadership.
        from: Option<String>,
        /// The seconds since the leadership before began.
        after_seconds: Option<i64>,
    },
    PhaseStep {
        from: &'static str,
        to: &'static str,
        /// True if unmet conditions were overridden.
        forced: bool,
    },
    GapOpened {
        cause: String,
        /// The length of the span, in seconds.
        seconds: i64,
    },
    GapsRepaired {
        gaps: i64,
    },
    ResyncBegan {
        cause: String,
    },
    ResyncEnded {
        seconds: i64,
        created: i64,
        changed: i64,
        unchanged: i64,
    },
    CommandEnded {
        command: &'static str,
        /// False if the command was refused.
        done: bool,
        /// Why the command was refused, in our own words; `None` if it was done.
        reason: Option<String>,
        /// The numbers of the command's result.
        counts: Document,
    },
    PositionMoved {
        /// True after `tokens reset`.
        cleared: bool,
        /// True if `--force` overrode objections.
        forced: bool,
    },
    Verified {
        differences: i64,
        unsettled: i64,
        seconds: i64,
    },
    JobFailed {
        job: &'static str,
        failed: i64,
        /// The reason why the run failed, without personal data.
        error: Option<String>,
    },
    Halted {
        cause: String,
    },
    SourceDropped {
        collection: &'static str,
    },
    SchemaChanged {
        change: String,
    },
    ForeignWrites {
        /// The time of the first write.
        began: DateTime,
        /// The time of the last write.
        ended: DateTime,
        writes: i64,
        /// The number of writes by operation.
        operations: Document,
        /// The number of writes by the field that they changed.
        fields: Document,
    },
    Slowed {
        /// `replication_lag` or `write_latency`.
        pressure: &'static str,
        /// The measure, in milliseconds.
        milliseconds: i64,
    },
    SlowedEnded {
        /// The length of the time.
        seconds: i64,
    },
    Throttled {
        /// True when the order was taken back, so that the configuration decides.
        off: bool,
        /// The ceiling that is in force; `None` without one.
        max_writes_per_second: Option<i64>,
    },
    Paused {
        limit_seconds: i64,
    },
    Resumed {
        /// The length of the pause or the halt, in seconds.
        seconds: i64,
    },
    DatabaseAway {
        from: DateTime,
        to: DateTime,
        seconds: i64,
        /// Why the last ping failed.
        cause: String,
    },
    SteppedDown {
        instance: String,
        seconds: i64,
    },
}

impl TimelineEvent {
    /// The kind, as it is stored and shown: one of [`KINDS`].
    #[must_use]
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Leadership { .. } => "leadership",
            Self::PhaseStep { .. } => "phase_step",
            Self::GapOpened { .. } => "gap_opened",
            Self::GapsRepaired { .. } => "gaps_repaired",
            Self::ResyncBegan { .. } => "resync_began",
            Self::ResyncEnded { .. } => "resync_ended",
            Self::CommandEnded { .. } => "command_ended",
            Self::PositionMoved { .. } => "position_moved",
            Self::Verified { .. } => "verified",
            Self::JobFailed { .. } => "job_failed",
            Self::Halted { .. } => "halted",
            Self::SourceDropped { .. } => "source_dropped",
            Self::SchemaChanged { .. } => "schema_changed",
            Self::ForeignWrites { .. } => "foreign_writes",
            Self::Slowed { .. } => "slowed",
            Self::SlowedEnded { .. } => "slowed_ended",
            Self::Throttled { .. } => "throttled",
            Self::Paused { .. } => "paused",
            Self::Resumed { .. } => "resumed",
            Self::DatabaseAway { .. } => DATABASE_AWAY,
            Self::SteppedDown { .. } => "stepped_down",
        }
    }

    /// The line of a notice; `None` for an event that is not sent.
    #[must_use]
    pub(crate) fn notice(&self) -> Option<String> {
        let (kind, meaning, _) =
            KINDS.iter().find(|(kind, _, notice)| *kind == self.kind() && *notice == Notice::Sent)?;
        let fields =
            self.fields().into_iter().filter(|(_, value)| *value != Bson::Null).map(|(name, value)| match value {
                Bson::String(text) => format!("{name}: {text}"),
                value => format!("{name}: {}", value.into_relaxed_extjson()),
            });
        Some(format!("{kind}: {meaning} {}", fields.collect::<Vec<_>>().join(", ")))
    }

    /// The stored fields beside `_id`, `at` and `kind`.
    #[must_use]
    pub(crate) fn fields(&self) -> Document {
        match self {
            Self::Leadership { instance, term, from, after_seconds } => doc! {
                "instance": clipped(instance), "term": term, "from": from.as_deref().map(clipped),
                "after_seconds": after_seconds,
            },
            Self::PhaseStep { from, to, forced } => doc! { "from": *from, "to": *to, "forced": forced },
            Self::GapOpened { cause, seconds } => doc! { "cause": clipped(cause), "seconds": seconds },
            Self::GapsRepaired { gaps } => doc! { "gaps": gaps },
            Self::ResyncBegan { cause } => doc! { "cause": clipped(cause) },
            Self::ResyncEnded { seconds, created, changed, unchanged } => {
                doc! { "seconds": seconds, "created": created, "changed": changed, "unchanged": unchanged }
            }
            Self::CommandEnded { command, done, reason, counts } => {
                let reason = reason.as_deref().map(clipped);
                let mut fields = doc! { "command": *command, "done": done, "reason": reason };
                fields.extend(numbers(counts));
                fields
            }
            Self::PositionMoved { cleared, forced } => doc! { "cleared": cleared, "forced": forced },
            Self::Verified { differences, unsettled, seconds } => {
                doc! { "differences": differences, "unsettled": unsettled, "seconds": seconds }
            }
            Self::JobFailed { job, failed, error } => {
                doc! { "job": *job, "failed": failed, "error": error.as_deref().map(clipped) }
            }
            Self::Halted { cause } => doc! { "cause": clipped(cause) },
            Self::SourceDropped { collection } => doc! { "collection": *collection },
            Self::SchemaChanged { change } => doc! { "change": clipped(change) },
            Self::ForeignWrites { began, ended, writes, operations, fields } => doc! {
                "began": began.try_to_rfc3339_string().ok(), "ended": ended.try_to_rfc3339_string().ok(),
                "writes": writes, "operations": operations, "fields": fields,
            },
            Self::Slowed { pressure, milliseconds } => doc! { "pressure": *pressure, "milliseconds": milliseconds },
            Self::SlowedEnded { seconds } => doc! { "seconds": seconds },
            Self::Throttled { off, max_writes_per_second } => {
                doc! { "off": off.then_some(true), "max_writes_per_second": max_writes_per_second }
            }
            Self::Paused { limit_seconds } => doc! { "limit_seconds": limit_seconds },
            Self::Resumed { seconds } => doc! { "seconds": seconds },
            Self::DatabaseAway { from, to, seconds, cause } => {
                doc! { "from": from, "to": to, "seconds": seconds, "cause": clipped(cause) }
            }
            Self::SteppedDown { instance, seconds } => doc! { "instance": clipped(instance), "seconds": seconds },
        }
    }
}

/// The numbers of a result. Texts and ids stay out of the timeline, because they may be about a person.
fn numbers(result: &Document) -> Document {
    let is_number = |value: &Bson| matches!(value, Bson::Int32(_) | Bson::Int64(_));
    result.iter().filter(|(_, value)| is_number(value)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn clipped(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_gives_its_numbers_and_no_text() {
        let counts = doc! { "changed": 3_i64, "reasons": ["x"], "user": "somebody@example.com", "phase": "sync" };
        let event = TimelineEvent::CommandEnded { command: "replay", done: true, reason: None, counts };
        let wanted = doc! { "command": "replay", "done": true, "reason": null, "changed": 3_i64 };
        assert_eq!(event.fields(), wanted);
        let cause = "x".repeat(1_000);
        assert_eq!(TimelineEvent::ResyncBegan { cause }.fields().get_str("cause").unwrap().len(), LONGEST);
    }

    #[test]
    fn a_notice_has_the_meaning_and_the_fields_and_an_event_of_every_day_is_none() {
        let step = TimelineEvent::PhaseStep { from: "sync", to: "dual-write", forced: false };
        let expected = "phase_step: The phase changed. from: sync, to: dual-write, forced: false";
        assert_eq!(step.notice().as_deref(), Some(expected));
        assert_eq!(TimelineEvent::Verified { differences: 1, unsettled: 0, seconds: 2 }.notice(), None);
    }

    #[test]
    fn the_docs_have_a_row_for_each_kind() {
        let page = include_str!("../../docs/events.md");
        for (kind, meaning, notice) in KINDS {
            let notice = if notice == Notice::Sent { "yes" } else { "" };
            assert!(page.contains(&format!("| `{kind}` | {meaning} | {notice}")), "docs/events.md lacks {kind}");
        }
    }
}
