//! Import cycles between the files of a crate.
//!
//! What a module takes from its own folder is no import here: `mod` already makes a module depend on its
//! children. The crate's root is the exception, because `crate::…` makes every file able to depend on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proc_macro2::Delimiter;

use crate::source::{SourceFile, Token};

/// Path of a module from its crate's root.
type ModulePath = Vec<String>;

/// Checks every crate's `src`.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    for (name, cycle) in cycles(files) {
        findings.push(format!("{name}: import cycle {}", cycle.join(" -> ")));
    }
}

/// Returns the crates with import cycles, with the shortest of each.
fn cycles(files: &[SourceFile]) -> BTreeMap<&str, Vec<&str>> {
    let mut crates: BTreeMap<&str, Vec<&SourceFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if file.path.split('/').nth(1) == Some("src") {
            crates.entry(file.crate_name()).or_default().push(file);
        }
    }
    crates
        .into_iter()
        .filter_map(|(name, files)| Some((name, shortest_cycle(&imports(&files))?)))
        .collect()
}

/// Returns the files that each file of a crate imports from.
fn imports<'a>(files: &[&'a SourceFile]) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let has_library = files.iter().any(|file| file.path.ends_with("/src/lib.rs"));
    let mut modules: BTreeMap<ModulePath, &str> = BTreeMap::new();
    for file in files {
        // `main.rs` beside `lib.rs` is a crate of its own.
        if !(has_library && file.path.ends_with("/src/main.rs")) {
            modules.insert(module_path(&file.path), &file.path);
        }
    }
    let mut edges = BTreeMap::new();
    for (module, path) in &modules {
        let mut targets = BTreeSet::new();
        if let Some(file) = files.iter().find(|file| file.path == *path) {
            for import in Scanner::new(module, &file.tokens).imports() {
                let longest_prefix = (0..=import.len())
                    .rev()
                    .find_map(|length| modules.get_key_value(import.get(..length)?));
                if let Some((target, target_path)) = longest_prefix
                    && target != module
                    && (module.is_empty() || !target.starts_with(module))
                {
                    targets.insert(*target_path);
                }
            }
        }
        edges.insert(*path, targets);
    }
    edges
}

/// Returns the module that a file holds: `api/src/store/pool.rs` holds `store::pool`.
fn module_path(path: &str) -> ModulePath {
    let mut segments: ModulePath = path
        .trim_end_matches(".rs")
        .split('/')
        .skip(2)
        .map(str::to_owned)
        .collect();
    if matches!(
        segments.last().map(String::as_str),
        Some("lib" | "main" | "mod")
    ) {
        segments.pop();
    }
    segments
}

/// Returns the files of the shortest cycle, the first one also at its end.
fn shortest_cycle<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Option<Vec<&'a str>> {
    edges
        .keys()
        .filter_map(|start| cycle_through(start, edges))
        .min_by_key(Vec::len)
}

fn cycle_through<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Option<Vec<&'a str>> {
    let mut importer: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for target in edges.get(file).into_iter().flatten().copied() {
            if target == start {
                let mut cycle = vec![start, file];
                while let Some(previous) = importer.get(cycle.last()?) {
                    cycle.push(previous);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if !importer.contains_key(target) {
                importer.insert(target, file);
                queue.push_back(target);
            }
        }
    }
    None
}

/// Reads the paths in a file's tokens that begin with `crate`, `super`, `self` or a child module.
struct Scanner<'a> {
    tokens: &'a [Token],
    /// Module at each open brace.
    modules: Vec<ModulePath>,
    children: BTreeSet<&'a str>,
    imports: Vec<ModulePath>,
}

impl<'a> Scanner<'a> {
    fn new(module: &[String], tokens: &'a [Token]) -> Self {
        let children = tokens
            .windows(3)
            .filter_map(|window| match window {
                [keyword, name, Token::Punct(';')] if keyword.ident() == Some("mod") => {
                    name.ident()
                }
                _ => None,
            })
            .collect();
        Self {
            tokens,
            modules: vec![module.to_vec()],
            children,
            imports: Vec::new(),
        }
    }

    fn imports(mut self) -> Vec<ModulePath> {
        let mut index = 0;
        while let Some(token) = self.tokens.get(index) {
            match token {
                Token::Open(Delimiter::Brace) => self.enter(index),
                Token::Close(Delimiter::Brace) => {
                    self.modules.pop();
                }
                Token::Ident(name) if self.is_path(index) => {
                    if let Some(base) = self.base(name) {
                        index = self.path(index + 1, &base);
                        continue;
                    }
                }
                Token::Ident(_) | Token::Punct(_) | Token::Open(_) | Token::Close(_) => {}
            }
            index += 1;
        }
        self.imports
    }

    /// Enters a brace, which may be that of an inline module.
    fn enter(&mut self, index: usize) {
        let mut module = self.modules.last().cloned().unwrap_or_default();
        let before = index
            .checked_sub(2)
            .and_then(|start| self.tokens.get(start..index));
        if let Some([keyword, Token::Ident(name)]) = before
            && keyword.ident() == Some("mod")
        {
            module.push(name.clone());
        }
        self.modules.push(module);
    }

