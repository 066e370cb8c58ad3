//! The vectors in `specs/vectors`: the bytes that every implementation must agree on.
//!
//! Each file is made from the cases here and compared with the one in the repository. After a
//! change that is meant, `BTLIVE_WRITE_VECTORS=1 cargo test --test vectors` writes them anew. A
//! second decoder, in Python and written from `specs/` alone, then has to agree with them.

#![allow(clippy::disallowed_methods)]

mod feed;
mod limits;
mod wire;

use std::path::PathBuf;
use std::process::Command;

use btlive::units::hex;
use serde_json::{Map, Value, json};

/// What became of the bytes of a vector.
enum Read {
    Fields(Value),
    Ignored,
    Refused(String),
}

impl Read {
    fn of<E: std::fmt::Display>(read: Result<Option<Value>, E>) -> Self {
        match read {
            Ok(Some(fields)) => Self::Fields(fields),
            Ok(None) => Self::Ignored,
            Err(e) => Self::Refused(e.to_string()),
        }
    }

    fn put(self, row: &mut Map<String, Value>) {
        let (key, value) = match self {
            Self::Fields(fields) => ("fields", fields),
            Self::Ignored => ("ignored", json!(true)),
            Self::Refused(why) => ("error", json!(why)),
        };
        row.insert(key.to_owned(), value);
    }
}

/// One vector with its bytes and what a reader makes of them.
fn vector(name: &str, bytes: &[u8], read: Read) -> Value {
    let mut row = Map::new();
    row.insert("name".to_owned(), json!(name));
    row.insert("hex".to_owned(), json!(hex(bytes)));
    read.put(&mut row);
    row.into()
}

/// The same with the name of its message.
fn message_vector(message: &str, name: &str, bytes: &[u8], read: Read) -> Value {
    let mut row = vector(name, bytes, read);
    row["message"] = json!(message);
    row
}

/// A 64-bit number as JSON keeps it whole.
fn long(n: u64) -> Value {
    json!(n.to_string())
}

/// Compares a vector file with what the code says, or writes it.
#[track_caller]
fn check(file: &str, value: &Value) {
    let path = root().join("specs/vectors").join(file);
    let text = serde_json::to_string_pretty(value).expect("JSON") + "\n";
    if std::env::var_os("BTLIVE_WRITE_VECTORS").is_some() {
        std::fs::write(&path, text).expect("written");
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
    let there: Value = serde_json::from_str(&there).unwrap_or_else(|e| panic!("{file}: {e}"));
    if there == *value {
        return;
    }
    let rows = |v: &Value| v["vectors"].as_array().cloned().unwrap_or_default();
    for (a, b) in rows(&there).iter().zip(&rows(value)) {
        assert_eq!(a, b, "{file}: the file (left) and the code (right)");
    }
    panic!("{file} differs from what the code says in its head or its number of vectors");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_second_decoder_written_from_the_specs_agrees() {
    if std::env::var_os("BTLIVE_WRITE_VECTORS").is_some() {
        return;
    }
    let output = Command::new("python3")
        .args(["-B", "tests/second/check.py", "specs/vectors"])
        .current_dir(root())
        .output()
        .unwrap_or_else(|e| panic!("python3 is needed (Debian: apt-get install python3): {e}"));
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}
