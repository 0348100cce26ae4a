//! Line charts as SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, IntoFont, LineSeries, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::Color;

/// Size of a chart, in its own units: a page shows it as wide as it has room.
const SIZE: (u32, u32) = (960, 320);
/// Lines of different colours, told apart by those who see fewer of them too (Okabe and Ito's palette).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 120),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
/// Points of one line that are drawn. Of more, each drawn one stands for some, and is the highest of them.
const POINTS_MAX: usize = 1_000;

/// What the horizontal axis says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Seconds,
    /// Nines of a quantile.
    Nines,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Series {
    pub(super) fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        let share = points.len().div_ceil(POINTS_MAX).max(1);
        let highest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
        Self { name: name.to_owned(), points: points.chunks(share).filter_map(highest).collect() }
    }
}

/// Some lines above one axis.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    /// What the vertical axis counts.
    pub(super) y: &'static str,
    pub(super) series: Vec<Series>,
}

impl Chart {
    /// Whether there is a line to draw.
    pub(super) fn has_points(&self) -> bool {
        self.series.iter().any(|series| series.points.len() > 1)
    }

    /// The chart as SVG.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw_on(&mut svg).map_err(|error| anyhow!("{}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw_on(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let right = points().map(|(x, _)| *x).fold(left + f64::EPSILON, f64::max);
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
        // The names of the lines stand above the highest of them.
        let headroom = 1.15 + 0.08 * self.series.len() as f64;
        let top = if top > 0.0 { top * headroom } else { 1.0 };
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(64)
            .build_cartesian_2d(left..right, 0.0..top)?;
        let of_x = |x: &f64| self.x_label(*x);
        let of_y = |y: &f64| if top < 10.0 { format!("{y:.2}") } else { format!("{y:.0}") };
        let mut mesh = chart.configure_mesh();
        mesh.x_label_formatter(&of_x).y_label_formatter(&of_y).y_desc(self.y).x_desc(match self.x {
            Axis::Seconds => "seconds",
            Axis::Nines => "that share took at most so long",
        });
        mesh.light_line_style(WHITE).bold_line_style(RGBColor(230, 234, 238));
        mesh.label_style(("sans-serif", 13).into_font()).axis_desc_style(("sans-serif", 14).into_font());
        if self.x == Axis::Nines {
            mesh.x_labels(((right - left).ceil() as usize + 1).max(2));
        }
        mesh.draw()?;
        for (series, colour) in
            self.series.iter().zip(COLOURS.iter().cycle()).filter(|(s, _)| !s.points.is_empty())
        {
            let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2));
            let sample = |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
            chart.draw_series(line)?.label(&series.name).legend(sample);
        }
        let mut labels = chart.configure_series_labels();
        labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.85));
        labels.label_font(("sans-serif", 13).into_font()).draw()?;
        root.present()?;
        Ok(())
    }

    fn x_label(&self, x: f64) -> String {
        match self.x {
            Axis::Seconds => format!("{x:.0}"),
            Axis::Nines => {
                // As many decimals as there are nines.
                let decimals = (x.round() - 2.0).max(0.0) as usize;
                format!("{:.decimals$} %", 100.0 * (1.0 - 10_f64.powf(-x)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_svg_with_its_lines_and_labels() {
        let line =
            |name, scale: f64| Series::new(name, (0..50).map(|x| (x.into(), scale * f64::from(x))).collect());
        let chart =
            Chart { title: "t", x: Axis::Seconds, y: "ms", series: vec![line("p50", 1.0), line("p99", 2.0)] };
        let svg = chart.draw().unwrap();
        assert!(svg.starts_with("<svg") && svg.contains("p99") && svg.contains("seconds"), "{svg}");
        assert!(svg.matches("<polyline").count() >= 2, "{svg}");
    }

    #[test]
    fn the_highest_stands_for_those_beside_it() {
        let series = Series::new("x", (0..10_000).map(|x| (x.into(), f64::from(x % 10))).collect());
        assert_eq!(series.points.len(), POINTS_MAX);
        assert!(series.points.iter().all(|(_, y)| *y == 9.0));
    }

    #[test]
    fn quantiles_are_labelled_by_their_nines() {
        let chart = Chart { title: "t", x: Axis::Nines, y: "ms", series: Vec::new() };
        for (x, label) in [(0.0, "0 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")] {
            assert_eq!(chart.x_label(x), label);
        }
    }
}