    /// Returns whether a path of several segments begins here.
    fn is_path(&self, index: usize) -> bool {
        let follows = self.separator(index + 1);
        let continues = index
            .checked_sub(2)
            .is_some_and(|start| self.separator(start));
        follows && !continues
    }

    /// Returns whether `::` stands here.
    fn separator(&self, index: usize) -> bool {
        let colons = [Token::Punct(':'), Token::Punct(':')];
        self.tokens.get(index..index + 2) == Some(&colons)
    }

    /// Returns the module that a path's first segment names.
    fn base(&self, first: &str) -> Option<ModulePath> {
        let here = self.modules.last()?;
        match first {
            "crate" => Some(Vec::new()),
            "self" => Some(here.clone()),
            "super" => Some(here.split_last()?.1.to_vec()),
            child if self.children.contains(child) => {
                let mut module = self.modules.first()?.clone();
                module.push(child.to_owned());
                Some(module)
            }
            _ => None,
        }
    }

    /// Reads what follows a segment, and returns the index after it.
    fn path(&mut self, mut index: usize, base: &[String]) -> usize {
        let mut path = base.to_vec();
        while self.separator(index) {
            match self.tokens.get(index + 2) {
                Some(Token::Ident(name)) if name == "super" => {
                    path.pop();
                }
                Some(Token::Ident(name)) => path.push(name.clone()),
                Some(Token::Open(Delimiter::Brace)) => return self.group(index + 3, &path),
                _ => break,
            }
            index += 3;
        }
        self.imports.push(path);
        index
    }

    /// Reads `{a, b::c}`, and returns the index after it.
    fn group(&mut self, mut index: usize, base: &[String]) -> usize {
        loop {
            match self.tokens.get(index) {
                Some(Token::Ident(name)) if name == "self" => {
                    self.imports.push(base.to_vec());
                    index += 1;
                }
                Some(Token::Ident(name)) if name == "as" => index += 2,
                Some(Token::Ident(name)) => {
                    let mut path = base.to_vec();
                    path.push(name.clone());
                    index = self.path(index + 1, &path);
                }
                Some(Token::Close(_)) | None => return index + 1,
                Some(Token::Punct(_) | Token::Open(_)) => index += 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::check;

    fn findings(root: &str, parent: &str, child: &str, sibling: &str) -> Vec<String> {
        let files = files([
            ("causeway-core/src/lib.rs", root),
            ("causeway-core/src/a.rs", parent),
            ("causeway-core/src/a/b.rs", child),
            ("causeway-core/src/a/c.rs", sibling),
        ]);
        let mut findings = Vec::new();
        check(&files, &mut findings);
        findings
    }

    #[test]
    fn imports_in_one_direction_then_no_finding() {
        let found = findings(
            "mod a; pub use a::A;",
            "mod b; mod c; use b::{B, C as D}; fn a() { b::call() }",
            "use std::fs; use super::{A, c}; mod tests { use super::*; }",
            "mod tests { use super::super::b; }",
        );
        let cycle = "causeway-core: import cycle causeway-core/src/a/b.rs -> causeway-core/src/a/c.rs -> causeway-core/src/a/b.rs";
        assert_eq!(found, [cycle], "a test's import counts");
        let found = findings(
            "mod a; pub use a::A;",
            "mod b; mod c; use b::{B, C as D}; fn a() { b::call() }",
            "use std::fs; use super::{A, c}; mod tests { use super::*; }",
            "",
        );
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn siblings_import_each_other_then_found() {
        let cycle = [
            "causeway-core: import cycle causeway-core/src/a/b.rs -> causeway-core/src/a/c.rs -> causeway-core/src/a/b.rs",
        ];
        let sibling = "use super::b::B;";
        assert_eq!(findings("", "", "use super::c::C;", sibling), cycle);
        assert_eq!(findings("", "", "use crate::{a::{c}};", sibling), cycle);
        assert_eq!(
            findings("", "", "fn a() { crate::a::c::call() }", sibling),
            cycle
        );
    }

    #[test]
    fn root_and_file_import_each_other_then_found() {
        let cycle = [
            "causeway-core: import cycle causeway-core/src/a/b.rs -> causeway-core/src/lib.rs -> causeway-core/src/a/b.rs",
        ];
        let child = "use crate::Root;";
        assert_eq!(findings("mod a; use a::b::B;", "", child, ""), cycle);
        assert_eq!(findings("use self::a::{b::B};", "", child, ""), cycle);
    }

    #[test]
    fn cycle_of_three_files_then_found() {
        let found = findings("use crate::a::A;", "", "use crate::Root;", "use super::b;");
        assert_eq!(found, [""; 0]);
        let found = findings(
            "use crate::a::c::C;",
            "",
            "use crate::Root;",
            "use super::b;",
        );
        assert_eq!(
            found,
            [
                "causeway-core: import cycle causeway-core/src/a/b.rs -> causeway-core/src/lib.rs -> causeway-core/src/a/c.rs -> causeway-core/src/a/b.rs"
            ]
        );
    }

    #[test]
    fn import_in_comment_then_no_finding() {
        let found = findings("use crate::a::b::B;", "", "// use crate::Root;\n", "");
        assert_eq!(found, [""; 0]);
    }
}
