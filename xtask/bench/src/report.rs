//! The report of a measurement, as a table and as JSON. It compares the results with the demands of spec 07.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde_json::{Value, json};

use super::scene::Measured;

/// One result of one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    value: f64,
    /// The raw limit of the machine, in the same unit.
    limit: Option<f64>,
    /// Microseconds of the service's processor time per item.
    client: Option<f64>,
    /// Microseconds of the server's processor time per item.
    server: Option<f64>,
    /// The peak of the service's memory, in bytes.
    peak: Option<u64>,
    written: Option<f64>,
}

impl Sample {
    pub(super) fn of(value: f64) -> Self {
        Self { value, limit: None, client: None, server: None, peak: None, written: None }
    }

    /// A sample whose value is in items per second.
    pub(super) fn rate(items: usize, measured: Measured) -> Self {
        Self { value: items as f64 / measured.spent.wall.as_secs_f64(), ..Self::duration(items, measured) }
    }

    /// A sample whose value is the time for all items, in seconds.
    pub(super) fn duration(items: usize, measured: Measured) -> Self {
        let each = |time: std::time::Duration| Some(time.as_secs_f64() * 1e6 / items as f64);
        Self {
            value: measured.spent.wall.as_secs_f64(),
            limit: None,
            client: each(measured.spent.client),
            server: each(measured.spent.server),
            peak: Some(measured.peak),
            written: Some(measured.written),
        }
    }

    pub(super) fn limit(self, limit: f64) -> Self {
        Self { limit: Some(limit), ..self }
    }

    pub(super) fn written(self, offers: usize) -> Self {
        Self { written: Some(offers as f64), ..self }
    }
}

/// One row of the table.
struct Row {
    name: &'static str,
    unit: &'static str,
    /// The demand of spec 07; `None` where it has none.
    bar: Option<f64>,
    /// The result of the old worker on the same kind of machine (spec 07).
    old: Option<f64>,
    /// True when a higher value is better.
    is_rate: bool,
}

const fn rate(name: &'static str, unit: &'static str, bar: f64, old: Option<f64>) -> Row {
    Row { name, unit, bar: Some(bar), old, is_rate: true }
}

/// A row of [`super::peers`].
const fn rate_of(name: &'static str) -> Row {
    Row { name, unit: "events/s", bar: None, old: Some(220.0), is_rate: true }
}

const fn time(name: &'static str, unit: &'static str, bar: Option<f64>, old: Option<f64>) -> Row {
    Row { name, unit, bar, old, is_rate: false }
}

const ROWS: [Row; 38] = [
    rate("uniform backlog", "events/s", 6_000.0, Some(220.0)),
    rate("hot backlog", "events/s", 20_000.0, Some(220.0)),
    rate("replay, uniform", "events/s", 12_000.0, Some(220.0)),
    rate("replay, hot", "events/s", 40_000.0, Some(220.0)),
    Row { name: "mirror, backlog", unit: "offers/s", bar: None, old: None, is_rate: true },
    rate("mirror, of uniform", "%", 50.0, None),
    time("idle mirror, 500,000 foreign", "s of CPU", Some(15.0), None),
    time("idle mirror, memory grown", "MB", Some(8.0), None),
    time("foreign inserts, 500,000", "s of CPU", None, None),
    time("foreign inserts, mongod", "s of CPU", None, None),
    time("foreign updates, 500,000", "s of CPU", None, None),
    time("foreign updates, mongod", "s of CPU", None, None),
    rate("first fill", "offers/s", 4_000.0, None),
    Row { name: "first fill, larger", unit: "offers/s", bar: None, old: None, is_rate: true },
    time("full sync", "s", Some(2.0), Some(34.0)),
    time("verification", "s", Some(6.0), None),
    rate_of("uniform, service"),
    rate_of("uniform, plain Rust"),
    rate_of("uniform, PyMongo"),
    rate_of("hot, service"),
    rate_of("hot, plain Rust"),
    rate_of("hot, PyMongo"),
    time("p50, service", "ms", None, Some(7.7)),
    time("p50, plain Rust", "ms", None, Some(7.7)),
    time("p50, PyMongo", "ms", None, Some(7.7)),
    time("p99, service", "ms", None, Some(40.0)),
    time("p99, plain Rust", "ms", None, Some(40.0)),
    time("p99, PyMongo", "ms", None, Some(40.0)),
    time("steady, p50", "ms", Some(5.0), Some(7.7)),
    time("steady, p99", "ms", Some(15.0), Some(40.0)),
    time("watched, p50", "ms", None, None),
    time("watched, p99", "ms", None, None),
    time("watched, p50 ÷ p50 of two hops", "×", None, None),
    time("watched, p99 ÷ p50 of two hops", "×", None, None),
    time("start", "s", Some(0.5), Some(5.0)),
    time("start until it leads", "s", None, None),
    time("stop", "s", Some(1.0), None),
    time("memory", "MB", Some(64.0), Some(1_000.0)),
];

/// The samples of all rounds, by row.
#[derive(Debug, Default)]
pub(super) struct Figures {
    samples: BTreeMap<&'static str, Vec<Sample>>,
}

