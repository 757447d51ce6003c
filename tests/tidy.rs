//! The rules of this source tree that compilers do not check: who imports whom, what every file opens with and
//! how long it may be, and that every recipe loads.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use everstep::config::Recipe;

const LINES_MAX: usize = 600;
/// Folders of Rust sources, relative to the root.
const FOLDERS: [&str; 7] = ["src", "tests", "benches", "actors/src", "actors/tests", "chaos/src", "chaos/tests"];

struct Source {
    /// Relative to the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        Self { path, text }
    }

    /// The file's lines, counted from 1, without comments, strings and its tests (by custom at the end); an import
    /// is one line however it is broken.
    fn code(&self) -> Vec<(usize, String)> {
        let code = self.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let mut out: Vec<(usize, String)> = Vec::new();
        let mut importing = false;
        for (line, number) in code.lines().map(bare).zip(1..) {
            match out.last_mut().filter(|_| importing) {
                Some((_, import)) => import.push_str(line.trim()),
                None => out.push((number, line.clone())),
            }
            importing = (importing || words(&line).take(2).any(|word| word == "use")) && !line.contains(';');
        }
        out
    }

    /// The first part of the path below `folder`: `roles` for `actors/src/roles/rank.rs`.
    fn room(&self, folder: &str) -> Option<String> {
        let inside = self.path.strip_prefix(folder)?.strip_prefix('/')?;
        Some(inside.split('/').next()?.trim_end_matches(".rs").to_owned())
    }

    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let files = FOLDERS.iter().flat_map(|folder| walkdir::WalkDir::new(root().join(folder)).sort_by_file_name());
    let files = files.filter_map(Result::ok).filter(|entry| entry.path().extension().is_some_and(|end| end == "rs"));
    let sources: Vec<_> = files.map(|entry| Source::read(entry.path())).collect();
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    sources
}

/// A line without its comment and without what stands in its strings.
fn bare(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut chars = line.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            // A quote in quotes is the one character that is no string.
            '\'' if !quoted && chars.peek() == Some(&'"') => {
                chars.nth(1);
            }
            '"' => quoted = !quoted,
            _ if quoted => {}
            '/' if chars.peek() == Some(&'/') => break,
            _ => out.push(char),
        }
    }
    out
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|char: char| !char.is_alphanumeric() && char != '_').filter(|word| !word.is_empty())
}

/// What follows `head::` wherever it stands in a line of code; the names in braces one by one.
fn below<'a>(code: &'a str, head: &'a str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(head) {
        let begins = !code[..at].ends_with(|char: char| char.is_alphanumeric() || char == '_' || char == ':');
        let Some(rest) = code[at + head.len()..].strip_prefix("::").filter(|_| begins) else { continue };
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list.split(['}', ',']).filter_map(|item| words(item).next())),
            None => found.extend(words(rest).next()),
        }
    }
    found
}

fn is_word_of(line: &str, forbidden: &[&str]) -> Option<String> {
    words(line).find(|word| forbidden.contains(word)).map(str::to_owned)
}

/// Each complaint on a line of its own.
fn report(rule: &str, complaints: &[String]) {
    let mut text = String::new();
    complaints.iter().for_each(|complaint| writeln!(text, "  {complaint}").unwrap());
    assert!(complaints.is_empty(), "{rule}\n{text}");
}

fn dependencies(manifest: &str, sections: &[&str]) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(manifest)).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flat_map(toml::Table::keys).cloned().collect()
}

#[test]
fn every_file_says_what_it_is() {
    let complaints: Vec<_> = sources().iter().filter(|source| !source.text.starts_with("//! ")).map(|source| source.path.clone()).collect();
    report("A source file opens with `//!` and what it is:", &complaints);
}

