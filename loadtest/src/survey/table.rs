//! A survey as Markdown.

use std::fmt::Write;

use super::chart;
use super::findings::{Figures, Missing, Room, Row, Survey};

/// The charts' folder, as seen from the document.
const CHARTS: &str = "charts";
/// Stands for what is not known.
const NOTHING: &str = "–";
/// Behind a figure: the core was full, or the load was at its own limit.
const FULL: &str = "\\*";
const LOAD: &str = "†";

/// All that there is to say, without the markers around it.
pub(super) fn write(survey: &Survey) -> String {
    let Survey { rounds, hz, area_m, warmup_s, window_s, p99_ms, max_gap_ms, .. } = survey;
    let each = match rounds {
        1 => String::new(),
        rounds => format!(", medians of {rounds} rounds in turns"),
    };
    let mut text = format!(
        "One room, everybody sending at {hz} Hz at moments of their own, spread over a square of {area_m} m; server or \
         relay alone on one core, the load on the other; {window_s} s after {warmup_s} s of warm-up{each}.\n\n"
    );
    text += &rooms(survey);
    for chart in chart::all(survey) {
        let _ = write!(text, "\n![{}]({CHARTS}/{})\n", chart.title, chart.file);
    }
    let ages = |f: &Figures| Some(format!("{} / {}", short(f.p50_ms?), short(f.p99_ms?)));
    let arrived = |f: &Figures| Some(format!("{:.0}", 100.0 * f.arrived?));
    for (title, figure) in [
        ("Pose age, p50 / p99, ms", &ages as &dyn Fn(&Figures) -> Option<String>),
        ("CPU µs per user-tick: one update in, one frame out", &|f| Some(short(f.cpu_us_per_user_tick))),
        ("KiB/s to each client", &|f| Some(short(f.kib_per_user_s))),
        ("Poses that arrived, % of all of everybody to everybody", &arrived),
    ] {
        text += &by_size(survey, title, figure);
    }
    let _ = write!(
        text,
        "\n{FULL} its core was full: CPU time then says what one core can do and not what the work costs. {LOAD} the load \
         was at its own limit: no finding about the server. A pose that a tick or patch replaces by a newer one, or that a \
         budget leaves out, does not arrive, and has no age. What has not come some 11 s after the window counts as not \
         arrived, so ages near 12 s are lower bounds. The largest room has a p99 pose age of at most {p99_ms} ms, no gap (time \
         in which somebody near is not heard of) above {max_gap_ms} ms, and no fault; behind it is the smallest number that \
         was tried and did not hold, and what was wrong. *Between* two numbers, *above* or *below* one: the search was cut off \
         by its time or by its number of steps.\n"
    );
    text + &missing(survey) + &circumstances(survey)
}

/// What people look for first: how large a room may be.
fn rooms(survey: &Survey) -> String {
    let mut text =
        format!("| | poses as | largest room at p99 ≤ {} ms |\n| --- | --- | --- |\n", survey.p99_ms);
    for row in &survey.rows {
        let room = row.room.as_ref().map_or(NOTHING.to_owned(), size);
        let _ = writeln!(text, "| {} | {} | {room} |", row.name, row.encoding);
    }
    text
}

/// What is known of the largest room, and what was wrong with the smallest that was not well.
fn size(room: &Room) -> String {
    let mark = if room.load_is_the_limit { LOAD } else { "" };
    let why = room.why.as_ref().map_or(String::new(), |why| format!(": {}", plain(why)));
    let broken = room.broken_at.map(|broken| format!("{}{mark}", number(broken)));
    match (room.limit.map(number), broken, room.is_found()) {
        (Some(limit), Some(broken), true) => format!("{limit} (not {broken}{why})"),
        (Some(limit), Some(broken), false) => format!("between {limit} and {broken}{why}"),
        (Some(limit), None, true) => format!("at least {limit}, the most that were tried"),
        (Some(limit), None, false) => format!("above {limit}"),
        (None, Some(broken), true) => format!("none found (not {broken}{why})"),
        (None, Some(broken), false) => format!("below {broken}{why}"),
        (None, None, _) => NOTHING.to_owned(),
    }
}

