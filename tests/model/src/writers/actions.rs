//! The steps of the applications, of the service and of the migration.

use bson::DateTime;
use stateright::{Model, Property};
use stream_processor::inside::{LastVerification, Phase, StepFacts, StreamWrites, conditions};

use super::documents::Documents;
use super::state::{Guards, Job, Side, State, Work};

/// The size of the space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The number of writes of applications.
    pub(crate) writes: u8,
    /// The phase at the beginning. In `sync`, applications write jobs, others close offers, and there is no step.
    pub(crate) phase: Phase,
    /// The number of steps between the phases.
    pub(crate) steps: u8,
    pub(crate) kills: u8,
}

#[derive(Debug)]
pub(crate) struct Protocol {
    guards: Guards,
    bounds: Bounds,
    documents: Documents,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Action {
    /// An application begins a write with this side; the other one follows where it writes both.
    Begin(Side),
    /// An application writes the offer alone.
    OfferAlone,
    /// Somebody else fills the offer, and moves its date or not.
    Close { moves_date: bool },
    /// The process is killed, and the next one reads all again.
    Kill,
    /// The write reaches the other side.
    OtherSide,
    /// The service reads both sides because of an event of this side.
    Read(Side),
    /// What the service is about to write arrives.
    Arrive,
    /// A step to the phase.
    Step(Phase),
    /// From now on applications write offers only, or both sides again.
    Deploy { offers_only: bool },
}

impl Protocol {
    pub(crate) fn new(guards: Guards, bounds: Bounds) -> Self {
        Self { guards, bounds, documents: Documents::new() }
    }

    /// What the stream writes about the job as it is now.
    fn forward(&self, state: &State) -> Option<Work> {
        let newest_wins = match state.phase.stream() {
            StreamWrites::Always => false,
            StreamWrites::UnlessNewer => self.guards.newest_wins,
            StreamWrites::Compare | StreamWrites::Closed if self.guards.phase => return None,
            StreamWrites::Compare | StreamWrites::Closed => false,
        };
        let statement = self.documents.planned(state.job, state.offer, newest_wins, self.guards.condition);
        statement.map(Work::Offer)
    }

    /// What the mirror writes about the offer as it is now.
    fn mirrored(&self, state: &State) -> Option<Work> {
        let (shown, read) = (self.documents.shown(state.offer).job, state.job);
        let loses = self.guards.mirror_newest_wins && shown.date < read.date;
        let mut after = shown;
        if !self.guards.no_echo {
            after.date += 1;
        }
        let differs = shown.title != read.title || self.guards.no_echo && shown.date != read.date;
        (!loses && differs).then_some(Work::Job { read, after })
    }

    fn arrive(&self, state: &mut State) -> Option<()> {
        match state.work.take()? {
            Work::Offer(statement) => match self.documents.after(statement, state.offer) {
                Some(after) => {
                    // A write that changes nothing makes no event.
                    let [shown, was] = [after, state.offer].map(|offer| self.documents.shown(offer));
                    let says_the_same = shown.job.title == was.job.title && shown.is_active == was.is_active;
                    state.echoed |= after != state.offer && says_the_same;
                    state.offer_event |= state.phase == Phase::Shadow && after != state.offer;
                    state.offer = after;
                }
                // Nothing matched, so both sides are read and compared again.
                None => state.work = self.forward(state),
            },
            Work::Job { read, .. } if self.guards.compare_and_set && read != state.job => {
                state.work = self.mirrored(state);
            }
            Work::Job { after, .. } => {
                state.echoed |= after != state.job && after.title == state.job.title;
                state.job_event |= after != state.job;
                state.job = after;
            }
        }
        Some(())
    }

    fn write(&self, state: &mut State, side: Side, number: u8) {
        let job = Job::written(number);
        match side {
            Side::Job => {
                state.job_event = true;
                state.job = job;
            }
            Side::Offer => {
                // Other phases do not watch offers.
                state.offer_event |= state.phase == Phase::Shadow;
                state.offer = self.documents.edited(state.offer, job);
            }
        }
    }

    /// True if the product's conditions let the step be made, with a verification that is made now.
    fn may_step(&self, state: &State, to: Phase) -> bool {
        let idle = state.work.is_none() && !state.job_event && (!state.offer_event || !self.guards.drains);
        let differs = self.documents.planned(state.job, state.offer, true, true).is_some();
        let now = DateTime::from_millis(1_800_000_000_000);
        let verification = LastVerification {
            jobs_without_offer: Some(0),
            phase: state.phase.word().to_owned(),
            began: now,
            ended: now,
            differences: differs.into(),
            only_in_recruiters: None,
        };
        let facts = StepFacts {
            phase: state.phase,
            since: None,
            verification: Some(verification),
            lag: Some(0.0),
            dead_letters: 0,
            open_gaps: 0,
            running: 0,
            now,
        };
        let back = to == Phase::DualWrite;
        // Before a step back, applications write both sides again.
        idle && conditions(&facts, to).iter().all(|condition| condition.met) && !(back && state.apps_write_offers_only)
    }

