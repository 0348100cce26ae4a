//! Documents that are true on every machine.

use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Parser, Tag};

use super::Violation;

/// Folders whose paths mean something on the writer's machine only.
const MACHINE_FOLDERS: [&str; 6] = ["/home/", "/root/", "/tmp/", "/work/", "/Users/", "C:\\"];

/// Links to files lead to files. `exists` is asked about paths relative to the workspace.
pub(super) fn links(path: &str, text: &str, exists: impl Fn(&Path) -> bool) -> Vec<Violation> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let folder = Path::new(path).parent().unwrap_or(Path::new(""));
    let mut violations = Vec::new();
    for (event, range) in Parser::new(text).into_offset_iter() {
        let (Event::Start(Tag::Link { dest_url, .. }) | Event::Start(Tag::Image { dest_url, .. })) = event
        else {
            continue;
        };
        let target = dest_url.split(['#', '?']).next().unwrap_or_default();
        if target.is_empty() || target.contains(':') {
            continue;
        }
        if !resolve(folder, target).is_some_and(|file| exists(&file)) {
            let line = 1 + text[..range.start].matches('\n').count();
            let message = format!("the link to `{target}` leads nowhere: correct it or add the file");
            violations.push(Violation::new(path, line, message));
        }
    }
    violations
}

/// The path that a link in `folder` leads to, without dots; `None` if it leaves the workspace.
fn resolve(folder: &Path, target: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => path.pop().then_some(())?,
            // A leading slash is the workspace's root, as it is where repositories are shown.
            Component::RootDir => path.clear(),
            Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

/// No document names a path of its writer's machine.
pub(super) fn machine_paths(path: &str, text: &str) -> Vec<Violation> {
    if !path.ends_with(".md") {
        return Vec::new();
    }
    let lines = text.lines().enumerate().filter_map(|(index, line)| {
        let folder = MACHINE_FOLDERS.iter().find(|folder| has_path_from(line, folder))?;
        let message = format!("`{folder}…` is there on one machine: write a path from the workspace's root");
        Some(Violation::new(path, index + 1, message))
    });
    lines.collect()
}

/// Whether a path begins with `folder` in this line, rather than going through it.
fn has_path_from(line: &str, folder: &str) -> bool {
    let goes_on = |before: char| before.is_alphanumeric() || "./-_~".contains(before);
    line.match_indices(folder).any(|(start, _)| !line[..start].ends_with(goes_on))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn known(path: &str, text: &str) -> Vec<Violation> {
        links(path, text, |file| ["README.md", "docs/design.md"].iter().any(|known| file == Path::new(known)))
    }

    #[test]
    fn links_to_missing_files_are_caught() {
        check(known, "README.md", "# Title\n\nSee [it](docs/design.md#rooms).", &[]);
        check(known, "README.md", "# Title\n\nSee\n[it](docs/absent.md).", &[(4, "`docs/absent.md`")]);
        check(known, "README.md", "![a picture](docs/room.png)", &[(1, "`docs/room.png`")]);
        check(known, "README.md", "See [it][1].\n\n[1]: absent.md", &[(1, "`absent.md`")]);
        check(known, "docs/design.md", "[up](../README.md) [root](/README.md) [here](design.md)", &[]);
        check(known, "docs/design.md", "[out](../../README.md)", &[(1, "leads nowhere")]);
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        check(
            known,
            "README.md",
            "[site](https://example.org/x.md) [mail](mailto:a@b.c) [part](#rooms)",
            &[],
        );
        check(known, "README.md", "```\n[it](absent.md)\n```", &[]);
        check(known, "web/src/main.ts", "[it](absent.md)", &[]);
    }

    #[test]
    fn paths_of_one_machine_are_caught() {
        check(machine_paths, "README.md", "Run\n\n    cd /home/ann/copresence", &[(3, "`/home/…`")]);
        check(machine_paths, "docs/design.md", "writes `/tmp/pose.bin`", &[(1, "`/tmp/…`")]);
        check(machine_paths, "README.md", "https://example.org/home/page and ./tmp/x and web/tmp/y", &[]);
    }
}
