#!/usr/bin/env python3
"""Writes the vectors of specs/tracker.md. Own encoders, so that they check the program's."""
import json
import os
import socket
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
HASH = bytes(range(0xA0, 0xB4))
PEER = b"-BL0100-abcdefghijkl"


def ben(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(ben, value)) + b"e"
    items = sorted((k.encode() if isinstance(k, str) else k, v) for k, v in value.items())
    return b"d" + b"".join(ben(k) + ben(v) for k, v in items) + b"e"


def v4(ip, port):
    return socket.inet_aton(ip) + struct.pack(">H", port)


def v6(ip, port):
    return socket.inet_pton(socket.AF_INET6, ip) + struct.pack(">H", port)


def write(name, rows):
    with open(os.path.join(HERE, name), "w", encoding="ascii") as out:
        out.write("[\n" + ",\n".join("  " + json.dumps(row) for row in rows) + "\n]\n")


def reply(name, raw, peers=(), **fields):
    return {"name": name, "hex": raw.hex(), "reply": dict(fields, peers=list(peers))}


def refused(name, raw, reason, retry):
    return {"name": name, "hex": raw.hex(), "refused": {"reason": reason, "retry": retry}}


def invalid(name, raw):
    return {"name": name, "hex": raw.hex(), "invalid": True}


LIST = [
    {"ip": "127.0.0.1", "port": 6881, "peer id": PEER},
    {"ip": "::1", "port": 6882},
    {"ip": "tracker.example", "port": 6883},
    {"ip": "127.0.0.1", "port": 65536},
]
FOUR, SIX = v4("127.0.0.1", 6881), v6("::1", 6882)
write("http.json", [
    reply("compact", ben({"interval": 1800, "peers": FOUR}), ["127.0.0.1:6881"], interval=1800),
    reply("both-families", ben({"interval": 1800, "peers": FOUR, "peers6": SIX}),
          ["127.0.0.1:6881", "[::1]:6882"], interval=1800),
    reply("dictionaries", ben({"interval": 10, "peers": LIST}),
          ["127.0.0.1:6881", "[::1]:6882"], interval=10),
    reply("all-fields", ben({
        "interval": 900, "min interval": 450, "complete": 3, "incomplete": 4, "downloaded": 5,
        "external ip": socket.inet_aton("9.9.9.9"), "tracker id": "t1", "peers": b"",
        "warning message": "soon"}),
        interval=900, min_interval=450, seeders=3, leechers=4, external_ip="9.9.9.9",
        tracker_id="7431", warning="soon"),
    reply("external-ip-v6", ben({"interval": 1, "external ip": SIX[:16]}), interval=1,
          external_ip="::1"),
    reply("remainder-cut", ben({"peers": FOUR + b"xyz"}), ["127.0.0.1:6881"]),
    reply("unsorted-keys", b"d5:peers0:8:intervali60ee", interval=60),
    reply("empty-peers6", ben({"interval": 60, "peers": FOUR, "peers6": b""}),
          ["127.0.0.1:6881"], interval=60),
    reply("interval-beyond-32-bits", ben({"interval": 1 << 40}), interval=0xFFFFFFFF),
    reply("negative-interval", ben({"interval": -5, "peers": b""})),
    refused("failure", ben({"failure reason": "no"}), "no", None),
    refused("retry-in-minutes", ben({"failure reason": "no", "retry in": 5}), "no", 5),
    refused("retry-in-text", ben({"failure reason": "no", "retry in": "5"}), "no", 5),
    refused("retry-never", ben({"failure reason": "no", "retry in": "never"}), "no", "never"),
    invalid("empty", b""),
    invalid("html", b"<html></html>"),
    invalid("no-key-of-a-reply", b"de"),
    invalid("trailing", ben({"interval": 1}) + b"x"),
    invalid("depth-bomb", b"d5:peers" + b"l" * 64),
])

ROW = {"complete": 2, "downloaded": 3, "incomplete": 4}
write("scrape.json", [
    {"name": "plain", "hex": ben({"files": {HASH: ROW}}).hex(), "hash": HASH.hex(),
     "swarm": [2, 3, 4]},
    {"name": "hash-as-text", "hex": ben({"files": {HASH.decode("latin1").encode(): ROW}}).hex(),
     "hash": HASH.hex(), "swarm": [2, 3, 4]},
])


def announce(url_data=b""):
    raw = struct.pack(">QII", 0x0102030405060708, 1, 9) + HASH + PEER
    raw += struct.pack(">QQQIIIiH", 1, 2, 3, 2, 0, 7, -1, 6881)
    return raw + url_data


URL = b"/announce?k=" + b"x" * 300
CHUNKS = b"\x02\xff" + URL[:255] + bytes([2, len(URL) - 255]) + URL[255:]
HEAD = struct.pack(">IIIII", 1, 9, 1800, 4, 3)
write("udp.json", [
    {"name": "connect", "request": struct.pack(">QII", 0x41727101980, 0, 9).hex()},
    {"name": "announce", "request": announce().hex(), "url_data": ""},
    {"name": "announce-with-url", "request": announce(b"\x02\x09/announce").hex(),
     "url_data": "/announce"},
    {"name": "announce-with-long-url", "request": announce(CHUNKS).hex(),
     "url_data": URL.decode()},
    {"name": "scrape", "request": (struct.pack(">QII", 5, 2, 9) + HASH + HASH).hex()},
    {"name": "connected", "v4": struct.pack(">IIQ", 0, 9, 5).hex(), "kind": "connect"},
    {"name": "peers-v4", "v4": (HEAD + FOUR).hex(), "kind": "announce",
     "peers": ["127.0.0.1:6881"]},
    {"name": "peers-v6", "v6": (HEAD + SIX).hex(), "kind": "announce", "peers": ["[::1]:6882"]},
    {"name": "v4-peers-over-v6", "v6": (HEAD + FOUR + FOUR).hex(), "kind": "announce",
     "peers": []},
    {"name": "unlisted", "v4": struct.pack(">II", 1, 9).hex(), "kind": "unlisted"},
    {"name": "scraped", "v4": struct.pack(">IIIII", 2, 9, 2, 3, 4).hex(), "kind": "scrape"},
    {"name": "error", "v4": (struct.pack(">II", 3, 9) + b"no").hex(), "kind": "error"},
    {"name": "error-without-words", "v4": struct.pack(">II", 3, 9).hex(), "kind": "error"},
    {"name": "short-announce", "v4": HEAD[:19].hex(), "kind": None},
    {"name": "short-head", "v4": HEAD[:7].hex(), "kind": None},
    {"name": "unknown-action", "v4": struct.pack(">II", 4, 9).hex(), "kind": None},
])
