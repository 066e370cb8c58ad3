//! The page that benchmarks write their figures to.

use std::path::{Path, PathBuf};

/// The project's directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Puts `table` between the marks of `bench` in docs/performance.md.
///
/// # Panics
/// If the page or its marks are gone.
pub(crate) fn write(bench: &str, table: &str) {
    let begin = format!("<!-- {bench}: written by `cargo bench --bench {bench}` -->\n");
    let end = format!("<!-- {bench}: end -->");
    let path = root().join("docs/performance.md");
    let page = std::fs::read_to_string(&path).expect("read docs/performance.md");
    let (before, rest) = page.split_once(&begin).expect("the beginning mark");
    let (_, after) = rest.split_once(&end).expect("the end mark");
    std::fs::write(&path, format!("{before}{begin}\n{table}\n{end}{after}")).expect("write it");
}