    fn step(&self, state: &mut State, to: Phase) {
        state.phase = to;
        state.steps += 1;
        state.newest_is_alone = false;
        if to == Phase::Shadow {
            state.offer_event = self.guards.mirrors_all;
        } else {
            // The stream writes offers again, so a resync touches everything.
            (state.job_event, state.offer_event) = (true, false);
        }
    }

    /// The end of a fixed schedule without further writes: all is read, in the phase of the state or in `shadow` at last.
    fn settled(&self, state: &State, in_shadow: bool) -> Option<State> {
        let mut state = *state;
        for _ in 0..100 {
            let action = if state.work.is_some() {
                Action::Arrive
            } else if state.half.is_some() {
                Action::OtherSide
            } else if state.job_event {
                Action::Read(Side::Job)
            } else if state.offer_event {
                Action::Read(Side::Offer)
            } else if in_shadow && state.phase == Phase::DualWrite && self.may_step(&state, Phase::Shadow) {
                Action::Step(Phase::Shadow)
            } else {
                return Some(state);
            };
            state = self.next_state(&state, action)?;
        }
        None
    }

    /// In `sync`: the offer has the newest title, and a closing stands until the job is edited.
    fn closing_stands(&self, state: &State) -> bool {
        self.settled(state, false).is_some_and(|end| {
            let shown = self.documents.shown(end.offer);
            shown.job.title == end.job.title && shown.is_active == (end.closed < end.job.title.max(1))
        })
    }

    fn newest_stands(&self, state: &State) -> bool {
        if state.phase == Phase::Sync {
            return self.closing_stands(state);
        }
        let stands = |end: &State| {
            let job_is_newest = end.job.title == end.writes || end.newest_is_alone;
            job_is_newest && self.documents.shown(end.offer).job.title == end.writes
        };
        let is_mirrored = |end: &State| end.phase == Phase::Shadow && stands(end);
        self.settled(state, false).is_some_and(|end| stands(&end))
            && self.settled(state, true).is_some_and(|end| is_mirrored(&end))
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let job = Job::written(0);
        vec![State {
            phase: self.bounds.phase,
            apps_write_offers_only: false,
            job,
            offer: self.documents.created(job),
            half: None,
            writes: 0,
            closed: 0,
            kills: 0,
            newest_is_alone: false,
            job_event: false,
            offer_event: false,
            work: None,
            steps: 0,
            echoed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.half {
            Some(_) => actions.push(Action::OtherSide),
            None if state.writes < self.bounds.writes && state.phase == Phase::Sync => {
                actions.push(Action::Begin(Side::Job));
                actions.extend([true, false].map(|moves_date| Action::Close { moves_date }));
            }
            None if state.writes < self.bounds.writes => {
                actions.push(Action::OfferAlone);
                if !state.apps_write_offers_only {
                    actions.extend([Side::Job, Side::Offer].map(Action::Begin));
                }
            }
            None => {}
        }
        if state.work.is_some() {
            actions.push(Action::Arrive);
        } else {
            let events = [(state.job_event, Side::Job), (state.offer_event, Side::Offer)];
            actions.extend(events.iter().filter(|(has_event, _)| *has_event).map(|(_, side)| Action::Read(*side)));
        }
        if state.kills < self.bounds.kills {
            actions.push(Action::Kill);
        }
        if state.steps < self.bounds.steps {
            let to = if state.phase == Phase::Shadow { Phase::DualWrite } else { Phase::Shadow };
            if self.may_step(state, to) {
                actions.push(Action::Step(to));
            }
        }
        if state.phase == Phase::Shadow && state.half.is_none() {
            actions.push(Action::Deploy { offers_only: !state.apps_write_offers_only });
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        match action {
            Action::Begin(side) => {
                state.writes += 1;
                let other = if side == Side::Job { Side::Offer } else { Side::Job };
                state.half = Some((other, state.writes)).filter(|_| state.phase != Phase::Sync);
                state.newest_is_alone = false;
                self.write(&mut state, side, before.writes + 1);
            }
            Action::OfferAlone => {
                state.writes += 1;
                state.newest_is_alone = state.phase == Phase::DualWrite;
                self.write(&mut state, Side::Offer, before.writes + 1);
            }
            Action::Close { moves_date } => {
                state.writes += 1;
                state.closed = state.writes;
                state.offer = self.documents.closed(state.offer, state.writes, moves_date);
            }
            Action::Kill => {
                state.kills += 1;
                state.work = None;
                (state.job_event, state.offer_event) = (true, state.phase == Phase::Shadow);
            }
            Action::OtherSide => {
                let (side, number) = state.half.take()?;
                self.write(&mut state, side, number);
            }
            Action::Read(Side::Job) => {
                state.job_event = false;
                state.work = self.forward(&state);
            }
            Action::Read(Side::Offer) => {
                state.offer_event = false;
                state.work = self.mirrored(&state);
            }
            Action::Arrive => self.arrive(&mut state)?,
            Action::Step(to) => self.step(&mut state, to),
            Action::Deploy { offers_only } => state.apps_write_offers_only = offers_only,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the newest write stands", |model: &Self, state: &State| model.newest_stands(state)),
            Property::always("there is no echo", |_, state: &State| !state.echoed),
            Property::sometimes("the stream writes an offer", |_, state: &State| {
                matches!(state.work, Some(Work::Offer(_)))
            }),
        ]
    }
}
