//! Signals: an operator without a shell inserts a document into `stream_processor_signals` and reads the answer there
//! (`signals.enabled`). An instance turns a signal into a stored command with the same `_id`, exactly once, and copies the
//! outcome.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::command_wait::{refuse_while_halted, refuse_while_paused};
use super::operator_signal::{Asked, OperatorSignal};
use crate::clock;
use crate::context::Context;
use crate::error::Failure;
use crate::leader::control::NOT_PAUSED;
use crate::leader::halt::{self, ResumeOrder, StoredHalt};
use crate::leader::pause::StoredPause;
use crate::lease;
use crate::maintenance::span::bounded;
use crate::maintenance::stored_commands::{self, Command};
use crate::model::names::{SIGNALS, signal_state};
use crate::mongo::deadline::with_deadline;
use crate::mongo::reads::collection;
use crate::mongo::server_clock::server_time;
use crate::observe::health::Role;
use crate::observe::repeated_failure::RepeatedFailure;
use crate::refusal::{Exit, Refusal};
use crate::status::document::Status;
use crate::status::survey::Survey;
use crate::tasks::pause;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The greatest number of new signals in one look.
const AT_ONCE: i64 = 50;
/// The greatest number of accepted signals in one look.
const ACCEPTED_AT_ONCE: i64 = 1_000;
/// The greatest size of a signal, in bytes.
const LARGEST: i32 = 16 * 1024;
/// The age from which a signal is not carried out any more: who gave it thought of another state of things.
const OLDEST: Duration = Duration::from_hours(1);
/// The time for which the other instances leave a question about the status to the leader.
const LEFT_TO_LEADER: Duration = Duration::from_secs(5);
/// The signals that control the service, as they are spelled in the field `signal`.
const CONTROLS: [&str; 3] = ["pause", "resume", "stepdown"];
/// The states that an instance gives to a signal.
const KNOWN_STATES: [&str; 3] = [signal_state::ACCEPTED, signal_state::DONE, signal_state::REFUSED];
/// The time between two deletions of old answers.
const BETWEEN_DELETIONS: Duration = Duration::from_hours(1);
/// The time for which answered signals are kept, in milliseconds: 30 days, as finished commands.
const KEPT_MILLISECONDS: i64 = 30 * 24 * 3_600_000;
/// The parts of the status document that the answer to `status` has. The rest is for charts.
const SHOWN: [&str; 8] = ["at", "verdict", "problems", "instance", "lag_seconds", "last_minute", "service", "counts"];

/// Looks for signals until `stop`.
///
/// # Errors
/// None: a failure is told once, and the next look tries again.
pub(super) async fn watch(
    context: Context,
    survey: Arc<Survey>,
    started: DateTime,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let (signals, mut failed) = (Signals { context, survey, started }, RepeatedFailure::default());
    let mut forgotten: Option<Instant> = None;
    while pause(&stop, INTERVAL).await {
        let mut outcome = signals.look().await;
        if forgotten.is_none_or(|at| at.elapsed() > BETWEEN_DELETIONS) {
            outcome = outcome.and(signals.forget().await.map_err(Refusal::from));
            forgotten = Some(clock::instant());
        }
        match outcome {
            Ok(()) => {
                if let Some(ended) = failed.end() {
                    info!(failures = ended.failures, seconds = ended.seconds, "signals are answered again");
                }
            }
            Err(refusal) if failed.is_new(&refusal) => warn!(error = %refusal, "signals cannot be answered; retrying"),
            Err(_) => {}
        }
    }
    Ok(())
}

struct Signals {
    context: Context,
    survey: Arc<Survey>,
    started: DateTime,
}

/// What becomes of a signal at once.
enum Taken {
    /// Left to the leader.
    Left,
    Answered(Document),
    Accepted(Command),
}

impl Signals {
    /// Takes up new signals, and answers those whose commands have ended. A failure with one signal does not hold up the
    /// others.
    ///
    /// # Errors
    /// The first failure.
    async fn look(&self) -> Result<(), Refusal> {
        let mut outcome = Ok(());
        for found in self.find(doc! { "state": { "$nin": KNOWN_STATES.to_vec() } }, AT_ONCE).await? {
            outcome = outcome.and(self.take_up(&found).await);
        }
        for found in self.find(doc! { "state": signal_state::ACCEPTED }, ACCEPTED_AT_ONCE).await? {
            outcome = outcome.and(self.follow(&found).await);
        }
        outcome
    }

