//! The checks of two writers, and one counterexample per guard.

use stream_processor::inside::Phase;

use super::{Bounds, Guards, Protocol};
use crate::check::{breaks, holds, longer};

const NEWEST: &str = "the newest write stands";
const ECHO: &str = "there is no echo";

fn bounds() -> Bounds {
    let more = u8::from(longer());
    Bounds { writes: 5 + 2 * more, phase: Phase::DualWrite, steps: 6 + 2 * more, kills: 1 }
}

fn in_sync() -> Bounds {
    Bounds { writes: if longer() { 7 } else { 5 }, phase: Phase::Sync, steps: 0, kills: 1 }
}

fn without(name: &str, switch: fn(&mut Guards), property: &'static str) {
    let mut guards = Guards::ALL;
    switch(&mut guards);
    breaks(name, || Protocol::new(guards, bounds()), property);
}

#[test]
fn the_newest_write_stands_on_both_sides_whoever_wrote_it_where() {
    holds("two writers", Protocol::new(Guards::ALL, bounds()));
}

#[test]
fn in_sync_a_closing_stands_until_the_job_is_edited() {
    holds("closings in sync", Protocol::new(Guards::ALL, in_sync()));
}

#[test]
fn without_the_condition_on_what_was_read_a_closing_is_undone() {
    let guards = Guards { condition: false, ..Guards::ALL };
    breaks("the condition in sync", || Protocol::new(guards, in_sync()), NEWEST);
}

#[test]
fn without_the_condition_on_what_was_read_a_newer_offer_is_overwritten() {
    without("the condition on what was read", |it| it.condition = false, NEWEST);
}

#[test]
fn where_the_newest_does_not_win_an_older_job_overwrites_the_offer() {
    without("newest wins", |it| it.newest_wins = false, NEWEST);
}

#[test]
fn a_mirror_without_compare_and_set_overwrites_a_newer_job() {
    without("a mirror without compare-and-set", |it| it.compare_and_set = false, NEWEST);
}

#[test]
fn a_mirror_that_does_not_look_at_dates_overwrites_a_newer_job() {
    without("a mirror that does not look at dates", |it| it.mirror_newest_wins = false, NEWEST);
}

#[test]
fn a_mirror_with_a_date_of_its_own_makes_an_echo() {
    without("echo", |it| it.no_echo = false, ECHO);
}

#[test]
fn a_step_back_that_does_not_wait_for_the_mirror_forgets_an_offer() {
    without("a step back that does not wait", |it| it.drains = false, NEWEST);
}

#[test]
fn a_mirror_that_begins_with_the_next_event_leaves_older_jobs_behind() {
    without("a mirror that begins with the next event", |it| it.mirrors_all = false, NEWEST);
}

#[test]
fn a_stream_that_writes_offers_in_shadow_overwrites_them() {
    without("the phase", |it| it.phase = false, NEWEST);
}
