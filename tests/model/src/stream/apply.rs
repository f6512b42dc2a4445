//! One step of the service's work, in the order of the product's executor and chunk.

use stream_processor::inside::StreamWrites;

use super::documents::{Link, Offer};
use super::state::{Gap, Guards, Memory, Resync, State, Step, Work};

/// The number of stages of a resync: touches, links, copies of recruiters, offers.
const STAGES: u8 = 4;

impl Step {
    /// True if the step reads documents of the platform.
    pub(super) fn reads(self) -> bool {
        use Step::{AnonymizeIfAbsent, AnonymizeIfGone, AnonymizeRecruiter, AnonymizeUser, Delete, Touch};
        matches!(self, Touch(_) | AnonymizeIfAbsent | AnonymizeRecruiter | AnonymizeUser | AnonymizeIfGone | Delete)
    }

    /// True if the step writes the offer.
    pub(super) fn writes_offer(self) -> bool {
        matches!(self, Self::Cancel | Self::Write(_) | Self::Hide)
    }
}

/// The steps of a stage of a resync.
pub(super) fn stage(resync: Resync) -> Vec<Step> {
    match resync.stage {
        0 => vec![Step::Touch(true), Step::StageDone],
        1 => vec![Step::Delete, Step::StageDone],
        2 => vec![Step::AnonymizeIfAbsent, Step::StageDone],
        _ => vec![Step::AnonymizeIfGone, Step::CancelOrphan, Step::StageDone],
    }
}

impl State {
    /// Does the next step of the work, with reads that show the documents after `at` writes.
    pub(super) fn advance(&mut self, guards: &Guards, at: u8) -> Option<()> {
        let mut memory = self.memory.take()?;
        let mut work = memory.work.take()?;
        let step = work.left.pop()?;
        if step.reads() {
            let mut more = self.planned(guards, step, at, &mut memory);
            more.reverse();
            work.left.extend(more);
        } else {
            self.perform(guards, step, &mut memory, &work);
        }
        if work.left.is_empty() {
            memory.position = work.to;
        } else {
            memory.work = Some(work);
        }
        self.memory = Some(memory);
        Some(())
    }

    /// The writes that follow from what a step reads, in their order.
    fn planned(&self, guards: &Guards, step: Step, at: u8, memory: &mut Memory) -> Vec<Step> {
        let documents = self.documents(at);
        match step {
            Step::Touch(_) if documents.recruiter.is_none() => vec![],
            Step::Touch(all) => {
                let projected = documents.projected(memory.knows_user);
                memory.knows_user |= projected.is_some() && documents.user;
                self.writes(guards, all || projected.is_none(), projected)
            }
            Step::AnonymizeRecruiter if documents.copy || self.link.names_job() => vec![Step::Hide],
            Step::AnonymizeIfAbsent if documents.copy && documents.recruiter.is_none() => vec![Step::Hide],
            Step::AnonymizeUser if documents.user_is_anonymized() => vec![Step::Hide, Step::Touch(true)],
            Step::AnonymizeUser => vec![Step::Hide],
            Step::AnonymizeIfGone if documents.user_is_anonymized() => vec![Step::Hide],
            Step::Delete if documents.recruiter.is_none() && (self.link.names_job() || documents.copy) => {
                if documents.copy && guards.anonymizes_last {
                    vec![Step::Hide, Step::Shrink]
                } else if self.phase.writes_offers() {
                    vec![Step::Cancel, Step::Shrink]
                } else {
                    vec![self.aside(guards)]
                }
            }
            _ => vec![],
        }
    }

