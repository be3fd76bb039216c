//! Lists the names that a file refers to: every `use` and every path in the code, resolved to
//! its origin.
//!
//! Owns the conversion of tokens to [`Name`]s. It knows the file's own imports and modules, but no
//! types: a method call on a value is not a path.

use std::collections::BTreeMap;

use super::source::is_word;

/// A path that a file refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// The line, counted from 1.
    pub line: usize,
    /// `crate::ledger::Ledger`, `std::fs::read`, `tokio::spawn`, or `println!`.
    pub path: String,
}

/// Lists the paths that a file's code uses. `module` is the file's own module path, such as
/// `["domain", "engine"]`; its first `root` words name its crate.
pub(super) fn names(code: &str, module: &[String], root: usize) -> Vec<Name> {
    let tokens = tokens(code);
    let mut reader = Reader {
        tokens: &tokens,
        module: module.to_vec(),
        root: module[..root].to_vec(),
        ..Reader::default()
    };
    reader.read();
    let mut names: Vec<Name> = Vec::new();
    for PathUse { line, words, here, imported } in &reader.found {
        let import = reader.imports.get(&words[0]).filter(|_| !imported);
        let path = match import {
            Some(whole) => [whole, &words[1..]].concat(),
            None => reader.absolute(words, here),
        };
        names.push(Name { line: *line, path: path.join("::") });
    }
    names.sort();
    names.dedup();
    names
}

#[derive(Clone, Debug)]
struct Token {
    line: usize,
    text: String,
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            let (text, tail) = rest.split_at(length);
            tokens.push(Token { line: number + 1, text: text.to_owned() });
            rest = tail.trim_start();
        }
    }
    tokens
}

#[derive(Debug)]
struct PathUse {
    line: usize,
    words: Vec<String>,
    /// The module that contains it.
    here: Vec<String>,
    /// Whether it is in a `use`, which is never resolved through the file's other imports.
    imported: bool,
}

#[derive(Default)]
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    module: Vec<String>,
    /// The crate that the file is in, as a layer; empty for the program's own.
    root: Vec<String>,
    depth: usize,
    /// The open inline modules, with the depth of their braces.
    open: Vec<usize>,
    imports: BTreeMap<String, Vec<String>>,
    modules: BTreeMap<String, Vec<String>>,
    found: Vec<PathUse>,
}

impl Reader<'_> {
    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    fn read(&mut self) {
        while self.at < self.tokens.len() {
            match self.text(0) {
                "{" => self.depth += 1,
                "}" => {
                    self.depth -= 1;
                    if self.open.last() == Some(&self.depth) {
                        self.open.pop();
                        self.module.pop();
                    }
                }
                "mod" => {
                    let name = self.text(1).to_owned();
                    let own = self.module.iter().cloned().chain([name.clone()]).collect();
                    self.modules.insert(name.clone(), own);
                    if self.text(2) == "{" {
                        self.open.push(self.depth);
                        self.module.push(name);
                    }
                    // The name itself is not a path.
                    self.at += 1;
                }
                "use" if self.text(1) != "<" => {
                    self.at += 1;
                    self.tree(&[]);
                    continue;
                }
                word if word.starts_with(is_word)
                    && !word.starts_with(|c: char| c.is_numeric()) =>
                {
                    self.path();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Reads a path in the code: `a::b::c`, or `name!`.
    fn path(&mut self) {
        let line = self.tokens[self.at].line;
        let mut words = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && self.text(1).starts_with(is_word) {
            words.push(self.text(1).to_owned());
            self.at += 2;
        }
        if self.text(0) == "!" && self.text(1) != "=" {
            words.last_mut().expect("one word at least").push('!');
        } else if words.len() == 1 {
            return;
        }
        self.found.push(PathUse { line, words, here: self.module.clone(), imported: false });
    }

    /// Reads one branch of a `use`, up to its terminator, which is not consumed.
    fn tree(&mut self, stem: &[String]) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        let mut words = stem.to_vec();
        let mut name = None;
        loop {
            match self.text(0).to_owned().as_str() {
                "::" if words.is_empty() => {
                    self.at += 1;
                    words.push(format!("::{}", self.text(0)));
                }
                "::" => {}
                "{" => {
                    self.at += 1;
                    while !matches!(self.text(0), "}" | "") {
                        self.tree(&words);
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "as" => {
                    name = Some(self.text(1).to_owned());
                    self.at += 1;
                }
                "self" if !words.is_empty() => {}
                "," | "}" | ";" | "" => break,
                word => words.push(word.to_owned()),
            }
            self.at += 1;
        }
        if words.is_empty() {
            return;
        }
        let name = name.or_else(|| words.last().cloned()).unwrap_or_default();
        let whole = self.absolute(&words, &self.module);
        self.imports.insert(name, whole);
        self.found.push(PathUse { line, words, here: self.module.clone(), imported: true });
    }

    /// Resolves a path to `crate` or to its crate, as seen from the module `here`.
    fn absolute(&self, words: &[String], here: &[String]) -> Vec<String> {
        let climbs = words.iter().take_while(|word| *word == "super").count();
        let above = &here[..here.len().saturating_sub(climbs)];
        let ours =
            |module: &[String], rest: &[String]| [&["crate".to_owned()], module, rest].concat();
        match words[0].as_str() {
            "crate" => ours(&self.root, &words[1..]),
            "conjured" => ours(&[], &words[1..]),
            "conjured_domain" => ours(&["domain".to_owned()], &words[1..]),
            "conjured_simulator" => ours(&["simulator".to_owned()], &words[1..]),
            "self" => ours(here, &words[1..]),
            "super" => ours(above, &words[climbs..]),
            word => match self.modules.get(word) {
                Some(module) => ours(module, &words[1..]),
                None => {
                    let outside = word.trim_start_matches("::").to_owned();
                    [&[outside], &words[1..]].concat()
                }
            },
        }
    }
}
