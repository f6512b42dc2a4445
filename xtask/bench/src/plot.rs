//! Draws the curves of [`super::growth`] and [`mod@super::soak`] as SVG. There is one file for each varied parameter and each measured quantity.

use std::collections::BTreeMap;
use std::path::Path;

use plotters::prelude::{
    BLACK, ChartBuilder, Circle, Color as _, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement,
    RGBColor, SVGBackend, SeriesLabelPosition, WHITE,
};

use super::point::Point;
use xtask::Failure;

const SIZE: (u32, u32) = (640, 400);
/// Colours that colour-blind people can distinguish (Okabe and Ito), and grey for the line to compare with.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(160, 160, 160),
    RGBColor(204, 121, 167),
];

type Quantity = fn(&Point) -> Option<f64>;
type Curve = Vec<(f64, f64)>;
type Curves<'a> = BTreeMap<&'a str, Curve>;

/// Draws the curves and the legend. A function cannot do it, because charts with linear and with logarithmic axes have
/// different types.
macro_rules! series {
    ($chart:ident, $curves:ident, $place:ident) => {
        for ((work, curve), colour) in $curves.iter().zip(COLOURS.iter().cycle()) {
            let line = $chart.draw_series(LineSeries::new(curve.iter().copied(), colour.stroke_width(2)))?;
            line.label(*work).legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
            if curve.len() < 20 {
                $chart.draw_series(curve.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            }
        }
        $chart
            .configure_series_labels()
            .position(SeriesLabelPosition::$place)
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
    };
}

/// Draws all plots into `folder`, which is created if it is missing.
pub(super) fn draw(points: &[Point], folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder)?;
    let quantities: [(&str, &str, Quantity); 2] = [
        ("time", "seconds of processor time", |point| point.seconds.map(|_| point.processor_seconds())),
        ("memory", "MB resident", |point| Some(point.megabytes)),
    ];
    for (quantity, unit, value) in quantities {
        let mut plots: BTreeMap<&str, Curves<'_>> = BTreeMap::new();
        for point in points {
            if let Some(value) = value(point) {
                plots.entry(point.varies).or_default().entry(point.work).or_default().push((point.at, value));
            }
        }
        for (varies, mut curves) in plots {
            let is_time = quantity == "time";
            if is_time {
                let linear = linear(&curves);
                curves.insert("growth in proportion", linear);
            }
            let file = folder.join(format!("{}-{quantity}.svg", varies.replace(' ', "-")));
            one(&file, [varies, unit], &curves, is_time).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    Ok(())
}

/// A straight line to compare with: growth in proportion to the parameter, from the highest of the first values on.
fn linear(curves: &Curves<'_>) -> Curve {
    let ends = |curve: &Curve| Some((*curve.first()?, *curve.last()?));
    let ends: Vec<_> = curves.values().filter_map(ends).collect();
    let start = ends.iter().map(|(first, _)| *first).max_by(|one, other| one.1.total_cmp(&other.1));
    let end = ends.iter().map(|(_, last)| last.0).fold(0.0, f64::max);
    start.map_or_else(Vec::new, |(at, value)| vec![(at, value), (end, value * end / at)])
}

/// Draws one plot. The axis of the values is logarithmic where `is_log`, and begins at 0 otherwise.
fn one(file: &Path, [varies, unit]: [&str; 2], curves: &Curves<'_>, is_log: bool) -> Result<(), Failure> {
    let points = || curves.values().flatten();
    let first = points().map(|(at, _)| *at).fold(f64::INFINITY, f64::min);
    let last = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let lowest = points().map(|(_, value)| *value).fold(f64::INFINITY, f64::min) / 1.5;
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max) * if is_log { 1.5 } else { 1.1 };
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area);
    chart.margin(12).x_label_area_size(40).y_label_area_size(60);
    // A range of a factor of ten or more has a logarithmic axis.
    if is_log {
        let mut chart = chart.build_cartesian_2d((first..last).log_scale(), (lowest..highest).log_scale())?;
        chart.configure_mesh().x_desc(varies).y_desc(unit).light_line_style(WHITE).draw()?;
        series!(chart, curves, UpperLeft);
    } else if last / first >= 10.0 {
        let mut chart = chart.build_cartesian_2d((first..last).log_scale(), 0.0..highest)?;
        chart.configure_mesh().x_desc(varies).y_desc(unit).light_line_style(WHITE).draw()?;
        series!(chart, curves, MiddleRight);
    } else {
        let mut chart = chart.build_cartesian_2d(0.0..last, 0.0..highest)?;
        chart.configure_mesh().x_desc(varies).y_desc(unit).light_line_style(WHITE).draw()?;
        series!(chart, curves, MiddleRight);
    }
    area.present()?;
    Ok(())
}
