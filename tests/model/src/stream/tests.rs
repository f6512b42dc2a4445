//! The checks of the stream, and one counterexample per guard.

use stream_processor::inside::Phase;

use super::documents::Operation::{
    self, AddJob, CopyRecruiter, CopyUser, DeleteRecruiter, DeleteUser, Edit, RemoveJob,
};
use super::settle::{ARRIVES, NOT_AHEAD, PRIVATE, REPAIRED};
use super::{Bounds, Guards, Protocol};
use crate::check::{breaks, holds, longer};

fn bounds(operations: &[Operation], writes: usize, faults: u8) -> Bounds {
    let writes = writes + usize::from(longer());
    Bounds { writes, operations: operations.to_vec(), faults, phase: Phase::Sync, steps: 0 }
}

/// The same, with a step to `shadow` and back.
fn with_shadow(operations: &[Operation], writes: usize, faults: u8) -> Bounds {
    Bounds { phase: Phase::DualWrite, steps: 2, ..bounds(operations, writes, faults) }
}

/// Looks for a counterexample among these operations with one switch off.
fn without(name: &str, switch: fn(&mut Guards), bounds: &Bounds, property: &'static str) {
    let mut guards = Guards::ALL;
    switch(&mut guards);
    breaks(name, || Protocol::new(guards, bounds.clone()), property);
}

#[test]
fn nothing_is_lost_among_all_writes_with_two_faults() {
    holds("stream, all writes", Protocol::new(Guards::ALL, bounds(&Operation::ALL, 3, 2)));
}

#[test]
fn nothing_is_lost_with_three_faults() {
    holds("stream, three faults", Protocol::new(Guards::ALL, bounds(&[Edit, RemoveJob, AddJob], 2, 3)));
}

#[test]
fn nothing_is_lost_over_shadow_and_back() {
    holds("stream, over shadow", Protocol::new(Guards::ALL, with_shadow(&Operation::ALL, 3, 1)));
}

#[test]
fn a_job_that_is_removed_in_shadow_and_not_set_aside_keeps_its_offer_active() {
    let bounds = with_shadow(&[RemoveJob], 1, 0);
    without("jobs that are not set aside", |it| it.sets_aside = false, &bounds, ARRIVES);
}

#[test]
fn a_step_back_before_its_resync_is_requested_loses_what_shadow_did_not_write() {
    let bounds = with_shadow(&[Edit], 1, 1);
    without("a step back before its resync", |it| it.resync_before_step = false, &bounds, NOT_AHEAD);
}

#[test]
fn a_resync_that_goes_on_without_a_floor_may_read_what_was_before_its_gap() {
    without("no floor at the start", |it| it.floor_at_start = false, &bounds(&[Edit], 1, 3), REPAIRED);
}

#[test]
fn a_checkpoint_before_the_acknowledgement_loses_what_a_kill_interrupts() {
    without(
        "a checkpoint before the acknowledgement",
        |it| it.checkpoint_last = false,
        &bounds(&[Edit], 1, 1),
        NOT_AHEAD,
    );
}

#[test]
fn links_that_shrink_first_leave_an_offer_active_for_ever() {
    let bounds = bounds(&[RemoveJob], 1, 1);
    without("links that shrink first", |it| it.links_shrink_last = false, &bounds, NOT_AHEAD);
}

#[test]
fn links_that_grow_last_forget_a_job_that_comes_and_goes() {
    let bounds = bounds(&[RemoveJob, AddJob], 3, 1);
    without("links that grow last", |it| it.links_grow_first = false, &bounds, NOT_AHEAD);
}

#[test]
fn caches_that_are_kept_over_a_gap_bring_a_contact_back() {
    let bounds = bounds(&[CopyUser, DeleteUser, Edit], 3, 1);
    without("caches kept over a gap", |it| it.empties_caches = false, &bounds, PRIVATE);
}

#[test]
fn a_user_who_stays_in_the_cache_until_after_the_touches_comes_back() {
    let bounds = bounds(&[CopyUser, DeleteUser], 2, 0);
    without("a user who is forgotten last", |it| it.forgets_first = false, &bounds, PRIVATE);
}

#[test]
fn a_batch_that_spans_two_primaries_projects_a_document_from_before_its_event() {
    without("a batch that spans two primaries", |it| it.floor = false, &bounds(&[Edit], 1, 1), ARRIVES);
}

#[test]
fn without_majority_reads_a_value_stays_that_a_failover_took_back() {
    without("majority reads", |it| it.majority = false, &bounds(&[Edit], 2, 1), ARRIVES);
}

#[test]
fn a_deletion_that_does_not_anonymise_once_more_leaves_the_contact() {
    let bounds = bounds(&[CopyRecruiter, Edit, DeleteRecruiter], 3, 0);
    without("the order of anonymisation", |it| it.anonymizes_last = false, &bounds, PRIVATE);
}

#[test]
fn a_gap_that_is_marked_before_its_resync_hides_what_is_not_repaired() {
    let bounds = bounds(&[Edit], 1, 1);
    without("a gap marked before its resync", |it| it.repaired_by_resync = false, &bounds, REPAIRED);
}

#[test]
fn a_checkpoint_that_passes_a_gap_before_it_is_stored_loses_the_gap() {
    without("a gap stored after the checkpoint", |it| it.gap_first = false, &bounds(&[Edit], 1, 2), NOT_AHEAD);
}

#[test]
fn a_repetition_that_does_not_wait_compares_with_what_is_about_to_change() {
    let bounds = bounds(&[RemoveJob, AddJob], 2, 1);
    without("a repetition that does not wait", |it| it.confirms = false, &bounds, ARRIVES);
}
