//! The vectors of `specs/vectors/live-torrent`, read by the codecs and by the program itself.
#![allow(clippy::disallowed_methods)]

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use btlive::app::keyfile;
use btlive::units::hex;
use btlive::wire::bencode::{Encoder, Limits, Mode, Value, check, raw_span};
use btlive::wire::limits;
use btlive::wire::magnet::Magnet;
use btlive::wire::metainfo::{Info, LiveTorrent, Metainfo};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use sha1::{Digest, Sha1};

fn vector_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("specs/vectors/live-torrent").join(name)
}

fn vector(name: &str) -> Bytes {
    let path = vector_path(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
}

fn json_vector(name: &str) -> Json {
    serde_json::from_slice(&vector(name)).expect(name)
}

fn list(name: &str) -> Vec<Json> {
    json_vector(name).as_array().expect(name).clone()
}

fn text<'a>(said: &'a Json, key: &str) -> &'a str {
    said[key].as_str().unwrap_or_else(|| panic!("{key} of {said}"))
}

fn parse(file: &str) -> Metainfo {
    Metainfo::parse(vector(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn live_torrents_say_what_the_vectors_say() {
    for said in list("live.json") {
        let meta = parse(text(&said, "file"));
        let live = meta.info.live().expect("live");
        let found = json!({
            "file": said["file"],
            "kind": meta.info.kind.name(),
            "info": hex(&meta.info.raw),
            "info_hash": meta.info.info_hash.to_string(),
            "public_key": hex(&live.public_key),
            "name": meta.info.name,
            "piece_length": meta.info.piece_length,
            "window_s": live.window_s,
            "media": live.media,
            "bitrate": live.bitrate,
            "private": meta.info.private,
            "extended": live.extended,
            "trackers": meta.tiers,
            "web_seeds": meta.web_seeds,
        });
        assert_eq!(found, said);
        assert_eq!(meta.all_warnings().count(), 0, "{said}");
    }
}

#[test]
fn live_torrents_are_written_as_the_vectors_say() {
    for said in list("live.json").iter().filter(|v| v["extended"] == false) {
        let file = text(said, "file");
        let torrent = LiveTorrent::from_metainfo(&parse(file)).expect("live");
        assert_eq!(hex(&torrent.encode_info()), text(said, "info"), "{file}");
        assert_eq!(torrent.encode(), vector(file), "{file}");
    }
}

#[test]
fn ordinary_torrents_say_what_the_vectors_say() {
    for said in list("ordinary.json") {
        let file = text(&said, "file");
        let meta = parse(file);
        let content = meta.info.content().expect("ordinary");
        let files: Vec<Json> = content
            .files
            .iter()
            .filter(|f| !f.attr.pad)
            .map(|f| json!([f.path, f.length]))
            .collect();
        let v1 = (meta.info.kind.name() != "v2").then(|| meta.info.info_hash.to_string());
        let found = json!({
            "file": file,
            "kind": meta.info.kind.name(),
            "info_hash": v1,
            "info_hash_v2": meta.info.info_hash_v2.map(|h| h.to_string()),
            "name": meta.info.name,
            "piece_length": meta.info.piece_length,
            "private": meta.info.private,
            "pieces": meta.info.piece_count(),
            "files": files,
        });
        assert_eq!(found, said);
        assert_eq!(meta.all_warnings().count(), 0, "{file}");
        // Over BEP 9 the same dictionary comes without what stands around it.
        assert_eq!(Info::parse(meta.info.raw.clone()), Ok(meta.info), "{file}");
    }
}

#[test]
fn malformed_torrents_are_refused_for_the_reason_the_vectors_name() {
    let table = json_vector("malformed.json");
    let table = table.as_object().expect("a table");
    assert!(table.len() > 90);
    let found = |file: &str| Metainfo::parse(vector(file)).map_or_else(|e| e.kind(), |_| "taken");
    let wrong = table.iter().map(|(file, kind)| (file, kind, found(file)));
    let wrong: Vec<_> = wrong.filter(|(_, kind, found)| kind.as_str() != Some(found)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn more_values_than_the_limit_are_refused_before_they_are_built() {
    let mut bomb = b"d4:infol".to_vec();
    bomb.extend(b"0:".repeat(limits::METAINFO_TOKENS_MAX));
    bomb.extend(b"ee");
    let error = Metainfo::parse(bomb.into()).expect_err("a bomb");
    assert_eq!(error.kind(), "too_many_tokens");
    let large = Bytes::from(vec![b'l'; limits::TORRENT_LEN_MAX + 1]);
    assert_eq!(Metainfo::parse(large).expect_err("too large").kind(), "too_long");
}

#[test]
fn magnet_links_say_what_the_vectors_say_and_read_back() {
    for said in list("magnets.json") {
        let link = text(&said, "link");
        let magnet = match Magnet::parse(link) {
            Ok(magnet) => magnet,
            Err(error) => {
                assert_eq!(Some(error.kind()), said["error"].as_str(), "{link}");
                continue;
            }
        };
        let mut expected = said.as_object().expect("fields").clone();
        expected.remove("link");
        let channel = magnet.channel.as_ref();
        let fields = [
            ("info_hash", json!(magnet.info_hash.map(|h| h.to_string()))),
            ("info_hash_v2", json!(magnet.info_hash_v2.map(|h| h.to_string()))),
            ("channel", json!(channel.map(|c| hex(&c.public_key)))),
            ("salt", json!(channel.map(|c| hex(&c.salt)))),
            ("name", json!(magnet.name)),
            ("trackers", json!(magnet.trackers)),
            ("peers", json!(magnet.peers.iter().map(ToString::to_string).collect::<Vec<_>>())),
            ("select", json!(magnet.select)),
            ("web_seeds", json!(magnet.web_seeds)),
        ];
        let said_something = |v: &Json| !v.is_null() && *v != json!([]);
        let found: serde_json::Map<String, Json> =
            fields.into_iter().filter(|(_, v)| said_something(v)).map(own_key).collect();
        assert_eq!(found, expected, "{link}");
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet), "{link}");
    }
}

fn own_key((key, value): (&str, Json)) -> (String, Json) {
    (key.to_owned(), value)
}

#[test]
fn key_files_say_what_the_vectors_say() {
    for said in list("keys.json") {
        let found = match keyfile::parse(text(&said, "text").as_bytes()) {
            Ok(key) => json!({
                "text": said["text"],
                "public_key": hex(key.verifying_key().as_bytes()),
            }),
            Err(fault) => json!({ "text": said["text"], "error": fault.kind() }),
        };
        assert_eq!(found, said);
    }
}

fn btlive(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_btlive")).args(args).output().expect("the program runs")
}

fn inspect(file: &str, more: &[&str]) -> Output {
    let path = vector_path(file);
    let mut args = vec!["inspect", path.to_str().expect("UTF-8")];
    args.extend(more);
    btlive(&args)
}

#[test]
fn inspect_refuses_what_is_malformed_in_one_line_within_a_second_and_64_mib() {
    let table = json_vector("malformed.json");
    let files: Vec<&String> = table.as_object().expect("a table").keys().collect();
    assert!(files.len() > 90);
    for file in files {
        let start = Instant::now();
        // The kernel refuses the program all memory beyond 64 MiB (RLIMIT_DATA) and ends it after
        // a second of processor time (RLIMIT_CPU).
        let output = Command::new("bash")
            .args(["-c", "ulimit -d 65536 -t 1; exec \"$0\" inspect \"$1\""])
            .arg(env!("CARGO_BIN_EXE_btlive"))
            .arg(vector_path(file))
            .output()
            .expect("bash runs");
        assert!(start.elapsed() < Duration::from_secs(1), "{file}: {:?}", start.elapsed());
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert_eq!(output.stderr.iter().filter(|b| **b == b'\n').count(), 1, "{file}");
        assert!(output.stdout.is_empty(), "{file}");
    }
}

/// A torrent of empty files, each in the top folder under the name that `name` gives it.
fn crowded(files: usize, name: impl Fn(usize) -> Vec<u8>) -> Vec<u8> {
    let info = Encoder::dict_of(|info| {
        info.bytes("name", "crowd");
        info.int("piece length", 16_384);
        info.bytes("pieces", "");
        info.list("files", |list| {
            for n in 0..files {
                list.dict(|file| {
                    file.int("length", 0);
                    file.list("path", |path| path.bytes(name(n)));
                });
            }
        });
    });
    Encoder::dict_of(|torrent| torrent.raw("info", &info))
}

#[cfg(target_os = "linux")]
#[test]
fn inspect_explains_or_refuses_the_largest_torrents_within_64_mib() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("large.torrent");
    let path = path.to_str().expect("UTF-8");
    let long = |n: usize| format!("{n:06}{}", "x".repeat(230)).into_bytes();
    let alike = |n: usize| format!("{}{n:06}", "x".repeat(230)).into_bytes();
    let twice = |n: usize| format!("{:06}{}", n % 49_000, "x".repeat(230)).into_bytes();
    let stray = |n: usize| [n.to_string().as_bytes(), &[0xff; 200]].concat();
    let table = [
        (crowded(49_500, long), 0),
        (crowded(49_500, alike), 0),
        (crowded(49_500, twice), 2),
        (crowded(49_500, stray), 2),
        (vec![b'l'; limits::TORRENT_LEN_MAX], 2),
    ];
    for (n, (torrent, code)) in table.into_iter().enumerate() {
        std::fs::write(path, torrent).expect("written");
        let start = Instant::now();
        // The kernel refuses the program all memory beyond 64 MiB (RLIMIT_DATA).
        let status = Command::new("bash")
            .args(["-c", "ulimit -d 65536; exec \"$0\" inspect \"$1\" --json >/dev/null 2>&1"])
            .args([env!("CARGO_BIN_EXE_btlive"), path])
            .status()
            .expect("bash runs");
        // The machine is busy with other tests; alone it takes a fifth of this.
        assert!(start.elapsed() < Duration::from_secs(3), "case {n}: {:?}", start.elapsed());
        assert_eq!(status.code(), Some(code), "case {n}");
    }
}

#[test]
fn inspect_explains_each_kind_as_json() {
    for table in ["live.json", "ordinary.json"] {
        for said in list(table) {
            let output = inspect(text(&said, "file"), &["--json", "--strict"]);
            let found: Json = serde_json::from_slice(&output.stdout).expect("JSON");
            for key in ["kind", "name", "info_hash", "piece_length", "private", "pieces"] {
                assert_eq!(found[key], said[key], "{key} of {}", said["file"]);
            }
            if let Some(hash) = said.get("info_hash_v2") {
                assert_eq!(found["info_hash_v2"], *hash);
            }
        }
    }
}

#[test]
fn inspect_lets_sloppiness_pass_unless_told_to_be_strict() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("sloppy.torrent");
    let mut sloppy = b"d7:comment1:x8:announce8:http://t4:info".to_vec();
    sloppy.extend_from_slice(raw_span(&vector("minimal.torrent"), b"info").expect("info"));
    sloppy.extend_from_slice(b"e\n");
    std::fs::write(&path, sloppy).expect("written");
    let path = path.to_str().expect("UTF-8");
    let output = btlive(&["inspect", path]);
    assert_eq!(output.status.code(), Some(0));
    let warnings = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(warnings.contains("out of order") && warnings.contains("follow the torrent"));
    assert_eq!(btlive(&["inspect", path, "--strict"]).status.code(), Some(2));
}

#[test]
fn inspect_of_a_key_file_shows_its_public_key_only() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("a.key");
    let said = &list("keys.json")[0];
    let keys = text(said, "text");
    std::fs::write(&path, keys).expect("written");
    for more in [&["--json"][..], &[]] {
        let mut args = vec!["inspect", path.to_str().expect("UTF-8")];
        args.extend(more);
        let output = btlive(&args);
        let shown = [output.stdout, output.stderr].concat();
        let shown = String::from_utf8(shown).expect("UTF-8");
        assert!(shown.contains(text(said, "public_key")), "{shown}");
        assert!(!shown.contains("9d61b19d"), "{shown}");
    }
}