#[test]
fn files_are_short() {
    let lines = |source: &Source| source.text.lines().count();
    let complaints: Vec<_> = sources()
        .iter()
        .filter(|source| lines(source) > LINES_MAX)
        .map(|source| format!("{}: {} lines", source.path, lines(source)))
        .collect();
    report(&format!("A source file has at most {LINES_MAX} lines; split it by idea:"), &complaints);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat());
    let macros = [["to", "do"], ["unimpl", "emented"]].map(|halves| halves.concat() + "!");
    let mut complaints = Vec::new();
    for source in sources() {
        for (line, number) in source.text.lines().zip(1..) {
            if words(line).any(|word| marks.iter().any(|mark| mark == word)) || macros.iter().any(|name| line.contains(name)) {
                complaints.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    report("Finish it, or leave it out:", &complaints);
}

/// `protocol` decides and does nothing else: no I/O, no clock, no randomness, no order that changes between runs.
#[test]
fn the_protocol_is_pure() {
    const CRATES: [&str; 5] = ["core", "std", "rkyv", "serde", "thiserror"];
    const FORBIDDEN: [&str; 9] = ["Instant", "SystemTime", "HashMap", "HashSet", "async", "await", "unsafe", "println", "static"];
    const STD: [&str; 6] = ["env", "fs", "io", "net", "process", "thread"];
    let outside: BTreeSet<_> = dependencies("actors/Cargo.toml", &["dependencies"]).iter().map(|name| name.replace('-', "_")).collect();
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.room("actors/src").as_deref() == Some("protocol") && !source.is_test()) {
        let above = if source.path == "actors/src/protocol.rs" { "super" } else { "super::super" };
        for (number, line) in source.code() {
            let mut complain = |what: &str| complaints.push(format!("{}:{number}: {what}", source.path));
            if let Some(word) = is_word_of(&line, &FORBIDDEN) {
                complain(&word);
            }
            for word in words(&line).filter(|word| outside.contains(*word) && !CRATES.contains(word)) {
                complain(word);
            }
            below(&line, "crate").into_iter().filter(|room| *room != "protocol").for_each(|room| complain(&format!("crate::{room}")));
            below(&line, "std").into_iter().filter(|part| STD.contains(part)).for_each(|part| complain(&format!("std::{part}")));
            if line.contains(above) {
                complain(above);
            }
        }
    }
    report("actors/src/protocol is pure and imports nothing but std and derives:", &complaints);
}

/// Rooms and the rooms of the same crate that they may name. A room that is not listed may name any.
fn rooms_keep_to(folder: &str, name: &str, allowed: &[(&str, &[&str])]) {
    let sources = sources();
    let mut complaints = Vec::new();
    for (room, others) in allowed {
        let inside: Vec<_> = sources.iter().filter(|source| source.room(folder).as_deref() == Some(room)).collect();
        assert!(!inside.is_empty(), "{folder}/{room} is gone; change this table");
        for source in inside.iter().filter(|source| !source.is_test()) {
            for (number, line) in source.code() {
                for other in below(&line, name).into_iter().filter(|other| other != room && !others.contains(other)) {
                    complaints.push(format!("{}:{number}: {name}::{other}", source.path));
                }
            }
        }
    }
    report(&format!("Imports of {folder} run one way:"), &complaints);
}

/// `roles → net → wire → protocol`; the border knows the protocol alone.
#[test]
fn the_runtime_imports_one_way() {
    let allowed: [(&str, &[&str]); 10] = [
        ("protocol", &[]),
        ("wire", &["protocol"]),
        ("net", &["wire", "protocol", "clock"]),
        ("clock", &[]),
        ("aside", &["clock"]),
        ("store", &["aside", "clock"]),
        ("event", &["protocol"]),
        ("workload", &["protocol"]),
        ("alone", &["protocol", "workload"]),
        ("checkpoint", &["aside", "protocol", "store", "workload"]),
    ];
    rooms_keep_to("actors/src", "crate", &allowed);
}

/// Data, model, loss and optimizer do not know each other; `train` joins them; commands come last.
#[test]
fn the_program_imports_one_way() {
    let allowed: [(&str, &[&str]); 12] = [
        ("config", &[]),
        ("notice", &["config"]),
        ("data", &[]),
        ("simd", &[]),
        ("libtorch", &[]),
        ("model", &["simd", "libtorch"]),
        ("swav", &["simd"]),
        ("optim", &["simd", "swav"]),
        ("eval", &["simd", "swav"]),
        ("weights", &["model"]),
        ("planning", &["model"]),
        ("train", &["data", "model", "optim", "planning", "swav", "weights"]),
    ];
    rooms_keep_to("src", "crate", &allowed);
    let runtime: [(&str, &[&str]); 6] = [
        ("config", &[]),
        ("notice", &["clock"]),
        ("eval", &[]),
        ("data", &["protocol", "workload"]),
        ("model", &["protocol", "workload"]),
        ("report", &["event", "protocol"]),
    ];
    rooms_keep_to("src", "everstep_actors", &runtime);
}

#[test]
fn the_runtime_knows_no_images() {
    const FORBIDDEN: [&str; 9] = ["burn", "swav", "Swav", "regnet", "RegNet", "image", "Image", "pixel", "pixels"];
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.room("actors").or_else(|| source.room("chaos")).is_some()) {
        let found = source.code().into_iter().filter_map(|(number, line)| Some((number, is_word_of(&line, &FORBIDDEN)?)));
        complaints.extend(found.map(|(number, word)| format!("{}:{number}: {word}", source.path)));
    }
    let numeric = ["everstep", "burn", "image", "zune-jpeg", "fast_image_resize", "gemm"];
    for manifest in ["actors/Cargo.toml", "chaos/Cargo.toml"] {
        let named = dependencies(manifest, &["dependencies", "dev-dependencies", "build-dependencies"]);
        complaints.extend(numeric.iter().filter(|name| named.contains(**name)).map(|name| format!("{manifest}: {name}")));
    }
    let chaos = dependencies("chaos/Cargo.toml", &["dependencies"]);
    assert!(chaos.contains("everstep-actors"), "chaos/Cargo.toml was not understood: {chaos:?}");
    report("actors and chaos know ranks, lanes, shards and bytes:", &complaints);
}

