//! Figures as a picture.
//!
//! Owns: [`lines`], [`quantiles`]. Invariant: SVG with text as text; no font is read from the system.
//! Left out: other formats.

use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::prelude::*;

use super::figures::Percentiles;

/// A line: its name and its points.
pub type Line = (String, Vec<(f64, f64)>);

/// What an axis shows.
#[derive(Debug, Clone, Copy)]
pub struct Axis<'a> {
    /// What, in which unit.
    pub name: &'a str,
    /// Equal steps are equal factors.
    pub logarithmic: bool,
}

impl Axis<'_> {
    fn place(&self, value: f64) -> f64 {
        if self.logarithmic {
            value.max(1e-3).log10()
        } else {
            value
        }
    }

    /// Labels that fit: each factor of ten, or so many steps.
    fn labels(&self, span: &std::ops::Range<f64>) -> usize {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few decades"
        )]
        let decades = (span.end - span.start).ceil() as usize + 1;
        if self.logarithmic { decades.max(2) } else { 8 }
    }

    fn label(&self, place: f64) -> String {
        let value = if self.logarithmic {
            10f64.powf(place)
        } else {
            place
        };
        match value.abs() {
            large if large >= 1e6 => format!("{:.4}M", value / 1e6).replace(".0000", ""),
            large if large >= 10.0 => format!("{value:.0}"),
            _ => format!("{value:.2}"),
        }
    }
}

/// The points of a quantile line: x is how rare a value is (1 in x is greater), y the value.
#[must_use]
pub fn quantiles(times: &Percentiles) -> Vec<(f64, f64)> {
    let rare = [
        (2.0, times.p50),
        (10.0, times.p90),
        (100.0, times.p99),
        (1_000.0, times.p99_9),
        (10_000.0, times.p99_99),
    ];
    #[allow(clippy::cast_precision_loss, reason = "a count, compared with 10000")]
    let known = |(one_in, _): &(f64, f64)| times.count as f64 >= *one_in;
    rare.into_iter().filter(known).collect()
}

/// The least and the greatest, with some room.
fn span(values: impl Iterator<Item = f64> + Clone, from_zero: bool) -> std::ops::Range<f64> {
    let greatest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    let least = values.fold(f64::INFINITY, f64::min);
    let least = if from_zero { least.min(0.0) } else { least };
    if !least.is_finite() || !greatest.is_finite() {
        return 0.0..1.0;
    }
    if greatest <= least {
        return least..least + 1.0;
    }
    least..greatest + (greatest - least) * 0.08
}

/// Draws `lines` into the SVG file at `path`.
///
/// # Errors
/// The file cannot be written.
pub fn lines(
    path: &Path,
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    lines: &[Line],
) -> crate::Result<()> {
    let mut picture = String::new();
    draw(&mut picture, title, x, y, lines).map_err(|error| anyhow!("cannot draw: {error}"))?;
    std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))
}

fn draw(
    picture: &mut String,
    title: &str,
    x: Axis<'_>,
    y: Axis<'_>,
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::with_string(picture, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let points = lines.iter().flat_map(|(_, points)| points);
    let (x_span, y_span) = (
        span(points.clone().map(|point| x.place(point.0)), false),
        span(points.map(|point| y.place(point.1)), !y.logarithmic),
    );
    let labels = (x.labels(&x_span), y.labels(&y_span));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 24))
        .margin(18)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(x_span, y_span)?;
    chart
        .configure_mesh()
        .x_desc(x.name)
        .y_desc(y.name)
        .x_labels(labels.0)
        .y_labels(labels.1)
        .label_style(("sans-serif", 17))
        .x_label_formatter(&|place| x.label(*place))
        .y_label_formatter(&|place| y.label(*place))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for (index, (name, points)) in lines.iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        let placed = points
            .iter()
            .map(|(left, up)| (x.place(*left), y.place(*up)));
        chart
            .draw_series(LineSeries::new(placed, color.stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(left, up)| {
                PathElement::new(vec![(left, up), (left + 18, up)], color.stroke_width(2))
            });
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 17))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_title_axes_and_names_as_text() {
        let axis = |name, logarithmic| Axis { name, logarithmic };
        for logarithmic in [false, true] {
            let mut picture = String::new();
            let line = |name: &str| (name.to_owned(), vec![(1.0, 5.0), (100.0, 7_000_000.0)]);
            let both = [line("engine"), line("floor")];
            draw(
                &mut picture,
                "the title",
                axis("one in", logarithmic),
                axis("us", logarithmic),
                &both,
            )
            .unwrap();
            for word in ["the title", "one in", "us", "engine", "floor", "</svg>"] {
                assert!(picture.contains(word), "{word}");
            }
        }
        // One point, and none: still a picture.
        let mut picture = String::new();
        let one = [
            ("x".to_owned(), vec![(1.0, 1.0)]),
            ("none".to_owned(), Vec::new()),
        ];
        draw(&mut picture, "t", axis("x", false), axis("y", false), &one).unwrap();
        draw(
            &mut String::new(),
            "t",
            axis("x", true),
            axis("y", true),
            &[],
        )
        .unwrap();
    }
}
