//! The checks of lease and fence, and one counterexample per guard.

use super::{Bounds, Guards, Protocol};
use crate::check::{breaks, holds, longer};

const LATE: &str = "nobody writes after its term";
/// A month, in ticks.
const MONTH: i64 = 30 * 24 * 3_600;

fn bounds(ahead: &[i64], failovers: u8) -> Bounds {
    Bounds {
        // Five are enough for the counterexample of each guard.
        ticks: if longer() { 7 } else { 5 },
        failovers,
        ahead: ahead.to_vec(),
        cluster_ahead: 0,
        leads_again: false,
    }
}

#[test]
fn nobody_writes_after_its_term_with_clocks_a_quarter_of_a_lease_apart() {
    holds("lease", Protocol::new(Guards::ALL, bounds(&[-1, 1], 1)));
}

#[test]
fn nobody_writes_after_its_term_with_clocks_a_month_apart() {
    holds("lease, a month", Protocol::new(Guards::ALL, bounds(&[MONTH, -MONTH], 1)));
}

#[test]
fn without_the_fence_a_command_that_was_held_up_writes_under_a_successor() {
    breaks("fence", || Protocol::new(Guards { fence: false, ..Guards::ALL }, bounds(&[0], 0)), LATE);
}

#[test]
fn a_renewal_that_shortens_a_lease_lets_a_successor_begin_too_early() {
    let guards = Guards { never_sooner: false, ..Guards::ALL };
    breaks("a renewal that shortens a lease", || Protocol::new(guards, bounds(&[-1], 1)), LATE);
}

#[test]
fn a_lease_that_is_given_back_with_an_unanswered_write_is_not_free() {
    let guards = Guards { waits_for_unanswered: false, ..Guards::ALL };
    breaks("unanswered writes", || Protocol::new(guards, bounds(&[0], 0)), LATE);
}

#[test]
fn a_command_that_begins_too_early_writes_beside_a_leader_that_did_not_wait_for_a_wrong_clock() {
    let guards = Guards { not_too_early: false, ..Guards::ALL };
    breaks("commands that begin too early", || Protocol::new(guards, bounds(&[-MONTH], 1)), LATE);
}

#[test]
fn with_clocks_up_to_two_leases_apart_a_failover_changes_nothing() {
    holds("lease, clocks far apart", Protocol::new(Guards::ALL, bounds(if longer() { &[-2, -7] } else { &[-2] }, 1)));
}

#[test]
fn with_a_clock_that_is_ahead_two_failovers_change_nothing() {
    holds("lease, two failovers", Protocol::new(Guards::ALL, bounds(if longer() { &[-1, 1, 2] } else { &[2] }, 2)));
}

#[test]
fn without_the_time_of_the_cluster_a_clock_that_is_behind_lets_a_command_of_an_ended_term_begin() {
    let guards = Guards { cluster_time: false, ..Guards::ALL };
    breaks("the time of the cluster", || Protocol::new(guards, bounds(&[-2], 1)), LATE);
}

/// A limit of the protocol: the time of the cluster says nothing about the end of a lease when it is past that end from
/// the beginning. `docs/protocol.md` tells it.
#[test]
fn after_a_primary_that_was_ahead_by_more_than_a_lease_clocks_must_be_a_quarter_of_a_lease_apart() {
    let after = |ahead| Bounds { cluster_ahead: 3_600, ..bounds(ahead, 1) };
    holds("lease, the cluster an hour ahead", Protocol::new(Guards::ALL, after(&[-1])));
    breaks("clocks far apart, the cluster an hour ahead", || Protocol::new(Guards::ALL, after(&[-2])), LATE);
}

/// So each leadership of a process has a name of its own.
#[test]
fn a_process_that_leads_again_under_its_name_does_not_wait_for_its_own_unanswered_write() {
    let bounds = Bounds { leads_again: true, ..bounds(&[0], 0) };
    breaks("a process that leads again", || Protocol::new(Guards::ALL, bounds.clone()), LATE);
}
