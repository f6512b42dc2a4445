//! The checks of steps to another phase, and one counterexample per guard.

use super::{Guards, Protocol};
use crate::check::{breaks, holds, longer};

const REFUSED: &str = "a refused step stays refused";

fn protocol(guards: Guards, repeats: u8) -> Protocol {
    Protocol { guards, terms: if longer() { 5 } else { 3 }, repeats }
}

#[test]
fn a_refused_step_stays_refused_and_every_command_ends() {
    holds("phase steps", protocol(Guards::ALL, 2));
}

#[test]
fn without_the_term_in_a_step_a_late_commit_makes_a_refused_step() {
    breaks("the term in a phase step", || protocol(Guards { term_in_step: false, ..Guards::ALL }, 0), REFUSED);
}

#[test]
fn without_the_revision_a_step_jumps_over_a_phase() {
    let guards = Guards { revision: false, ..Guards::ALL };
    breaks("the revision in a phase step", || protocol(guards, 0), "a step begins in the phase that it names");
}

#[test]
fn without_the_term_in_an_outcome_a_late_refusal_is_told_of_a_step_that_was_made() {
    breaks("the term in an outcome", || protocol(Guards { term_in_outcome: false, ..Guards::ALL }, 0), REFUSED);
}

#[test]
fn a_leader_that_does_not_end_its_own_commit_refuses_a_step_that_is_made_later() {
    let guards = Guards { ends_own_commit: false, ..Guards::ALL };
    breaks("a commit that is given up", || protocol(guards, 1), REFUSED);
}
