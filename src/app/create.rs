//! `btlive create`: makes a live torrent and, if there is none, its key file.
#![allow(clippy::disallowed_methods)]

mod advice;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::args::{Rate, Size, Span};
use super::exit::Failure;
use super::{file, keyfile};
use crate::units::{InfoHash, hex};
use crate::wire::limits;
use crate::wire::magnet::Magnet;
use crate::wire::metainfo::{
    Info, LiveTorrent, MEDIA_MPEG_TS, Metainfo, is_live_name, is_media_type,
};
use crate::wire::tracker::url::TrackerUrl;

/// Well-known trackers that anybody may use, asked only where `--public-trackers` put them into a
/// torrent.
const PUBLIC_TRACKERS: [&str; 6] = [
    "udp://tracker.opentrackr.org:1337/announce",
    "udp://open.demonii.com:1337/announce",
    "udp://open.stealth.si:80/announce",
    "udp://exodus.desync.com:6969/announce",
    "udp://tracker.torrent.eu.org:451/announce",
    "udp://explodie.org:6969/announce",
];

/// Names a file that replaces [`PUBLIC_TRACKERS`], as `--tracker-list` does.
const PUBLIC_TRACKERS_VARIABLE: &str = "BTLIVE_PUBLIC_TRACKERS";

/// Bytes that a list of trackers has at most.
const TRACKER_LIST_LEN_MAX: usize = 64 << 10;

/// Bit/s that a piece length is chosen for when no bitrate is given.
const BITRATE_ASSUMED: u64 = 4_000_000;

/// The highest bitrate that is taken: the longest piece then lasts 8 ms.
const BITRATE_MAX: u64 = 1_000_000_000;

/// A full piece that lasts less than this makes more entries than anybody wants to sign and check.
const PIECE_TIME_FLOOR_MS: u64 = 5;

/// The shortest time that a full piece lasts, if its limits allow; the longest is twice that.
const PIECE_TIME_MIN_MS: u64 = 100;

/// What the help says beyond the options.
const HELP: &str = "\
The torrent says who may publish the stream, not what is in it: it is made once and then used for \
every broadcast. Whoever has the key file is the broadcaster.

An existing torrent file is replaced only if it is the same stream (the same info-hash), so that \
trackers can be added or changed by running the same command again. Any other file in the way is \
left alone, and the command ends with code 2. An existing key file is used and never changed.";

/// Arguments of `btlive create`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Name of the stream, shown to viewers.
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// A tracker that introduces the peers (http, https or udp); may be given several times, the
    /// first is asked first.
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<String>,
    /// Also use well-known trackers that are open to everybody.
    #[arg(long)]
    pub public_trackers: bool,
    /// File with the trackers that --public-trackers stands for, one URL a line, `#` begins a
    /// comment; the variable BTLIVE_PUBLIC_TRACKERS may name it too.
    #[arg(long, value_name = "FILE", requires = "public_trackers")]
    pub tracker_list: Option<PathBuf>,
    /// Bitrate of the stream in bit/s (such as 4M), a hint for viewers; also decides the piece
    /// length.
    #[arg(long, value_name = "RATE")]
    pub bitrate: Option<Rate>,
    /// Bytes in a full piece: a power of two, 16KiB to 1MiB; auto makes a full piece last 100 to
    /// 250 ms at the bitrate (4M if none is given).
    #[arg(long, value_name = "SIZE", default_value = "auto")]
    pub piece_length: PieceLength,
    /// How much of the stream each peer keeps for others, 1s to 1h.
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub window: Span,
    /// Media type of the stream; anything but video/mp2t is passed on as opaque bytes, cut by size
    /// and time, and viewers get it from wherever they join.
    #[arg(long, value_name = "TYPE", default_value = MEDIA_MPEG_TS)]
    pub media: String,
    /// HTTP address of the stream, put into the torrent and the link for programs that know what
    /// to do with it: btlive itself fetches nothing from there. May be given several times.
    #[arg(long = "origin", value_name = "URL")]
    pub origins: Vec<String>,
    /// Only the trackers introduce peers (BEP 27): viewers need the .torrent file, and --peer,
    /// relays by address and channels are off.
    #[arg(long, conflicts_with = "public_trackers")]
    pub private: bool,
    /// Key file to use; made if it does not exist. Default: the torrent's name with .key.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Torrent file to write. Default: NAME.torrent, with characters that make trouble in file
    /// names replaced by _.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print one line of JSON instead of text.
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
}

