//! The steps of the applications, of the service and of the world.

use stateright::{Model, Property};
use stream_processor::inside::Phase;

use super::apply::stage;
use super::documents::Operation;
use super::planned::Planned;
use super::state::{Gap, Guards, Memory, State, Step, Work};
use crate::memory::Memory as Remembered;

/// The size of the space.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// The number of writes of applications, and which ones there are.
    pub(crate) writes: usize,
    pub(crate) operations: Vec<Operation>,
    pub(crate) faults: u8,
    /// The phase at the beginning, and the number of steps to `shadow` and back.
    pub(crate) phase: Phase,
    pub(crate) steps: u8,
}

#[derive(Debug)]
pub(crate) struct Protocol {
    pub(crate) guards: Guards,
    bounds: Bounds,
    planned: Remembered<Vec<Operation>, Planned>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// An application writes.
    Application(Operation),
    /// A majority has one more write of an application.
    Replicate,
    /// A process begins to lead, at the checkpoint.
    Start,
    /// The pipeline takes the events up to this position as a batch.
    Take(u8),
    /// The next step of the work; its reads show the documents after so many writes.
    Advance { at: u8 },
    /// The position is no longer in the oplog: the stream goes on at the newest one.
    GiveUpPosition,
    /// The next stage of the resync begins.
    Resync,
    /// The pipeline makes a step between the phases.
    Step,
    /// The checkpoint of an idle stream.
    SaveIdle,
    /// The process is killed.
    Kill,
    /// Another member becomes the primary. What no majority has is gone.
    Failover,
    /// The oplog loses everything up to now.
    LoseHistory,
    /// A write of the offer gets no answer, so the work begins again.
    LoseAnswer { applied: bool },
    /// A majority has the write that nobody waits for.
    Land,
}

impl Protocol {
    pub(crate) fn new(guards: Guards, bounds: Bounds) -> Self {
        Self { guards, bounds, planned: Remembered::default() }
    }

    fn batch(&self, events: &[Operation]) -> Vec<Step> {
        let planned = self.planned.get(events.to_vec(), |events| Planned::of(events));
        let forget = planned.forgets_user.then_some(Step::ForgetUser);
        let (first, last) = if self.guards.forgets_first { (forget, None) } else { (None, forget) };
        let checkpoint = Some(Step::Checkpoint);
        let (early, late) = if self.guards.checkpoint_last { (None, checkpoint) } else { (checkpoint, None) };
        let steps = [
            early,
            first,
            planned.anonymizes_recruiter.then_some(Step::AnonymizeRecruiter),
            planned.touch.map(Step::Touch),
            planned.anonymizes_user.then_some(Step::AnonymizeUser),
            planned.deletes_recruiter.then_some(Step::Delete),
            last,
            late,
        ];
        steps.into_iter().flatten().collect()
    }

    /// The positions up to which a read may show the documents.
    fn snapshots(&self, state: &State, floor: u8) -> std::ops::RangeInclusive<u8> {
        let newest = u8::try_from(state.log.len()).expect("few writes");
        let floor = if self.guards.floor { floor } else { 0 };
        match (self.guards.majority, state.is_behind) {
            (false, _) => newest..=newest,
            (true, false) => state.committed..=state.committed,
            (true, true) => floor..=state.committed,
        }
    }

    pub(super) fn of_service(&self, state: &State, memory: &Memory, actions: &mut Vec<Action>) {
        let can_fail = state.faults < self.bounds.faults;
        if let Some(work) = &memory.work {
            let next = work.left.last().copied().expect("work that is not done");
            let snapshots = self.snapshots(state, memory.floor);
            let at = if next.reads() { snapshots } else { 0..=0 };
            actions.extend(at.map(|at| Action::Advance { at }));
            if next.writes_offer() && can_fail {
                actions.extend([true, false].map(|applied| Action::LoseAnswer { applied }));
            }
            return;
        }
        if memory.position < state.lost {
            actions.push(Action::GiveUpPosition);
        } else {
            actions.extend((memory.position + 1..=state.committed).map(Action::Take));
            if state.checkpoint < memory.position {
                actions.push(Action::SaveIdle);
            }
        }
        if state.resync.is_some() {
            actions.push(Action::Resync);
        } else if state.steps < self.bounds.steps {
            // Commands wait for the end of a resync.
            actions.push(Action::Step);
        }
    }

    /// The work of a step between the phases.
    fn phase_step(&self, phase: Phase) -> Vec<Step> {
        match (phase, self.guards.resync_before_step) {
            (Phase::Shadow, true) => vec![Step::BeginResync, Step::SetPhase(Phase::DualWrite)],
            (Phase::Shadow, false) => vec![Step::SetPhase(Phase::DualWrite), Step::BeginResync],
            _ => vec![Step::SetPhase(Phase::Shadow)],
        }
    }

