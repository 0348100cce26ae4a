//! Rust source as a flat list of tokens.
//!
//! A full parser stops at macros, and much of what the rules are about stands inside of `select!`, `proptest!`
//! and `assert!`. Tokens go all the way down, and comments and strings are not among them.

use std::ops::Range;

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// The tokens of a Rust file.
pub(super) struct Source {
    tokens: Vec<Token>,
}

/// A word, a sign, a literal, or one bracket of a pair. `::` and `!=` are one token each.
struct Token {
    text: String,
    line: usize,
    is_test: bool,
}

/// A function with a body.
pub(super) struct Function {
    pub(super) name: String,
    pub(super) first_line: usize,
    last_line: usize,
}

impl Function {
    pub(super) fn lines(&self) -> usize {
        self.last_line - self.first_line + 1
    }
}

/// A place where a pattern was found.
#[derive(Clone, Copy)]
pub(super) struct Hit {
    pub(super) line: usize,
    /// Whether it is compiled for tests only.
    pub(super) is_test: bool,
}

impl Source {
    /// Reads the file if it is Rust. What is not even a sequence of tokens is the compiler's to report.
    pub(super) fn read(path: &str, text: &str) -> Option<Self> {
        if !path.ends_with(".rs") {
            return None;
        }
        let mut tokens = Vec::new();
        flatten(text.parse::<TokenStream>().ok()?, &mut tokens);
        let mut source = Self { tokens };
        source.mark_tests(path);
        Some(source)
    }

    /// Finds a sequence of tokens, written with a space between any two. `a :: b` is found in `a::{c, b}` too.
    pub(super) fn find(&self, pattern: &str) -> Vec<Hit> {
        let words: Vec<&str> = pattern.split(' ').collect();
        let starts = (0..self.tokens.len())
            .filter(|&start| self.matches(start, &words) || self.matches_import(start, &words));
        starts
            .map(|start| Hit { line: self.tokens[start].line, is_test: self.tokens[start].is_test })
            .collect()
    }

    /// All functions that have a body, inner ones and those in macros as well.
    pub(super) fn functions(&self) -> Vec<Function> {
        let starts = (0..self.tokens.len()).filter(|&start| self.text(start) == "fn");
        let functions = starts.filter_map(|start| {
            let name = self.tokens.get(start + 1).filter(|name| is_word(&name.text))?;
            let end = self.end_of_item(start + 2).filter(|&end| self.text(end) == "}")?;
            Some(Function {
                name: name.text.clone(),
                first_line: self.tokens[start].line,
                last_line: self.tokens[end].line,
            })
        });
        functions.collect()
    }

    /// The text at this place; nothing beyond the end.
    fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    fn matches(&self, start: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(offset, word)| self.text(start + offset) == *word)
    }

    fn matches_import(&self, start: usize, words: &[&str]) -> bool {
        let [path @ .., name] = words else { return false };
        if path.last() != Some(&"::") || !self.matches(start, path) || self.text(start + path.len()) != "{" {
            return false;
        }
        let open = start + path.len();
        let names = open + 1..self.closing(open);
        names.into_iter().any(|index| self.text(index) == *name)
    }

    /// The place of the bracket that closes the one at `open`.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for index in open..self.tokens.len() {
            match self.text(index) {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return index;
            }
        }
        self.tokens.len()
    }

    /// The last token of the item that goes on at `start`: the end of its body, or a semicolon.
    fn end_of_item(&self, start: usize) -> Option<usize> {
        let mut index = start;
        while index < self.tokens.len() {
            match self.text(index) {
                ";" => return Some(index),
                "{" => {
                    index = self.closing(index);
                    // Braces among generic arguments, as in `Grid<{ 2 + 3 }>`, are not yet the body.
                    if ![">", ","].contains(&self.text(index + 1)) {
                        return Some(index);
                    }
                }
                "(" | "[" => index = self.closing(index),
                _ => {}
            }
            index += 1;
        }
        None
    }

    /// Marks what is compiled for tests only: files of tests, and items below `#[cfg(test)]` or `#[test]`.
    fn mark_tests(&mut self, path: &str) {
        if is_test_file(path) {
            self.mark(0..self.tokens.len());
        }
        for start in 0..self.tokens.len() {
            let is_inner = self.matches(start, &["#", "!", "["]);
            let open = if is_inner { start + 2 } else { start + 1 };
            if self.text(start) != "#" || self.text(open) != "[" || !self.is_test_attribute(open) {
                continue;
            }
            if is_inner {
                self.mark(0..self.tokens.len());
            } else {
                let end = self.end_of_item(self.closing(open) + 1).map_or(self.tokens.len(), |end| end + 1);
                self.mark(start..end);
            }
        }
    }

    fn mark(&mut self, range: Range<usize>) {
        self.tokens[range].iter_mut().for_each(|token| token.is_test = true);
    }

    /// Whether the attribute in these brackets is `test`, `tokio::test` and the like, or a `cfg` that asks for it.
    fn is_test_attribute(&self, open: usize) -> bool {
        let inside = open + 1..self.closing(open);
        if self.text(open + 1) == "cfg" {
            let negated = |index: usize| self.matches(index - 2, &["not", "("]);
            return inside.into_iter().any(|index| self.text(index) == "test" && !negated(index));
        }
        let arguments = inside.clone().find(|&index| self.text(index) == "(").unwrap_or(inside.end);
        self.text(arguments - 1) == "test"
    }
}

fn is_test_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.split('/').any(|part| part == "tests") || name == "tests.rs" || name.ends_with("_tests.rs")
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>) {
    let push =
        |tokens: &mut Vec<Token>, text: String, line| tokens.push(Token { text, line, is_test: false });
    let mut joint = None;
    for tree in stream {
        let line = tree.span().start().line;
        let before = joint.take();
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = brackets(group.delimiter());
                push(tokens, open.to_owned(), line);
                flatten(group.stream(), tokens);
                push(tokens, close.to_owned(), group.span_close().end().line);
            }
            TokenTree::Punct(sign) => match (before, sign.as_char()) {
                (Some(first @ (':' | '!')), second) if (first, second) == (':', ':') || second == '=' => {
                    tokens.last_mut().expect("a sign came before").text.push(second);
                }
                (_, sign_char) => {
                    push(tokens, sign_char.to_string(), line);
                    joint = (sign.spacing() == Spacing::Joint).then_some(sign_char);
                }
            },
            TokenTree::Ident(word) => push(tokens, word.to_string(), line),
            TokenTree::Literal(literal) => push(tokens, literal.to_string(), line),
        }
    }
}

fn brackets(delimiter: Delimiter) -> (&'static str, &'static str) {
    match delimiter {
        Delimiter::Parenthesis => ("(", ")"),
        Delimiter::Bracket => ("[", "]"),
        Delimiter::Brace => ("{", "}"),
        Delimiter::None => ("", ""),
    }
}
