//! The steps of the instances, of the server and of the world.

use std::time::Duration;

use bson::{Bson, DateTime, Document, Timestamp};
use stateright::{Model, Property};
use stream_processor::inside::{Begins, fence, held_by, limits, releasing, renewing, taking};

use super::state::{DURATION, Instance, Kind, Leading, Lease, Request, State, TICK, Write, name};
use crate::memory::Memory;
use crate::server::{Server, matches, update};

/// The guards of this part of the protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    /// A write carries a variable that the server cannot compute outside of the lease.
    pub(crate) fence: bool,
    /// The variable also fails a command that begins too early.
    pub(crate) not_too_early: bool,
    /// A renewal never moves the end of the lease back.
    pub(crate) never_sooner: bool,
    /// A lease that is given back is not free while the server may work on a write.
    pub(crate) waits_for_unanswered: bool,
    /// The variable also fails a command when the time of the cluster says that the lease is over.
    pub(crate) cluster_time: bool,
}

impl Guards {
    pub(crate) const ALL: Self =
        Self { fence: true, not_too_early: true, never_sooner: true, waits_for_unanswered: true, cluster_time: true };
}

/// The size of the space.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// The time at which the world ends, in ticks.
    pub(crate) ticks: i64,
    pub(crate) failovers: u8,
    /// How far the clock of the second member is ahead, in ticks; each is one beginning.
    pub(crate) ahead: Vec<i64>,
    /// How far the time of the cluster is ahead of the first member's clock, in ticks: another member with a clock that
    /// far ahead was the primary before.
    pub(crate) cluster_ahead: i64,
    /// True if the first instance competes again under its name while its last write is on its way.
    pub(crate) leads_again: bool,
}

#[derive(Debug)]
pub(crate) struct Protocol {
    pub(crate) guards: Guards,
    pub(crate) bounds: Bounds,
    taking: [Bson; 2],
    renewing: Bson,
    applied: Memory<(Lease, i64, u8, Kind), Option<Lease>>,
    can_lead: Memory<(Lease, i64), bool>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A second passes.
    Tick,
    /// The instance asks for the lease, or for its renewal.
    Ask(u8),
    /// The instance gives the lease back.
    GiveBack(u8),
    /// The primary carries the command about the lease out.
    Apply(u8),
    /// A majority has what the primary has, and the answer about the lease arrives.
    Answer(u8),
    /// The leader sends a write.
    Send(u8),
    /// The write arrives at the primary.
    Arrive(u8),
    /// The write takes effect.
    Write(u8),
    /// The other member becomes the primary. Unless a majority has got it just in time, what was not answered is gone.
    Failover { in_time: bool },
}

impl Protocol {
    pub(crate) fn new(guards: Guards, bounds: Bounds) -> Self {
        let duration = Duration::from_millis(DURATION.unsigned_abs());
        let mut renewing = renewing(duration, None);
        if !guards.never_sooner {
            let set = renewing[0].get_document_mut("$set").expect("one stage");
            set.insert("expires_at", bson::doc! { "$add": ["$$NOW", DURATION] });
        }
        let taking = [0, 1].map(|instance| taking(name(instance), duration).into());
        let (applied, can_lead) = (Memory::default(), Memory::default());
        Self { guards, bounds, taking, renewing: renewing.into(), applied, can_lead }
    }

    /// What the primary makes of a command about the lease.
    fn applied(&self, lease: Lease, clock: i64, instance: u8, kind: Kind) -> Option<Lease> {
        self.applied.get((lease, clock, instance, kind), |_| self.compute(lease, clock, instance, kind))
    }

