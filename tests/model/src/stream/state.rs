//! The state: the log of the primary, what the service has stored, and what it has in its memory.

use stream_processor::inside::Phase;

use super::documents::{Documents, Link, Offer, Operation};

/// The guards of this part of the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// A checkpoint is saved after the last acknowledgement of its batch.
    pub(crate) checkpoint_last: bool,
    /// Links shrink after offers are cancelled.
    pub(crate) links_shrink_last: bool,
    /// Links grow before offers are written.
    pub(crate) links_grow_first: bool,
    /// What interrupts the stream empties the caches.
    pub(crate) empties_caches: bool,
    /// An event about a user takes the user out of the cache before recruiters are touched.
    pub(crate) forgets_first: bool,
    /// No read shows a state from before the last position of the stream (`afterClusterTime`).
    pub(crate) floor: bool,
    /// A new leader has the server's time as its floor before its first read.
    pub(crate) floor_at_start: bool,
    /// Reads show what a majority has.
    pub(crate) majority: bool,
    /// The deletion of an anonymised recruiter anonymises once more, after all touches.
    pub(crate) anonymizes_last: bool,
    /// A gap counts as repaired only when the resync is finished that began after it.
    pub(crate) repaired_by_resync: bool,
    /// A gap is stored before a checkpoint passes it.
    pub(crate) gap_first: bool,
    /// A phase that cancels nothing sets removed jobs aside in their link.
    pub(crate) sets_aside: bool,
    /// The resync of a step back is requested before the step.
    pub(crate) resync_before_step: bool,
    /// A repetition waits until a majority has what the failed attempt wrote.
    pub(crate) confirms: bool,
}

impl Guards {
    pub(crate) const ALL: Self = Self {
        checkpoint_last: true,
        links_shrink_last: true,
        links_grow_first: true,
        empties_caches: true,
        forgets_first: true,
        floor: true,
        floor_at_start: true,
        majority: true,
        anonymizes_last: true,
        repaired_by_resync: true,
        gap_first: true,
        sets_aside: true,
        resync_before_step: true,
        confirms: true,
    };
}

/// One step of the work on a batch, a gap or a stage of a resync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    ForgetUser,
    /// Reads the recruiter and plans the writes; `true` for all jobs.
    Touch(bool),
    Grow,
    Cancel,
    Write(Offer),
    Shrink,
    AnonymizeRecruiter,
    /// A stage of a resync: there is a copy of the recruiter, and the recruiter is gone.
    AnonymizeIfAbsent,
    AnonymizeUser,
    /// The user of the offer is anonymised in the documents: a stage of a resync asks for it.
    AnonymizeIfGone,
    /// Removes the contact and cancels.
    Hide,
    Delete,
    CancelOrphan,
    Checkpoint,
    SetAside,
    SetPhase(Phase),
    StoreGap,
    RequestResync,
    /// A resync begins, also if one runs.
    BeginResync,
    /// A stage of the resync is done.
    StageDone,
}

/// What the service is busy with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    /// All steps, for a repetition.
    pub(super) all: Vec<Step>,
    /// The steps that are left; the next one is the last.
    pub(super) left: Vec<Step>,
    /// The position after it.
    pub(super) to: u8,
}

impl Work {
    pub(super) fn of(mut steps: Vec<Step>, to: u8) -> Self {
        steps.reverse();
        Self { all: steps.clone(), left: steps, to }
    }
}

/// What a process has in its memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    /// The position of the stream.
    pub(super) position: u8,
    /// No read shows a state before this position.
    pub(super) floor: u8,
    /// True when the user is in the cache, as somebody who is there.
    pub(super) knows_user: bool,
    pub(super) work: Option<Work>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Gap {
    Open,
    /// Open, and the resync that runs repairs it.
    Assigned,
    Repaired,
}

/// A resync that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Resync {
    pub(super) stage: u8,
    /// True if another one must follow.
    pub(super) again: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The writes of applications, as the primary has them.
    pub(super) log: Vec<Operation>,
    /// How many of them a majority has.
    pub(super) committed: u8,
    /// How many of them are no longer in the oplog.
    pub(super) lost: u8,
    pub(super) offer: Option<Offer>,
    pub(super) link: Link,
    pub(super) phase: Phase,
    /// The number of steps between the phases.
    pub(super) steps: u8,
    pub(super) checkpoint: u8,
    /// The gaps, as they were opened.
    pub(super) gaps: Vec<Gap>,
    pub(super) resync: Option<Resync>,
    /// A write that the primary has, no majority yet, and whose answer nobody waits for.
    pub(super) unanswered: Option<Step>,
    /// `None` while no process runs.
    pub(super) memory: Option<Memory>,
    /// True from a failover to the next batch: the new primary may be behind with what a majority has.
    pub(super) is_behind: bool,
    /// The number of faults so far.
    pub(super) faults: u8,
}

impl State {
    /// Everything is projected, and the user is in the cache.
    pub(super) fn beginning(phase: Phase) -> Self {
        let offer = Documents::BEGINNING.projected(false);
        let memory = Memory { position: 0, floor: 0, knows_user: true, work: None };
        Self {
            log: Vec::new(),
            committed: 0,
            lost: 0,
            offer,
            link: Link { has_job: true, set_aside: false },
            phase,
            steps: 0,
            checkpoint: 0,
            gaps: Vec::new(),
            resync: None,
            unanswered: None,
            memory: Some(memory),
            is_behind: false,
            faults: 0,
        }
    }

    /// The documents after so many writes.
    pub(super) fn documents(&self, position: u8) -> Documents {
        self.log.iter().take(position.into()).fold(Documents::BEGINNING, |documents, operation| {
            documents.after(*operation).expect("an operation that was possible")
        })
    }

    /// The documents as the primary has them.
    pub(super) fn newest(&self) -> Documents {
        self.documents(u8::MAX)
    }
}