    /// Finds signals. Those that control the service come first, so that no number of others holds up a pause.
    async fn find(&self, filter: Document, most: i64) -> Result<Vec<Found>, Failure> {
        let pipeline = [
            doc! { "$match": filter },
            doc! { "$project": {
                "is_small": { "$lte": [{ "$bsonSize": "$$ROOT" }, LARGEST] },
                "controls": { "$in": ["$signal", CONTROLS.to_vec()] },
            } },
            doc! { "$sort": { "controls": -1, "_id": 1 } },
            doc! { "$limit": most },
        ];
        let signals = collection(&self.context.database, SIGNALS);
        let found = with_deadline(async { signals.aggregate(pipeline).await?.try_collect::<Vec<_>>().await }).await;
        let read = |found: Document| Found {
            is_small: found.get_bool("is_small").unwrap_or_default(),
            id: found.get("_id").cloned().unwrap_or(Bson::Null),
        };
        Ok(found.map_err(Failure::Read)?.into_iter().map(read).collect())
    }

    /// Reads a signal and answers it, or stores its command. Several instances may do so at once, and the first one wins.
    /// What becomes of a signal depends on its own fields only, which nobody but its author writes.
    async fn take_up(&self, found: &Found) -> Result<(), Refusal> {
        let now = server_time(&self.context.database).await?;
        let id = match found.usable(now) {
            Ok(id) => id,
            Err(fault) => return self.answer(found, Err(&Refusal::new(Exit::Usage, fault))).await,
        };
        let signals = collection(&self.context.database, SIGNALS);
        let signal = with_deadline(signals.find_one(doc! { "_id": id })).await.map_err(Failure::Read)?;
        let Some(signal) = signal else { return Ok(()) };
        let limit = self.context.settings.pause.limit;
        let read = match OperatorSignal::read(&signal, limit, now) {
            Ok(read) => read,
            Err(fault) => return self.answer(found, Err(&Refusal::new(Exit::Usage, fault))).await,
        };
        let by = read.by.as_deref().unwrap_or("an operator");
        let who = format!("{by} (signal)");
        let age = now.saturating_duration_since(id.timestamp());
        match self.decide(read.asked, &who, (now, age)).await {
            Ok(Taken::Left) => Ok(()),
            Ok(Taken::Answered(answer)) => self.answer(found, Ok(answer)).await,
            Ok(Taken::Accepted(command)) => self.accept(found, id, &command, &who).await,
            // A failure of the database is no answer; the next look tries again.
            Err(refusal) if refusal.exit == Exit::Database => Err(refusal),
            Err(refusal) => self.answer(found, Err(&refusal)).await,
        }
    }

    /// Decides what becomes of a signal of this age.
    async fn decide(&self, asked: Asked, who: &str, (now, age): (DateTime, Duration)) -> Result<Taken, Refusal> {
        let (context, database) = (&self.context, &self.context.database);
        let command = match asked {
            Asked::Status => {
                let leads = context.health.readiness().role == Role::Leader;
                // The leader knows more than the others: lag, rates, position. But it may have signals turned off.
                let is_left = !leads && age < LEFT_TO_LEADER && lease::current(database).await?.is_some();
                return Ok(if is_left { Taken::Left } else { Taken::Answered(self.status()) });
            }
            Asked::Resume { reason } => {
                if StoredHalt::read(database).await?.is_some() {
                    halt::order(database, ResumeOrder { from: None }, (who, &reason, now)).await?;
                    return Ok(Taken::Answered(doc! { "ended": "halt" }));
                }
                if StoredPause::read(database).await?.is_none() {
                    return Err(Refusal::new(Exit::Findings, NOT_PAUSED));
                }
                Command::Resume { reason }
            }
            Asked::Replay(span) => Command::Replay(bounded(context, span, ["from", "until"]).await?),
            Asked::Command(command) => command,
        };
        refuse_while_halted(context).await?;
        refuse_while_paused(context, &command).await?;
        Ok(Taken::Accepted(command))
    }