/// A table with a column for each size.
fn by_size(survey: &Survey, title: &str, figure: &dyn Fn(&Figures) -> Option<String>) -> String {
    let sizes: String = survey.sizes.iter().map(|size| format!(" {} |", number(*size))).collect();
    let mut text = format!("\n| {title} |{sizes}\n| --- |{}\n", " --- |".repeat(survey.sizes.len()));
    let of_row = |row: &Row| -> Option<String> {
        let cells = row.cells.iter().map(|cell| {
            let figures = cell.figures.as_ref()?;
            let marks = [(figures.is_overloaded(survey.p99_ms), FULL), (figures.load_is_the_limit, LOAD)];
            let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
            Some(figure(figures)? + &marks)
        });
        let cells: Vec<Option<String>> = cells.collect();
        let any = cells.iter().any(Option::is_some);
        let told = cells.into_iter().map(|cell| format!(" {} |", cell.unwrap_or_else(|| NOTHING.to_owned())));
        // Where nothing can be known there is no line.
        any.then(|| format!("| {} |{}\n", row.name, told.collect::<String>()))
    };
    text.extend(survey.rows.iter().filter_map(of_row));
    text
}

/// Who is not in the tables, or not everywhere, and why.
fn missing(survey: &Survey) -> String {
    let mut lines = Vec::new();
    for row in &survey.rows {
        // The first reason is that of all larger sizes.
        let first = row.cells.iter().find_map(|cell| Some((cell.users, cell.missing.as_ref()?)));
        if let Some((users, Missing { why, .. })) = first {
            lines.push(format!("- {} from {} on: {}", row.name, number(users), plain(why)));
        }
        for cell in &row.cells {
            let figures = cell.figures.iter();
            let faults = figures.clone().flat_map(|figures| &figures.faults).map(|fault| plain(fault));
            let doubts = figures.flat_map(|figures| &figures.doubts);
            let doubts = doubts.map(|doubt| format!("doubtful: {}", plain(doubt)));
            let told = |what| format!("- {} with {}: {what}", row.name, number(cell.users));
            lines.extend(faults.chain(doubts).map(told));
        }
    }
    lines.extend(
        survey.left_out.iter().map(|note| format!("- {} left out: {}", note.name, plain(&note.text))),
    );
    match lines.len() {
        0 => String::new(),
        _ => format!("\nNot measured, with faults, or doubtful:\n\n{}\n", lines.join("\n")),
    }
}

/// The machine, the versions, the commands.
fn circumstances(survey: &Survey) -> String {
    let facts: String =
        survey.facts.iter().map(|fact| format!("- {}: {}\n", fact.name, plain(&fact.text))).collect();
    let mut commands = String::new();
    for row in &survey.rows {
        let _ = write!(commands, "# {}\n{}\n{}\n", row.name, row.command, row.load);
    }
    format!(
        "\nMachine and versions:\n\n{facts}\nCommands (P is a port, N the number of users, PID the process that listens, B what \
         the server has been found to send to each client in a tick):\n\n```text\n{commands}```\n"
    )
}

/// A text from elsewhere, on one line of Markdown that means nothing else.
fn plain(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.replace('|', "/").replace('<', "&lt;").replace('`', "'")
}

