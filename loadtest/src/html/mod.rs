//! The report as a page: figures and charts in one file that needs nothing else, not even fonts.

mod chart;

use std::fmt::{Display, Write};

use crate::objective::Assertion;
use crate::timeline::{CurvePoint, Second};

use chart::{Axis, Chart, Series};

/// What a page says besides its charts.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    pub(crate) title: String,
    /// The report for people, as it stands on a terminal.
    pub(crate) text: String,
    /// What the durations of the charts are.
    pub(crate) what: &'static str,
    pub(crate) timeline: &'a [Second],
    pub(crate) curve: &'a [CurvePoint],
}

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}
svg{width:100%;height:auto;border:1px solid #d8dee4;border-radius:6px}
pre{background:#f6f8fa;padding:1rem;overflow:auto;border-radius:6px;font-size:.85rem}
.bad{color:#b3261e;font-weight:600}.good{color:#1a7f37;font-weight:600}
";

impl Page<'_> {
    /// The page, with the verdicts at its top.
    ///
    /// # Errors
    /// If a chart cannot be drawn.
    pub(crate) fn render(&self, faults: &[String], assertions: &[Assertion]) -> anyhow::Result<String> {
        let mut page = String::new();
        let title = escaped(&self.title);
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\
             <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
        )?;
        if faults.is_empty() {
            page += "<p class=\"good\">No faults.</p>\n";
        }
        for fault in faults {
            writeln!(page, "<p class=\"bad\">Fault: {}</p>", escaped(fault))?;
        }
        for assertion in assertions {
            let class = if assertion.holds { "good" } else { "bad" };
            writeln!(page, "<p class=\"{class}\">{}</p>", escaped(assertion.to_string().trim()))?;
        }
        for chart in self.charts() {
            writeln!(page, "<h2>{}</h2>\n{}", escaped(chart.title), chart.draw()?)?;
        }
        write!(page, "<h2>All figures</h2>\n<pre>{}</pre>\n</body></html>\n", escaped(&self.text))?;
        Ok(page)
    }

    /// The charts for which there is something to draw.
    fn charts(&self) -> Vec<Chart> {
        let over_time = |of: fn(&Second) -> Option<f64>| -> Vec<(f64, f64)> {
            self.timeline.iter().filter_map(|s| Some((f64::from(s.at_s), of(s)?))).collect()
        };
        let series = |name: &str, of: fn(&Second) -> Option<f64>| Series::new(name, over_time(of));
        let timed = |of: fn(&Second) -> f64| -> Vec<(f64, f64)> {
            let any = self.timeline.iter().filter(|second| second.count > 0);
            any.map(|second| (f64::from(second.at_s), of(second))).collect()
        };
        let curve = |points: &[CurvePoint]| -> Vec<(f64, f64)> {
            points.iter().map(|point| (nines(point.quantile), point.ms)).collect()
        };
        let percentiles = vec![Series::new(self.what, curve(self.curve))];
        let charts = vec![
            Chart {
                title: "Latency over time",
                x: Axis::Seconds,
                y: "ms",
                series: vec![
                    Series::new("p50", timed(|second| second.p50_ms)),
                    Series::new("p90", timed(|second| second.p90_ms)),
                    Series::new("p99", timed(|second| second.p99_ms)),
                    Series::new("max", timed(|second| second.max_ms)),
                ],
            },
            Chart { title: "Percentile curve", x: Axis::Nines, y: "ms", series: percentiles },
            Chart {
                title: "Bytes per user",
                x: Axis::Seconds,
                y: "KiB/s",
                series: vec![series("each user", |second| {
                    second.bytes_per_user.map(|bytes| bytes / 1_024.0)
                })],
            },
            Chart {
                title: "CPU",
                x: Axis::Seconds,
                y: "cores",
                series: vec![
                    series("server", |second| second.server_cores),
                    series("load", |second| second.load_cores),
                ],
            },
            Chart {
                title: "Resident memory of the server",
                x: Axis::Seconds,
                y: "MiB",
                series: vec![series("server", |second| second.server_rss_mib)],
            },
        ];
        charts.into_iter().filter(Chart::has_points).collect()
    }
}

/// How many nines a quantile has: 0.9 has one, 0.99 two.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn escaped(text: &(impl Display + ?Sized)) -> String {
    text.to_string().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_chart_for_all_that_is_known_and_nothing_from_elsewhere() {
        let second = |at_s| Second {
            at_s,
            count: 10,
            p50_ms: 25.0,
            p90_ms: 45.0,
            p99_ms: 51.0,
            max_ms: 60.0,
            bytes_per_user: Some(2_048.0),
            load_cores: Some(0.1),
            ..Second::default()
        };
        let timeline: Vec<Second> = (1..20).map(second).collect();
        let curve = [CurvePoint { quantile: 0.0, ms: 1.0 }, CurvePoint { quantile: 0.99, ms: 51.0 }];
        let page = Page {
            title: "a <test>".to_owned(),
            text: "p50 25 ms".to_owned(),
            what: "pose age",
            timeline: &timeline,
            curve: &curve,
        };
        let html = page.render(&["it <broke>".to_owned()], &[]).unwrap();
        assert_eq!(html.matches("<svg").count(), 4, "the server's memory is not known");
        assert!(html.contains("Fault: it &lt;broke&gt;") && html.contains("a &lt;test&gt;"));
        for outside in ["src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        let nothing = Page { timeline: &[], curve: &[], ..page };
        assert_eq!(nothing.render(&[], &[]).unwrap().matches("<svg").count(), 0);
    }

    #[test]
    fn nines_are_counted() {
        assert_eq!(nines(0.0), 0.0);
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
    }
}