    /// Stores the command under the id of the signal. Whoever dies after that leaves a command that is carried out once.
    async fn accept(&self, found: &Found, id: ObjectId, command: &Command, who: &str) -> Result<(), Refusal> {
        if !stored_commands::submit_of_signal(&self.context.database, id, command, who).await? {
            let taken = "_id: another command has this id; insert the signal again with another one";
            return self.answer(found, Err(&Refusal::new(Exit::Usage, taken.to_owned()))).await;
        }
        let set = doc! { "state": signal_state::ACCEPTED, "instance": &self.context.deployment.instance };
        let new = doc! { "_id": id, "state": { "$nin": KNOWN_STATES.to_vec() } };
        let signals = collection(&self.context.database, SIGNALS);
        let accepted = with_deadline(signals.update_one(new, doc! { "$set": set })).await.map_err(Failure::Write)?;
        if accepted.modified_count > 0 {
            info!(order = command.name(), "a signal is accepted");
        }
        Ok(())
    }

    /// Answers an accepted signal with the outcome of its command, once it has one.
    async fn follow(&self, found: &Found) -> Result<(), Refusal> {
        let stored = match found.id {
            Bson::ObjectId(id) => stored_commands::load_of_signal(&self.context.database, id).await,
            _ => Ok(None),
        };
        match stored {
            Ok(Some(stored)) => match stored.result {
                None => Ok(()),
                Some(outcome) if outcome.done => self.answer(found, Ok(outcome.details)).await,
                Some(outcome) => self.answer(found, Err(&outcome.refusal())).await,
            },
            Ok(None) => {
                let gone = "there is no command of this signal: insert it again, without the field state";
                self.answer(found, Err(&Refusal::new(Exit::Usage, gone.to_owned()))).await
            }
            Err(failure @ Failure::OwnDocument { .. }) => self.answer(found, Err(&failure.into())).await,
            Err(failure) => Err(failure.into()),
        }
    }

    fn status(&self) -> Document {
        let status = serde_json::to_value(Status::now(&self.context, &self.survey, self.started)).unwrap_or_default();
        let Value::Object(fields) = status else { return Document::new() };
        let shown = fields.into_iter().filter(|(name, _)| SHOWN.contains(&name.as_str()));
        shown.filter_map(|(name, value)| Some((name, Bson::try_from(value).ok()?))).collect()
    }

    /// Answers a signal. A signal that is too large is replaced by its answer: with its texts it might not fit into a
    /// document.
    async fn answer(&self, found: &Found, answer: Result<Document, &Refusal>) -> Result<(), Refusal> {
        let database = &self.context.database;
        let mut set =
            doc! { "answered_at": server_time(database).await?, "instance": &self.context.deployment.instance };
        match answer {
            Ok(answer) => set.extend(doc! { "state": signal_state::DONE, "answer": answer }),
            Err(refusal) => {
                set.extend(doc! { "state": signal_state::REFUSED, "answer": { "reason": &refusal.message } });
            }
        }
        let signals = collection(database, SIGNALS);
        let open = doc! { "_id": &found.id, "state": { "$nin": signal_state::ANSWERED.to_vec() } };
        let answered = async {
            if found.is_small {
                signals.update_one(open, doc! { "$set": set }).await
            } else {
                signals.replace_one(open, set).await
            }
        };
        with_deadline(answered).await.map_err(Failure::Write)?;
        Ok(())
    }

    /// Deletes the answers of more than 30 days ago.
    async fn forget(&self) -> Result<(), Failure> {
        let now = server_time(&self.context.database).await?;
        let before = DateTime::from_millis(now.timestamp_millis().saturating_sub(KEPT_MILLISECONDS));
        let (signals, old) = (collection(&self.context.database, SIGNALS), doc! { "answered_at": { "$lt": before } });
        with_deadline(signals.delete_many(old)).await.map_err(Failure::Write)?;
        Ok(())
    }
}

/// A signal that waits, without its fields.
struct Found {
    id: Bson,
    is_small: bool,
}

impl Found {
    /// The id of a signal that can be read; otherwise what is wrong with it.
    fn usable(&self, now: DateTime) -> Result<ObjectId, String> {
        let Bson::ObjectId(id) = self.id else {
            return Err("_id: must be an ObjectId, which every client makes by itself".to_owned());
        };
        if !self.is_small {
            return Err(format!("a signal has at most {LARGEST} bytes; this one was larger"));
        }
        if now.saturating_duration_since(id.timestamp()) > OLDEST {
            let inserted = id.timestamp().try_to_rfc3339_string().unwrap_or_default();
            return Err(format!(
                "the signal was inserted at {inserted} and read more than an hour later: insert it again if it still holds"
            ));
        }
        Ok(id)
    }
}
