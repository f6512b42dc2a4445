//! The time from an event to its effect in the last minutes, for the status page: finer than the lag, which counts whole
//! seconds.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock;

/// The age at which a measurement leaves the window.
const WINDOW: Duration = Duration::from_mins(1);
/// The greatest number of measurements that are kept: the memory is bounded, whatever the rate.
const KEPT: usize = 4_096;

/// The latencies of the last minute.
#[derive(Debug, Default)]
pub(crate) struct RecentLatencies {
    measured: Mutex<VecDeque<(Instant, f64)>>,
}

/// Percentiles of the last minute, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub p50_seconds: f64,
    pub p99_seconds: f64,
}

impl RecentLatencies {
    /// Adds a measurement in seconds.
    pub(crate) fn add(&self, seconds: f64) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.push_back((clock::instant(), seconds));
        if measured.len() > KEPT {
            measured.pop_front();
        }
    }

    /// The percentiles of the last minute; `None` when nothing was measured in it.
    #[must_use]
    pub(crate) fn last_minute(&self) -> Option<Percentiles> {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent: Vec<f64> =
            measured.iter().filter(|(at, _)| at.elapsed() < WINDOW).map(|(_, seconds)| *seconds).collect();
        drop(measured);
        recent.sort_by(f64::total_cmp);
        Some(Percentiles { p50_seconds: percentile(&recent, 50)?, p99_seconds: percentile(&recent, 99)? })
    }
}

/// The smallest value that at least `percent` of the sorted values do not exceed, rounded to a tenth of a millisecond.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).map(|seconds| (seconds * 10_000.0).round() / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let latencies = RecentLatencies::default();
        assert_eq!(latencies.last_minute(), None);
        (1..=200).rev().for_each(|milliseconds| latencies.add(f64::from(milliseconds) / 1_000.0));
        let found = latencies.last_minute().unwrap();
        assert_eq!((found.p50_seconds, found.p99_seconds), (0.1, 0.198));
    }

    #[test]
    fn memory_does_not_grow_with_the_rate() {
        let latencies = RecentLatencies::default();
        (0..KEPT * 3).for_each(|_| latencies.add(1.0));
        assert_eq!(latencies.measured.lock().unwrap().len(), KEPT);
    }
}