/// Three digits or all before the point, whichever is more.
pub(super) fn short(value: f64) -> String {
    match value {
        1_000.0.. => number(value.round() as u32),
        100.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

/// A whole number with its thousands apart.
pub(super) fn number(value: u32) -> String {
    match value {
        0..1_000 => value.to_string(),
        1_000..1_000_000 => format!("{},{:03}", value / 1_000, value % 1_000),
        _ => format!("{},{:03},{:03}", value / 1_000_000, value / 1_000 % 1_000, value % 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::End;
    use super::super::findings::tests::survey;
    use super::*;

    fn line<'a>(text: &'a str, begin: &str) -> &'a str {
        text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("no {begin}: {text}"))
    }

    #[test]
    fn every_row_has_its_figures_and_every_gap_its_reason() {
        let text = write(&survey());
        assert_eq!(
            line(&text, "| Copresence | json"),
            "| Copresence | json | 1,200 (not 1,300: p99 113 ms) |"
        );
        assert_eq!(line(&text, "| relay | json"), "| relay | json | none found (not 25: p99 9000 ms) |");
        assert_eq!(line(&text, "| bare loop | json"), "| bare loop | json | – |");
        let ages: Vec<&str> =
            text.lines().skip_while(|line| !line.starts_with("| Pose age")).take(4).collect();
        assert_eq!(
            ages,
            [
                "| Pose age, p50 / p99, ms | 25 | 1,000 |",
                "| --- | --- | --- |",
                "| Copresence | 25.6 / 51.2 | 30.0 / 60.0 |",
                "| relay | 4,500 / 9,000\\* | – |"
            ]
        );
        assert!(text.contains("| bare loop | 11.0 | 8.0 |"), "{text}");
        assert_eq!(line(&text, "- relay from"), "- relay from 1,000 on: too slow with 25");
        assert_eq!(line(&text, "- Bun"), "- Bun left out: npm has it not");
        assert!(
            text.contains("- rustc: 1.96.0\n") && text.contains("# relay\ntarget/release/relay\n"),
            "{text}"
        );
        let charts = text.lines().filter(|line| line.starts_with("![")).count();
        assert_eq!(charts, chart::all(&survey()).len());
    }

    #[test]
    fn a_load_at_its_limit_is_marked_wherever_it_matters() {
        let mut survey = survey();
        let figures = survey.rows[0].cells[1].figures.as_mut().unwrap();
        figures.load_is_the_limit = true;
        figures.faults.push("3 sessions ended: <gone> | away".to_owned());
        figures.doubts.push("many poses left late".to_owned());
        survey.rows[0].room.as_mut().unwrap().load_is_the_limit = true;
        let text = write(&survey);
        assert_eq!(
            line(&text, "- Copresence with 1,000: doubtful"),
            "- Copresence with 1,000: doubtful: many poses left late"
        );
        assert!(
            text.contains("| 1,200 (not 1,300†: p99 113 ms) |") && text.contains("| 30.0 / 60.0† |"),
            "{text}"
        );
        let fault = "- Copresence with 1,000: 3 sessions ended: &lt;gone> / away";
        assert_eq!(line(&text, "- Copresence with"), fault);
    }

    #[test]
    fn a_search_that_was_cut_off_says_so() {
        let mut room = survey().rows[0].room.clone().unwrap();
        room.end = Some(End::Time);
        assert_eq!(size(&room), "between 1,200 and 1,300: p99 113 ms");
        assert_eq!(size(&Room { limit: None, ..room.clone() }), "below 1,300: p99 113 ms");
        room = Room { broken_at: None, why: None, ..room };
        assert_eq!(size(&room), "above 1,200");
        room.end = Some(End::Found);
        assert_eq!(size(&room), "at least 1,200, the most that were tried");
        assert!(write(&survey()).contains("above 1500 ms, and no fault"));
    }

    #[test]
    fn numbers_are_as_long_as_people_read_them() {
        for (value, text) in [
            (0.0, "0.0"),
            (51.25, "51.2"),
            (286.7, "287"),
            (999.9, "1000"),
            (1_000.0, "1,000"),
            (16_450.4, "16,450"),
        ] {
            assert_eq!(short(value), text);
        }
        assert_eq!(number(1_234_005), "1,234,005");
    }
}