#[test]
fn every_recipe_loads() {
    // Plans of faults lie beside recipes; chaos/tests/plans.rs plays them.
    let chaos = root().join("configs/chaos");
    let files = walkdir::WalkDir::new(root().join("configs")).sort_by_file_name().into_iter();
    let files = files.filter_entry(|entry| entry.path() != chaos).filter_map(Result::ok);
    let is_recipe = |path: &PathBuf| path.extension().is_some_and(|end| end == "toml");
    let recipes: Vec<PathBuf> = files.map(walkdir::DirEntry::into_path).filter(is_recipe).collect();
    assert!(recipes.iter().any(|path| path.ends_with("quickstart.toml")), "{recipes:?}");
    for path in recipes {
        let recipe = Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        recipe.check().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(&path).unwrap();
        let head: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        for word in ["Command", "Hardware", "Time", "Result"] {
            assert!(head.contains(word), "{}: its head does not say `{word}`", path.display());
        }
    }
}

/// Names in backticks, and targets of links, in a page.
fn quoted(page: &str) -> (Vec<String>, Vec<String>) {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let code = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).map(str::to_owned).collect();
    (code, links)
}

/// A page that names a check that is not there promises what nobody keeps.
#[test]
fn pages_name_what_exists() {
    let code: String = sources().into_iter().map(|source| source.text).collect();
    let mut complaints = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "SECURITY.md", "docs/operating.md", "docs/pitfalls.md"] {
        let (names, links) = quoted(page);
        let is_test = |name: &&String| name.matches('_').count() >= 3 && words(name).eq([name.as_str()]);
        let tests = names.iter().filter(is_test).filter(|name| !code.contains(&format!("fn {name}(")));
        complaints.extend(tests.map(|name| format!("{page}: no test is called {name}")));
        let missing = links.iter().filter(|link| !link.contains("://") && !root().join(page).with_file_name(link).exists());
        complaints.extend(missing.map(|link| format!("{page}: there is no {link}")));
    }
    assert!(quoted("ARCHITECTURE.md").0.len() > 100 && quoted("README.md").1.len() > 5);
    report("What pages name has to exist:", &complaints);
}

#[test]
fn a_line_is_bared_of_comments_and_strings() {
    assert_eq!(bare(r#"let a = "burn // \" x"; // burn"#), "let a = ; ");
    assert_eq!(bare(r#"if c == '"' { image() } // no"#), "if c ==  { image() } ");
    assert_eq!(below("use crate::{net::Link, wire, store::Store};", "crate"), ["net", "wire", "store"]);
    let broken = Source { path: String::new(), text: "pub use crate::{\n    net::Link, // why\n    wire,\n};\nfn f() {}\n".into() };
    assert_eq!(broken.code(), [(1, "pub use crate::{net::Link,wire,};".into()), (5, "fn f() {}".into())]);
    assert_eq!(below("my_crate::net + x::crate::net + crate::wire::Frame", "crate"), ["wire"]);
}