#[test]
fn create_makes_what_inspect_explains() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("show.torrent");
    let out = out.to_str().expect("UTF-8");
    let tracker = "udp://127.0.0.1:6969/announce";
    let args = ["create", "--name", "Show", "--tracker", tracker, "--out", out, "--json"];
    let made = btlive(&args);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let made: Json = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(text(&made, "torrent"), out);
    let found = btlive(&["inspect", out, "--json", "--strict"]);
    let found: Json = serde_json::from_slice(&found.stdout).expect("JSON");
    for key in ["info_hash", "public_key", "magnet"] {
        assert_eq!(made[key], found[key], "{key}");
    }
    let link = btlive(&["inspect", text(&made, "magnet"), "--json"]);
    let link: Json = serde_json::from_slice(&link.stdout).expect("JSON");
    assert_eq!((&link["kind"], &link["info_hash"]), (&json!("magnet"), &made["info_hash"]));
    assert_eq!(link["trackers"], json!([tracker]));
}

#[test]
fn create_of_a_private_stream_says_what_that_means() {
    let dir = tempfile::tempdir().expect("a folder");
    let out = dir.path().join("p.torrent");
    let out = out.to_str().expect("UTF-8");
    let args = ["create", "--name", "P", "--private", "--tracker", "http://t.example/announce"];
    let made = btlive(&[&args[..], &["--out", out, "--json"]].concat());
    let said = String::from_utf8(made.stderr).expect("UTF-8");
    assert!(said.contains(".torrent") && said.contains("--peer") && said.contains("channels"));
    let made: Json = serde_json::from_slice(&made.stdout).expect("JSON");
    assert_eq!(made["magnet"], Json::Null);
}