    fn compute(&self, lease: Lease, clock: i64, instance: u8, kind: Kind) -> Option<Lease> {
        let server = Server::at(clock).in_cluster(lease.written);
        let stored = lease.to_document();
        let is_mine = |term| matches(&server, &held_by(name(instance), term), &stored);
        let changed = match kind {
            Kind::Take => update(&server, &self.taking[usize::from(instance)], &stored),
            Kind::Renew { term } if is_mine(term) => update(&server, &self.renewing, &stored),
            Kind::Release { term, unanswered } if is_mine(term) => {
                update(&server, &releasing(unanswered).into(), &stored)
            }
            _ => return None,
        };
        Some(Lease::written(&changed.expect("the lease can always be computed"), lease, clock))
    }

    /// The instance learns what became of its command.
    fn answered(instance: u8, it: &mut Instance, now: i64) {
        let Some(Request { kind, asked, answer: Some(answer) }) = it.request.take() else { return };
        let leads = |lease: Lease| Leading::of(lease, asked);
        match (kind, answer) {
            (Kind::Take, Some(lease)) if lease.holder == instance => it.leads = Some(leads(lease)),
            // A renewal is not waited for longer than a third of the duration.
            (Kind::Renew { .. }, _) if now - asked > DURATION / 3 => {}
            (Kind::Renew { .. }, Some(lease)) => it.leads = Some(leads(lease)),
            (Kind::Renew { .. }, None) => it.leads = None,
            _ => {}
        }
    }

    fn ask(&self, it: &mut Instance, now: i64, gives_back: bool) -> Option<()> {
        let valid = it.leads.filter(|leads| leads.until > now);
        let kind = match (gives_back, valid) {
            (true, leads) => {
                let unanswered = it.write.map_or(0, |write| write.begins.1 + write.limit);
                let unanswered = if self.guards.waits_for_unanswered { unanswered } else { 0 };
                it.leads = None;
                Kind::Release { term: leads?.term, unanswered }
            }
            (false, Some(leads)) => Kind::Renew { term: leads.term },
            (false, None) => {
                it.leads = None;
                Kind::Take
            }
        };
        it.request = Some(Request { kind, asked: now, answer: None });
        Some(())
    }

    fn to_send(&self, it: &Instance, now: i64) -> Option<Write> {
        let leads = it.leads.filter(|leads| leads.until - now >= DURATION / 2)?;
        let time = |milliseconds: i64| Duration::from_millis(milliseconds.unsigned_abs());
        let ends_at = DateTime::from_millis(leads.ends_at);
        let (limit, begins) = limits((ends_at, None), time(DURATION), time(leads.until - now));
        Some(Write {
            term: leads.term,
            begins: (begins.after.timestamp_millis(), begins.before.timestamp_millis()),
            cluster_end: leads.cluster_end,
            limit: i64::try_from(limit.as_millis()).expect("a short time"),
            until: None,
        })
    }

    fn passes(&self, write: &Write, clock: i64, cluster: i64) -> bool {
        let (after, before) = write.begins;
        let after = if self.guards.not_too_early { after } else { 0 };
        let (after, before) = (DateTime::from_millis(after), DateTime::from_millis(before));
        let cluster_end = write.cluster_end.filter(|_| self.guards.cluster_time);
        let cluster_end = cluster_end.map(|time| Timestamp { time, increment: 0 });
        let variable = fence(Begins { after, before, cluster_end });
        let variable = Document::try_from(variable.as_ref()).expect("an object");
        !self.guards.fence || Server::at(clock).in_cluster(cluster).evaluate(&variable.into(), &Document::new()).is_ok()
    }