/// A piece length, or that it is to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PieceLength {
    /// Chosen by the bitrate.
    Auto,
    /// Bytes.
    Bytes(u32),
}

impl FromStr for PieceLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let Size(size) = text.parse()?;
        let range = limits::PIECE_LEN_MIN..=limits::PIECE_LEN_MAX;
        let fits = |n: &u32| range.contains(n) && n.is_power_of_two();
        let bytes = u32::try_from(size).ok().filter(fits);
        bytes.map(Self::Bytes).ok_or_else(|| {
            format!("{size} bytes: a piece length is a power of two from 16KiB to 1MiB, or auto")
        })
    }
}

impl PieceLength {
    /// Bytes in a full piece at `bitrate` bit/s: the
    /// shortest that lasts long enough.
    fn at(self, bitrate: u64) -> u32 {
        if let Self::Bytes(bytes) = self {
            return bytes;
        }
        let mut bytes = limits::PIECE_LEN_MIN;
        while bytes < limits::PIECE_LEN_MAX && full_piece_ms(bytes, bitrate) < PIECE_TIME_MIN_MS {
            bytes *= 2;
        }
        bytes
    }
}

/// How long `bytes` last at `bitrate` bit/s, in milliseconds.
fn full_piece_ms(bytes: u32, bitrate: u64) -> u64 {
    u64::from(bytes) * 8 * 1000 / bitrate.max(1)
}

/// What `--json` prints.
#[derive(Serialize)]
struct Made<'a> {
    info_hash: String,
    public_key: String,
    /// None for a private torrent: a link would lead viewers to metadata that no peer may give.
    magnet: Option<String>,
    torrent: &'a Path,
    key: &'a Path,
}

/// Runs the command.
///
/// # Errors
/// Code 2 if an argument is out of range or another file is in the way, code 5 if the disk refuses.
pub fn run(args: Args) -> Result<(), Failure> {
    let torrent_path = args.out.clone().unwrap_or_else(|| default_path(&args.name));
    let key_path = args.key.clone().unwrap_or_else(|| torrent_path.with_extension("key"));
    if key_path == torrent_path {
        return Err(Failure::usage("--key and --out name the same file"));
    }
    let draft = draft(&args)?;
    let (key, key_is_new) = key_for(&key_path, &torrent_path)?;
    let torrent = LiveTorrent { public_key: key.verifying_key().to_bytes(), ..draft };
    let info = written(&torrent)?;
    refuse_another_stream(&torrent_path, info.info_hash)?;
    let magnet = magnet(&torrent, info.info_hash)?;
    if key_is_new {
        keyfile::write_new(&key_path, &key)?;
    } else if let Some(advice) = keyfile::open_to_others(&key_path) {
        eprintln!("btlive: {advice}");
    }
    file::replace(&torrent_path, &torrent.encode())?;
    if args.private {
        advice::say_what_private_means(&torrent);
    }
    let made = Made {
        info_hash: info.info_hash.to_string(),
        public_key: hex(&torrent.public_key),
        magnet: (!args.private).then_some(magnet),
        torrent: &torrent_path,
        key: &key_path,
    };
    file::to_stdout(|out| {
        if args.json {
            serde_json::to_writer(&mut *out, &made)?;
            writeln!(out)
        } else {
            advice::explain(out, &made, &torrent, key_is_new)
        }
    })
}

/// The torrent as the arguments describe it, still without its key.
fn draft(args: &Args) -> Result<LiveTorrent, Failure> {
    if !is_live_name(&args.name) {
        return Err(Failure::usage(
            "--name must be 1 to 255 bytes without control characters, / and \\",
        ));
    }
    if !is_media_type(&args.media) {
        return Err(Failure::usage("--media must be a media type such as video/mp2t"));
    }
    let bitrate = args.bitrate.map(|Rate(rate)| rate);
    if bitrate.is_some_and(|rate| !(1..=BITRATE_MAX).contains(&rate)) {
        return Err(Failure::usage("--bitrate must be 1 to 1G (bit/s)"));
    }
    let piece_length = args.piece_length.at(bitrate.unwrap_or(BITRATE_ASSUMED));
    let ms = full_piece_ms(piece_length, bitrate.unwrap_or(BITRATE_ASSUMED));
    if ms < PIECE_TIME_FLOOR_MS {
        return Err(Failure::usage(format_args!(
            "--piece-length: {} KiB last {ms} ms at this bitrate, at least {PIECE_TIME_FLOOR_MS} \
             are needed; choose a longer one, or auto",
            piece_length / 1024
        )));
    }
    let window_s = args.window.0.as_secs_f64().round();
    if !(1.0..=f64::from(limits::WINDOW_S_MAX)).contains(&window_s) {
        return Err(Failure::usage("--window must be 1s to 1h"));
    }
    let tiers = trackers(args)?.into_iter().map(|url| vec![url]).collect();
    Ok(LiveTorrent {
        name: args.name.clone(),
        piece_length,
        private: args.private,
        public_key: [0; 32],
        window_s: window_s as u32,
        media: args.media.clone(),
        bitrate,
        tiers,
        origins: origins(&args.origins)?,
        created_by: Some(concat!("btlive ", env!("CARGO_PKG_VERSION")).into()),
    })
}

