//! One measured point of a curve.

use std::time::Duration;

use serde::Serialize;

use super::scene::Measured;

/// A piece of work at one value of the varied parameter.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Point {
    /// The varied parameter. Its curves are in one plot.
    pub varies: &'static str,
    /// The measured work, such as `first fill`: the name of the curve.
    pub work: &'static str,
    /// The value of the varied parameter.
    pub at: f64,
    /// Seconds of wall time for the whole work.
    pub seconds: Option<f64>,
    /// The number of events or offers of the work.
    pub items: f64,
    /// Seconds of the service's processor time.
    pub client: f64,
    /// Seconds of the processor time of `mongod`.
    pub server: f64,
    /// The recruiters that were projected, and the offers that were written. Both are 0 for a command.
    pub touched: f64,
    pub written: f64,
    /// The service's resident memory in megabytes: its peak, or under a steady load its current value.
    pub megabytes: f64,
}

impl Point {
    pub(super) fn of(varies: &'static str, work: &'static str, at: f64, items: usize, measured: Measured) -> Self {
        let seconds = |time: Duration| time.as_secs_f64();
        let point = Self {
            varies,
            work,
            at,
            seconds: Some(seconds(measured.spent.wall)),
            items: items as f64,
            client: seconds(measured.spent.client),
            server: seconds(measured.spent.server),
            touched: measured.touched,
            written: measured.written,
            megabytes: measured.peak as f64 / 1e6,
        };
        println!(
            "{varies} {at}, {work}: {:.2} s, {:.0} µs each, {:.0} µs of the service's processor time, peak {:.1} MB",
            point.seconds.unwrap_or_default(),
            point.microseconds().unwrap_or_default(),
            1e6 * point.client / point.items,
            point.megabytes
        );
        point
    }

    /// Seconds of processor time of the service and of `mongod`.
    pub(super) fn processor_seconds(&self) -> f64 {
        self.client + self.server
    }

    /// Microseconds of wall time per event or offer.
    pub(super) fn microseconds(&self) -> Option<f64> {
        Some(1e6 * self.seconds? / self.items)
    }
}