/// A valid file with a few bytes changed: closer to what parsers get wrong than random bytes.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let files = [
        "full.torrent",
        "ordinary/v1-multi.torrent",
        "ordinary/v2.torrent",
        "ordinary/hybrid.torrent",
    ]
    .map(vector);
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (prop::sample::select(files.to_vec()), edits).prop_map(|(file, edits)| {
        let mut bytes = file.to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_hashed_as_it_came(bytes in mutated()) {
        let file = Bytes::from(bytes);
        if let Ok(meta) = Metainfo::parse(file.clone()) {
            let raw = raw_span(&file, b"info").expect("parsed");
            prop_assert_eq!(&meta.info.raw[..], raw);
            if meta.info.kind.name() != "v2" {
                let hash: [u8; 20] = Sha1::digest(raw).into();
                prop_assert_eq!(meta.info.info_hash.0, hash);
            }
            if let Some(torrent) = LiveTorrent::from_metainfo(&meta)
                && meta.info.live().is_some_and(|live| !live.extended)
            {
                prop_assert_eq!(torrent.encode_info(), raw);
            }
        }
    }

    #[test]
    fn canonical_bytes_are_written_as_they_came(bytes in mutated()) {
        if check(&bytes, Mode::Strict, &Limits::METAINFO).is_ok() {
            let value = Value::parse(&bytes, Mode::Strict, &Limits::METAINFO).expect("checked");
            let mut encoder = Encoder::default();
            encoder.value(&value);
            prop_assert_eq!(encoder.finish(), bytes);
        }
    }
}
