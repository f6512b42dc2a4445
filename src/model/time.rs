//! A check of stored times: a clock that was ahead may have stored a time that lies in the future.

use bson::DateTime;

/// One minute. NTP keeps the clocks of a replica set's members closer together, so a smaller difference is waited out.
const TOLERANCE_MILLISECONDS: i64 = 60_000;

/// True when a stored time lies further in the future than clocks under NTP explain.
#[must_use]
pub(crate) fn is_ahead(stored: DateTime, now: DateTime) -> bool {
    stored.timestamp_millis().saturating_sub(now.timestamp_millis()) > TOLERANCE_MILLISECONDS
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
