//! A survey as charts: SVG with a ground of its own, so that they can be read on pages of any colour.

use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::combinators::BindKeyPoints;
use plotters::prelude::{
    ChartBuilder, Circle, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, PathElement,
    RGBColor, Rectangle, SVGBackend, Text, WHITE,
};
use plotters::style::Color;

use super::findings::{Figures, Row, Survey};
use super::table::{number, short};

/// Size of a chart, and of the column with the names of its lines.
const SIZE: (u32, u32) = (960, 400);
const PLOT_WIDTH: i32 = 720;
const NAME_HEIGHT: i32 = 24;
/// Distance of what is drawn by hand from the top.
const TOP: i32 = 52;
/// Where bars begin, and what is kept for the numbers behind them.
const BAR_LEFT: i32 = 220;
const BAR_ROOM: i32 = 150;
/// Text and lines of the ground.
const INK: RGBColor = RGBColor(27, 31, 36);
const GRID: RGBColor = RGBColor(225, 229, 234);
/// One for each who takes part, told apart by those who see fewer colours too (Okabe and Ito's palette).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(213, 94, 0),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(0, 0, 0),
    RGBColor(140, 140, 140),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// What is drawn.
enum Plot {
    /// A line for each, both axes logarithmic: what the vertical one counts, and a point for each size.
    Lines { y: &'static str, lines: Vec<Line> },
    /// A bar for each, with what stands behind it.
    Bars { x: String, bars: Vec<Bar> },
}

struct Line {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

struct Bar {
    name: String,
    colour: RGBColor,
    value: f64,
    text: String,
}

/// A chart, and the file that it belongs into.
pub(super) struct Chart {
    pub(super) file: &'static str,
    pub(super) title: String,
    plot: Plot,
}

/// All charts for which there is something to draw.
pub(super) fn all(survey: &Survey) -> Vec<Chart> {
    let lines = |file, title: &str, y, figure: &dyn Fn(&Figures) -> Option<f64>| Chart {
        file,
        title: title.to_owned(),
        plot: Plot::Lines { y, lines: lines(survey, figure) },
    };
    let cpu = |f: &Figures| (!f.is_overloaded(survey.p99_ms)).then_some(f.cpu_us_per_user_tick);
    let charts = vec![
        Chart {
            file: "largest-room.svg",
            title: format!("Largest room at a p99 pose age of at most {} ms", survey.p99_ms),
            plot: Plot::Bars { x: "people in one room".to_owned(), bars: bars(survey) },
        },
        lines("pose-age-p50.svg", "Pose age, p50", "ms", &|f| f.p50_ms),
        lines("pose-age-p99.svg", "Pose age, p99", "ms", &|f| f.p99_ms),
        lines("cpu.svg", "CPU per user-tick, while the core is not full", "µs", &cpu),
        lines("bytes.svg", "Bytes to each client", "KiB/s", &|f| Some(f.kib_per_user_s)),
    ];
    charts.into_iter().filter(Chart::has_anything).collect()
}

fn coloured(survey: &Survey) -> impl Iterator<Item = (&Row, RGBColor)> {
    survey.rows.iter().zip(COLOURS.into_iter().cycle())
}

fn lines(survey: &Survey, figure: &dyn Fn(&Figures) -> Option<f64>) -> Vec<Line> {
    let line = |(row, colour): (&Row, RGBColor)| {
        let points = row.cells.iter().filter_map(|cell| {
            // A logarithm has no place for nothing.
            let value = figure(cell.figures.as_ref()?).filter(|value| *value > 0.0)?;
            Some((f64::from(cell.users), value))
        });
        Line { name: row.name.clone(), colour, points: points.collect() }
    };
    coloured(survey).map(line).filter(|line| !line.points.is_empty()).collect()
}

fn bars(survey: &Survey) -> Vec<Bar> {
    let bar = |(row, colour): (&Row, RGBColor)| {
        let room = row.room.as_ref()?;
        let limit = room.limit.unwrap_or_default();
        let text = match (room.limit, room.broken_at) {
            (None, _) => "none found".to_owned(),
            (Some(limit), None) => format!("{} or more", number(limit)),
            (Some(limit), _) if room.load_is_the_limit => format!("{} or more", number(limit)),
            (Some(limit), Some(broken)) if !room.is_found() => {
                format!("{}–{}", number(limit), number(broken))
            }
            (Some(limit), _) => number(limit),
        };
        Some(Bar { name: row.name.clone(), colour, value: limit.into(), text })
    };
    coloured(survey).filter_map(bar).collect()
}

impl Chart {
    fn has_anything(&self) -> bool {
        match &self.plot {
            Plot::Lines { lines, .. } => lines.iter().any(|line| line.points.len() > 1),
            Plot::Bars { bars, .. } => bars.iter().any(|bar| bar.value > 0.0),
        }
    }

