//! The state: the documents of a step, and two instances that carry the command out.

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use stream_processor::inside::{LastVerification, Phase, StepFacts};

/// The stored phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stored {
    pub(super) phase: Phase,
    pub(super) revision: i64,
    /// True once the history names the command.
    pub(super) made: bool,
}

impl Stored {
    pub(super) fn to_document(self) -> Document {
        doc! { "_id": "phase", "phase": self.phase.word(), "revision": self.revision }
    }
}

/// The stored command, which asks for a step to [`TO`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Command {
    pub(super) term: i64,
    /// The outcome; `None` while it is not finished. True for a step that was made.
    pub(super) outcome: Option<bool>,
}

/// The phase that the command asks for.
pub(super) const TO: Phase = Phase::Shadow;

pub(super) fn command() -> ObjectId {
    ObjectId::from_bytes([7; 12])
}

/// A transaction with a step, whose commit is on its way. Its locks are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    pub(super) from: Phase,
    pub(super) after: Stored,
}

/// What an instance does with the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    Nothing,
    TookUp,
    /// The step was not made when it looked.
    Looked,
    /// The conditions hold for the phase that was read.
    Accepted(Stored),
    /// It waits for the answer to the commit.
    Commits,
    /// It has an outcome to store.
    Knows(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Instance {
    /// The term of the lease that the instance was given; 0 for none.
    pub(super) term: i64,
    /// True when the fence is taken over, which comes before everything else.
    pub(super) is_fenced: bool,
    pub(super) work: Work,
    /// The transaction at the server.
    pub(super) transaction: Option<Transaction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The last term that the lease gave.
    pub(super) lease_term: i64,
    /// The term in the document `ticker`.
    pub(super) fence_term: i64,
    pub(super) stored: Stored,
    pub(super) command: Command,
    pub(super) has_gap: bool,
    pub(super) instances: [Instance; 2],
    /// How often an instance gave an answer up and began the step again.
    pub(super) repeats: u8,
    /// True once a step was made from another phase than the one that it names.
    pub(super) jumped: bool,
}

impl State {
    pub(super) fn beginning() -> Self {
        let idle = Instance { term: 0, is_fenced: false, work: Work::Nothing, transaction: None };
        Self {
            lease_term: 0,
            fence_term: 0,
            stored: Stored { phase: Phase::DualWrite, revision: 1, made: false },
            command: Command { term: 0, outcome: None },
            has_gap: false,
            instances: [idle; 2],
            repeats: 0,
            jumped: false,
        }
    }

    /// The facts for the product's conditions. A verification, the lag and the dead letters are as they must be.
    pub(super) fn facts(&self, phase: Phase) -> StepFacts {
        let now = DateTime::from_millis(1_800_000_000_000);
        let verification = LastVerification {
            jobs_without_offer: Some(0),
            phase: phase.word().to_owned(),
            began: now,
            ended: now,
            differences: 0,
            only_in_recruiters: Some(Vec::new()),
        };
        StepFacts {
            phase,
            since: Some(now),
            verification: Some(verification),
            lag: Some(0.0),
            dead_letters: 0,
            open_gaps: self.has_gap.into(),
            running: 0,
            now,
        }
    }
}
