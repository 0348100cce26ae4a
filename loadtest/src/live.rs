//! What can be watched while it runs: a bar on the terminal. Where there is no terminal nothing is written.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::timeline::Second;

/// The bar, with what has just been found beside it.
#[derive(Debug)]
pub(crate) struct Live(ProgressBar);

/// How often the bar moves though nothing happens.
const TICK: Duration = Duration::from_millis(200);

impl Live {
    /// A bar on the terminal that standard error goes to, if it does.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style =
            ProgressStyle::with_template("{prefix:<12} {bar:28} {pos:>5}/{len:<5} {elapsed:>4}  {wide_msg}");
        bar.set_style(style.expect("the template is constant and valid"));
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Begins a part of the run that goes up to `length`.
    pub(crate) fn begin(&self, what: &'static str, length: u64) {
        self.0.set_prefix(what);
        self.0.set_length(length);
        self.0.set_position(0);
        self.0.set_message("");
    }

    /// How far it is.
    pub(crate) fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    /// What to say beside it.
    pub(crate) fn say(&self, message: String) {
        self.0.set_message(message);
    }

    /// Shows a second that has passed.
    pub(crate) fn show(&self, second: &Second) {
        self.at(u64::from(second.at_s));
        self.say(line(second));
    }

    /// Takes the bar away, so that a report can be written.
    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}

fn line(second: &Second) -> String {
    let Second { p50_ms, p90_ms, p99_ms, max_ms, bytes_per_user, server_cores, load_cores, .. } = second;
    let mut line = format!("p50 {p50_ms:.0}  p90 {p90_ms:.0}  p99 {p99_ms:.0}  max {max_ms:.0} ms");
    if let Some(bytes) = bytes_per_user {
        line += &format!("  {:.1} KiB/s each", bytes / 1_024.0);
    }
    if let Some(cores) = server_cores {
        line += &format!("  server {cores:.2}");
    }
    if let Some(cores) = load_cores {
        line += &format!("  load {cores:.2} cores");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_one_line_with_what_is_known() {
        let mut second = Second { at_s: 3, p50_ms: 26.4, p99_ms: 51.0, ..Second::default() };
        assert_eq!(line(&second), "p50 26  p90 0  p99 51  max 0 ms");
        (second.bytes_per_user, second.server_cores, second.load_cores) =
            (Some(2_048.0), Some(0.5), Some(0.25));
        assert_eq!(
            line(&second),
            "p50 26  p90 0  p99 51  max 0 ms  2.0 KiB/s each  server 0.50  load 0.25 cores"
        );
    }
}
