//! What `btlive create` tells: what was made, and commands that work as they are printed.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{BITRATE_ASSUMED, Made, full_piece_ms};
use crate::app::exit::one_line;
use crate::discovery::address::{AddressFault, Policy, Purpose, judge};
use crate::wire::metainfo::LiveTorrent;
use crate::wire::tracker::url::TrackerUrl;

/// Says what a private stream cannot do.
pub(super) fn say_what_private_means(torrent: &LiveTorrent) {
    eprintln!(
        "btlive: private: viewers need the .torrent file (a magnet link will not do), and --peer, \
         relays by address and channels are off; only its trackers introduce peers"
    );
    if torrent.tiers.is_empty() {
        eprintln!(
            "btlive: no tracker is named: nobody finds this stream; run it again with --tracker"
        );
    }
}

/// Tells what was made and what to do next.
pub(super) fn explain(
    out: &mut dyn Write,
    made: &Made<'_>,
    torrent: &LiveTorrent,
    key_is_new: bool,
) -> std::io::Result<()> {
    let ms = full_piece_ms(torrent.piece_length, torrent.bitrate.unwrap_or(BITRATE_ASSUMED));
    let kib = torrent.piece_length / 1024;
    let note = if key_is_new { "new: keep it secret, keep a copy" } else { "as it was" };
    writeln!(out, "live torrent  {}", made.torrent.display())?;
    writeln!(out, "key file      {} ({note})", made.key.display())?;
    writeln!(out, "name          {}", one_line(&torrent.name, 255))?;
    writeln!(out, "info-hash     {}", made.info_hash)?;
    writeln!(out, "public key    {}", made.public_key)?;
    writeln!(out, "pieces        {kib} KiB, full after {ms} ms")?;
    writeln!(out, "window        {} s", torrent.window_s)?;
    for url in torrent.tiers.iter().flatten() {
        writeln!(out, "tracker       {}", one_line(url, 200))?;
    }
    if let Some(magnet) = &made.magnet {
        writeln!(out, "magnet        {magnet}")?;
    }
    next_steps(out, made, torrent)
}

/// The commands that publish and play the stream.
fn next_steps(out: &mut dyn Write, made: &Made<'_>, torrent: &LiveTorrent) -> std::io::Result<()> {
    let (file, key) = (made.torrent.to_string_lossy(), made.key.to_string_lossy());
    let play = shell_word(made.magnet.as_deref().unwrap_or(&file));
    let (file, key) = (shell_word(&file), shell_word(&key));
    let urls: Vec<&String> = torrent.tiers.iter().flatten().collect();
    // A tracker in the own network is not asked without permission, nor are peers that it names.
    let local = if urls.iter().any(|url| is_local(url)) { " --allow-local" } else { "" };
    // Without a tracker nobody finds the broadcaster but by its address.
    let (listen, peer) = match urls.is_empty() && !torrent.private {
        true => (" --listen '[::]:6881'", " --peer ADDRESS:6881"),
        false => ("", ""),
    };
    writeln!(out)?;
    writeln!(out, "Publish:  ffmpeg -re -i INPUT -c copy -f mpegts - \\")?;
    writeln!(out, "            | btlive broadcast {file} --key {key}{listen}{local}")?;
    writeln!(out, "Watch:    btlive play {play} --player mpv{peer}{local}")?;
    if !peer.is_empty() {
        writeln!(out, "          (no tracker: ADDRESS is the broadcaster's)")?;
    }
    Ok(())
}

/// Whether a tracker is asked only with `--allow-local`. Names are not looked up: what only a home
/// network knows has no dot or ends in what is kept for such networks (RFC 6762, RFC 8375).
fn is_local(url: &str) -> bool {
    let Ok(url) = TrackerUrl::parse(url) else { return false };
    let host = url.host();
    if let Ok(ip) = host.parse::<IpAddr>() {
        let judged = judge(SocketAddr::new(ip, 1), Purpose::Tracker, &Policy::default());
        return matches!(judged, Err(AddressFault::Local(_)));
    }
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.')
        || [".localhost", ".local", ".lan", ".home", ".home.arpa", ".internal"]
            .iter()
            .any(|end| name.ends_with(end))
}

/// `word` as a POSIX shell reads it back.
fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trackers_of_the_own_network_are_known_by_their_host() {
        let table = [
            ("http://127.0.0.1:6969/announce", true),
            ("udp://192.168.1.5:6969", true),
            ("http://[::1]:6969/announce", true),
            ("http://localhost:6969/announce", true),
            ("http://tracker:6969/announce", true),
            ("http://Tracker.LAN/announce", true),
            ("udp://tracker.example.org:6969", false),
            ("http://8.8.8.8/announce", false),
        ];
        for (url, local) in table {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn words_are_quoted_for_the_shell_only_where_it_needs_it() {
        let table =
            [("my.torrent", "my.torrent"), ("x y", "'x y'"), ("it's", "'it'\\''s'"), ("", "''")];
        for (word, quoted) in table {
            assert_eq!(shell_word(word), quoted);
        }
    }
}
