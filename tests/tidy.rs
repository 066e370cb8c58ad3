//! Holds what prose asks: the layers, the purity of the core, and the form of the files.
//!
//! An ordinary test without network. When a rule here is wrong, change it together with the code
//! that shows why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The layers from the ground up. A file imports only from its own layer and those before it.
const LAYERS: [&str; 10] =
    ["units", "machine", "wire", "media", "live", "discovery", "swarm", "net", "sim", "app"];

/// Drivers of the same machines that must not know each other.
const STRANGERS: [(&str, &str); 2] = [("net", "sim"), ("sim", "net")];

/// The layers that may touch the world outside; `lib` and `main` only name and start them.
const IMPURE: [&str; 4] = ["net", "app", "lib", "main"];

/// Words that no pure layer may contain, not even in its tests.
const IMPURE_WORDS: [(&str, &str); 18] = [
    ("Instant::now", "time is an argument"),
    ("SystemTime", "time is an argument"),
    ("tokio", "async stops at net"),
    ("reqwest", "HTTP stops at net"),
    ("axum", "HTTP stops at net"),
    ("rustls", "TLS stops at net"),
    ("socket2", "sockets stop at net"),
    ("TcpStream", "sockets stop at net"),
    ("TcpListener", "sockets stop at net"),
    ("UdpSocket", "sockets stop at net"),
    ("ToSocketAddrs", "name resolution stops at net"),
    ("getrandom", "randomness is seeded, see machine::Rng"),
    ("RandomState", "its order differs from run to run, so a seed would not replay"),
    ("HashMap", "its order differs from run to run: use BTreeMap"),
    ("HashSet", "its order differs from run to run: use BTreeSet"),
    ("thread::", "each machine has one owner"),
    ("Mutex", "each machine has one owner"),
    ("RwLock", "each machine has one owner"),
];

/// Words that no pure layer may contain outside its tests, which may read vectors.
const IMPURE_WORDS_BUT_TESTS: [(&str, &str); 5] = [
    ("std::fs", "files stop at net"),
    ("std::env", "settings arrive as arguments"),
    ("std::process", "processes stop at app"),
    ("println!", "only app talks"),
    ("eprintln!", "only app talks"),
];

/// Words that no Rust file may contain.
const BANNED_WORDS: [(&str, &str); 8] = [
    ("unbounded", "every queue has a bound"),
    ("mpsc::channel()", "every queue has a bound: sync_channel"),
    ("#[ignore", "a test runs or does not exist"),
    ("todo!", "unfinished code does not land"),
    ("unimplemented!", "unfinished code does not land"),
    ("dbg!", "left over from debugging"),
    ("unsafe ", "forbidden"),
    ("super::super::super", "name the path from the crate"),
];