    /// The chart as SVG.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub(super) fn draw(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw_on(&mut svg).map_err(|error| anyhow!("{}: {error}", self.title))?;
        Ok(svg + "\n")
    }

    fn draw_on(&self, svg: &mut String) -> Outcome {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        match &self.plot {
            Plot::Lines { y, lines } => self.draw_lines(&root, y, lines)?,
            Plot::Bars { x, bars } => self.draw_bars(&root, x, bars)?,
        }
        root.present()?;
        Ok(())
    }

    fn draw_lines(&self, root: &Area<'_>, y: &str, lines: &[Line]) -> Outcome {
        let (plot, names) = root.split_horizontally(PLOT_WIDTH);
        let points = || lines.iter().flat_map(|line| &line.points);
        let across = span(points().map(|(x, _)| *x));
        let mut sizes: Vec<f64> = points().map(|(x, _)| *x).collect();
        sizes.sort_by(f64::total_cmp);
        sizes.dedup();
        let up = span(points().map(|(_, y)| *y));
        let marks = marks(&up);
        let mut chart = ChartBuilder::on(&plot)
            .margin(14)
            .caption(&self.title, ("sans-serif", 19).into_font().color(&INK))
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(
                across.log_scale().with_key_points(sizes),
                up.log_scale().with_key_points(marks),
            )?;
        let mut mesh = chart.configure_mesh();
        let (of_x, of_y) = (|x: &f64| number(*x as u32), |y: &f64| label(*y));
        mesh.x_label_formatter(&of_x).y_label_formatter(&of_y);
        mesh.x_desc("people in one room").y_desc(format!("{y} (logarithmic)"));
        mesh.bold_line_style(GRID).light_line_style(WHITE).axis_style(INK);
        mesh.label_style(("sans-serif", 13).into_font().color(&INK));
        mesh.axis_desc_style(("sans-serif", 14).into_font().color(&INK)).draw()?;
        for (at, Line { name, colour, points }) in (0..).zip(lines) {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            let y = TOP + at * NAME_HEIGHT;
            names.draw(&PathElement::new([(0, y), (22, y)], colour.stroke_width(3)))?;
            let style = ("sans-serif", 14).into_font().color(&INK);
            names.draw(&Text::new(name.clone(), (30, y - 7), style))?;
        }
        Ok(())
    }

    fn draw_bars(&self, root: &Area<'_>, x: &str, bars: &[Bar]) -> Outcome {
        let most = bars.iter().map(|bar| bar.value).fold(1.0, f64::max);
        let height = (SIZE.1 as i32 - 2 * TOP) / bars.len().max(1) as i32;
        let width = SIZE.0 as i32 - BAR_LEFT - BAR_ROOM;
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        root.draw(&Text::new(self.title.clone(), (BAR_LEFT, 16), text(19)))?;
        for (at, Bar { name, colour, value, text: told }) in (0..).zip(bars) {
            let top = TOP + at * height;
            let right = BAR_LEFT + (value / most * f64::from(width)) as i32;
            root.draw(&Text::new(name.clone(), (14, top + height / 2 - 8), text(14)))?;
            root.draw(&Rectangle::new(
                [(BAR_LEFT, top + 4), (right.max(BAR_LEFT + 1), top + height - 4)],
                colour.filled(),
            ))?;
            root.draw(&Text::new(told.clone(), (right + 8, top + height / 2 - 8), text(14)))?;
        }
        root.draw(&Text::new(x.to_owned(), (BAR_LEFT, SIZE.1 as i32 - TOP + 12), text(14)))?;
        Ok(())
    }
}

/// From a bit below the least to a bit above the most.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (least, most) =
        values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
    0.9 * least..1.1 * most
}

