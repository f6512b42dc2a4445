//! Lines over the last hour, as paths of an SVG image that the page contains: they are there without scripts.
//! Pure: values in, texts out.

use std::fmt::Write as _;

/// One unit of the image per sample: an hour is this wide.
const WIDEST: usize = 720;
/// Five minutes: what a young process shows.
const NARROWEST: usize = 60;
/// The image's height.
pub(super) const HEIGHT: f64 = 160.0;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChartLine {
    /// What it shows, for the legend.
    pub label: &'static str,
    /// `a` or `b`: how it is drawn.
    pub class: &'static str,
    /// The `d` of an SVG path; empty without values.
    pub path: String,
    /// The values as a JSON array, the oldest first: what the script reads out under the pointer.
    pub values: String,
    /// The last value.
    pub now: Option<f64>,
    /// The greatest value.
    pub most: Option<f64>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    /// Its lines, on one scale.
    pub lines: Vec<ChartLine>,
    /// The value at the upper edge.
    pub top: f64,
    /// The image's width in samples.
    pub width: usize,
}

/// A line to draw: label, class, values with the oldest first.
pub(super) type Drawn<'a> = (&'static str, &'static str, &'a [Option<f64>]);

impl Chart {
    /// How far back it reaches, as a share of it, in words.
    #[must_use]
    pub(super) fn minutes(&self, share: f64, interval_seconds: &u64) -> String {
        let samples = u32::try_from(self.width).unwrap_or_default();
        let seconds = u32::try_from(*interval_seconds).unwrap_or_default();
        let minutes = f64::from(samples) * f64::from(seconds) / 60.0 * share;
        format!("{:.1}", minutes).trim_end_matches(".0").to_owned()
    }

    /// Draws lines on one scale that ends at a round value of `least` or more.
    #[must_use]
    pub(super) fn of(lines: &[Drawn<'_>], least: f64) -> Self {
        let all = lines.iter().flat_map(|(_, _, values)| values.iter().flatten().copied());
        let top = round_above(all.fold(least, f64::max));
        let longest = lines.iter().map(|(_, _, values)| values.len()).max().unwrap_or_default();
        let width = longest.clamp(NARROWEST, WIDEST);
        let lines = lines.iter().map(|(label, class, values)| ChartLine {
            label,
            class,
            path: path(values, (width, top)),
            values: json(values),
            now: values.last().copied().flatten(),
            most: values.iter().flatten().copied().reduce(f64::max),
        });
        Self { lines: lines.collect(), top, width }
    }
}

/// 1, 2 or 5 times a power of ten.
fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|round| *round >= value).unwrap_or(10.0 * power)
}

/// The newest value is at the right edge; a gap where a value is unknown.
fn path(values: &[Option<f64>], (width, top): (usize, f64)) -> String {
    let values = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let first = width - values.len();
    let mut path = String::new();
    let mut pen_is_down = false;
    for (index, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen_is_down = false;
            continue;
        };
        let letter = if pen_is_down { 'L' } else { 'M' };
        let height = HEIGHT - value / top * HEIGHT;
        // Into a String it cannot fail. A lone point is a line of no length, which round ends make visible.
        let _ = write!(path, "{letter}{} {height:.1}", first + index + 1);
        if !pen_is_down {
            path.push_str("h0");
        }
        pen_is_down = true;
    }
    path
}

fn json(values: &[Option<f64>]) -> String {
    let values: Vec<String> =
        values.iter().map(|value| value.map_or_else(|| "null".to_owned(), |value| format!("{value:.1}"))).collect();
    format!("[{}]", values.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_edge_and_what_is_unknown_is_a_gap() {
        let values = [Some(0.0), None, Some(5.0), Some(10.0)];
        let chart = Chart::of(&[("lag", "a", &values)], 10.0);
        assert_eq!(chart.top, 10.0);
        let line = &chart.lines[0];
        assert_eq!(line.path, "M57 160.0h0M59 80.0h0L60 0.0");
        assert_eq!(line.values, "[0.0,null,5.0,10.0]");
        assert_eq!((line.now, line.most), (Some(10.0), Some(10.0)));
        assert_eq!((chart.minutes(1.0, &5), chart.minutes(0.5, &5)), ("5".to_owned(), "2.5".to_owned()));
        let day = vec![Some(1.0); 17_280];
        assert_eq!(Chart::of(&[("lag", "a", &day)], 5.0).minutes(1.0, &5), "60", "no more than an hour");
    }

    #[test]
    fn the_scale_ends_at_a_round_value() {
        for (value, top) in [(1.0, 1.0), (1.1, 2.0), (4.0, 5.0), (6.0, 10.0), (37.0, 50.0), (600.0, 1_000.0)] {
            assert_eq!(round_above(value), top, "{value}");
        }
        assert_eq!(Chart::of(&[("lag", "a", &[])], 5.0).top, 5.0, "an empty one has a scale too");
    }
}
