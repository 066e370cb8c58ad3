//! The page that benchmarks write their figures to.

use std::path::{Path, PathBuf};

/// The project's directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The text of docs/performance.md before, between and behind the marks of `bench`.
fn parts(bench: &str) -> [String; 3] {
    let begin = format!("<!-- {bench}: written by `cargo bench --bench {bench}` -->\n");
    let end = format!("<!-- {bench}: end -->");
    let page = std::fs::read_to_string(path()).expect("read docs/performance.md");
    let (before, rest) = page.split_once(&begin).expect("the beginning mark");
    let (table, after) = rest.split_once(&end).expect("the end mark");
    [format!("{before}{begin}"), table.to_owned(), format!("{end}{after}")]
}

fn path() -> PathBuf {
    root().join("docs/performance.md")
}

/// What is between the marks of `bench` in docs/performance.md.
///
/// # Panics
/// If the page or its marks are gone.
#[allow(dead_code, reason = "not every bench that shares this file reads the page")]
pub(crate) fn read(bench: &str) -> String {
    let [_, table, _] = parts(bench);
    table
}

/// Puts `table` between the marks of `bench` in docs/performance.md.
///
/// # Panics
/// If the page or its marks are gone.
pub(crate) fn write(bench: &str, table: &str) {
    let [before, _, after] = parts(bench);
    std::fs::write(path(), format!("{before}\n{table}\n{after}")).expect("write it");
}
