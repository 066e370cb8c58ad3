//! `btlive inspect`: explains a torrent, a magnet link or a key file, or says in one line why it is
//! none.

use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use serde::Serialize;

use super::exit::Failure;
use super::{file, keyfile};
use crate::units::hex;
use crate::wire::limits;
use crate::wire::magnet::Magnet;
use crate::wire::metainfo::{Attr, Content, File, Kind, Metainfo, is_usable_key};
use crate::wire::text::one_line;
use crate::wire::tracker::url::TrackerUrl;

/// Files shown without `-v`.
const FILES_SHOWN: usize = 20;
/// Characters of one text shown.
const TEXT_SHOWN: usize = 200;

/// What the help says beyond the options.
const HELP: &str = "\
Of a key file only the public key is shown. Anything malformed ends with code 2 and one line that \
says what is wrong.";

/// Arguments of `btlive inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// A file (- is standard input) or a magnet link.
    #[arg(value_name = "FILE|MAGNET")]
    pub what: PathBuf,
    /// Fail (code 2) on what is otherwise a warning: keys out of order, bytes behind the torrent,
    /// malformed optional parts, trackers that cannot be asked.
    #[arg(long)]
    pub strict: bool,
    /// Print one line of JSON instead of text.
    #[arg(long, env = "BTLIVE_JSON")]
    pub json: bool,
    /// Show all files.
    #[arg(short, long)]
    pub verbose: bool,
}

/// Runs the command.
///
/// # Errors
/// Code 2 if it is malformed or, with `--strict`, doubtful; code 5 if it cannot be read.
pub fn run(args: Args) -> Result<(), Failure> {
    if let Some(link) = args.what.to_str().filter(|text| is_magnet(text)) {
        return inspect_magnet(link, &args);
    }
    let bytes = file::read_bounded(&args.what, limits::TORRENT_LEN_MAX)?;
    if keyfile::looks_like_one(&bytes) {
        return inspect_key(&bytes, &args);
    }
    let text = bytes.get(..7).and_then(|head| std::str::from_utf8(head).ok());
    if text.is_some_and(is_magnet) && bytes.len() <= limits::MAGNET_LEN_MAX * 2 {
        return inspect_magnet(&String::from_utf8_lossy(&bytes), &args);
    }
    inspect_torrent(bytes.into(), &args)
}

fn is_magnet(text: &str) -> bool {
    text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("magnet:"))
}

/// Names the input in front of what is wrong with it.
fn refused(args: &Args, fault: impl std::fmt::Display) -> Failure {
    let what = one_line(&args.what.to_string_lossy(), 80);
    Failure::usage(format_args!("{what}: {fault}"))
}

/// Tells warnings on stderr; with `--strict` the first one is the end.
fn tell_warnings(warnings: &[String], args: &Args) -> Result<(), Failure> {
    if args.strict
        && let Some(first) = warnings.first()
    {
        return Err(refused(args, first));
    }
    if !args.json {
        for warning in warnings {
            eprintln!("btlive: warning: {}", one_line(warning, 500));
        }
    }
    Ok(())
}

/// Writes `document` as JSON, or what `text` writes.
fn show(
    args: &Args,
    document: &impl Serialize,
    text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), Failure> {
    file::to_stdout(|out| {
        if args.json {
            serde_json::to_writer(&mut *out, document)?;
            writeln!(out)
        } else {
            text(out)
        }
    })
}

/// One line of text, its name in front.
fn line(out: &mut dyn Write, name: &str, value: impl std::fmt::Display) -> io::Result<()> {
    writeln!(out, "{name:<13} {}", one_line(&value.to_string(), TEXT_SHOWN))
}

#[derive(Serialize)]
struct KeyDocument {
    kind: &'static str,
    public_key: String,
}

fn inspect_key(bytes: &[u8], args: &Args) -> Result<(), Failure> {
    let key: SigningKey = keyfile::parse(bytes).map_err(|fault| refused(args, fault))?;
    let public_key = hex(key.verifying_key().as_bytes());
    drop(key);
    let advice: Vec<String> = keyfile::open_to_others(&args.what).into_iter().collect();
    tell_warnings(&advice, args)?;
    let document = KeyDocument { kind: "key", public_key };
    show(args, &document, |out| {
        line(out, "kind", "key file (Ed25519); whoever has it can publish as this stream")?;
        line(out, "public key", &document.public_key)
    })
}

#[derive(Serialize)]
struct MagnetDocument {
    kind: &'static str,
    info_hash: Option<String>,
    info_hash_v2: Option<String>,
    public_key: Option<String>,
    salt: Option<String>,
    name: Option<String>,
    trackers: Vec<String>,
    peers: Vec<String>,
    select: Vec<(u32, u32)>,
    web_seeds: Vec<String>,
    magnet: String,
    warnings: Vec<String>,
}

