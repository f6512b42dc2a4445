//! Draws charts of the last hour as paths of an SVG image in the status page, so that a chart needs no script. Pure:
//! values in, texts out.

use std::fmt::Write as _;

/// The greatest width of the image: one hour, at one unit per sample.
const WIDEST: usize = 720;
/// The smallest width of the image: five minutes, for a process that has just started.
const NARROWEST: usize = 60;
/// The height of the image, in units of the SVG image.
pub(super) const HEIGHT: f64 = 160.0;

/// The percentage of the values below the usual ones' end.
const USUAL: usize = 95;
/// How many times the usual scale a burst must be higher, so that it is cut off.
const BURST: f64 = 4.0;

/// One drawn line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChartLine {
    /// The name in the legend.
    pub label: &'static str,
    /// The style class of the line: `a` or `b`.
    pub class: &'static str,
    /// The attribute `d` of the SVG path; empty without values.
    pub path: String,
    /// The values as a JSON array, the oldest first. The script of the page shows the value under the pointer.
    pub values: String,
    /// The last value; `None` while unknown.
    pub now: Option<f64>,
    /// The greatest value; `None` without values.
    pub most: Option<f64>,
}

/// A chart with several lines on one scale.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub lines: Vec<ChartLine>,
    /// The value at the upper edge.
    pub top: f64,
    /// The number of values above the upper edge, which are drawn at it.
    pub above: usize,
    /// The width of the image, in samples.
    pub width: usize,
}

/// The input of one line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn<'a> {
    /// The name in the legend.
    pub label: &'static str,
    /// The style class of the line.
    pub class: &'static str,
    /// The values, the oldest first.
    pub values: &'a [Option<f64>],
}

impl Chart {
    /// The minutes that a share of the width covers, as text, for the labels of the time axis. `share` is 1 for the
    /// whole width.
    #[must_use]
    pub(super) fn minutes(&self, share: f64, interval_seconds: &u64) -> String {
        let samples = u32::try_from(self.width).unwrap_or_default();
        let seconds = u32::try_from(*interval_seconds).unwrap_or_default();
        let minutes = f64::from(samples) * f64::from(seconds) / 60.0 * share;
        format!("{:.1}", minutes).trim_end_matches(".0").to_owned()
    }

    /// Draws lines on one scale. The scale ends at a round value, which is `least` or more. A short burst does not decide
    /// where it ends: all other values would be a flat line.
    #[must_use]
    pub(super) fn of(lines: &[Drawn<'_>], least: f64) -> Self {
        let mut all: Vec<f64> = lines.iter().flat_map(|line| line.values.iter().flatten().copied()).collect();
        all.sort_by(f64::total_cmp);
        let most = round_above(all.last().copied().unwrap_or_default().max(least));
        let usual = round_above(all.get(all.len() * USUAL / 100).copied().unwrap_or_default().max(least));
        let top = if most > usual * BURST { usual } else { most };
        let above = all.iter().filter(|value| **value > top).count();
        let longest = lines.iter().map(|line| line.values.len()).max().unwrap_or_default();
        let width = longest.clamp(NARROWEST, WIDEST);
        let lines = lines.iter().map(|&Drawn { label, class, values }| ChartLine {
            label,
            class,
            path: path(values, width, top),
            values: json(values),
            now: values.last().copied().flatten(),
            most: values.iter().flatten().copied().reduce(f64::max),
        });
        Self { lines: lines.collect(), top, above, width }
    }
}

/// The next round value, not below `value`: 1, 2 or 5 times a power of ten.
fn round_above(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|step| step * power).find(|round| *round >= value).unwrap_or(10.0 * power)
}

/// The SVG path of values. The newest value is at the right edge. An unknown value interrupts the line.
fn path(values: &[Option<f64>], width: usize, top: f64) -> String {
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
        let height = HEIGHT - value.min(top) / top * HEIGHT;
        // Writing into a String cannot fail. A single point is a line of length 0, which its round ends make visible.
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

    fn lag(values: &[Option<f64>]) -> Drawn<'_> {
        Drawn { label: "lag", class: "a", values }
    }

    #[test]
    fn the_newest_value_is_at_the_right_edge_and_what_is_unknown_is_a_gap() {
        let values = [Some(0.0), None, Some(5.0), Some(10.0)];
        let chart = Chart::of(&[lag(&values)], 10.0);
        assert_eq!(chart.top, 10.0);
        let line = &chart.lines[0];
        assert_eq!(line.path, "M57 160.0h0M59 80.0h0L60 0.0");
        assert_eq!(line.values, "[0.0,null,5.0,10.0]");
        assert_eq!((line.now, line.most), (Some(10.0), Some(10.0)));
        assert_eq!((chart.minutes(1.0, &5), chart.minutes(0.5, &5)), ("5".to_owned(), "2.5".to_owned()));
        let day = vec![Some(1.0); 17_280];
        assert_eq!(Chart::of(&[lag(&day)], 5.0).minutes(1.0, &5), "60", "no more than an hour");
    }

    #[test]
    fn the_scale_ends_at_a_round_value() {
        for (value, top) in [(1.0, 1.0), (1.1, 2.0), (4.0, 5.0), (6.0, 10.0), (37.0, 50.0), (600.0, 1_000.0)] {
            assert_eq!(round_above(value), top, "{value}");
        }
        assert_eq!(Chart::of(&[lag(&[])], 5.0).top, 5.0, "an empty one has a scale too");
    }

    #[test]
    fn one_burst_does_not_flatten_the_chart_and_is_counted() {
        let hour: Vec<Option<f64>> = (0..200).map(|at| Some(if at == 100 { 9_000.0 } else { 3.0 })).collect();
        let chart = Chart::of(&[lag(&hour)], 5.0);
        assert_eq!((chart.top, chart.above, chart.lines[0].most), (5.0, 1, Some(9_000.0)));
        assert!(chart.lines[0].path.contains(" 0.0L") && chart.lines[0].path.contains(" 64.0"));
        let slope: Vec<Option<f64>> = (0..200).map(|at| Some(f64::from(at))).collect();
        let chart = Chart::of(&[lag(&slope)], 5.0);
        assert_eq!((chart.top, chart.above), (200.0, 0), "no burst");
    }
}