impl Figures {
    /// Adds a sample to the row of this name, and its peak of memory to the row `memory`.
    pub(super) fn add(&mut self, name: &str, sample: Sample) {
        self.add_apart(name, sample);
        if let Some(peak) = sample.peak {
            self.samples.entry("memory").or_default().push(Sample::of(peak as f64 / 1e6));
        }
    }

    /// Adds a sample to the row of this name, and to no other row.
    pub(super) fn add_apart(&mut self, name: &str, sample: Sample) {
        if let Some(row) = ROWS.iter().find(|row| row.name == name) {
            self.samples.entry(row.name).or_default().push(sample);
        }
    }

    /// The value of the last sample of this row.
    pub(super) fn last(&self, name: &str) -> Option<f64> {
        self.samples.get(name)?.last().map(|sample| sample.value)
    }

    /// The names of the rows that miss the demand of spec 07.
    pub(super) fn missed(&self) -> Vec<&'static str> {
        self.rows().filter(|(row, samples)| row.misses(samples)).map(|(row, _)| row.name).collect()
    }

    fn rows(&self) -> impl Iterator<Item = (&'static Row, &[Sample])> {
        ROWS.iter().filter_map(|row| Some((row, self.samples.get(row.name)?.as_slice())))
    }

    /// The whole report as JSON, with the values of all rounds.
    pub(super) fn json(&self, machine: &str, size: Value) -> Value {
        let rows = self.rows().map(|(row, samples)| {
            let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
            let of = |take: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(take));
            json!({
                "scenario": row.name, "unit": row.unit, "bar": row.bar, "old_worker": row.old,
                "median": median(values.iter().copied()), "values": values, "raw_limit": of(|sample| sample.limit),
                "client_cpu_microseconds": of(|sample| sample.client),
                "server_cpu_microseconds": of(|sample| sample.server),
                "offers_written": of(|sample| sample.written),
                "peak_megabytes": of(|sample| sample.peak.map(|peak| peak as f64 / 1e6)),
                "holds": row.bar.map(|_| !row.misses(samples)),
            })
        });
        json!({ "machine": machine, "size": size, "rows": rows.collect::<Vec<Value>>() })
    }
}

impl Row {
    /// The value that is compared with the demand: the maximum for memory, and the median for all other rows.
    fn result(&self, samples: &[Sample]) -> f64 {
        let values = samples.iter().map(|sample| sample.value);
        match self.name {
            "memory" => values.fold(0.0, f64::max),
            _ => median(values).unwrap_or_default(),
        }
    }

    fn misses(&self, samples: &[Sample]) -> bool {
        let result = self.result(samples);
        self.bar.is_some_and(|bar| if self.is_rate { result < bar } else { result > bar })
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

impl Display for Figures {
    /// A table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| scenario | asked for | median | min – max | raw limit | of it | old worker | CPU of the service | \
             of mongod | offers written | peak memory |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
        )?;
        for (row, samples) in self.rows() {
            let unit = row.unit;
            let shown = |value: f64| if value < 100.0 { format!("{value:.2}") } else { format!("{value:.0}") };
            let optional = |value: Option<f64>, unit: &str| value.map_or(String::new(), |value| shown(value) + unit);
            let of = |take: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(take));
            let values = || samples.iter().map(|sample| sample.value);
            let (result, limit) = (row.result(samples), of(|sample| sample.limit));
            let share = limit.map(|limit| 100.0 * if row.is_rate { result / limit } else { limit / result });
            let against_old = row.old.map(|old| if row.is_rate { result / old } else { old / result });
            writeln!(
                f,
                "| {} | {} | **{} {unit}**{} | {} – {} | {} | {} | {} | {} | {} | {} | {} |",
                row.name,
                optional(row.bar, &format!(" {unit}")),
                shown(result),
                if row.misses(samples) { " (missed)" } else { "" },
                shown(values().fold(f64::INFINITY, f64::min)),
                shown(values().fold(0.0, f64::max)),
                optional(limit, &format!(" {unit}")),
                optional(share, " %"),
                against_old.map_or(String::new(), |times| format!("{times:.0} ×")),
                optional(of(|sample| sample.client), " µs"),
                optional(of(|sample| sample.server), " µs"),
                of(|sample| sample.written).map_or(String::new(), |written| format!("{written:.0}")),
                optional(of(|sample| sample.peak.map(|peak| peak as f64 / 1e6)), " MB"),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_counts_and_a_rate_below_its_bar_or_a_time_above_it_is_missed() {
        let mut figures = Figures::default();
        for value in [5_000.0, 6_100.0, 7_000.0] {
            figures.add("uniform backlog", Sample::of(value));
        }
        figures.add("start", Sample::of(0.6));
        figures.add("stop", Sample::of(0.1));
        assert_eq!(figures.missed(), ["start"]);
        let json = figures.json("", Value::Null);
        assert_eq!(json["rows"][0]["median"], 6_100.0);
        assert_eq!(json["rows"][0]["holds"], true);
    }
}
