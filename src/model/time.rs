//! Stored times: the check whether one lies in the future, because a clock was ahead, and the form of metrics.

use bson::DateTime;

/// One minute. NTP keeps the clocks of a replica set's members closer together, so a smaller difference is waited out.
const TOLERANCE_MILLISECONDS: i64 = 60_000;

/// True when a stored time lies further in the future than clocks under NTP explain.
#[must_use]
pub(crate) fn is_ahead(stored: DateTime, now: DateTime) -> bool {
    stored.timestamp_millis().saturating_sub(now.timestamp_millis()) > TOLERANCE_MILLISECONDS
}

/// A time in seconds since 1970, as metrics have it.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this millennium are exact")]
pub(crate) fn seconds(time: DateTime) -> f64 {
    time.timestamp_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_is_no_clock_that_was_ahead() {
        let at = DateTime::from_millis;
        assert!(!is_ahead(at(60_000), at(0)) && !is_ahead(at(0), at(60_000)));
        assert!(is_ahead(at(60_001), at(0)));
    }
}
