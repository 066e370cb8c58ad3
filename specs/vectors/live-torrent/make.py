#!/usr/bin/env python3
"""Makes the test vectors of this folder, with an encoder of its own.

    python3 make.py        writes them beside this file

The tests read the results; they do not run this script.
"""
import hashlib
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))

# RFC 8032, section 7.1, tests 1 and 2.
SEED = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
PUBLIC = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
SEED_2 = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
PUBLIC_2 = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
KEY = bytes.fromhex(PUBLIC)


class Raw(bytes):
    """Bytes that are bencode already."""


class Pairs(list):
    """A dictionary in the order given."""


def be(x):
    if isinstance(x, Raw):
        return bytes(x)
    if isinstance(x, int):
        return b"i%de" % x
    if isinstance(x, str):
        x = x.encode()
    if isinstance(x, bytes):
        return b"%d:" % len(x) + x
    if isinstance(x, Pairs):
        return b"d" + b"".join(be(k) + be(v) for k, v in x) + b"e"
    if isinstance(x, list):
        return b"l" + b"".join(map(be, x)) + b"e"
    x = {k.encode() if isinstance(k, str) else k: v for k, v in x.items()}
    return b"d" + b"".join(be(k) + be(x[k]) for k in sorted(x)) + b"e"


def write(name, data):
    path = os.path.join(HERE, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def write_json(name, value):
    write(name, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


# Live torrents ---------------------------------------------------------------------------------


def live(info=None, drop=(), **more):
    """The info of a live torrent; `more` changes its live part, `info` the rest."""
    part = {"version": 1, "public key": KEY, "window": 60, "media": "video/mp2t"}
    part.update({k.replace("_", " "): v for k, v in more.items()})
    out = {"name": "Test", "piece length": 65536, "live": part}
    out.update(info or {})
    for key in drop:
        part.pop(key, None)
        out.pop(key, None)
    return out


def live_vector(file, info, outside, expected):
    write(file, be({"info": info, **outside}))
    digest = hashlib.sha1(be(info)).hexdigest()
    fields = {
        "file": file,
        "kind": "live",
        "info": be(info).hex(),
        "info_hash": digest,
        "public_key": PUBLIC,
        "name": info["name"],
        "piece_length": info["piece length"],
        "window_s": info["live"]["window"],
        "media": info["live"]["media"],
        "bitrate": info["live"].get("bitrate"),
        "private": info.get("private") == 1,
        "extended": False,
        "trackers": [],
        "web_seeds": [],
    }
    fields.update(expected)
    return fields


def live_vectors():
    trackers = [["http://tracker.example/announce"], ["udp://tracker.example:6969/announce"]]
    origin = "https://origin.example/live.ts"
    yield live_vector("minimal.torrent", live(), {}, {})
    full = live({"name": "Café – Kanal 1"}, bitrate=4000000, window=3600)
    outside = {
        "announce": trackers[0][0],
        "announce-list": trackers,
        "url-list": origin,
        "created by": "make.py",
    }
    said = {"trackers": trackers, "web_seeds": [origin]}
    yield live_vector("full.torrent", full, outside, said)
    outside = {"announce": trackers[0][0]}
    said = {"trackers": trackers[:1]}
    yield live_vector("private.torrent", live({"private": 1}), outside, said)
    small = live({"piece length": 16384}, window=1, media="audio/aac", bitrate=1)
    yield live_vector("small.torrent", small, {}, {})
    extended = live({"x-later": "kept"}, later=[1, {"a": ""}])
    yield live_vector("extended.torrent", extended, {}, {"extended": True})


# Ordinary torrents -----------------------------------------------------------------------------

BLOCK = 16384


def content(n, seed):
    out = b""
    while len(out) < n:
        out += hashlib.sha256(b"%d %d" % (seed, len(out))).digest()
    return out[:n]


def pieces(data, length):
    return b"".join(
        hashlib.sha1(data[i : i + length]).digest() for i in range(0, len(data), length)
    )


def join(a, b):
    return hashlib.sha256(a + b).digest()


def root(hashes, pad):
    while len(hashes) > 1:
        if len(hashes) % 2:
            hashes = hashes + [pad]
        hashes = [join(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
        pad = join(pad, pad)
    return hashes[0]


def tree(data, length):
    """(pieces root, piece layer) of BEP 52; the layer is empty if one piece holds the file."""
    zero = bytes(32)
    leaves = [hashlib.sha256(data[i : i + BLOCK]).digest() for i in range(0, len(data), BLOCK)]
    if len(data) <= length:
        return root(leaves, zero), b""
    per_piece = length // BLOCK
    layer, pad = [], zero
    for i in range(0, len(leaves), per_piece):
        group = leaves[i : i + per_piece]
        layer.append(root(group + [zero] * (per_piece - len(group)), zero))
    for _ in range(per_piece.bit_length() - 1):
        pad = join(pad, pad)
    return root(layer, pad), b"".join(layer)


A, B, C = content(100000, 1), content(20000, 2), content(70000, 3)


def v1_single():
    data = A
    length = 32768
    return {
        "name": "a.bin",
        "piece length": length,
        "length": len(data),
        "pieces": pieces(data, length),
    }


def v1_multi(files=None):
    files = files or [["a.bin"], ["sub", "b.bin"], ["sub", "c.bin"]]
    entries = [{"length": len(d), "path": p} for d, p in zip((A, B, C), files)]
    return {
        "name": "folder",
        "piece length": 32768,
        "files": entries,
        "pieces": pieces(A + B + C, 32768),
    }


def v2(length=32768):
    (ra, la), (rb, _), (rc, lc) = (tree(d, length) for d in (A, B, C))
    leaf = lambda data, r: {"": {"length": len(data), "pieces root": r}}
    files = {
        "a.bin": leaf(A, ra),
        "sub": {"b.bin": leaf(B, rb), "c.bin": leaf(C, rc), "empty": {"": {"length": 0}}},
    }
    info = {"name": "folder", "piece length": length, "meta version": 2, "file tree": files}
    return info, {ra: la, rc: lc}


def padding(n, length):
    return -n % length


def hybrid():
    info, layers = v2()
    length = info["piece length"]
    entries, data = [], b""
    for path, part in ((["a.bin"], A), (["sub", "b.bin"], B), (["sub", "c.bin"], C)):
        entries.append({"length": len(part), "path": path})
        pad = padding(len(part), length)
        data += part + bytes(pad)
        entries.append({"attr": "p", "length": pad, "path": [".pad", str(pad)]})
    entries.append({"length": 0, "path": ["sub", "empty"]})
    return {**info, "files": entries, "pieces": pieces(data, length)}, layers


def ordinary_vector(file, kind, info, outside, expected):
    write(file, be({"info": info, **outside}))
    raw = be(info)
    said = {
        "file": file,
        "kind": kind,
        "info_hash": None if kind == "v2" else hashlib.sha1(raw).hexdigest(),
        "info_hash_v2": None if kind == "v1" else hashlib.sha256(raw).hexdigest(),
        "name": info["name"],
        "piece_length": info["piece length"],
        "private": info.get("private") == 1,
    }
    said.update(expected)
    return said


def ordinary_vectors():
    three = [["a.bin", 100000], ["sub/b.bin", 20000], ["sub/c.bin", 70000]]
    four = three + [["sub/empty", 0]]
    info = {**v1_single(), "private": 1}
    said = {"pieces": 4, "files": [["a.bin", 100000]]}
    yield ordinary_vector("ordinary/v1-single.torrent", "v1", info, {"announce": "http://t/"}, said)
    said = {"pieces": 6, "files": three}
    yield ordinary_vector("ordinary/v1-multi.torrent", "v1", v1_multi(), {}, said)
    info, layers = v2()
    said = {"pieces": 4 + 1 + 3, "files": four}
    yield ordinary_vector("ordinary/v2.torrent", "v2", info, {"piece layers": layers}, said)
    info, layers = v2(131072)
    said = {"pieces": 3, "files": four}
    yield ordinary_vector("ordinary/v2-one-piece.torrent", "v2", info, {"piece layers": {}}, said)
    info, layers = hybrid()
    said = {"pieces": 8, "files": four}
    yield ordinary_vector("ordinary/hybrid.torrent", "hybrid", info, {"piece layers": layers}, said)


# What must be refused --------------------------------------------------------------------------


def malformed():
    def torrent(info, **outside):
        return be({"info": info, **{k.replace("_", " "): v for k, v in outside.items()}})

    def changed(info, **more):
        return {**info, **{k.replace("_", " "): v for k, v in more.items()}}

    one = bytes([1]) + bytes(31)
    not_canonical = bytes([0xEE]) + b"\xff" * 30 + b"\x7f"
    yield "empty", b"", "truncated"
    yield "text", b"<html>not a torrent</html>", "unexpected"
    yield "cut", torrent(live())[:-2], "truncated"
    yield "depth-bomb", b"l" * 7000, "too_deep"
    yield "depth-bomb-in-info", b"d4:info" + b"d1:a" * 2000, "too_deep"
    yield "length-past-end", b"d4:infod4:name99999999:x", "string_past_end"
    yield "length-overflow", b"d4:infod4:name18446744073709551615:xee", "string_past_end"
    yield "integer-overflow", b"d4:infod6:lengthi99999999999999999999eee", "integer_range"
    yield "leading-zero", b"d4:infod6:lengthi007eee", "bad_integer"
    yield "no-info", be({"announce": "http://t/"}), "missing"
    yield "info-is-list", be({"info": []}), "not_dict"
    yield "list", be([1, 2]), "not_dict"
    double = Pairs([("info", live()), ("info", live({"name": "Other"}))])
    yield "two-infos", be(double), "duplicate_key"
    apart = Pairs([("info", live()), ("a", 1), ("info", live())])
    yield "two-infos-apart", be(apart), "duplicate_key"
    unsorted = Pairs(reversed(sorted(live().items())))
    yield "live-unsorted", be({"info": unsorted}), "key_order"

    yield "live-version-2", torrent(live(version=2, public_key="?")), "newer_live"
    yield "live-version-0", torrent(live(version=0)), "range"
    yield "live-version-text", torrent(live(version="1")), "form"
    yield "live-no-version", torrent(live(drop=["version"])), "missing"
    yield "live-not-dict", torrent(live({"live": 1})), "form"
    yield "live-no-key", torrent(live(drop=["public key"])), "missing"
    yield "live-short-key", torrent(live(public_key=KEY[:31])), "form"
    yield "live-zero-key", torrent(live(public_key=bytes(32))), "public_key"
    yield "live-small-order-key", torrent(live(public_key=one)), "public_key"
    yield "live-key-not-canonical", torrent(live(public_key=not_canonical)), "public_key"
    yield "live-key-no-point", torrent(live(public_key=bytes([2]) + bytes(31))), "public_key"
    yield "live-no-window", torrent(live(drop=["window"])), "missing"
    yield "live-window-0", torrent(live(window=0)), "range"
    yield "live-window-3601", torrent(live(window=3601)), "range"
    yield "live-no-media", torrent(live(drop=["media"])), "missing"
    yield "live-media-text", torrent(live(media="MPEG transport stream")), "form"
    yield "live-bitrate-0", torrent(live(bitrate=0)), "range"
    yield "live-bitrate-huge", torrent(live(bitrate=10**12 + 1)), "range"
    yield "live-no-name", torrent(live(drop=["name"])), "missing"
    yield "live-empty-name", torrent(live({"name": ""})), "form"
    yield "live-long-name", torrent(live({"name": "x" * 256})), "form"
    yield "live-name-not-utf8", torrent(live({"name": b"\xff"})), "form"
    yield "live-name-escapes", torrent(live({"name": "../x"})), "form"
    yield "live-name-control", torrent(live({"name": "a\nb"})), "form"
    yield "live-private-0", torrent(live({"private": 0})), "range"
    yield "live-no-piece-length", torrent(live(drop=["piece length"])), "missing"
    yield "live-piece-too-short", torrent(live({"piece length": 8192})), "range"
    yield "live-piece-too-long", torrent(live({"piece length": 2 << 20})), "range"
    yield "live-piece-odd", torrent(live({"piece length": 48 << 10})), "piece_length"
    for key, value in (("pieces", ""), ("length", 0), ("files", []), ("file tree", {})):
        name = "live-and-" + key.replace(" ", "-")
        yield name, torrent(live({key: value})), "live_and_ordinary"
    yield "live-and-meta-version", torrent(live({"meta version": 2})), "live_and_ordinary"
    yield "live-too-long", torrent(live({"x": "y" * 16384})), "live_too_long"

    single, multi = v1_single(), v1_multi()
    yield "v1-pieces-short", torrent(changed(single, pieces=single["pieces"][:-20])), "pieces_len"
    yield "v1-pieces-odd", torrent(changed(single, pieces=single["pieces"][:-1])), "pieces_len"
    yield "v1-pieces-list", torrent(changed(single, pieces=[])), "form"
    yield "v1-no-pieces", torrent({k: v for k, v in single.items() if k != "pieces"}), "missing"
    yield "v1-no-files", torrent(changed(multi, files=[], pieces="")), "no_files"
    nothing = {"name": "x", "piece length": 16384, "pieces": ""}
    yield "v1-nothing", torrent(nothing), "no_files"
    yield "v1-length-and-files", torrent({**multi, "length": 1}), "length_and_files"
    yield "v1-negative-length", torrent(changed(single, length=-1)), "range"
    yield "v1-absurd-length", torrent(changed(single, length=2**63 - 1)), "range"
    yield "v1-piece-length-0", torrent(changed(single, piece_length=0)), "range"
    yield "v1-piece-length-negative", torrent(changed(single, piece_length=-32768)), "range"
    yield "v1-piece-length-absurd", torrent(changed(single, piece_length=2**40)), "range"
    huge = [{"length": 1 << 50, "path": [n]} for n in "abc"]
    yield "v1-absurd-total", torrent(changed(multi, files=huge)), "total_size"
    for name, path in (
        ("dotdot", ["..", "x"]),
        ("inner-dotdot", ["a", "..", "..", "x"]),
        ("dot", ["."]),
        ("absolute", ["/etc/passwd"]),
        ("drive", ["C:", "x"]),
        ("backslash", ["..\\x"]),
        ("nul", ["a\0b"]),
        ("empty-element", ["a", ""]),
        ("empty", []),
        ("long", ["x" * 255] * 20),
    ):
        yield "v1-path-" + name, torrent(v1_multi([path, ["b"], ["c"]])), "path"
    for name in ("..", "", "a/b", "C:", "a\0b"):
        label = "v1-name-" + (name.replace("/", "slash").replace("\0", "nul") or "empty")
        yield label.replace(":", "-drive"), torrent(changed(single, name=name)), "path"
    yield "v1-path-text", torrent(v1_multi(["a", ["b"], ["c"]])), "form"
    yield "v1-duplicate", torrent(v1_multi([["a"], ["b"], ["a"]])), "duplicate_path"
    yield "v1-file-is-folder", torrent(v1_multi([["a", "b"], ["c"], ["a"]])), "path_overlap"

    info, layers = v2()
    first, last = sorted(layers)
    flipped = bytes([layers[first][0] ^ 1]) + layers[first][1:]
    yield "v2-no-layers", torrent(info), "layer_missing"
    yield "v2-layer-missing", torrent(info, piece_layers={first: layers[first]}), "layer_missing"
    short = {**layers, first: layers[first][:-32]}
    yield "v2-layer-short", torrent(info, piece_layers=short), "layer_len"
    yield "v2-layer-odd", torrent(info, piece_layers={**layers, first: flipped[:-1]}), "layer_len"
    yield "v2-layer-wrong", torrent(info, piece_layers={**layers, first: flipped}), "layer_root"
    yield "v2-layers-list", torrent(info, piece_layers=[]), "form"
    yield "v2-layers-short-root", torrent(info, piece_layers={b"x": ""}), "form"
    yield "v2-version-3", torrent(changed(info, meta_version=3), piece_layers=layers), "newer_meta"
    without = {k: v for k, v in info.items() if k != "meta version"}
    yield "v2-no-version", torrent(without, piece_layers=layers), "missing"
    no_tree = {k: v for k, v in info.items() if k != "file tree"}
    yield "v2-no-tree", torrent(no_tree), "missing"
    yield "v2-empty-tree", torrent(changed(info, file_tree={})), "no_files"
    yield "v2-root-is-file", torrent(changed(info, file_tree={"": {"length": 0}})), "path"
    leaf = {"": {"length": 0}}
    beside = {"a": {"": {"length": 0}, "b": leaf}}
    yield "v2-file-is-folder", torrent(changed(info, file_tree=beside)), "path"
    yield "v2-path-dotdot", torrent(changed(info, file_tree={"..": leaf})), "path"
    yield "v2-path-slash", torrent(changed(info, file_tree={"a/b": leaf})), "path"
    rootless = {"a": {"": {"length": 1}}}
    yield "v2-no-root", torrent(changed(info, file_tree=rootless)), "missing"
    short_root = {"a": {"": {"length": 1, "pieces root": b"x" * 31}}}
    yield "v2-short-root", torrent(changed(info, file_tree=short_root)), "form"
    yield "v2-piece-length", torrent(changed(info, piece_length=49152)), "piece_length"
    yield "v2-piece-too-short", torrent(changed(info, piece_length=8192)), "range"
    tree_of = Pairs([("b", leaf), ("a", leaf)])
    yield "v2-unsorted", torrent(changed(info, file_tree=tree_of)), "key_order"
    deep = leaf
    for _ in range(70):
        deep = {"d": deep}
    yield "v2-deep", torrent(changed(info, file_tree=deep)), "too_deep"

    both, layers = hybrid()

    def with_files(change):
        files = [dict(f) for f in both["files"]]
        change(files)
        total = sum(f["length"] for f in files)
        count = -(-total // both["piece length"])
        return {**both, "files": files, "pieces": b"\1" * 20 * count}

    def rename(files):
        files[0]["path"] = ["other.bin"]

    def resize(files):
        files[0]["length"] -= 1
        files[1]["length"] += 1

    def unpad(files):
        del files[1]

    def swap(files):
        files[0], files[4] = files[4], files[0]

    def add(files):
        files.append({"length": 0, "path": ["extra"]})

    for name, change in (
        ("renamed", rename),
        ("resized", resize),
        ("unpadded", unpad),
        ("swapped", swap),
        ("extra", add),
    ):
        yield "hybrid-" + name, torrent(with_files(change), piece_layers=layers), "hybrid"


# Magnet links ----------------------------------------------------------------------------------


def magnets():
    h1 = "0123456789abcdef0123456789abcdef01234567"
    base32 = "AERUKZ4JVPG66AJDIVTYTK6N54ASGRLH"
    h2 = "caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e"
    key = "8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e"
    xt = "xt=urn:btih:" + h1
    v1 = {"info_hash": h1}
    yield "magnet:?" + xt, v1
    yield "magnet:?xt=urn:btih:" + h1.upper(), v1
    yield "MAGNET:?XT=URN:BTIH:" + base32.lower(), v1
    yield "magnet:?xt=urn:btih:" + base32, v1
    yield "magnet:?xt.1=urn:btih:" + h1, v1
    yield "magnet:?xt=urn:btmh:1220" + h2, {"info_hash_v2": h2}
    yield "magnet:?" + xt + "&xt=urn:btmh:1220" + h2, {"info_hash": h1, "info_hash_v2": h2}
    yield "magnet:?xs=urn:btpk:" + key, {"channel": key, "salt": ""}
    yield "magnet:?xs=urn:btpk:" + key + "&s=6e", {"channel": key, "salt": "6e"}
    yield "magnet:?s=6e&xs=urn:btpk:" + key, {"channel": key, "salt": "6e"}
    yield "magnet:?" + xt + "&s=not-a-salt", v1
    yield "magnet:?" + xt + "&dn=Caf%C3%A9+1%20%2B%26", {**v1, "name": "Café 1 +&"}
    yield "magnet:?" + xt + "&dn=100%", {**v1, "name": "100%"}
    yield "magnet:?dn=x&unknown=%FF&" + xt, {**v1, "name": "x"}
    tr = ["http://a.example/announce?p=1+2", "udp://b.example:80"]
    link = "&tr=http%3A%2F%2Fa.example%2Fannounce%3Fp%3D1%2B2&amp;tr.2=udp://b.example:80&tr="
    yield "magnet:?" + xt + link + tr[1], {**v1, "trackers": tr}
    yield "magnet:?" + xt + "&tr=nonsense&tr=%FF&tr=a%0Ab://c", v1
    peers = "&x.pe=192.0.2.1:6881&x.pe=%5B2001:db8::1%5D:1&x.pe=Relay.Example:65535"
    said = ["192.0.2.1:6881", "[2001:db8::1]:1", "relay.example:65535"]
    yield "magnet:?" + xt + peers, {**v1, "peers": said}
    bad = "&x.pe=192.0.2.1&x.pe=192.0.2.1:0&x.pe=192.0.2.256:1&x.pe=2001:db8::1:1&x.pe=a:65536"
    yield "magnet:?" + xt + bad, v1
    select = [[0, 0], [2, 2], [4, 4], [6, 8]]
    yield "magnet:?" + xt + "&so=0,2,4,6-8", {**v1, "select": select}
    yield "magnet:?" + xt + "&so=7-8,0,2-2,6,4,7", {**v1, "select": select}
    yield "magnet:?" + xt + "&so=3-1,-,x,4294967296,5", {**v1, "select": [[5, 5]]}
    yield "magnet:?" + xt + "&ws=http://w.example/", {**v1, "web_seeds": ["http://w.example/"]}
    yield "magnet:?xt=urn:ed2k:31D6CFE0D16AE931B73C59D7E0C089C0&" + xt, v1
    yield "", "not_magnet"
    yield "http://example/", "not_magnet"
    yield "magnet:" + xt, "not_magnet"
    yield "magnet:?", "no_topic"
    yield "magnet:?dn=x", "no_topic"
    yield "magnet:?xt=urn:sha1:" + base32, "no_topic"
    yield "magnet:?xt=urn:btih:" + h1[:-1], "bad_hash"
    yield "magnet:?xt=urn:btih:" + "g" * 40, "bad_hash"
    yield "magnet:?xt=urn:btih:" + base32[:-1] + "1", "bad_hash"
    yield "magnet:?xt=urn:btmh:1120" + h2, "bad_hash"
    yield "magnet:?xt=urn:btmh:" + h2, "bad_hash"
    yield "magnet:?xs=urn:btpk:" + key[:-2], "bad_hash"
    yield "magnet:?xs=urn:btpk:" + key + "&s=6", "bad_salt"
    yield "magnet:?xs=urn:btpk:" + key + "&s=" + "00" * 65, "bad_salt"
    yield "magnet:?" + xt + "&xt=urn:btih:" + "0" * 40, "conflict"
    yield "magnet:?" + xt + "&dn=" + "x" * 8192, "too_long"


def magnet_vector(link, said):
    return {"link": link, "error": said} if isinstance(said, str) else {"link": link, **said}


# Key files -------------------------------------------------------------------------------------


def keys():
    first = "btlive key 1\n"
    seed, public = "seed: " + SEED + "\n", "public key: " + PUBLIC + "\n"
    good = {"public_key": PUBLIC}
    yield first + "# a remark\n" + public + seed, good
    yield first + seed, good
    yield first + "\r\n" + seed.upper().replace("SEED", "seed").replace("\n", "\r\n"), good
    yield first + "seed: " + SEED_2 + "\n", {"public_key": PUBLIC_2}
    yield "", {"error": "format"}
    yield seed, {"error": "format"}
    yield "btlive key 2\n" + seed, {"error": "newer"}
    yield first + seed[:-3] + "\n", {"error": "line"}
    yield first + seed + "owner: me\n", {"error": "line"}
    yield first + SEED + "\n", {"error": "line"}
    yield first + public, {"error": "seeds"}
    yield first + seed + seed, {"error": "seeds"}
    yield first + "public key: " + PUBLIC_2 + "\n" + seed, {"error": "mismatch"}


def main():
    write_json("live.json", list(live_vectors()))
    write_json("ordinary.json", list(ordinary_vectors()))
    kinds = {}
    for name, data, kind in malformed():
        file = "malformed/" + name + ".torrent"
        assert file not in kinds, file
        write(file, data)
        kinds[file] = kind
    write_json("malformed.json", kinds)
    write_json("magnets.json", [magnet_vector(link, said) for link, said in magnets()])
    write_json("keys.json", [{"text": text, **said} for text, said in keys()])


main()
