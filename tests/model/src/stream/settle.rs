//! What becomes of a state when nothing fails any more and nobody writes: a fixed schedule until all is quiet. Properties
//! look at its end.

use stateright::Model;

use super::actions::{Action, Protocol};
use super::state::{Gap, State};

/// More steps than any fixed schedule needs.
const STEPS: usize = 300;

pub(crate) const ARRIVES: &str = "what a majority has is in the end on the other side";
pub(crate) const PRIVATE: &str = "an anonymised contact never comes back";
pub(crate) const NOT_AHEAD: &str = "a checkpoint is never ahead";
pub(crate) const REPAIRED: &str = "what is told as repaired is repaired";

impl Protocol {
    /// The next step of the fixed schedule; `None` when all is quiet.
    fn quiet_step(&self, state: &State) -> Option<Action> {
        if state.unanswered.is_some() {
            return Some(Action::Land);
        }
        if usize::from(state.committed) < state.log.len() {
            return Some(Action::Replicate);
        }
        let Some(memory) = &state.memory else { return Some(Action::Start) };
        let mut actions = Vec::new();
        if memory.work.is_some() {
            return Some(Action::Advance { at: state.committed });
        }
        self.of_service(state, memory, &mut actions);
        actions.retain(|action| *action != Action::Step);
        // The greatest batch first, then what the resync has to do.
        let takes = |action: &&Action| matches!(action, Action::Take(_));
        actions.iter().rfind(takes).or(actions.first()).cloned()
    }

    /// The end of the fixed schedule; `None` if it does not end.
    fn settled(&self, state: &State) -> Option<State> {
        let mut state = state.clone();
        for _ in 0..STEPS {
            match self.quiet_step(&state) {
                Some(action) => state = self.next_state(&state, action)?,
                None => return Some(state),
            }
        }
        None
    }

    /// The end of the same schedule in a phase that writes offers.
    fn settled_as_writer(&self, state: &State) -> Option<State> {
        let mut end = self.settled(state)?;
        if !end.phase.writes_offers() {
            let mut step = self.next_state(&end, Action::Step)?;
            while step.memory.as_ref().is_some_and(|memory| memory.work.is_some()) {
                step = self.next_state(&step, Action::Advance { at: 0 })?;
            }
            end = self.settled(&step)?;
        }
        Some(end)
    }

    /// True if both sides agree in the end.
    pub(super) fn arrives(&self, state: &State) -> bool {
        self.settled_as_writer(state)
            .is_some_and(|end| end.agrees() && end.gaps.iter().all(|gap| *gap == Gap::Repaired))
    }

    pub(super) fn stays_private(&self, state: &State) -> bool {
        let is_private = |end: State| end.newest().is_private(end.offer);
        self.settled(state).is_some_and(is_private) && self.settled_as_writer(state).is_some_and(is_private)
    }

    /// True if both sides agree in the end, also if the process is killed now.
    pub(super) fn is_not_ahead(&self, state: &State) -> bool {
        let killed = State { memory: None, unanswered: None, ..state.clone() };
        self.settled_as_writer(&killed).is_some_and(|end| end.agrees())
    }
}

impl State {
    fn agrees(&self) -> bool {
        self.newest().agree_with(self.offer, self.link)
    }

    /// True unless everything is told as applied and repaired, and the two sides differ all the same.
    pub(super) fn is_as_told(&self) -> bool {
        let Some(memory) = &self.memory else { return true };
        let is_idle = memory.work.is_none() && memory.position == self.committed && self.unanswered.is_none();
        let is_repaired = !self.gaps.is_empty() && self.gaps.iter().all(|gap| *gap == Gap::Repaired);
        // After a step back a resync follows, which no gap asked for.
        !(is_idle && is_repaired && self.steps == 0) || self.documents(self.committed).agree_with(self.offer, self.link)
    }
}