fn inspect_magnet(link: &str, args: &Args) -> Result<(), Failure> {
    let parsed = Magnet::parse_with_warnings(link);
    // The link is its own name; shown in full it would only hide the reason.
    let (magnet, warnings) = parsed.map_err(Failure::usage)?;
    let mut warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    warnings.extend(tracker_warnings(magnet.trackers.iter()));
    if magnet.channel.as_ref().is_some_and(|c| !is_usable_key(&c.public_key)) {
        return Err(Failure::usage("the channel's public key in the magnet link is no usable key"));
    }
    tell_warnings(&warnings, args)?;
    let document = MagnetDocument {
        kind: "magnet",
        info_hash: magnet.info_hash.map(|h| h.to_string()),
        info_hash_v2: magnet.info_hash_v2.map(|h| h.to_string()),
        public_key: magnet.channel.as_ref().map(|c| hex(&c.public_key)),
        salt: magnet.channel.as_ref().map(|c| hex(&c.salt)),
        peers: magnet.peers.iter().map(ToString::to_string).collect(),
        magnet: magnet.to_string(),
        name: magnet.name,
        trackers: magnet.trackers,
        select: magnet.select,
        web_seeds: magnet.web_seeds,
        warnings,
    };
    show(args, &document, |out| explain_magnet(out, &document))
}

fn explain_magnet(out: &mut dyn Write, document: &MagnetDocument) -> io::Result<()> {
    line(out, "kind", "magnet link")?;
    let single = [
        ("name", &document.name),
        ("info-hash", &document.info_hash),
        ("info-hash v2", &document.info_hash_v2),
        ("channel key", &document.public_key),
        ("channel salt", &document.salt),
    ];
    for (name, value) in single {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            line(out, name, value)?;
        }
    }
    for url in &document.trackers {
        line(out, "tracker", url)?;
    }
    for peer in &document.peers {
        line(out, "peer", peer)?;
    }
    for url in &document.web_seeds {
        line(out, "web seed", url)?;
    }
    for (first, last) in &document.select {
        line(out, "only files", format_args!("{first} to {last}"))?;
    }
    Ok(())
}

/// The fields of a torrent that `--json` prints.
#[derive(Serialize)]
struct TorrentDocument<'a> {
    kind: &'static str,
    name: &'a str,
    /// SHA-1; none for a torrent that is v2 only.
    info_hash: Option<String>,
    info_hash_v2: Option<String>,
    piece_length: u32,
    private: bool,
    #[serde(flatten)]
    live: Option<LiveDocument<'a>>,
    #[serde(flatten)]
    content: Option<ContentDocument<'a>>,
    trackers: &'a [Vec<String>],
    web_seeds: &'a [String],
    http_seeds: &'a [String],
    nodes: &'a [(String, u16)],
    comment: Option<&'a str>,
    created_by: Option<&'a str>,
    creation_date: Option<i64>,
    /// None for a private torrent.
    magnet: Option<String>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct LiveDocument<'a> {
    version: u32,
    public_key: String,
    window_s: u32,
    media: &'a str,
    bitrate: Option<u64>,
}

#[derive(Serialize)]
struct ContentDocument<'a> {
    size: u64,
    pieces: u64,
    file_count: usize,
    files: FileList<'a>,
}

/// Files, made into JSON one by one.
struct FileList<'a>(&'a [File]);

impl Serialize for FileList<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|file| FileDocument {
            path: &file.path,
            length: file.length,
            attr: attr_text(file.attr),
            symlink: file.symlink.as_deref(),
            pieces_root: file.pieces_root.map(|root| hex(&root)),
        }))
    }
}

#[derive(Serialize)]
struct FileDocument<'a> {
    path: &'a str,
    length: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    attr: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pieces_root: Option<String>,
}

/// The letters of BEP 47.
fn attr_text(attr: Attr) -> String {
    let letters =
        [(attr.pad, 'p'), (attr.executable, 'x'), (attr.hidden, 'h'), (attr.symlink, 'l')];
    letters.into_iter().filter(|(on, _)| *on).map(|(_, c)| c).collect()
}

/// Bytes of the files that are written, padding left out.
fn size_of(content: &Content) -> u64 {
    content.files.iter().filter(|f| !f.attr.pad).map(|f| f.length).sum()
}

fn tracker_warnings<'a>(urls: impl Iterator<Item = &'a String>) -> Vec<String> {
    urls.filter_map(|url| TrackerUrl::parse(url).err().map(|e| format!("tracker {url}: {e}")))
        .collect()
}