    fn service(&self, state: &mut State, action: &Action) -> Option<()> {
        let (committed, resync) = (state.committed, state.resync);
        let empties = self.guards.empties_caches;
        let memory = state.memory.as_mut()?;
        match action {
            Action::Take(to) => {
                let events = &state.log[usize::from(memory.position)..usize::from(*to)];
                memory.work = Some(Work::of(self.batch(events), *to));
                memory.floor = *to;
                state.is_behind = false;
            }
            Action::GiveUpPosition => {
                memory.floor = committed;
                memory.knows_user &= !empties;
                let steps = [Step::StoreGap, Step::RequestResync];
                let early = (!self.guards.gap_first).then_some(Step::Checkpoint);
                memory.work = Some(Work::of(early.into_iter().chain(steps).collect(), committed));
            }
            Action::Resync => {
                let resync = resync?;
                memory.knows_user &= !(empties && resync.stage == 0);
                memory.work = Some(Work::of(stage(resync), memory.position));
            }
            Action::Step => memory.work = Some(Work::of(self.phase_step(state.phase), memory.position)),
            Action::SaveIdle => state.checkpoint = memory.position,
            Action::LoseAnswer { applied } => {
                let work = memory.work.as_mut()?;
                let step = *work.left.last()?;
                work.left.clone_from(&work.all);
                state.faults += 1;
                match (applied, self.guards.confirms) {
                    (true, true) => state.write(step),
                    (true, false) => {
                        state.land();
                        state.unanswered = Some(step);
                    }
                    (false, _) => {}
                }
            }
            other => panic!("{other:?} is no step of the service"),
        }
        Some(())
    }

    /// Everything but the steps of a process.
    fn world(&self, state: &mut State, action: &Action) {
        match action {
            Action::Application(operation) => state.log.push(*operation),
            Action::Replicate => state.committed += 1,
            Action::Start => {
                // The fence was taken over before, so a majority of this primary has everything that a majority had.
                let position = state.checkpoint;
                let floor = if self.guards.floor_at_start { state.committed } else { 0 };
                state.memory = Some(Memory { position, floor, knows_user: false, work: None });
                state.is_behind = false;
            }
            Action::Land => state.land(),
            Action::Kill => {
                state.memory = None;
                state.unanswered = None;
            }
            Action::Failover => {
                state.log.truncate(state.committed.into());
                state.unanswered = None;
                state.is_behind = true;
                let empties = self.guards.empties_caches;
                state.memory.iter_mut().for_each(|memory| memory.knows_user &= !empties);
            }
            Action::LoseHistory => state.lost = state.committed,
            other => panic!("{other:?} is a step of the service"),
        }
        state.faults += u8::from(matches!(action, Action::Kill | Action::Failover | Action::LoseHistory));
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::beginning(self.bounds.phase)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.log.len() < self.bounds.writes {
            let newest = state.newest();
            let possible = self.bounds.operations.iter().filter(|operation| newest.after(**operation).is_some());
            actions.extend(possible.map(|operation| Action::Application(*operation)));
        }
        if usize::from(state.committed) < state.log.len() {
            actions.push(Action::Replicate);
        }
        match &state.memory {
            Some(memory) => self.of_service(state, memory, actions),
            None => actions.push(Action::Start),
        }
        if state.unanswered.is_some() {
            actions.push(Action::Land);
        }
        if state.faults < self.bounds.faults {
            actions.push(Action::Failover);
            if state.memory.is_some() {
                actions.push(Action::Kill);
            }
            if state.memory.as_ref().map_or(state.checkpoint, |memory| memory.position) < state.committed {
                actions.push(Action::LoseHistory);
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = before.clone();
        match &action {
            Action::Advance { at } => state.advance(&self.guards, *at)?,
            Action::Take(_)
            | Action::GiveUpPosition
            | Action::Resync
            | Action::Step
            | Action::SaveIdle
            | Action::LoseAnswer { .. } => self.service(&mut state, &action)?,
            other => self.world(&mut state, other),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(super::settle::ARRIVES, |model: &Self, state: &State| model.arrives(state)),
            Property::always(super::settle::PRIVATE, |model: &Self, state: &State| model.stays_private(state)),
            Property::always(super::settle::NOT_AHEAD, |model: &Self, state: &State| model.is_not_ahead(state)),
            Property::always(super::settle::REPAIRED, |_, state: &State| state.is_as_told()),
            Property::sometimes("a resync repairs a gap", |_, state: &State| state.gaps.contains(&Gap::Repaired)),
        ]
    }
}
