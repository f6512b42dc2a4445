//! The steps of two leaders with one command, and of the world.

use bson::{Document, doc};
use stateright::{Model, Property};
use stream_processor::inside::{Current, Phase, PhaseChange, conditions, not_later, passing_fence, step};

use super::state::{Instance, State, Stored, TO, Transaction, Work, command};
use crate::server::{Server, Statement, matches, run};

/// The guards of this part of the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// The transaction of a step writes the document of the fence, on condition of its term.
    pub(crate) term_in_step: bool,
    /// A step is made on condition of the revision that was read.
    pub(crate) revision: bool,
    /// The outcome of a command is stored on condition of the term that took it up.
    pub(crate) term_in_outcome: bool,
    /// A leader ends its own earlier transaction before it decides about the command again.
    pub(crate) ends_own_commit: bool,
}

impl Guards {
    pub(crate) const ALL: Self =
        Self { term_in_step: true, revision: true, term_in_outcome: true, ends_own_commit: true };
}

#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) guards: Guards,
    /// The number of leaderships.
    pub(crate) terms: i64,
    /// How often a leader gives the answer to its commit up and begins the step again.
    pub(crate) repeats: u8,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// The instance gets the lease, under the next term, with nothing in its memory.
    Lead(usize),
    /// It takes the fence over. `ends_session`: the open transaction of the leader before is ended with its session.
    TakeOver {
        instance: usize,
        ends_session: bool,
    },
    TakeUp(usize),
    /// It looks whether the step was made.
    Look(usize),
    /// It reads phase and facts, and decides.
    Decide(usize),
    /// It begins the transaction, writes in it and sends the commit.
    Begin(usize),
    /// The commit arrives at the server.
    Commit(usize),
    /// The answer to the commit arrives.
    Answer(usize),
    /// No answer came in time, so the step is repeated.
    GiveUp(usize),
    /// It stores the outcome of the command.
    Store(usize),
    /// A span of the stream is lost.
    OpenGap,
    /// Somebody takes the phase back by hand, as documented: with a higher revision.
    ByHand,
}

fn word(word: &str) -> Option<Phase> {
    Phase::ALL.into_iter().find(|phase| phase.word() == word)
}

impl Protocol {
    /// The document `phase` after the step, if the statement of the product matches it.
    fn stepped(&self, from: Stored, stored: Stored) -> Option<Stored> {
        let current = Current { phase: from.phase, since: None, revision: from.revision, contradicted: false };
        let change = PhaseChange {
            from: current,
            to: TO,
            command: command(),
            who: "somebody".to_owned(),
            reason: None,
            overridden: Vec::new(),
            position: Document::new(),
        };
        let server = Server::at(0);
        let statement = Statement::of(&step(&change, server.now));
        let statement = if self.guards.revision { statement } else { statement.only_with(&["_id"]) };
        let after = run(&server, &statement, Some(&stored.to_document()))?;
        let phase = after.get_str("phase").ok().and_then(word).expect("a phase");
        let history = after.get_array("history").expect("a history");
        let made = history
            .iter()
            .any(|entry| entry.as_document().and_then(|entry| entry.get_object_id("command").ok()) == Some(command()));
        Some(Stored { phase, revision: after.get_i64("revision").expect("a revision"), made })
    }

    /// True if the first statement of a transaction of this term matches.
    fn passes_fence(&self, state: &State, term: i64) -> bool {
        let fence = Statement::of(&passing_fence(term));
        let document = doc! { "_id": "ticker", "term": state.fence_term };
        !self.guards.term_in_step || run(&Server::at(0), &fence, Some(&document)).is_some()
    }

    /// The leader looks whether the step was made: in a transaction, which ends its own earlier one.
    fn look(&self, state: &mut State, instance: usize) -> Option<()> {
        if self.guards.ends_own_commit {
            state.instances[instance].transaction = None;
            // The transaction of another leader holds the document of the fence.
            if self.guards.term_in_step && state.instances[1 - instance].transaction.is_some() {
                return None;
            }
            if !self.passes_fence(state, state.instances[instance].term) {
                // The lease is lost.
                state.instances[instance].work = Work::Nothing;
                return Some(());
            }
        }
        state.instances[instance].work = if state.stored.made { Work::Knows(true) } else { Work::Looked };
        Some(())
    }

    fn decide(state: &State) -> Work {
        let stored = state.stored;
        let way = stored.phase.way_to(TO);
        let unmet = conditions(&state.facts(stored.phase), TO).iter().any(|condition| !condition.met);
        if way.is_none() || unmet { Work::Knows(false) } else { Work::Accepted(stored) }
    }

    fn begin(&self, state: &mut State, instance: usize) -> Option<()> {
        let Instance { term, work: Work::Accepted(from), .. } = state.instances[instance] else { return None };
        // An open transaction of an earlier attempt is aborted first. Of another leader, its locks are waited for.
        state.instances[instance].transaction = None;
        if state.instances[1 - instance].transaction.is_some() {
            return None;
        }
        if !self.passes_fence(state, term) {
            // The lease is lost.
            state.instances[instance].work = Work::Nothing;
            return Some(());
        }
        let after = self.stepped(from, state.stored);
        let it = &mut state.instances[instance];
        it.transaction = after.map(|after| Transaction { from: from.phase, after });
        it.work = if after.is_some() { Work::Commits } else { Work::Knows(false) };
        Some(())
    }