/// Licences that a package in the tree may have.
const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Columns of a line of code.
const COLUMNS_MAX: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir`, as paths from the repository's root, without what is built or generated.
fn files_below(dir: &str) -> Vec<String> {
    const SKIPPED: [&str; 6] =
        [".git", "target", "node_modules", "corpus", "artifacts", "coverage"];
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.map(|e| e.expect("directory entry").path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    dirs.push(path);
                }
            } else if name != ".git" {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

fn has_ending(path: &str, endings: &[&str]) -> bool {
    let ending = Path::new(path).extension().unwrap_or_default().to_string_lossy();
    endings.contains(&ending.as_ref())
}

/// The Rust files of `dir` with their text.
fn rust_files(dir: &str) -> Vec<(String, String)> {
    let paths = files_below(dir).into_iter().filter(|p| has_ending(p, &["rs"]));
    paths.map(|p| (p.clone(), read(&p))).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Fails with one line for each fault, or passes.
#[track_caller]
fn check(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// The layer that a file of `src` belongs to.
fn layer(path: &str) -> &str {
    let rest = path.strip_prefix("src/").unwrap_or(path);
    rest.split(['/', '.']).next().unwrap_or(rest)
}

/// `text` with comments and the insides of literals blanked, so that words are found in code only.
/// Lines stay where they are.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |n: usize| chars.get(n).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut n = 0;
    while n < chars.len() {
        let end = match (at(n), at(n + 1)) {
            ('/', '/') => (n..).find(|&i| at(i) == '\n' || i >= chars.len()),
            ('/', '*') => {
                (n + 2..).find(|&i| i >= chars.len() || (at(i - 1), at(i)) == ('*', '/')).map(next)
            }
            ('r', '"' | '#') if !is_word(at(n.wrapping_sub(1))) => raw_string_end(&chars, n),
            ('"', _) => string_end(&chars, n),
            ('\'', '\\') => (n + 3..).find(|&i| at(i) == '\'' || i >= chars.len()).map(next),
            ('\'', _) if at(n + 2) == '\'' => Some(n + 3),
            _ => None,
        };
        match end {
            Some(end) => {
                let end = end.min(chars.len());
                out.extend(chars[n..end].iter().map(|&c| if c == '\n' { c } else { ' ' }));
                n = end;
            }
            None => {
                out.push(chars[n]);
                n += 1;
            }
        }
    }
    out
}

fn next(n: usize) -> usize {
    n + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn string_end(chars: &[char], start: usize) -> Option<usize> {
    let mut n = start + 1;
    while n < chars.len() && chars[n] != '"' {
        n += if chars[n] == '\\' { 2 } else { 1 };
    }
    Some(n + 1)
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let hashes = chars[start + 1..].iter().take_while(|&&c| c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let close: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let rest: String = chars[open + 1..].iter().collect();
    let len = rest.find(&close).map_or(rest.chars().count(), |at| rest[..at].chars().count());
    Some(open + 1 + len + close.len())
}

/// The code of a file before its `#[cfg(test)]` part.
fn code_without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]").next().unwrap_or(code)
}

/// Lines of `code` that hold `word` as a whole word, counted from 1.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let whole = |line: &str, at: usize| {
        let longer_before = word.starts_with(is_word) && line[..at].ends_with(is_word);
        let longer_after = word.ends_with(is_word) && line[at + word.len()..].starts_with(is_word);
        !longer_before && !longer_after
    };
    let holds = |line: &str| line.match_indices(word).any(|(at, _)| whole(line, at));
    code.lines().zip(1..).filter(|(line, _)| holds(line)).map(|(_, n)| n).collect()
}

fn faults_with_words(path: &str, code: &str, words: &[(&str, &str)]) -> Vec<String> {
    let of_word = |(word, why): &(&str, &str)| {
        let lines = lines_with(code, word);
        lines.into_iter().map(|n| format!("{path}:{n}: {word}: {why}")).collect::<Vec<_>>()
    };
    words.iter().flat_map(of_word).collect()
}

/// The modules at the crate's root that `code` in the file `path` names: `crate::wire::x`,
/// `crate::{wire, live}`, and `super::super::wire` where that leaves the layer.
fn imported_layers(path: &str, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let crate_paths = code.match_indices("crate::").map(|(at, root)| at + root.len());
    for start in crate_paths.chain(rooted_by_super(path, code)) {
        let rest = &code[start..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(word_at_start(rest)),
        }
    }
    found
}

/// Where in `code` a path goes on that has left every module of its file by `super::`. A module
/// within the file lies deeper than the file; `depth_at` counts those by their open braces.
fn rooted_by_super(path: &str, code: &str) -> Vec<usize> {
    let names = path.trim_start_matches("src/").trim_end_matches(".rs").split('/');
    let in_file = names.filter(|name| *name != "mod").count();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = code[at..].find("super::").map(|found| at + found) {
        let mut end = next;
        let mut ups = 0;
        while let Some(rest) = code[end..].strip_prefix("super::") {
            end = code.len() - rest.len();
            ups += 1;
        }
        if ups == in_file + depth_at(&code[..next]) && !code[..next].ends_with(is_word) {
            found.push(end);
        }
        at = end;
    }
    found
}

