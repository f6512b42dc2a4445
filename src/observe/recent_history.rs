//! The last hour of lag and throughput, for the status page: what this instance sampled while it led, kept in memory, and
//! what other leaders stored by the minute. The task of [`crate::status::survey`] adds a sample every few seconds; the
//! hot path has nothing to do with it.

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
    /// True while this instance leads.
    pub leads: bool,
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
    /// Events read per second; null while no instance led.
    pub events_per_second: Vec<Option<f64>>,
    /// Offers created or changed per second; null while no instance led.
    pub offers_per_second: Vec<Option<f64>>,
}

/// One minute of a leadership, as its leader stores it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Minute {
    /// The end of the minute, in seconds since 1970.
    pub at: i64,
    /// The greatest lag in seconds; `None` while unknown.
    pub lag: Option<f64>,
    /// Mean rates per second.
    pub events: f64,
    pub offers: f64,
}

/// The seconds of a [`Minute`], with a margin for the seconds between two samples.
const MINUTE: i64 = 60 + 5;

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
            let rate = |from: u64, to: u64| sample.leads.then(|| rate(to.saturating_sub(from), sample.at - before.at));
            series.ends_at = sample.at;
            series.lag_seconds.push(sample.lag);
            series.events_per_second.push(rate(before.events, sample.events));
            series.offers_per_second.push(rate(before.offers, sample.offers));
        }
        series
    }
}

impl Series {
    /// The series with the stored minutes where this instance did not lead, for the whole hour before its last value.
    #[must_use]
    pub(crate) fn with_minutes(&self, minutes: &[Minute]) -> Self {
        let interval = i64::try_from(self.interval_seconds).unwrap_or(1).max(1);
        let own = self.lag_seconds.len();
        let oldest = minutes.iter().map(|minute| minute.at - 60).min().unwrap_or(i64::MAX);
        let back = usize::try_from(self.ends_at.saturating_sub(oldest) / interval).unwrap_or_default();
        let length = if self.ends_at == 0 { 0 } else { back.min(KEPT).max(own) };
        let mut filled = Self { interval_seconds: self.interval_seconds, ends_at: self.ends_at, ..Self::default() };
        for back in (0..length).rev() {
            let at = self.ends_at - i64::try_from(back).unwrap_or_default() * interval;
            let of_own = |values: &[Option<f64>]| own.checked_sub(back + 1).and_then(|index| *values.get(index)?);
            let stored = minutes.iter().rev().find(|minute| minute.at >= at && minute.at - MINUTE < at);
            let leads = of_own(&self.events_per_second).is_some();
            let value = |values: &[Option<f64>], stored: Option<f64>| if leads { of_own(values) } else { stored };
            filled.lag_seconds.push(value(&self.lag_seconds, stored.and_then(|minute| minute.lag)));
            filled.events_per_second.push(value(&self.events_per_second, stored.map(|minute| minute.events)));
            filled.offers_per_second.push(value(&self.offers_per_second, stored.map(|minute| minute.offers)));
        }
        filled
    }
}

/// A rate per second, rounded to a tenth.
#[expect(clippy::cast_precision_loss, reason = "counts within a few seconds")]
fn rate(count: u64, seconds: i64) -> f64 {
    (count as f64 / seconds.max(1) as f64 * 10.0).round() / 10.0
}

/// The mean of the last minute of a series; `None` where it has no value there.
#[must_use]
pub(crate) fn last_minute(series: &[Option<f64>]) -> Option<f64> {
    let minute = usize::try_from(60 / INTERVAL.as_secs()).unwrap_or(1);
    let last: Vec<f64> = series.get(series.len().saturating_sub(minute)..)?.iter().copied().flatten().collect();
    if last.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    Some((mean * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(index: u64) -> HistorySample {
        let at = i64::try_from(index * 5).unwrap();
        HistorySample { at, leads: true, lag: Some(1.0), events: index * 50, offers: index * 10 }
    }

    #[test]
    fn counters_become_rates_and_an_hour_is_the_most_that_is_kept() {
        let history = History::default();
        assert_eq!(history.series().lag_seconds, []);
        for index in 0..3 {
            history.add(sample(index));
        }
        let series = history.series();
        assert_eq!((series.events_per_second, series.offers_per_second), (vec![Some(10.0); 2], vec![Some(2.0); 2]));
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
        assert_eq!(last_minute(&[Some(3.0), None]), Some(3.0));
        let hour = [vec![Some(100.0); 700], vec![Some(2.0); 12]].concat();
        assert_eq!(last_minute(&hour), Some(2.0));
    }

    #[test]
    fn a_new_leader_shows_what_others_stored_before_it_led() {
        let history = History::default();
        for (at, leads) in [(595, false), (600, false), (605, true)] {
            history.add(HistorySample { at, leads, lag: leads.then_some(0.0), events: 0, offers: 0 });
        }
        let own = history.series();
        assert_eq!(own.events_per_second, [None, Some(0.0)]);
        let minute = |at: i64, lag: f64| Minute { at, lag: Some(lag), events: 7.0, offers: 3.0 };
        let filled = own.with_minutes(&[minute(120, 1.0), minute(598, 2.0)]);
        assert_eq!(filled.lag_seconds.len(), 109, "back to the beginning of the first minute");
        assert_eq!(filled.lag_seconds[1], Some(1.0));
        assert_eq!(filled.lag_seconds[50], None, "nobody led");
        assert_eq!(filled.lag_seconds[106..], [Some(2.0), None, Some(0.0)]);
        assert_eq!(filled.events_per_second[106..], [Some(7.0), None, Some(0.0)]);
        assert_eq!(own.with_minutes(&[]), own);
        assert_eq!(Series::default().with_minutes(&[minute(120, 1.0)]).lag_seconds, []);
    }
}