fn inspect_torrent(bytes: Bytes, args: &Args) -> Result<(), Failure> {
    // A torrent is a dictionary; what begins otherwise was probably the wrong file.
    let is_other = bytes.first() != Some(&b'd');
    let meta = Metainfo::parse(bytes).map_err(|fault| match is_other {
        true => refused(args, format_args!("no torrent, magnet link or key file: {fault}")),
        false => refused(args, fault),
    })?;
    let mut warnings: Vec<String> = meta.all_warnings().map(ToString::to_string).collect();
    warnings.extend(tracker_warnings(meta.tiers.iter().flatten()));
    tell_warnings(&warnings, args)?;
    let info = &meta.info;
    let magnet = Magnet {
        info_hash: (!matches!(info.kind, Kind::V2(_))).then_some(info.info_hash),
        info_hash_v2: info.info_hash_v2,
        name: Some(info.name.clone()),
        trackers: meta.tiers.iter().flatten().take(limits::MAGNET_LIST_MAX).cloned().collect(),
        ..Magnet::default()
    };
    let document = TorrentDocument {
        kind: info.kind.name(),
        name: &info.name,
        info_hash: magnet.info_hash.map(|h| h.to_string()),
        info_hash_v2: info.info_hash_v2.map(|h| h.to_string()),
        piece_length: info.piece_length,
        private: info.private,
        live: info.live().map(|live| LiveDocument {
            version: live.version,
            public_key: hex(&live.public_key),
            window_s: live.window_s,
            media: &live.media,
            bitrate: live.bitrate,
        }),
        content: info.content().map(|content| ContentDocument {
            size: size_of(content),
            pieces: info.piece_count().unwrap_or(0),
            file_count: content.files.iter().filter(|f| !f.attr.pad).count(),
            files: FileList(&content.files),
        }),
        trackers: &meta.tiers,
        web_seeds: &meta.web_seeds,
        http_seeds: &meta.http_seeds,
        nodes: &meta.nodes,
        comment: meta.comment.as_deref(),
        created_by: meta.created_by.as_deref(),
        creation_date: meta.creation_date,
        magnet: (!info.private).then(|| magnet.to_string()),
        warnings: &warnings,
    };
    show(args, &document, |out| explain_torrent(out, &document, args.verbose))
}

fn explain_torrent(
    out: &mut dyn Write,
    document: &TorrentDocument<'_>,
    verbose: bool,
) -> io::Result<()> {
    let kind = match document.kind {
        "live" => "live torrent: its key signs what the stream is while it runs",
        "v1" => "v1 torrent (SHA-1 pieces)",
        "v2" => "v2 torrent (SHA-256 trees)",
        _ => "hybrid torrent (v1 and v2 for the same files)",
    };
    line(out, "kind", kind)?;
    line(out, "name", document.name)?;
    if let Some(hash) = &document.info_hash {
        line(out, "info-hash", hash)?;
    }
    if let Some(hash) = &document.info_hash_v2 {
        line(out, "info-hash v2", hash)?;
    }
    if let Some(live) = &document.live {
        line(out, "public key", &live.public_key)?;
        line(out, "media", live.media)?;
        line(out, "window", format_args!("{} s", live.window_s))?;
        if let Some(bitrate) = live.bitrate {
            line(out, "bitrate", format_args!("{bitrate} bit/s (a hint)"))?;
        }
    }
    line(out, "piece length", format_args!("{} bytes", document.piece_length))?;
    if let Some(content) = &document.content {
        line(out, "pieces", content.pieces)?;
        line(out, "size", format_args!("{} bytes in {} files", content.size, content.file_count))?;
    }
    explain_surroundings(out, document)?;
    if let Some(content) = &document.content {
        explain_files(out, content.files.0, verbose)?;
    }
    Ok(())
}

/// What stands outside `info`.
fn explain_surroundings(out: &mut dyn Write, document: &TorrentDocument<'_>) -> io::Result<()> {
    if document.private {
        line(out, "private", "yes: only its trackers introduce peers (BEP 27)")?;
    }
    for (tier, urls) in document.trackers.iter().enumerate() {
        for url in urls {
            line(out, "tracker", format_args!("{url} (tier {})", tier + 1))?;
        }
    }
    let seeds = if document.live.is_some() { "origin" } else { "web seed" };
    for url in document.web_seeds {
        line(out, seeds, url)?;
    }
    for url in document.http_seeds {
        line(out, "http seed", url)?;
    }
    for (host, port) in document.nodes {
        line(out, "DHT node", format_args!("{host}:{port}"))?;
    }
    if let Some(text) = document.comment {
        line(out, "comment", text)?;
    }
    if let Some(text) = document.created_by {
        line(out, "created by", text)?;
    }
    if let Some(seconds) = document.creation_date {
        line(out, "created", format_args!("{seconds} (Unix seconds)"))?;
    }
    Ok(())
}

fn explain_files(out: &mut dyn Write, files: &[File], verbose: bool) -> io::Result<()> {
    let shown = if verbose { files.len() } else { FILES_SHOWN };
    let real = || files.iter().filter(|f| verbose || !f.attr.pad);
    for file in real().take(shown) {
        let link = file.symlink.as_deref().map(|to| format!(" -> {to}")).unwrap_or_default();
        let attr = match attr_text(file.attr) {
            text if text.is_empty() => text,
            text => format!(" [{text}]"),
        };
        line(out, "file", format_args!("{:>14}  {}{link}{attr}", file.length, file.path))?;
    }
    match real().count().saturating_sub(shown) {
        0 => Ok(()),
        more => line(out, "", format_args!("and {more} more files; -v shows them all")),
    }
}
