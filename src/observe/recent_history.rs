//! The last hour of lag and throughput of this instance, kept in memory for the status page. The task of
//! [`crate::status::survey`] adds a sample every few seconds; the hot path has nothing to do with it.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// The time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// The number of values in a series: one hour.
const KEPT: usize = 720;

/// The lag and the counters at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct HistorySample {
    /// The time of the sample, in seconds since 1970.
    pub at: i64,
    /// The lag in seconds; `None` while unknown.
    pub lag: Option<f64>,
    /// Events read since the process began.
    pub events: u64,
    /// Offers created and changed since the process began.
    pub offers: u64,
}

/// The samples of the last hour.
#[derive(Debug, Default)]
pub(crate) struct History {
    samples: Mutex<VecDeque<HistorySample>>,
}

/// The last hour as series of equal length, the oldest value first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Series {
    /// Seconds between two values.
    pub interval_seconds: u64,
    /// The time of the last value, in seconds since 1970; 0 while there is none.
    pub ends_at: i64,
    /// The lag; null while unknown.
    pub lag_seconds: Vec<Option<f64>>,
    /// Events read per second.
    pub events_per_second: Vec<f64>,
    /// Offers created or changed per second.
    pub offers_per_second: Vec<f64>,
}

impl History {
    /// Adds a sample and drops samples that are too old.
    pub(crate) fn add(&self, sample: HistorySample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(sample);
        while samples.len() > KEPT + 1 {
            samples.pop_front();
        }
    }

    /// The kept samples as series. A counter becomes a rate between two samples.
    #[must_use]
    pub(crate) fn series(&self) -> Series {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut series = Series { interval_seconds: INTERVAL.as_secs(), ..Series::default() };
        for (before, sample) in samples.iter().zip(samples.iter().skip(1)) {
            let rate = |from: u64, to: u64| rate(to.saturating_sub(from), sample.at - before.at);
            series.ends_at = sample.at;
            series.lag_seconds.push(sample.lag);
            series.events_per_second.push(rate(before.events, sample.events));
            series.offers_per_second.push(rate(before.offers, sample.offers));
        }
        series
    }
}

/// A rate per second, rounded to a tenth.
#[expect(clippy::cast_precision_loss, reason = "counts within a few seconds")]
fn rate(count: u64, seconds: i64) -> f64 {
    (count as f64 / seconds.max(1) as f64 * 10.0).round() / 10.0
}

/// The mean of the last minute of a series; `None` for an empty series.
#[must_use]
pub(crate) fn last_minute(series: &[f64]) -> Option<f64> {
    let minute = usize::try_from(60 / INTERVAL.as_secs()).unwrap_or(1);
    let last = series.get(series.len().saturating_sub(minute)..).filter(|last| !last.is_empty())?;
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    Some((mean * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(index: u64) -> HistorySample {
        let at = i64::try_from(index * 5).unwrap();
        HistorySample { at, lag: Some(1.0), events: index * 50, offers: index * 10 }
    }

    #[test]
    fn counters_become_rates_and_an_hour_is_the_most_that_is_kept() {
        let history = History::default();
        assert_eq!(history.series().lag_seconds, []);
        for index in 0..3 {
            history.add(sample(index));
        }
        let series = history.series();
        assert_eq!((series.events_per_second, series.offers_per_second), (vec![10.0, 10.0], vec![2.0, 2.0]));
        assert_eq!((series.ends_at, series.interval_seconds), (10, 5));

        for index in 3..5_000 {
            history.add(sample(index));
        }
        let series = history.series();
        assert_eq!(series.lag_seconds.len() * 5, 3_600);
        assert_eq!(series.ends_at, 4_999 * 5);
    }

    #[test]
    fn the_last_minute_is_a_mean_of_what_there_is() {
        assert_eq!(last_minute(&[]), None);
        assert_eq!(last_minute(&[3.0]), Some(3.0));
        let hour = [vec![100.0; 700], vec![2.0; 12]].concat();
        assert_eq!(last_minute(&hour), Some(2.0));
    }
}
