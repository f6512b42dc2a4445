//! What `replay`, its dry run and `--find` share about the span that they read: progress, and what could not be read.

use bson::Timestamp;
use indicatif::ProgressBar;

use crate::counted::counted;
use crate::error::{Directive, Failure};
use crate::maintenance::replay::too_old;
use crate::refusal::{Exit, Refusal};

/// What stands beside the bar over the time of the span.
pub(super) const BESIDE_BAR: &str = "{percent} % of the time, {eta} left";

/// Shows that the span is read up to `reached`.
pub(super) fn show(bar: &ProgressBar, from: Timestamp, reached: Timestamp, until: Timestamp) {
    bar.set_length(u64::from(until.time.saturating_sub(from.time)));
    bar.set_position(u64::from(reached.time.saturating_sub(from.time)));
}

/// The sentence about closings by somebody else (spec 09, "A closing stands").
pub(super) fn closed_elsewhere_text(count: usize) -> String {
    format!("closed by somebody else, and that stands: {count}")
}

/// The sentence about events that nobody can read.
pub(super) fn undeliverable_text(count: u64) -> String {
    let events = counted(count, "event", "events");
    format!("passed over: at least {events} that the server cannot deliver or that cannot be read")
}

/// The refusal after a failure to read a span that begins at `from`.
pub(super) fn unread(from: Timestamp, failure: Failure) -> Refusal {
    match failure.directive() {
        Directive::Resync => Refusal::new(Exit::Findings, too_old(from, None)),
        _ => failure.into(),
    }
}
