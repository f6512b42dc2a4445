//! Signals: an operator without a shell inserts a document into `stream_processor_signals` and reads the answer there
//! (`signals.enabled`). An instance turns a signal into a stored command, exactly once, and copies the outcome.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use futures::TryStreamExt as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::operator_signal::{Asked, OperatorSignal, can_be_asked};
use super::submit::{refuse_while_halted, refuse_while_paused};
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
/// The greatest number of signals of each kind in one look.
const AT_ONCE: i64 = 50;
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
    while pause(&stop, INTERVAL).await {
        match signals.look().await {
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
    /// Takes up new signals, and answers those whose commands have ended.
    async fn look(&self) -> Result<(), Refusal> {
        for signal in self.find(doc! { "state": { "$exists": false } }).await? {
            self.take_up(&signal).await?;
        }
        for signal in self.find(doc! { "state": signal_state::ACCEPTED }).await? {
            self.follow(&signal).await?;
        }
        Ok(())
    }

    async fn find(&self, filter: Document) -> Result<Vec<Document>, Failure> {
        let signals = collection(&self.context.database, SIGNALS);
        let found = signals.find(filter).sort(doc! { "_id": 1 }).limit(AT_ONCE);
        with_deadline(async { found.await?.try_collect().await }).await.map_err(Failure::Read)
    }

    /// Reads a signal and answers it, or stores its command in it. Several instances may do so at once, and the first one
    /// wins.
    async fn take_up(&self, signal: &Document) -> Result<(), Refusal> {
        let now = server_time(&self.context.database).await?;
        let limit = self.context.settings.pause.limit;
        let read = match OperatorSignal::read(signal, limit, now) {
            Ok(read) => read,
            Err(fault) => return self.answer(signal, None, Err(&Refusal::new(Exit::Usage, fault))).await,
        };
        let by = read.by.as_deref().unwrap_or("an operator");
        let who = format!("{by} (signal)");
        match self.decide(read.asked, &who, now).await {
            Ok(Taken::Left) => Ok(()),
            Ok(Taken::Answered(answer)) => self.answer(signal, None, Ok(answer)).await,
            Ok(Taken::Accepted(command)) => self.accept(signal, &command, &who).await,
            // A failure of the database is no answer; the next look tries again.
            Err(refusal) if refusal.exit == Exit::Database => Err(refusal),
            Err(refusal) => self.answer(signal, None, Err(&refusal)).await,
        }
    }

    async fn decide(&self, asked: Asked, who: &str, now: DateTime) -> Result<Taken, Refusal> {
        let (context, database) = (&self.context, &self.context.database);
        let command = match asked {
            Asked::Status => {
                let leads = context.health.readiness().role == Role::Leader;
                // The leader knows more than the others: lag, rates, position.
                let is_left = !leads && lease::current(database).await?.is_some();
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

    async fn accept(&self, signal: &Document, command: &Command, who: &str) -> Result<(), Refusal> {
        let order = stored_commands::encoded(command)?;
        let set = doc! {
            "state": signal_state::ACCEPTED, "command": ObjectId::new(), "order": order, "who": who,
            "instance": &self.context.deployment.instance,
        };
        let new = doc! { "_id": signal.get("_id"), "state": { "$exists": false } };
        self.update(new, set).await?;
        info!(order = command.name(), "a signal is accepted");
        Ok(())
    }

    /// Stores the command of an accepted signal, unless it is stored, and answers with its outcome, once it has one. An
    /// instance that died in between left all that is needed in the signal.
    async fn follow(&self, signal: &Document) -> Result<(), Refusal> {
        let (Ok(command), Ok(order)) = (signal.get_object_id("command"), signal.get_document("order")) else {
            return self.answer(signal, Some(signal_state::ACCEPTED), Err(&changed())).await;
        };
        if !can_be_asked(order) {
            return self.answer(signal, Some(signal_state::ACCEPTED), Err(&changed())).await;
        }
        let database = &self.context.database;
        let who = signal.get_str("who").unwrap_or("an operator (signal)");
        match stored_commands::load(database, command).await? {
            None => Ok(stored_commands::submit_as(database, command, order, who).await?),
            Some(stored) => match stored.result {
                None => Ok(()),
                Some(outcome) if outcome.done => {
                    self.answer(signal, Some(signal_state::ACCEPTED), Ok(outcome.details)).await
                }
                Some(outcome) => self.answer(signal, Some(signal_state::ACCEPTED), Err(&outcome.refusal())).await,
            },
        }
    }

    fn status(&self) -> Document {
        let status = serde_json::to_value(Status::now(&self.context, &self.survey, self.started)).unwrap_or_default();
        let Value::Object(fields) = status else { return Document::new() };
        let shown = fields.into_iter().filter(|(name, _)| SHOWN.contains(&name.as_str()));
        shown.filter_map(|(name, value)| Some((name, Bson::try_from(value).ok()?))).collect()
    }

    /// Answers a signal in the state `state`; `None` for a new one. Old answers are deleted.
    async fn answer(
        &self,
        signal: &Document,
        state: Option<&str>,
        answer: Result<Document, &Refusal>,
    ) -> Result<(), Refusal> {
        let database = &self.context.database;
        let now = server_time(database).await?;
        let mut set = doc! { "answered_at": now, "instance": &self.context.deployment.instance };
        match answer {
            Ok(answer) => set.extend(doc! { "state": signal_state::DONE, "answer": answer }),
            Err(refusal) => {
                set.extend(doc! { "state": signal_state::REFUSED, "answer": { "reason": &refusal.message } });
            }
        }
        let state = state.map_or_else(|| Bson::from(doc! { "$exists": false }), Bson::from);
        self.update(doc! { "_id": signal.get("_id"), "state": state }, set).await?;
        let before = DateTime::from_millis(now.timestamp_millis().saturating_sub(KEPT_MILLISECONDS));
        let (signals, old) = (collection(database, SIGNALS), doc! { "answered_at": { "$lt": before } });
        with_deadline(signals.delete_many(old)).await.map_err(Failure::Write)?;
        Ok(())
    }

    async fn update(&self, filter: Document, set: Document) -> Result<(), Failure> {
        let signals = collection(&self.context.database, SIGNALS);
        with_deadline(signals.update_one(filter, doc! { "$set": set })).await.map_err(Failure::Write)?;
        Ok(())
    }
}

/// The refusal of an accepted signal that somebody changed.
fn changed() -> Refusal {
    Refusal::new(Exit::Usage, "the fields command and order were changed: insert the signal again without them")
}
