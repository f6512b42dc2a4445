//! How far a long step is: a bar with rate and time left on a terminal, and elsewhere a line in the log now
//! and then.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing::info;

use super::plan::Step;
use crate::clock;

/// How often a line is logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// A walk through offers. Dropped, it leaves nothing on the terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    offers: u64,
    done: u64,
    told_at: Instant,
}

impl Progress {
    /// So many are to be done.
    pub fn begin(offers: u64) -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(offers) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} offers, {per_sec}, {eta} left") {
            bar.set_style(style);
        }
        Self { bar, offers, done: 0, told_at: clock::instant() }
    }

    /// So many more are done.
    pub fn add(&mut self, offers: u64) {
        self.done += offers;
        self.bar.inc(offers);
        if self.bar.is_hidden() && self.told_at.elapsed() >= INTERVAL {
            info!(done = self.done, of = self.offers, "offers gone through");
            self.told_at = clock::instant();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Tells from time to time that a step whose progress only the server knows is still under way.
pub async fn while_waiting<T>(step: &Step, work: impl IntoFuture<Output = T>) -> T {
    let began = clock::instant();
    let work = work.into_future();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(INTERVAL) => {
                info!(seconds = began.elapsed().as_secs(), "still at it, writers go on meanwhile: {step}");
            }
        }
    }
}
