//! Files and functions that a reader can hold in mind.

use super::Violation;
use super::tokens::Source;

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

const CODE: [&str; 9] = [".rs", ".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".cjs", ".py"];

/// No file of code is longer than [`FILE_LINES_MAX`].
pub(super) fn files(path: &str, text: &str) -> Vec<Violation> {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX || !CODE.iter().any(|end| path.ends_with(end)) {
        return Vec::new();
    }
    let message = format!("{lines} lines, at most {FILE_LINES_MAX}: give each of its subjects a file");
    vec![Violation::new(path, 1, message)]
}

/// No Rust function is longer than [`FUNCTION_LINES_MAX`], from the line of its name to its last brace.
pub(super) fn functions(path: &str, text: &str) -> Vec<Violation> {
    let Some(source) = Source::read(path, text) else { return Vec::new() };
    let functions = source.functions();
    let too_long = functions.iter().filter(|function| function.lines() > FUNCTION_LINES_MAX);
    let violations = too_long.map(|function| {
        let message = format!(
            "`{}` has {} lines, at most {FUNCTION_LINES_MAX}: name its parts and make them functions",
            function.name,
            function.lines()
        );
        Violation::new(path, function.first_line, message)
    });
    violations.collect()
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
    }

    #[test]
    fn a_long_file_is_caught() {
        check(files, "engine/src/room.rs", &"//\n".repeat(400), &[]);
        check(files, "engine/src/room.rs", &"//\n".repeat(401), &[(1, "401 lines, at most 400")]);
        check(files, "web/src/scene.ts", &"//\n".repeat(500), &[(1, "500 lines")]);
        check(files, "web/package-lock.json", &"{}\n".repeat(500), &[]);
    }

    #[test]
    fn a_long_function_is_caught() {
        check(functions, "server/src/app.rs", &function(70), &[]);
        check(functions, "server/src/app.rs", &function(71), &[(1, "`long` has 71 lines")]);
        check(functions, "server/README.md", &function(71), &[]);
    }

    #[test]
    fn a_long_function_is_caught_wherever_it_is() {
        for (before, after) in
            [("impl Room {", "}"), ("mod inner {", "}"), ("proptest! {", "}"), ("trait T {", "}")]
        {
            let text = format!("{before}\n/// What it does.\n#[inline]\npub {}{after}\n", function(71));
            check(functions, "server/src/app.rs", &text, &[(4, "`long` has 71 lines")]);
        }
    }

    #[test]
    fn only_a_body_counts() {
        let signature = "trait T { fn a(&self); }\ntype F = fn(u8) -> u8;\n";
        check(functions, "server/src/app.rs", &format!("{signature}{}", "// gap\n".repeat(100)), &[]);
        let generic = format!("fn a() -> Grid<{{ 2 + 3 }}>\n{{\n{}}}\n", "work();\n".repeat(80));
        check(functions, "server/src/app.rs", &generic, &[(1, "`a` has 83 lines")]);
    }
}