/// All trackers in their order, each checked. Every one is a tier of its own: peers that shuffle a
/// common tier (BEP 12) would spread over trackers that do not know of each other.
fn trackers(args: &Args) -> Result<Vec<String>, Failure> {
    let mut all = args.trackers.clone();
    if args.public_trackers {
        let variable = || std::env::var_os(PUBLIC_TRACKERS_VARIABLE).map(PathBuf::from);
        match args.tracker_list.clone().or_else(variable) {
            Some(path) => all.extend(tracker_list(&path)?),
            None => all.extend(PUBLIC_TRACKERS.map(String::from)),
        }
    }
    let mut known: Vec<String> = Vec::new();
    for url in all {
        TrackerUrl::parse(&url)
            .map_err(|e| Failure::usage(format_args!("tracker \"{url}\": {e}")))?;
        let url = url.trim().to_owned();
        if !known.contains(&url) {
            known.push(url);
        }
    }
    // What a magnet link of it can hold.
    if known.len() > limits::MAGNET_LIST_MAX {
        let (count, max) = (known.len(), limits::MAGNET_LIST_MAX);
        return Err(Failure::usage(format_args!("{count} trackers, limit {max}")));
    }
    Ok(known)
}

fn tracker_list(path: &Path) -> Result<Vec<String>, Failure> {
    let text = file::read_text(path, TRACKER_LIST_LEN_MAX)?;
    let urls = text.lines().map(|l| l.split('#').next().unwrap_or(l).trim());
    Ok(urls.filter(|l| !l.is_empty()).map(str::to_owned).collect())
}

fn origins(urls: &[String]) -> Result<Vec<String>, Failure> {
    for text in urls {
        let url = url::Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https"));
        if url.is_none_or(|u| u.host_str().is_none()) || text.len() > limits::URL_LEN_MAX {
            return Err(Failure::usage(format_args!("--origin {text} is no http or https URL")));
        }
    }
    Ok(urls.to_vec())
}

/// The key of an existing file, or a new one that is not written yet.
fn key_for(key_path: &Path, torrent_path: &Path) -> Result<(SigningKey, bool), Failure> {
    if key_path.exists() {
        return keyfile::read(key_path).map(|key| (key, false));
    }
    if torrent_path.exists() {
        return Err(Failure::usage(format_args!(
            "{} exists, but its key file {} does not: name the key file with --key, or another \
             torrent file with --out",
            torrent_path.display(),
            key_path.display()
        )));
    }
    keyfile::generate().map(|key| (key, true))
}

/// Reads back what is about to be written, as every viewer will.
fn written(torrent: &LiveTorrent) -> Result<Info, Failure> {
    Info::parse(Bytes::from(torrent.encode_info())).map_err(Failure::usage)
}

fn refuse_another_stream(path: &Path, info_hash: InfoHash) -> Result<(), Failure> {
    if !path.exists() {
        return Ok(());
    }
    let old = file::read_bounded(path, limits::TORRENT_LEN_MAX)?;
    match Metainfo::parse(old.into()) {
        Ok(old) if old.info.info_hash == info_hash => Ok(()),
        _ => Err(Failure::usage(format_args!(
            "{} exists and is not this stream: choose another file with --out, or remove it",
            path.display()
        ))),
    }
}

/// The link to the stream, as a viewer will be able to read it.
fn magnet(torrent: &LiveTorrent, info_hash: InfoHash) -> Result<String, Failure> {
    let magnet = Magnet {
        info_hash: Some(info_hash),
        name: Some(torrent.name.clone()),
        trackers: torrent.tiers.iter().flatten().cloned().collect(),
        web_seeds: torrent.origins.clone(),
        ..Magnet::default()
    };
    let link = magnet.to_string();
    let too_long = |e| Failure::usage(format_args!("too many trackers or origins: {e}"));
    Magnet::parse(&link).map_err(too_long)?;
    Ok(link)
}

