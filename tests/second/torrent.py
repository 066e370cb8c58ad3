"""Live torrents and magnet links, from specs/live-torrent.md alone."""

import base64
import hashlib
import urllib.parse

import bencode
import ed25519
import says

INFO_MAX = 16384
FORBIDDEN = (b"pieces", b"length", b"files", b"file tree", b"meta version")


class Refused(Exception):
    """No live torrent that this version can read."""


def need(condition, why):
    if not condition:
        raise Refused(why)


class Live:
    """The parts of a live torrent's `info`."""

    def __init__(self, raw):
        need(len(raw) <= INFO_MAX, "info too long")
        info = bencode.whole_dictionary(raw)
        need(says.bencode(info) == raw, "info is not canonical")
        live = info.get(b"live")
        need(isinstance(live, dict), "no live torrent")
        need(isinstance(live.get(b"version"), int), "version")
        need(live[b"version"] == 1, "needs a newer program")
        need(not any(key in info for key in FORBIDDEN), "live and ordinary at once")
        self.raw, self.info_hash = raw, hashlib.sha1(raw).digest()
        self.key, self.piece_length = live.get(b"public key"), info.get(b"piece length")
        self.window = live.get(b"window")
        need(isinstance(self.key, bytes) and len(self.key) == 32, "public key")
        need(ed25519.point_of_key(self.key) is not None, "public key")
        need(self.piece_length in [16384 << n for n in range(7)], "piece length")
        need(isinstance(self.window, int) and 1 <= self.window <= 3600, "window")
        name, media = info.get(b"name"), live.get(b"media")
        need(isinstance(name, bytes) and 1 <= len(name) <= 255, "name")
        need(isinstance(media, bytes) and len(media) <= 64, "media")
        need(info.get(b"private", 1) == 1, "private")


def of_file(data):
    """The live torrent in a metainfo file: `info` as its bytes came."""
    need(data[:1] == b"d", "no dictionary")
    bencode.whole_dictionary(data)
    at = 1
    while data[at:at + 1] != b"e":
        key, at = bencode.read(data, at)
        start = at
        _, at = bencode.read(data, at)
        if key == b"info":
            return Live(data[start:at])
    raise Refused("no info")


def of_magnet(link):
    """The info-hash of a link; the metadata comes from a peer."""
    url = urllib.parse.urlsplit(link)
    need(url.scheme.lower() == "magnet", "no magnet link")
    topics = set()
    for key, value in urllib.parse.parse_qsl(url.query):
        if key.lower().split(".")[0] == "xt" and value.lower().startswith("urn:btih:"):
            text = value[9:]
            need(len(text) in (32, 40), "info-hash")
            topics.add(bytes.fromhex(text) if len(text) == 40 else base64.b32decode(text.upper()))
    need(len(topics) == 1, "one info-hash is needed")
    return topics.pop()
