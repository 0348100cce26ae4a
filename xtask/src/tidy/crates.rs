//! Which crate may depend on which: `server → engine → replay → protocol`, never upward.

use toml::{Table, Value};

use super::Violation;

/// What a crate of the workspace may use.
struct Crate {
    name: &'static str,
    /// Crates of the workspace that it may depend on.
    may_use: &'static [&'static str],
    /// Packages that it must do without.
    never: &'static [&'static str],
    /// Features of tokio that it must do without.
    never_of_tokio: &'static [&'static str],
}

const CRATES: &[Crate] = &[
    Crate { name: "protocol", may_use: &[], never: &["tokio", "rand"], never_of_tokio: &[] },
    Crate { name: "replay", may_use: &["protocol"], never: &["tokio", "rand"], never_of_tokio: &[] },
    Crate {
        name: "engine",
        may_use: &["replay", "protocol"],
        never: &[],
        never_of_tokio: &["full", "net", "rt-multi-thread"],
    },
    Crate {
        name: "server",
        may_use: &["engine", "replay", "protocol"],
        never: &[],
        never_of_tokio: &["full"],
    },
    Crate { name: "loadtest", may_use: &["protocol"], never: &[], never_of_tokio: &[] },
    Crate { name: "benches", may_use: &["engine", "replay", "protocol"], never: &[], never_of_tokio: &[] },
    Crate { name: "fuzz", may_use: &["engine", "replay", "protocol"], never: &[], never_of_tokio: &[] },
    Crate { name: "worker", may_use: &[], never: &[], never_of_tokio: &["full"] },
    Crate { name: "xtask", may_use: &[], never: &[], never_of_tokio: &[] },
];

/// A crate uses only what [`CRATES`] lets it use, for tests and build scripts too.
pub(super) fn directions(path: &str, text: &str) -> Vec<Violation> {
    let Some(rule) = path.strip_suffix("/Cargo.toml").and_then(find) else { return Vec::new() };
    let manifest = match text.parse::<Table>() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Violation::new(path, 1, error.to_string())],
    };
    let mut violations = Vec::new();
    for (name, dependency) in dependencies(&manifest) {
        let package = dependency.get("package").and_then(Value::as_str).unwrap_or(&name);
        let mut complain = |message| violations.push(Violation::new(path, line_of(text, &name), message));
        if find(package).is_some() && !rule.may_use.contains(&package) {
            complain(format!("{} must not depend on {package}: {}", rule.name, way_out(rule)));
        }
        if rule.never.contains(&package) {
            complain(format!(
                "{} does without {package}: let its caller bring what it needs of it",
                rule.name
            ));
        }
        for feature in features(&dependency).filter(|_| package == "tokio") {
            if rule.never_of_tokio.contains(&feature) {
                complain(format!(
                    "{} does without tokio's `{feature}`: name the features it needs",
                    rule.name
                ));
            }
        }
    }
    violations
}

/// Every member of the workspace has an entry in [`CRATES`], and tokio brings no features along to all of them.
pub(super) fn members(path: &str, text: &str) -> Vec<Violation> {
    if path != "Cargo.toml" {
        return Vec::new();
    }
    let manifest = text.parse::<Table>().unwrap_or_default();
    let Some(workspace) = manifest.get("workspace") else { return Vec::new() };
    let members = workspace.get("members").and_then(Value::as_array).into_iter().flatten();
    let unknown = members.filter_map(Value::as_str).filter(|name| find(name).is_none());
    let mut violations: Vec<_> = unknown
        .map(|name| {
            let message = format!("`{name}` has no rule: say in xtask/src/tidy/crates.rs what it may use");
            Violation::new(path, line_of(text, "members"), message)
        })
        .collect();
    let tokio = workspace.get("dependencies").and_then(|dependencies| dependencies.get("tokio"));
    if tokio.is_some_and(|tokio| features(tokio).next().is_some()) {
        let message = "tokio's features would reach every crate: name them where they are used";
        violations.push(Violation::new(path, line_of(text, "tokio"), message));
    }
    violations
}

