//! Medians of repeated points, the growth from step to step, and the table of all curves.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write as _};

use serde::Serialize;

use crate::point::Point;

/// Differences of a fifth are the noise of a shared machine, so growth within them is not told.
const NOISE: f64 = 1.2;
/// Less processor time than this, in seconds, is mostly the start of a process and the ticks of its clock.
const SHORTEST: f64 = 0.5;

/// The growth of one work between two steps of the parameter.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    varies: &'static str,
    work: &'static str,
    from: f64,
    to: f64,
    /// The exponent `e` where the processor time of the service and of `mongod` grows as the parameter to the power of
    /// `e`: 0 is constant, 1 is linear. Wall time would grow with the other load of the machine, too.
    exponent: f64,
    /// The processor time at `to`, in seconds.
    seconds: f64,
}

impl Growth {
    /// True where the processor time grows faster than linearly, beyond the noise.
    pub(super) fn is_faster(&self) -> bool {
        self.seconds >= SHORTEST && self.exponent > 1.0 + NOISE.ln() / (self.to / self.from).ln()
    }
}

impl Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { varies, work, from, to, exponent, .. } = self;
        write!(f, "{work} from {from} to {to} {varies} (exponent {exponent:.2})")
    }
}

/// One point for each step and work: that with the median processor time of its repetitions.
pub(super) fn medians(points: &[Point]) -> Vec<Point> {
    let mut steps: Vec<Vec<&Point>> = Vec::new();
    for point in points {
        let same = |other: &Point| (other.varies, other.work, other.at) == (point.varies, point.work, point.at);
        match steps.iter_mut().find(|step| step.first().is_some_and(|first| same(first))) {
            Some(step) => step.push(point),
            None => steps.push(vec![point]),
        }
    }
    let median = |mut step: Vec<&Point>| {
        step.sort_by(|one, other| one.processor_seconds().total_cmp(&other.processor_seconds()));
        let peak = step.iter().map(|point| point.megabytes).fold(0.0, f64::max);
        let middle = step.get((step.len() - 1) / 2)?;
        // The highest peak counts, not that of the median.
        Some(Point { megabytes: peak, ..(*middle).clone() })
    };
    steps.into_iter().filter_map(median).collect()
}

/// The growth of each work from each step to the next.
pub(super) fn growths(points: &[Point]) -> Vec<Growth> {
    let mut curves: BTreeMap<(&str, &str), Vec<&Point>> = BTreeMap::new();
    for point in points {
        curves.entry((point.varies, point.work)).or_default().push(point);
    }
    let mut growths = Vec::new();
    for curve in curves.values_mut() {
        curve.sort_by(|one, other| one.at.total_cmp(&other.at));
        for (before, after) in curve.iter().zip(curve.iter().skip(1)) {
            let (earlier, later) = (before.processor_seconds(), after.processor_seconds());
            if earlier <= 0.0 {
                continue;
            }
            growths.push(Growth {
                varies: before.varies,
                work: before.work,
                from: before.at,
                to: after.at,
                exponent: (later / earlier).ln() / (after.at / before.at).ln(),
                seconds: later,
            });
        }
    }
    growths
}

/// The table of all steps in Markdown: the wall time and the processor time, and in brackets the exponent of the growth
/// since the step before.
pub(super) fn of_points(points: &[Point], growths: &[Growth]) -> String {
    const WORKS: [&str; 5] = ["first fill", "full sync", "verification", "backlog", "replay"];
    let mut text = format!("| | {} | highest peak |\n|---|{}--:|\n", WORKS.join(" | "), "--:|".repeat(WORKS.len()));
    let mut steps: Vec<(&str, f64)> = points.iter().map(|point| (point.varies, point.at)).collect();
    steps.dedup();
    for (varies, at) in steps {
        let of_step = || points.iter().filter(|point| point.varies == varies && point.at == at);
        // Writing to a string does not fail.
        let _ = write!(text, "| {at} {varies} |");
        for work in WORKS {
            let times = of_step().find(|point| point.work == work).map_or(String::new(), |point| {
                format!("{:.2} s, {:.2} s", point.seconds.unwrap_or_default(), point.processor_seconds())
            });
            let growth = growths.iter().find(|growth| (growth.varies, growth.work, growth.to) == (varies, work, at));
            let exponent = growth.map_or(String::new(), |growth| format!(" ({:.2})", growth.exponent));
            let _ = write!(text, " {times}{exponent} |");
        }
        let peak = of_step().map(|point| point.megabytes).fold(0.0, f64::max);
        let _ = writeln!(text, " {peak:.0} MB |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(at: f64, server: f64) -> Point {
        let (varies, work, seconds) = ("recruiters", "backlog", Some(server));
        Point { varies, work, at, seconds, items: 1.0, client: 0.0, server, touched: 0.0, written: 0.0, megabytes: 1.0 }
    }

    #[test]
    fn only_growth_beyond_linear_and_beyond_the_noise_is_faster() {
        let exponents = |times: [f64; 2]| {
            let growths = growths(&[point(1_000.0, times[0]), point(10_000.0, times[1])]);
            (growths.len(), growths[0].is_faster())
        };
        assert_eq!(exponents([1.0, 10.0]), (1, false), "linear");
        assert_eq!(exponents([1.0, 11.9]), (1, false), "within the noise");
        assert_eq!(exponents([1.0, 12.1]), (1, true));
        assert_eq!(exponents([1.0, 1.0]), (1, false), "constant");
        assert_eq!(exponents([0.01, 0.4]), (1, false), "too short to tell");
    }

    #[test]
    fn the_median_of_repeated_steps_counts() {
        let points = [point(1.0, 3.0), point(10.0, 9.0), point(1.0, 1.0), point(1.0, 2.0)];
        let medians: Vec<_> = medians(&points).into_iter().map(|point| (point.at, point.seconds)).collect();
        assert_eq!(medians, [(1.0, Some(2.0)), (10.0, Some(9.0))]);
    }
}