/// `NAME.torrent` in the current folder, fit for any file system and shell.
fn default_path(name: &str) -> PathBuf {
    let fits = |c: char| c.is_alphanumeric() || "-_.,+=@() ".contains(c);
    let safe: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    let safe = safe.trim();
    // A leading dot hides a file, a leading dash makes it an option.
    let lead = if safe.starts_with(['.', '-']) || safe.is_empty() { "_" } else { "" };
    let mut stem = String::from(lead);
    for c in safe.chars() {
        if stem.len() + c.len_utf8() > 200 {
            break;
        }
        stem.push(c);
    }
    PathBuf::from(stem + ".torrent")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(dir: &Path, more: &[&str]) -> Args {
        let out = dir.join("a.torrent");
        let out = out.to_str().expect("UTF-8");
        let line = ["create", "--name", "Show", "--out", out, "--json"];
        Line::try_parse_from(line.iter().chain(more)).expect("valid arguments").args
    }

    #[test]
    fn a_full_piece_lasts_a_tenth_to_a_quarter_of_a_second_where_the_limits_allow() {
        let table = [
            (64_000, 16),
            (1_000_000, 16),
            (1_400_000, 32),
            (4_000_000, 64),
            (8_000_000, 128),
            (20_000_000, 256),
            (200_000_000, 1024),
        ];
        for (bitrate, kib) in table {
            assert_eq!(PieceLength::Auto.at(bitrate), kib * 1024, "{bitrate}");
        }
        for bitrate in (1_300_000..80_000_000).step_by(100_000) {
            let ms = full_piece_ms(PieceLength::Auto.at(bitrate), bitrate);
            assert!((100..=250).contains(&ms), "{bitrate}: {ms} ms");
        }
    }

    #[test]
    fn running_it_again_keeps_the_identity_and_takes_new_trackers() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || {
            let bytes = std::fs::read(dir.path().join("a.torrent")).expect("there");
            Metainfo::parse(bytes.into()).expect("valid")
        };
        run(args(dir.path(), &[])).expect("made");
        let first = read();
        run(args(dir.path(), &["--tracker", "udp://t.example:1"])).expect("made again");
        let second = read();
        assert_eq!(first.info, second.info);
        assert_eq!(second.tiers, [["udp://t.example:1"]]);
    }

    #[test]
    fn another_stream_in_the_way_is_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        run(args(dir.path(), &[])).expect("made");
        let before = std::fs::read(dir.path().join("a.torrent")).expect("there");
        let failure = run(args(dir.path(), &["--window", "30s"])).expect_err("another stream");
        assert!(failure.message.contains("--out"), "{failure}");
        std::fs::remove_file(dir.path().join("a.key")).expect("there");
        run(args(dir.path(), &[])).expect_err("its key is gone");
        assert!(!dir.path().join("a.key").exists(), "no key for a torrent that was not made");
        assert_eq!(std::fs::read(dir.path().join("a.torrent")).expect("there"), before);
    }

    #[test]
    fn a_tracker_that_could_be_made_to_ask_others_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        for url in [
            "http://t.example/announce?info_hash=x",
            "http://t.example/announce?%69nfo_hash=x",
            "wss://t.example",
            "ftp://t.example/announce",
            "udp://t.example",
            "t.example:80",
        ] {
            let failure = run(args(dir.path(), &["--tracker", url])).expect_err(url);
            assert_eq!(failure.code, super::super::exit::Code::Usage, "{url}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn the_list_of_public_trackers_can_be_replaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let list = dir.path().join("list");
        std::fs::write(&list, "# mine\nudp://a.example:1\n\nhttp://b.example/announce # fast\n")
            .expect("written");
        let list = list.to_str().expect("UTF-8");
        let args = args(dir.path(), &["--public-trackers", "--tracker-list", list]);
        let found = trackers(&args).expect("valid");
        assert_eq!(found, ["udp://a.example:1", "http://b.example/announce"]);
        for url in PUBLIC_TRACKERS {
            TrackerUrl::parse(url).expect(url);
        }
    }

    #[test]
    fn names_make_file_names_without_trouble() {
        let table = [
            ("My show", "My show.torrent"),
            ("a:b*c?\"<>|'", "a_b_c______.torrent"),
            (".hidden", "_.hidden.torrent"),
            ("--out", "_--out.torrent"),
            ("Café", "Café.torrent"),
        ];
        for (name, path) in table {
            assert_eq!(default_path(name), Path::new(path));
        }
        assert!(default_path(&"é".repeat(127)).as_os_str().len() < 220);
    }
}