fn find(name: &str) -> Option<&'static Crate> {
    CRATES.iter().find(|rule| rule.name == name)
}

fn way_out(rule: &Crate) -> String {
    match rule.may_use {
        [] => "it stands alone, move what it needs into it".to_owned(),
        known => format!("it knows {} only, move the code or put a trait between them", known.join(" and ")),
    }
}

/// All dependencies of a manifest, those for tests, build scripts and single platforms as well.
fn dependencies(manifest: &Table) -> Vec<(String, Value)> {
    let platforms = manifest.get("target").and_then(Value::as_table);
    let platforms = platforms.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = std::iter::once(manifest).chain(platforms);
    let sections = tables.flat_map(|table| kinds.into_iter().filter_map(|kind| table.get(kind)?.as_table()));
    sections.flatten().map(|(name, dependency)| (name.clone(), dependency.clone())).collect()
}

fn features(dependency: &Value) -> impl Iterator<Item = &str> {
    dependency.get("features").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The line where a key is first set.
fn line_of(text: &str, key: &str) -> usize {
    let sets_it =
        |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with([' ', '.', '=', ']']));
    1 + text.lines().position(sets_it).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn dependencies_upward_are_caught() {
        check(directions, "server/Cargo.toml", "[dependencies]\nengine.workspace = true", &[]);
        let upward = "[dependencies]\nbytes = \"1\"\nserver.workspace = true";
        check(directions, "engine/Cargo.toml", upward, &[(3, "engine must not depend on server")]);
        check(
            directions,
            "benches/Cargo.toml",
            upward,
            &[(3, "it knows engine and replay and protocol only")],
        );
        let for_tests = "[dev-dependencies]\nengine = { path = \"../engine\" }";
        check(directions, "protocol/Cargo.toml", for_tests, &[(2, "stands alone")]);
        check(directions, "loadtest/Cargo.toml", for_tests, &[(2, "loadtest must not depend on engine")]);
        check(directions, "worker/Cargo.toml", for_tests, &[(2, "worker must not depend on engine")]);
        check(
            directions,
            "server/Cargo.toml",
            "[dependencies]\nworker.workspace = true",
            &[(2, "on worker")],
        );
    }

    #[test]
    fn dependencies_are_caught_under_other_names_and_on_one_platform() {
        let renamed = "[dependencies]\nrooms = { package = \"engine\", path = \"../engine\" }";
        check(directions, "loadtest/Cargo.toml", renamed, &[(2, "depend on engine")]);
        let platform = "[target.'cfg(loom)'.dependencies]\nserver.workspace = true";
        check(directions, "engine/Cargo.toml", platform, &[(2, "depend on server")]);
    }

    #[test]
    fn a_protocol_with_a_runtime_or_randomness_is_caught() {
        let text = "[dependencies]\ntokio.workspace = true\n[dev-dependencies]\nrand = \"0.10\"";
        check(directions, "protocol/Cargo.toml", text, &[(2, "without tokio"), (4, "without rand")]);
        check(directions, "engine/Cargo.toml", text, &[]);
    }

    #[test]
    fn an_engine_with_sockets_or_work_stealing_is_caught() {
        let text = "[dependencies]\ntokio = { workspace = true, features = [\"sync\", \"net\", \"rt-multi-thread\"] }";
        check(directions, "engine/Cargo.toml", text, &[(2, "`net`"), (2, "`rt-multi-thread`")]);
        check(directions, "server/Cargo.toml", text, &[]);
    }

    #[test]
    fn crates_without_a_rule_and_features_for_all_are_caught() {
        let text = "[workspace]\nmembers = [\"engine\", \"bus\"]\n[workspace.dependencies]\ntokio = \"1\"";
        check(members, "Cargo.toml", text, &[(2, "`bus` has no rule")]);
        let text =
            "[workspace]\n[workspace.dependencies]\ntokio = { version = \"1\", features = [\"full\"] }";
        check(members, "Cargo.toml", text, &[(3, "reach every crate")]);
    }
}
