//! Computes the delays between attempts: exponential, with jitter, for any number of attempts (spec 03, "Writing").
//! This is the only file that uses the crate `backoff`. Nothing here waits.

#![expect(clippy::disallowed_types, reason = "the one file that may: see clippy.toml")]

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff as _};

/// The delays of one series of attempts.
#[derive(Debug)]
pub(crate) struct Delays {
    backoff: ExponentialBackoff,
    longest: Duration,
}

impl Delays {
    /// Makes delays that begin with 50 ms and double up to `longest`. Jitter makes each up to half longer or shorter.
    #[must_use]
    pub(crate) fn up_to(longest: Duration) -> Self {
        let mut builder = ExponentialBackoffBuilder::new();
        builder
            .with_initial_interval(Duration::from_millis(50))
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_interval(longest)
            .with_max_elapsed_time(None);
        Self { backoff: builder.build(), longest }
    }

    /// Returns the delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        // `None` would mean "give up". Without a maximal elapsed time it never comes.
        self.backoff.next_backoff().unwrap_or(self.longest)
    }

    /// Begins a new series after a success. Its first delay is small again.
    pub(crate) fn reset(&mut self) {
        self.backoff.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_bounded_and_start_small_again() {
        let mut delays = Delays::up_to(Duration::from_secs(5));
        let first = delays.next_delay();
        assert!(first <= Duration::from_millis(75), "{first:?}");
        let longest = (0..50).map(|_| delays.next_delay()).max().unwrap();
        assert!(longest > Duration::from_secs(2) && longest <= Duration::from_millis(7_500), "{longest:?}");
        delays.reset();
        assert!(delays.next_delay() <= Duration::from_millis(75));
    }
}