    /// The writes of a touch: links grow, the offer of a removed job is cancelled, offers are written, links shrink.
    fn writes(&self, guards: &Guards, all: bool, projected: Option<Offer>) -> Vec<Step> {
        let was_active = self.offer.is_some_and(|offer| offer.is_active);
        let cancels = self.phase.writes_offers();
        let begins = projected.is_some_and(|projected| projected.is_active && !was_active);
        let grow = (projected.is_some() && !self.link.has_job && (all || begins)).then_some(Step::Grow);
        let is_removed = all && projected.is_none() && (self.link.has_job || cancels && self.link.set_aside);
        if !cancels {
            return grow.into_iter().chain(is_removed.then(|| self.aside(guards))).collect();
        }
        let [cancel, shrink] = [Step::Cancel, Step::Shrink].map(|step| is_removed.then_some(step));
        let write = projected.filter(|projected| self.offer != Some(*projected)).map(Step::Write);
        let (first, last) = if guards.links_grow_first { (grow, None) } else { (None, grow) };
        let removal = if guards.links_shrink_last { [cancel, write, shrink] } else { [shrink, cancel, write] };
        [first].into_iter().chain(removal).chain([last]).flatten().collect()
    }

    /// What becomes of the link of a removed job in a phase that cancels nothing.
    fn aside(&self, guards: &Guards) -> Step {
        if guards.sets_aside { Step::SetAside } else { Step::Shrink }
    }

    fn perform(&mut self, guards: &Guards, step: Step, memory: &mut Memory, work: &Work) {
        // What is acknowledged now comes after everything that the primary has. A checkpoint may be in a file.
        if step.writes_offer() || matches!(step, Step::Grow | Step::Shrink | Step::SetAside) {
            self.land();
        }
        match step {
            Step::ForgetUser => memory.knows_user = false,
            Step::Grow => self.link.has_job = true,
            Step::Shrink => self.link = Link::NONE,
            Step::SetAside => self.link = Link { has_job: false, set_aside: true },
            // Elsewhere an application may have created the offer alone.
            Step::CancelOrphan if self.link.has_job || self.phase.stream() != StreamWrites::Always => {}
            Step::SetPhase(phase) => (self.phase, self.steps) = (phase, self.steps + 1),
            Step::BeginResync => self.begin_resync(),
            Step::Cancel | Step::CancelOrphan | Step::Write(_) | Step::Hide => self.write(step),
            Step::Checkpoint => self.checkpoint = work.to,
            Step::StoreGap => self.gaps.push(Gap::Open),
            Step::RequestResync => self.request_resync(guards),
            Step::StageDone => self.stage_done(),
            read => panic!("{read:?} writes nothing"),
        }
    }

    /// Writes the offer.
    pub(super) fn write(&mut self, step: Step) {
        match (step, &mut self.offer) {
            (Step::Write(offer), _) => self.offer = Some(offer),
            (Step::Cancel | Step::CancelOrphan, Some(offer)) => offer.is_active = false,
            (Step::Hide, Some(offer)) => (offer.is_active, offer.shows_contact) = (false, false),
            _ => {}
        }
    }

    /// A majority gets the write whose answer nobody waits for.
    pub(super) fn land(&mut self) {
        if let Some(step) = self.unanswered.take() {
            self.write(step);
        }
    }

    fn request_resync(&mut self, guards: &Guards) {
        match &mut self.resync {
            Some(resync) => resync.again = true,
            None => self.begin_resync(),
        }
        if !guards.repaired_by_resync {
            self.gaps.iter_mut().for_each(|gap| *gap = Gap::Repaired);
        }
    }

    fn begin_resync(&mut self) {
        self.resync = Some(Resync { stage: 0, again: false });
        self.gaps.iter_mut().filter(|gap| **gap == Gap::Open).for_each(|gap| *gap = Gap::Assigned);
    }

    fn stage_done(&mut self) {
        let Some(resync) = &mut self.resync else { return };
        resync.stage += 1;
        if resync.stage < STAGES {
            return;
        }
        self.gaps.iter_mut().filter(|gap| **gap == Gap::Assigned).for_each(|gap| *gap = Gap::Repaired);
        if self.resync.take().is_some_and(|resync| resync.again) {
            self.begin_resync();
        }
    }
}
