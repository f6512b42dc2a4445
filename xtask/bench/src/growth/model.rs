//! The model of the cost: each event, each recruiter that is projected and each offer that is written has a price in
//! processor time. The prices are fitted to the measured backlogs and replays, and each point has its error.

use std::fmt::Write as _;

use serde::Serialize;

use crate::point::Point;

/// Events, recruiters, offers.
const PARTS: usize = 3;
type Row = [f64; PARTS];

/// The model of one process.
#[derive(Debug, Serialize)]
pub(super) struct Fit {
    process: &'static str,
    /// Microseconds for an event, a projected recruiter and a written offer.
    microseconds: Row,
    points: Vec<Residual>,
}

/// A measured point and what the model says.
#[derive(Debug, Serialize)]
struct Residual {
    step: String,
    measured: f64,
    modelled: f64,
}

impl Residual {
    /// The error of the model in percent of what was measured.
    fn error(&self) -> f64 {
        100.0 * (self.modelled - self.measured) / self.measured
    }
}

/// Fits the model to the points whose recruiters are of the usual shape. Empty where there are too few of them.
pub(super) fn fit(points: &[Point]) -> Vec<Fit> {
    let is_usual = |point: &&Point| {
        ["backlog", "replay"].contains(&point.work) && ["recruiters", "events of the backlog"].contains(&point.varies)
    };
    let points: Vec<&Point> = points.iter().filter(is_usual).collect();
    let of = |process, seconds: fn(&Point) -> f64| of_process(process, &points, seconds);
    [of("service", |point| point.client), of("mongod", |point| point.server)].into_iter().flatten().collect()
}

fn of_process(process: &'static str, points: &[&Point], seconds: fn(&Point) -> f64) -> Option<Fit> {
    let parts = |point: &Point| [point.items, point.touched, point.written];
    // Relative errors count, so that a long backlog does not outweigh all others.
    let rows = points.iter().filter(|point| seconds(point) > 0.0).map(|point| {
        let measured = 1e6 * seconds(point);
        (parts(point).map(|part| part / measured), 1.0)
    });
    let microseconds = least_squares(rows)?;
    let residual = |point: &&Point| Residual {
        step: format!("{} of {} {}", point.work, point.at, point.varies),
        measured: seconds(point),
        modelled: parts(point).iter().zip(microseconds).map(|(part, price)| part * price).sum::<f64>() / 1e6,
    };
    Some(Fit { process, microseconds, points: points.iter().map(residual).collect() })
}

/// The prices with the least sum of squared errors, by the normal equations; `None` where they have no one solution.
fn least_squares(rows: impl Iterator<Item = (Row, f64)>) -> Option<Row> {
    let (mut matrix, mut right) = ([[0.0; PARTS]; PARTS], [0.0; PARTS]);
    for (parts, value) in rows {
        for ((line, sum), one) in matrix.iter_mut().zip(&mut right).zip(parts) {
            line.iter_mut().zip(parts).for_each(|(cell, other)| *cell += one * other);
            *sum += one * value;
        }
    }
    // Cramer's rule: three unknowns are few.
    let whole = determinant(&matrix);
    let scale: f64 = matrix.iter().map(|line| line.iter().map(|cell| cell.abs()).fold(0.0, f64::max)).product();
    if whole.abs() <= 1e-9 * scale {
        return None;
    }
    let mut prices = [0.0; PARTS];
    for (index, price) in prices.iter_mut().enumerate() {
        let mut replaced = matrix;
        for (line, value) in replaced.iter_mut().zip(right) {
            *line.get_mut(index)? = value;
        }
        *price = determinant(&replaced) / whole;
    }
    Some(prices)
}

fn determinant(&[[a, b, c], [d, e, f], [g, h, i]]: &[Row; PARTS]) -> f64 {
    a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
}

/// The prices and the errors in Markdown.
pub(super) fn table(fits: &[Fit]) -> String {
    let mut text = String::new();
    if fits.is_empty() {
        return text;
    }
    text.push_str("| µs of processor time | an event | a recruiter projected | an offer written | ");
    text.push_str("median error | largest error |\n|---|--:|--:|--:|--:|---|\n");
    for fit in fits {
        let [event, recruiter, offer] = fit.microseconds;
        let mut errors: Vec<(f64, &str)> =
            fit.points.iter().map(|point| (point.error(), point.step.as_str())).collect();
        errors.sort_by(|(one, _), (other, _)| one.abs().total_cmp(&other.abs()));
        let median = errors.get(errors.len() / 2).map_or(0.0, |(error, _)| error.abs());
        let (largest, step) = errors.last().copied().unwrap_or_default();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| {} | {event:.1} | {recruiter:.1} | {offer:.1} | {median:.0} % | {largest:.0} %: {step} |",
            fit.process
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_finds_the_prices_that_made_its_points() {
        let rows = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 1.0, 1.0], [5.0, 1.0, 3.0]];
        let prices = [9.0, 36.0, 4.0];
        let value = |row: Row| row.iter().zip(prices).map(|(part, price)| part * price).sum();
        let found = least_squares(rows.into_iter().map(|row| (row, value(row)))).unwrap();
        assert!(found.iter().zip(prices).all(|(found, price)| (found - price).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn points_that_are_multiples_of_one_another_have_no_model() {
        let rows = [([1.0, 1.0, 1.0], 3.0), ([2.0, 2.0, 2.0], 6.0), ([3.0, 3.0, 3.0], 9.0)];
        assert_eq!(least_squares(rows.into_iter()), None);
    }
}