/// How many inline modules are open where `before` ends.
fn depth_at(before: &str) -> usize {
    let mut open = Vec::new();
    for (at, c) in before.char_indices() {
        match c {
            '{' => {
                let line = before[..at].rsplit(['\n', ';', '}', '{']).next().unwrap_or_default();
                let words: Vec<&str> = line.split_whitespace().collect();
                open.push(words.iter().rev().nth(1) == Some(&"mod"));
            }
            '}' => drop(open.pop()),
            _ => {}
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

fn word_at_start(text: &str) -> Option<String> {
    let word: String = text.trim_start().chars().take_while(|&c| is_word(c)).collect();
    (!word.is_empty()).then_some(word)
}

/// The first words of a `use` group's items, given what follows its opening brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut item_start = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth > 0 => {}
            ',' | '}' => {
                heads.extend(word_at_start(&group[item_start..at]));
                item_start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

#[test]
fn each_layer_imports_only_what_is_below_it() {
    let rank = |name: &str| LAYERS.iter().position(|l| *l == name);
    let mut faults = Vec::new();
    for (path, text) in rust_files("src") {
        let own = layer(&path);
        if own == "lib" || own == "main" {
            continue;
        }
        let Some(own_rank) = rank(own) else {
            faults.push(format!("{path}: {own} is no layer; add it to the table in src/lib.rs"));
            continue;
        };
        for other in imported_layers(&path, &code_of(&text)) {
            let above = rank(&other).is_some_and(|r| r > own_rank);
            if above || STRANGERS.contains(&(own, other.as_str())) {
                faults.push(format!("{path}: {own} imports {other}"));
            }
        }
    }
    check(faults);
}

#[test]
fn the_table_in_lib_rs_names_the_layers_in_this_order() {
    let text = read("src/lib.rs");
    let rows = text.lines().filter_map(|l| l.strip_prefix("//! | [`"));
    let named: Vec<&str> = rows.filter_map(|l| l.split('`').next()).collect();
    assert_eq!(named, LAYERS);
}

#[test]
fn the_core_has_no_clock_socket_thread_or_unseeded_randomness() {
    let mut faults = Vec::new();
    for (path, text) in rust_files("src") {
        if IMPURE.contains(&layer(&path)) {
            continue;
        }
        let code = code_of(&text);
        let mut found = faults_with_words(&path, &code, &IMPURE_WORDS);
        let code = code_without_tests(&code);
        found.extend(faults_with_words(&path, code, &IMPURE_WORDS_BUT_TESTS));
        // Its one lock guards what follows from bytes alone.
        let is_proven = path.ends_with("live/proven.rs");
        faults.extend(found.into_iter().filter(|fault| !(is_proven && fault.contains("Mutex"))));
    }
    check(faults);
}

#[test]
fn only_drivers_may_lift_the_ban_on_clocks_and_threads() {
    let lifted = |code: &str| code.contains("disallowed_methods");
    let files = rust_files("src").into_iter().filter(|(_, text)| lifted(&code_of(text)));
    let faults = files.filter_map(|(path, text)| {
        let driver = path.starts_with("src/net/") || path.starts_with("src/app/");
        let whole_file = text.contains("#![allow(clippy::disallowed_methods)]");
        (!driver || !whole_file).then(|| format!("{path}: only src/net and src/app, file by file"))
    });
    check(faults.collect());
}

#[test]
fn no_rust_file_holds_a_banned_word() {
    let mut faults = Vec::new();
    for dir in ["src", "tests", "benches", "fuzz"] {
        for (path, text) in rust_files(dir) {
            faults.extend(faults_with_words(&path, &code_of(&text), &BANNED_WORDS));
        }
    }
    check(faults);
}

#[test]
fn each_file_begins_by_saying_what_it_is_for() {
    let mut faults = Vec::new();
    for dir in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        for (path, text) in rust_files(dir) {
            let first = text.lines().next().unwrap_or_default();
            if !first.starts_with("//! ") && first != "#![no_main]" {
                faults.push(format!("{path}: begins with no //! line"));
            }
        }
    }
    check(faults);
}

#[test]
fn lines_are_short_and_clean() {
    let endings = ["rs", "sh", "py", "mjs", "md", "toml", "html", "css", "js"];
    let mut faults = Vec::new();
    for path in files_below(".").iter().filter(|p| has_ending(p, &endings)) {
        let text = read(path);
        let code = has_ending(path, &["rs", "sh", "py", "mjs"]);
        for (line, n) in text.lines().zip(1..) {
            if code && line.chars().count() > COLUMNS_MAX {
                faults.push(format!("{path}:{n}: longer than {COLUMNS_MAX} columns"));
            }
            if line.ends_with([' ', '\t', '\r']) {
                faults.push(format!("{path}:{n}: blanks at its end"));
            }
            if line.contains('\t') {
                faults.push(format!("{path}:{n}: a tab"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            faults.push(format!("{path}: no line end at its end"));
        }
    }
    check(faults);
}

#[test]
fn no_file_waits_for_later_or_names_a_place_on_one_machine() {
    // Put together here, so that this file does not hold them.
    let banned: Vec<String> = [
        ["TO", "DO"],
        ["FIX", "ME"],
        ["/", "root/"],
        ["/", "home/"],
        ["/", "work/"],
        ["..", "/shared"],
    ]
    .map(|parts| parts.concat())
    .into();
    let mut faults = Vec::new();
    for path in files_below(".") {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (line, n) in text.lines().zip(1..) {
            for word in banned.iter().filter(|w| line.contains(w.as_str())) {
                faults.push(format!("{path}:{n}: {word}"));
            }
        }
    }
    check(faults);
}

#[test]
fn each_fuzz_target_is_built_and_run() {
    let targets = files_below("fuzz/fuzz_targets");
    if targets.is_empty() {
        return;
    }
    let manifest: toml::Table = read("fuzz/Cargo.toml").parse().expect("fuzz/Cargo.toml is TOML");
    let bins = manifest.get("bin").and_then(toml::Value::as_array).expect("[[bin]] entries");
    let listed: BTreeSet<String> = bins
        .iter()
        .filter_map(|bin| bin.get("path").and_then(toml::Value::as_str))
        .map(|path| format!("fuzz/{path}"))
        .collect();
    assert_eq!(listed, targets.into_iter().collect(), "fuzz/Cargo.toml lists each target once");
    let runner = read("tests/tools/fuzz-smoke.sh");
    assert!(runner.contains("fuzz/fuzz_targets/*.rs"), "make fuzz-smoke runs whatever is there");
}

/// The names of all dependencies of a manifest, whatever their kind.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = read(manifest).parse().expect("a manifest is TOML");
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .filter_map(|kind| manifest.get(*kind).and_then(toml::Value::as_table))
        .flat_map(|table| table.keys().cloned())
        .collect()
}

#[test]
fn each_dependency_is_explained() {
    let mut expected = dependencies("Cargo.toml");
    if root().join("fuzz/Cargo.toml").exists() {
        expected.extend(dependencies("fuzz/Cargo.toml"));
    } else {
        expected.insert("libfuzzer-sys".to_owned());
    }
    expected.remove("btlive");
    let page = read("specs/dependencies.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: BTreeSet<String> =
        rows.filter_map(|row| row.split('`').next()).map(str::to_owned).collect();
    assert_eq!(explained, expected, "specs/dependencies.md (left) and Cargo.toml (right)");
}

#[test]
fn each_vector_is_named_in_the_specs_or_read_by_a_test() {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for dir in ["specs", "tests", "src"] {
        // A table of vectors (JSON), itself named by a test, names the files it is about.
        let paths = files_below(dir).into_iter().filter(|p| has_ending(p, &["md", "rs", "json"]));
        texts.extend(paths.map(|p| (p.clone(), read(&p))));
    }
    let mut faults = Vec::new();
    for path in files_below("specs/vectors") {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if !texts.values().any(|text| text.contains(name)) {
            faults.push(format!("{path}: named by no specs/*.md and no test"));
        }
    }
    check(faults);
}

/// Whether an SPDX expression can be met with [`LICENCES`]. Old manifests write `/` for `OR`.
fn is_permissive(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at);
    met && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut met = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        // Not `||`: the other side has to be read in any case.
        met |= all_of(words, at);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut met = one_of(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one_of(words, at);
    }
    met
}

fn one_of(words: &[&str], at: &mut usize) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let met = any_of(words, at);
        *at += 1;
        return met;
    }
    if words.get(*at) == Some(&"WITH") {
        // An exception only permits more.
        *at += 2;
    }
    LICENCES.contains(&word)
}

#[test]
fn licence_expressions_are_understood() {
    let cases = [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("MIT AND GPL-3.0-only", false),
        ("Unlicense/MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("MPL-2.0 OR (GPL-2.0 AND MIT)", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("", false),
    ];
    for (expression, expected) in cases {
        assert_eq!(is_permissive(expression), expected, "{expression}");
    }
}

#[test]
fn all_packages_in_the_tree_have_permissive_licences() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let faults = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or_default();
        let name = package["name"].as_str().unwrap_or_default();
        (!is_permissive(licence)).then(|| format!("{name}: licence \"{licence}\""))
    });
    check(faults.collect());
}

/// What cargo knows of the packages built on this machine, without asking the network.
fn metadata() -> serde_json::Value {
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(root()).output();
        let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let rustc = run("rustc", &["-vV"]);
    let host = rustc.lines().find_map(|l| l.strip_prefix("host: ")).expect("rustc names its host");
    let args = ["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform"];
    let text = run(env!("CARGO"), &[&args[..], &[host]].concat());
    serde_json::from_str(&text).expect("cargo metadata is JSON")
}

#[test]
fn words_are_found_in_code_and_not_in_comments_or_literals() {
    let code =
        code_of("a // tokio\nlet s = \"tokio\"; let c = '\"'; tokio::x /* tokio\n */ r#\"tokio\"#");
    assert_eq!(lines_with(&code, "tokio"), [2]);
    assert_eq!(lines_with("my_tokio tokios tokio_x", "tokio"), [0; 0]);
    assert_eq!(code_of("fn f<'a>(x: &'a str) { '\\'' }"), "fn f<'a>(x: &'a str) {      }");
}

#[test]
fn imports_are_read_alone_and_in_groups() {
    let code = "use crate::wire::x; use crate::{live::{a, b}, media, net::c}; crate::sim::run()";
    let expected = ["live", "media", "net", "sim", "wire"].map(str::to_owned);
    assert_eq!(imported_layers("src/live/a.rs", code), expected.into());
}

#[test]
fn imports_by_super_are_read_where_they_leave_the_layer() {
    let table: [(&str, &str, &[&str]); 7] = [
        ("src/live/mod.rs", "use super::net::x;", &["net"]),
        ("src/live/mod.rs", "mod tests { use super::net::x; }", &[]),
        ("src/live/mod.rs", "fn f() { super::{net, wire::y}; }", &["net", "wire"]),
        ("src/live/a.rs", "use super::net::x;", &[]),
        ("src/live/a.rs", "use super::super::net::x;", &["net"]),
        (
            "src/live/a.rs",
            "mod tests { use super::super::b; fn f() { super::super::super::app::x } }",
            &["app"],
        ),
        ("src/units.rs", "use super::app;", &["app"]),
    ];
    for (path, code, expected) in table {
        let expected = expected.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(imported_layers(path, code), expected, "{path}: {code}");
    }
}
