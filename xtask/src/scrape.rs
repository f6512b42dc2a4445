//! Reads figures from `/metrics` (Prometheus text format).

use std::fmt::{self, Display};

/// The heading of the demo's table. The columns of [`Figures`] follow the seconds and the written operations.
pub const HEADER: &str = "   time   written   events  created  changed  unchanged  anonymised  dead letters      lag";

/// The figures of the demo's table: sums over all values of the labels. The lag is `None` while it is unknown.
pub struct Figures {
    events: f64,
    created: f64,
    changed: f64,
    unchanged: f64,
    anonymised: f64,
    dead_letters: f64,
    lag_seconds: Option<f64>,
}

impl Figures {
    /// Reads the figures from the text of `/metrics`. A missing series counts as 0.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let sum = |name: &str, label: &str| sum(text, name, label);
        Self {
            events: sum("stream_processor_events_total", ""),
            created: sum("stream_processor_offers_written_total", r#"result="created""#),
            changed: sum("stream_processor_offers_written_total", r#"result="changed""#),
            unchanged: sum("stream_processor_offers_written_total", r#"result="unchanged""#),
            anonymised: sum("stream_processor_offers_anonymized_total", ""),
            dead_letters: sum("stream_processor_dead_letters", ""),
            lag_seconds: text
                .lines()
                .filter_map(Sample::read)
                .find(|sample| sample.name == "stream_processor_lag_seconds" && sample.value.is_finite())
                .map(|sample| sample.value),
        }
    }
}

impl Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lag = self.lag_seconds.map_or_else(|| "unknown".to_owned(), |seconds| format!("{seconds:.1} s"));
        write!(
            f,
            "{:>8} {:>8} {:>8} {:>10} {:>11} {:>13} {lag:>8}",
            self.events, self.created, self.changed, self.unchanged, self.anonymised, self.dead_letters
        )
    }
}

/// The sum of the series called `name` whose labels contain `label`.
#[must_use]
pub fn sum(text: &str, name: &str, label: &str) -> f64 {
    let samples = text.lines().filter_map(Sample::read);
    let named = samples.filter(|sample| sample.name == name && sample.labels.contains(label));
    // The method `sum` would give -0 for no samples.
    named.fold(0.0, |total, sample| total + sample.value)
}

/// One line of the text format: `name{label="value",…} 12`.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (series, value) = line.trim().rsplit_once(' ')?;
        if series.starts_with('#') {
            return None;
        }
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some(Self { name, labels, value: value.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_sums_over_labels_and_an_unknown_lag_stays_unknown() {
        let text = r#"
# HELP stream_processor_events_total Events.
# TYPE stream_processor_events_total counter
stream_processor_events_total{collection="recruiters",operation="insert"} 3
stream_processor_events_total{collection="recruiters",operation="update"} 4
stream_processor_offers_written_total{result="changed"} 2
stream_processor_offers_written_total{result="unchanged"} 9
stream_processor_lag_seconds NaN
"#;
        let figures = Figures::read(text);
        assert_eq!((figures.events, figures.changed, figures.unchanged), (7.0, 2.0, 9.0));
        assert_eq!(figures.lag_seconds, None);
        let figures = Figures::read("stream_processor_lag_seconds 0.25");
        assert_eq!(figures.lag_seconds, Some(0.25));
    }
}
