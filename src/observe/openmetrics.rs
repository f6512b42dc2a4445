//! Writes metrics as OpenMetrics text 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), with exemplars. The
//! crate `prometheus` writes the older format only.

use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplar::{Exemplar, LastExemplars};

/// The end of the name of a counter's sample, which the name of its family lacks.
const TOTAL: &str = "_total";

/// The families as text. `exemplars` has the exemplars of some histograms, by the name of the family.
#[must_use]
pub(super) fn text(families: &[MetricFamily], exemplars: &[(&str, LastExemplars)]) -> String {
    let mut text = String::new();
    for family in families {
        let exemplars = exemplars.iter().find(|(name, _)| *name == family.name()).map(|(_, exemplars)| exemplars);
        write_family(&mut text, family, exemplars);
    }
    text.push_str("# EOF\n");
    text
}

fn write_family(text: &mut String, family: &MetricFamily, exemplars: Option<&LastExemplars>) {
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => match family.name().strip_suffix(TOTAL) {
            Some(name) => (name, "counter"),
            // A counter must have this end, so nothing may rely on it.
            None => (family.name(), "unknown"),
        },
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => (family.name(), "unknown"),
    };
    put(text, format_args!("# TYPE {name} {kind}\n# HELP {name} {}\n", escaped(family.help())));
    for metric in family.get_metric() {
        match family.get_field_type() {
            MetricType::COUNTER => write_sample(text, family.name(), metric, None, metric.get_counter().get_value()),
            MetricType::GAUGE => write_sample(text, name, metric, None, metric.get_gauge().get_value()),
            MetricType::HISTOGRAM => write_histogram(text, name, metric, exemplars),
            // The service has none.
            MetricType::SUMMARY | MetricType::UNTYPED => continue,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn write_histogram(text: &mut String, name: &str, metric: &Metric, exemplars: Option<&LastExemplars>) {
    let histogram = metric.get_histogram();
    let all = (f64::INFINITY, histogram.get_sample_count());
    let buckets = histogram.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
    for (index, (bound, count)) in buckets.chain([all]).enumerate() {
        write_sample(text, &format!("{name}_bucket"), metric, Some(bound), count as f64);
        if let Some(exemplar) = exemplars.and_then(|exemplars| exemplars.get(&index)) {
            // It stands on the line of its bucket.
            text.pop();
            write_exemplar(text, exemplar);
        }
    }
    write_sample(text, &format!("{name}_count"), metric, None, histogram.get_sample_count() as f64);
    write_sample(text, &format!("{name}_sum"), metric, None, histogram.get_sample_sum());
}

fn write_exemplar(text: &mut String, Exemplar { origin, value, at }: &Exemplar) {
    let (name, origin) = origin.label();
    put(text, format_args!(" # {{{name}=\"{}\"}} {} {at:.3}\n", escaped(&origin), number(*value)));
}

fn write_sample(text: &mut String, name: &str, metric: &Metric, bound: Option<f64>, value: f64) {
    let label = |label: &LabelPair| format!("{}=\"{}\"", label.name(), escaped(label.value()));
    let labels = metric.get_label().iter().map(label);
    // The bound of a bucket always has a point: `5.0`.
    let labels: Vec<String> = labels.chain(bound.map(|bound| format!("le=\"{}\"", with_point(bound)))).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    put(text, format_args!("{name}{labels} {}\n", number(value)));
}

fn number(value: f64) -> String {
    if value.is_infinite() { with_point(value) } else { value.to_string() }
}

fn with_point(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => format!("{value:?}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

fn put(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a text never fails.
    let _ = text.write_fmt(part);
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector as _;
    use prometheus::{Gauge, IntCounterVec, Opts};

    use super::super::exemplar::{ExemplarOrigin, HistogramWithExemplars};
    use super::*;

    #[test]
    fn each_kind_of_metric_is_written_as_the_standard_says() {
        let counters = IntCounterVec::new(Opts::new("tries_total", "A \"try\""), &["kind"]).unwrap();
        counters.with_label_values(&["a\\b\n"]).inc_by(3);
        let gauge = Gauge::new("age_seconds", "Age").unwrap();
        gauge.set(f64::NAN);
        let histogram = prometheus::Histogram::with_opts(
            prometheus::HistogramOpts::new("took_seconds", "Time").buckets(vec![0.5, 5.0]),
        );
        let histogram = HistogramWithExemplars::new("took_seconds".to_owned(), histogram.unwrap(), &[0.5, 5.0]);
        histogram.observe(0.25, None);
        histogram.observe(7.5, Some(ExemplarOrigin::Trace("0af7651916cd43dd8448eb211c80319c".to_owned())));
        let families = [counters.collect(), gauge.collect(), histogram.collect()].concat();
        let written = text(&families, &[histogram.exemplars()]);
        let (before, exemplar) = written.split_once(" # {trace_id=\"0af7651916cd43dd8448eb211c80319c\"} 7.5 ").unwrap();
        let (at, after) = exemplar.split_once('\n').unwrap();
        assert!(at.parse::<f64>().unwrap() > 1e9, "{at}");
        let expected = "# TYPE tries counter\n# HELP tries A \\\"try\\\"\ntries_total{kind=\"a\\\\b\\n\"} 3\n\
                        # TYPE age_seconds gauge\n# HELP age_seconds Age\nage_seconds NaN\n\
                        # TYPE took_seconds histogram\n# HELP took_seconds Time\ntook_seconds_bucket{le=\"0.5\"} 1\n\
                        took_seconds_bucket{le=\"5.0\"} 1\ntook_seconds_bucket{le=\"+Inf\"} 2";
        assert_eq!(before, expected);
        assert_eq!(after, "took_seconds_count 2\ntook_seconds_sum 7.75\n# EOF\n");
    }
}