/// 1, 2, 5, 10 and so on as far as they are within a span.
fn marks(span: &Range<f64>) -> Vec<f64> {
    let decades = (span.start.log10().floor() as i32)..=(span.end.log10().ceil() as i32);
    let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|mark| mark * 10_f64.powi(decade)));
    marks.filter(|mark| span.contains(mark)).collect()
}

fn label(value: f64) -> String {
    if value < 1.0 { format!("{value}") } else { short(value).trim_end_matches(".0").to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::{figures, survey};
    use super::super::findings::{End, Room};
    use super::*;

    fn drawn(survey: &Survey, file: &str) -> String {
        let charts = all(survey);
        charts.iter().find(|chart| chart.file == file).expect("it is drawn").draw().unwrap()
    }

    #[test]
    fn each_chart_has_a_ground_a_title_units_and_names() {
        let survey = survey();
        for (file, title, unit, names) in [
            ("pose-age-p99.svg", "Pose age, p99", "ms (logarithmic)", &["Copresence", "relay"][..]),
            ("cpu.svg", "CPU per user-tick", "µs (logarithmic)", &["Copresence", "bare loop"]),
            (
                "bytes.svg",
                "Bytes to each client",
                "KiB/s (logarithmic)",
                &["Copresence", "relay", "bare loop"],
            ),
            (
                "largest-room.svg",
                "at most 100 ms",
                "people in one room",
                &["Copresence", "relay", "none found"],
            ),
        ] {
            let svg = drawn(&survey, file);
            for text in [title, unit, "people in one room"].iter().chain(names) {
                assert!(svg.contains(text), "{text}: {svg}");
            }
            assert!(svg.contains("fill=\"#FFFFFF\""), "{svg}");
        }
        assert!(!drawn(&survey, "cpu.svg").contains("relay"), "a full core says nothing of costs");
        assert!(!drawn(&survey, "pose-age-p50.svg").contains("bare"), "its poses are made up");
    }

    #[test]
    fn a_bar_says_what_is_known_of_its_end() {
        let told = |change: fn(&mut Room)| {
            let mut survey = survey();
            change(survey.rows[0].room.as_mut().unwrap());
            bars(&survey)[0].text.clone()
        };
        assert_eq!(told(|_| ()), "1,200");
        assert_eq!(told(|room| room.end = Some(End::Time)), "1,200–1,300");
        assert_eq!(told(|room| room.end = None), "1,200–1,300", "nobody knows");
        assert_eq!(told(|room| (room.load_is_the_limit, room.end) = (true, None)), "1,200 or more");
        assert_eq!(told(|room| room.broken_at = None), "1,200 or more");
    }

    #[test]
    fn what_has_no_figures_is_not_drawn() {
        let mut survey = survey();
        survey.rows.truncate(1);
        survey.rows[0].room = None;
        survey.rows[0].cells.truncate(1);
        assert!(all(&survey).is_empty());
        survey.rows[0].cells[0].figures = Some(figures(Some(0.0), 0.0, 0.0));
        assert!(all(&survey).is_empty());
    }

    #[test]
    fn marks_are_round_and_inside() {
        assert_eq!(marks(&(0.9..110.0)), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        let labels: Vec<String> = [0.5, 1.0, 20.0, 2_000.0].into_iter().map(label).collect();
        assert_eq!(labels, ["0.5", "1", "20", "2,000"]);
    }
}
