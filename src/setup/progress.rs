//! The progress of a long step: on a terminal a bar with rate and time left, elsewhere a line every ten seconds.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::plan::SetupStep;
use crate::clock;
use crate::progress::{bar, tell};

/// The time between two lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// The progress of one pass over the offers. Its end clears the bar from the terminal.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    offers: u64,
    done: u64,
    told_at: Instant,
}

impl Progress {
    /// Begins a pass over this number of offers.
    pub(super) fn begin(offers: u64) -> Self {
        let bar = bar(offers, "{pos}/{len} offers, {per_sec}, {eta} left");
        Self { bar, offers, done: 0, told_at: clock::instant() }
    }

    /// Adds offers that are done, and tells so when a line is due.
    pub(super) fn add(&mut self, offers: u64) {
        self.done += offers;
        self.bar.inc(offers);
        if self.bar.is_hidden() && self.told_at.elapsed() >= INTERVAL {
            tell(&format!("{} of {} offers processed", self.done, self.offers));
            self.told_at = clock::instant();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Waits for `work` and tells every ten seconds that the step still runs, for a step whose progress only the server
/// knows.
pub(super) async fn while_waiting<T>(step: &SetupStep, work: impl IntoFuture<Output = T>) -> T {
    let began = clock::instant();
    let work = work.into_future();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(INTERVAL) => {
                let seconds = began.elapsed().as_secs();
                tell(&format!("{step}: runs for {seconds} s; other writers are not blocked"));
            }
        }
    }
}