    fn take_over(&self, state: &mut State, instance: usize, ends_session: bool) -> Option<()> {
        if ends_session {
            state.instances.iter_mut().for_each(|it| it.transaction = None);
        }
        // An open transaction has written this document, so it is waited for.
        if self.guards.term_in_step && state.instances.iter().any(|it| it.transaction.is_some()) {
            return None;
        }
        let term = state.instances[instance].term;
        let document = doc! { "_id": "ticker", "term": state.fence_term };
        if matches(&Server::at(0), &not_later(term), &document) {
            state.fence_term = term;
            state.instances[instance].is_fenced = true;
        } else {
            state.instances[instance].term = 0;
        }
        Some(())
    }

    fn of_instance(&self, state: &State, instance: usize, actions: &mut Vec<Action>) {
        let it = &state.instances[instance];
        if it.transaction.is_some() {
            actions.push(Action::Commit(instance));
        }
        if it.term > 0 && !it.is_fenced {
            actions.extend([true, false].map(|ends_session| Action::TakeOver { instance, ends_session }));
        }
        if !it.is_fenced {
            return;
        }
        match it.work {
            Work::Nothing if state.command.outcome.is_none() && state.command.term <= it.term => {
                actions.push(Action::TakeUp(instance));
            }
            Work::Nothing => {}
            Work::TookUp => actions.push(Action::Look(instance)),
            Work::Looked => actions.push(Action::Decide(instance)),
            Work::Accepted(_) => actions.push(Action::Begin(instance)),
            Work::Commits => {
                if it.transaction.is_none() {
                    actions.push(Action::Answer(instance));
                }
                if state.repeats < self.repeats {
                    actions.push(Action::GiveUp(instance));
                }
            }
            Work::Knows(_) => actions.push(Action::Store(instance)),
        }
    }

    /// The command ends when nothing fails any more and an instance begins anew.
    fn ends(&self, state: &State) -> bool {
        let mut state = *state;
        state.lease_term += 1;
        state.instances[0] =
            Instance { term: state.lease_term, is_fenced: false, work: Work::Nothing, transaction: None };
        for _ in 0..20 {
            let mut actions = Vec::new();
            self.of_instance(&state, 0, &mut actions);
            match actions.first().and_then(|action| self.next_state(&state, *action)) {
                Some(next) => state = next,
                None => break,
            }
        }
        state.command.outcome.is_some()
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::beginning()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for instance in [0, 1] {
            // The same instance leads twice only with the other one in between: that is a restart.
            if state.lease_term < self.terms && state.instances[instance].term < state.lease_term.max(1) {
                actions.push(Action::Lead(instance));
            }
            self.of_instance(state, instance, actions);
        }
        if !state.has_gap {
            actions.push(Action::OpenGap);
        }
        if state.stored.phase == Phase::DualWrite && state.stored.revision == 1 {
            actions.push(Action::ByHand);
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        match action {
            Action::Lead(instance) => {
                state.lease_term += 1;
                // A commit that is on its way stays there.
                let transaction = state.instances[instance].transaction;
                let term = state.lease_term;
                state.instances[instance] = Instance { term, is_fenced: false, work: Work::Nothing, transaction };
            }
            Action::TakeOver { instance, ends_session } => self.take_over(&mut state, instance, ends_session)?,
            Action::TakeUp(instance) => {
                state.command.term = state.instances[instance].term;
                state.instances[instance].work = Work::TookUp;
            }
            Action::Look(instance) => self.look(&mut state, instance)?,
            Action::Decide(instance) => state.instances[instance].work = Self::decide(&state),
            Action::Begin(instance) => self.begin(&mut state, instance)?,
            Action::Commit(instance) => {
                let Transaction { from, after } = state.instances[instance].transaction.take()?;
                state.jumped |= state.stored.phase != from;
                state.stored = after;
            }
            Action::Answer(instance) => {
                // Without the step in the history, the transaction was ended by somebody else.
                state.instances[instance].work = if state.stored.made { Work::Knows(true) } else { Work::TookUp };
            }
            Action::GiveUp(instance) => {
                state.repeats += 1;
                state.instances[instance].work = Work::TookUp;
            }
            Action::Store(instance) => {
                let Instance { term, work: Work::Knows(done), .. } = state.instances[instance] else { return None };
                if state.command.term == term || !self.guards.term_in_outcome {
                    state.command.outcome = Some(done);
                }
                state.instances[instance].work = Work::Nothing;
            }
            Action::OpenGap => state.has_gap = true,
            Action::ByHand => {
                // An open transaction holds the document.
                if state.instances.iter().any(|it| it.transaction.is_some()) {
                    return None;
                }
                state.stored = Stored { phase: Phase::Sync, revision: state.stored.revision + 1, ..state.stored };
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a refused step stays refused", |_, state: &State| {
                state.command.outcome != Some(false) || !state.stored.made
            }),
            Property::always("a step begins in the phase that it names", |_, state: &State| !state.jumped),
            Property::always("a step that is told was made", |_, state: &State| {
                state.command.outcome != Some(true) || state.stored.made
            }),
            Property::always("a command ends", |model: &Self, state: &State| model.ends(state)),
            Property::sometimes("a step is made", |_, state: &State| state.command.outcome == Some(true)),
            Property::sometimes("a step is refused", |_, state: &State| state.command.outcome == Some(false)),
        ]
    }
}