    /// True if an instance that begins now leads in the end, when nothing fails any more.
    fn can_lead(&self, lease: Lease, clock: i64) -> bool {
        self.can_lead.get((lease, clock), |_| {
            let mut after = lease;
            (1..=40).any(|tick| {
                after = self.applied(after, clock + tick * TICK, 1, Kind::Take).expect("a lease");
                after.holder == 1 && after.term > lease.term
            })
        })
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let cluster = self.bounds.cluster_ahead * TICK;
        self.bounds.ahead.iter().map(|ticks| State::beginning(ticks * TICK, cluster)).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.bounds.ticks * TICK {
            actions.push(Action::Tick);
        }
        if state.failovers < self.bounds.failovers {
            actions.push(Action::Failover { in_time: false });
            if state.lease != state.majority {
                actions.push(Action::Failover { in_time: true });
            }
        }
        for instance in [0, 1] {
            let it = &state.instances[usize::from(instance)];
            let valid = it.leads.is_some_and(|leads| leads.until > state.now);
            match it.request {
                None if instance == 0 && (valid || self.bounds.leads_again) => actions.push(Action::Ask(0)),
                // A standby has nothing to lose, so it does not matter when its command was sent.
                None if instance == 1 && it.leads.is_none() => actions.push(Action::Apply(1)),
                None => {}
                Some(Request { answer: None, .. }) => actions.push(Action::Apply(instance)),
                Some(_) => actions.push(Action::Answer(instance)),
            }
            if it.request.is_none() && valid && instance == 0 {
                actions.push(Action::GiveBack(instance));
            }
            match it.write {
                // What the last leader writes cannot be late.
                _ if instance == 1 => {}
                None if self.to_send(it, state.now).is_some() => actions.push(Action::Send(instance)),
                None => {}
                Some(Write { until: None, .. }) => actions.push(Action::Arrive(instance)),
                Some(_) => actions.push(Action::Write(instance)),
            }
        }
    }

    fn next_state(&self, before: &State, action: Action) -> Option<State> {
        let mut state = *before;
        match action {
            Action::Tick => {
                state.now += TICK;
                // The server gives up what takes too long.
                let over = |write: &Write| write.until.is_some_and(|until| until < state.now);
                state.instances.iter_mut().for_each(|it| it.write = it.write.filter(|write| !over(write)));
            }
            Action::Failover { in_time } => {
                if in_time {
                    state.majority = state.lease;
                }
                state.failovers += 1;
                state.primary = 1 - state.primary;
                state.lease = state.majority;
                for it in &mut state.instances {
                    it.request = it.request.filter(|request| request.answer.is_none());
                    it.write = it.write.filter(|write| write.until.is_none());
                }
            }
            Action::Ask(instance) | Action::GiveBack(instance) => {
                let gives_back = matches!(action, Action::GiveBack(_));
                self.ask(&mut state.instances[usize::from(instance)], state.now, gives_back)?;
            }
            Action::Apply(instance) => {
                let asked = Request { kind: Kind::Take, asked: 0, answer: None };
                let asked = state.instances[usize::from(instance)].request.unwrap_or(asked);
                let applied = self.applied(state.lease, state.clock(), instance, asked.kind);
                state.lease = applied.unwrap_or(state.lease);
                state.instances[usize::from(instance)].request = Some(Request { answer: Some(applied), ..asked });
            }
            Action::Answer(instance) => {
                state.majority = state.lease;
                Self::answered(instance, &mut state.instances[usize::from(instance)], state.now);
            }
            Action::Send(instance) => {
                let it = &mut state.instances[usize::from(instance)];
                it.write = self.to_send(it, state.now);
            }
            Action::Arrive(instance) => {
                let (clock, cluster, now) = (state.clock(), state.lease.written, state.now);
                let write = &mut state.instances[usize::from(instance)].write;
                *write = write.filter(|write| self.passes(write, clock, cluster));
                write.iter_mut().for_each(|write| write.until = Some(now + write.limit));
            }
            Action::Write(instance) => {
                let write = state.instances[usize::from(instance)].write.take()?;
                state.wrote_late |= state.lease.term > write.term;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody writes after its term", |_, state: &State| !state.wrote_late),
            Property::always("an instance can lead in the end", |model: &Self, state: &State| {
                model.can_lead(state.majority, state.clock())
            }),
            Property::sometimes("another instance leads", |_, state: &State| state.instances[1].leads.is_some()),
        ]
    }
}
