//! A failure that returns at every attempt: the log tells its begin and its end, and the attempts in between are only
//! counted. A line that says nothing new hides the lines that do.

use std::time::Instant;

use crate::clock;

/// The failures of one repeated action since its last success.
#[derive(Debug, Default)]
pub(crate) struct RepeatedFailure {
    series: Option<Series>,
}

#[derive(Debug)]
struct Series {
    failures: u64,
    began: Instant,
    told: String,
}

/// A series of failures that a success has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndedSeries {
    pub failures: u64,
    pub seconds: u64,
}

impl RepeatedFailure {
    /// Counts a failure. True if the log does not tell it yet: it is the first one, or it has another text than the
    /// last one that was told. Numbers in the text make no difference, because ports and durations change by themselves.
    pub(crate) fn is_new(&mut self, failure: &impl ToString) -> bool {
        let text: String = failure.to_string().chars().filter(|character| !character.is_ascii_digit()).collect();
        let series =
            self.series.get_or_insert_with(|| Series { failures: 0, began: clock::instant(), told: String::new() });
        series.failures += 1;
        let is_new = series.told != text;
        series.told = text;
        is_new
    }

    /// Ends the series after a success; `None` if the last attempt succeeded too.
    pub(crate) fn end(&mut self) -> Option<EndedSeries> {
        let series = self.series.take()?;
        Some(EndedSeries { failures: series.failures, seconds: series.began.elapsed().as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_its_end_with_the_count() {
        let mut repeated = RepeatedFailure::default();
        assert_eq!(repeated.end(), None);
        let told: Vec<bool> = ["no primary (port 1)", "no primary (port 2)", "no majority"]
            .iter()
            .map(|text| repeated.is_new(text))
            .collect();
        assert_eq!(told, [true, false, true], "another number is no news, another cause is");
        assert_eq!(repeated.end().map(|ended| ended.failures), Some(3));
        assert_eq!(repeated.end(), None, "the end is told once");
        assert!(repeated.is_new(&"no majority"), "a new series is told again");
    }
}
