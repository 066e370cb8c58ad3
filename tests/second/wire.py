"""Handshakes, frames and messages, from specs/wire.md alone."""

import ipaddress

import bencode
import feed

FRAME_MAX = 135168
NEW = "a form of a later version"


class Refused(Exception):
    """The bytes break a rule."""


class Ignored(Exception):
    """A form of a later version."""


def need(condition, why):
    if not condition:
        raise Refused(why)


class Bytes:
    """Takes a message apart from its front."""

    def __init__(self, data):
        self.rest = data

    def take(self, size):
        need(len(self.rest) >= size, "too short")
        part, self.rest = self.rest[:size], self.rest[size:]
        return part

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def long(self):
        return str(self.number(8))

    def end(self):
        need(not self.rest, "too long")

    def extension_area(self):
        need(len(self.rest) <= 512, "extension area")
        fields = feed.fields_of(self.rest)
        if feed.needs_newer(fields):
            raise Ignored(NEW)
        return fields


def handshake(data):
    need(len(data) == 68 and data[:20] == b"\x13BitTorrent protocol", "handshake")
    return {
        "reserved": data[20:28].hex(),
        "extended": bool(data[25] & 0x10),
        "fast": bool(data[27] & 0x04),
        "dht": bool(data[27] & 0x01),
        "info_hash": data[28:48].hex(),
        "peer_id": data[48:].hex(),
    }


def frames(data):
    found = []
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        need(size <= FRAME_MAX, "frame")
        if len(data) < 4 + size:
            break
        found.append(data[4:4 + size].hex())
        data = data[4 + size:]
    return {"frames": found, "rest": len(data)}


SIMPLE = {0: "choke", 1: "unchoke", 2: "interested", 3: "not interested", 14: "have all",
          15: "have none"}
INDEX = {4: "have", 13: "suggest", 17: "allowed fast"}
RANGE = {6: "request", 8: "cancel", 16: "reject"}


def message(data):
    if not data:
        return {"message": "keep-alive"}
    b = Bytes(data)
    kind = b.number(1)
    if kind in SIMPLE:
        out = {"message": SIMPLE[kind]}
    elif kind in INDEX:
        out = {"message": INDEX[kind], "index": b.number(4)}
    elif kind in RANGE:
        out = {"message": RANGE[kind], "index": b.number(4), "offset": b.number(4),
               "length": b.number(4)}
    elif kind == 5:
        return {"message": "bitfield", "bits": b.rest.hex()}
    elif kind == 7:
        index, offset = b.number(4), b.number(4)
        need(1 <= len(b.rest) <= 16384, "block")
        return {"message": "piece", "index": index, "offset": offset, "payload": b.rest.hex()}
    elif kind == 9:
        out = {"message": "port", "port": b.number(2)}
    elif kind == 20:
        return {"message": "extended", "number": b.number(1), "payload": b.rest.hex()}
    else:
        raise Ignored(NEW)
    b.end()
    return out


def of_type(dictionary, key, kind):
    value = dictionary.get(key)
    return value if isinstance(value, kind) else None


def within(number, low, high):
    return number if number is not None and low <= number <= high else None


def text(data):
    """UTF-8, or nothing."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def extension_handshake(data):
    d = bencode.whole_dictionary(data)
    m = of_type(d, b"m", dict) or {}
    address = of_type(d, b"yourip", bytes) or b""
    version = of_type(d, b"v", bytes)
    return {
        "m": {text(name): n for name, n in list(m.items())[:64]
              if isinstance(n, int) and 1 <= n <= 255 and len(name) <= 64 and text(name)},
        "metadata_size": within(of_type(d, b"metadata_size", int), 1, 4194304),
        "p": within(of_type(d, b"p", int), 1, 65535),
        "reqq": within(of_type(d, b"reqq", int), 0, 2**32 - 1),
        "v": None if version is None else text(version),
        "yourip": str(ipaddress.ip_address(address)) if len(address) in (4, 16) else None,
    }


def ut_metadata(data):
    d, rest = bencode.read_dictionary(data)
    kind, piece = of_type(d, b"msg_type", int), within(of_type(d, b"piece", int), 0, 2**32 - 1)
    need(kind is not None and piece is not None, "ut_metadata")
    if kind == 0:
        return {"type": "request", "piece": piece}
    if kind == 1:
        size = of_type(d, b"total_size", int)
        return {"type": "data", "piece": piece, "total_size": size, "data": rest.hex()}
    if kind == 2:
        return {"type": "reject", "piece": piece}
    raise Ignored(NEW)


def ut_pex(data):
    d = bencode.whole_dictionary(data)

    def addresses(name):
        found = []
        for key, size in ((name, 4), (name + b"6", 16)):
            compact = of_type(d, key, bytes) or b""
            for at in range(0, len(compact) - size - 1, size + 2):
                host = str(ipaddress.ip_address(compact[at:at + size]))
                port = int.from_bytes(compact[at + size:at + size + 2], "big")
                found.append(f"[{host}]:{port}" if size == 16 else f"{host}:{port}")
        return found[:200]

    return {"added": addresses(b"added"), "dropped": addresses(b"dropped")}


def lt_donthave(data):
    need(len(data) == 4, "length")
    return {"index": int.from_bytes(data, "big")}


def bl_window(b):
    out = {"epoch": b.long(), "base": b.number(4), "kept": b.number(4), "hops": b.number(1),
           "reason": b.number(1)}
    size = b.number(2)
    need(int(out["epoch"]) < 2**53 and size <= 2048, "range")
    bitmap = b.take(size)
    held = (out["base"] + i for i in range(8 * size) if bitmap[i // 8] & 0x80 >> i % 8)
    out["held"] = [index for index in held if index <= 2**32 - 2]
    b.extension_area()
    return out


def entry_list(b):
    count, total, found = b.number(2), 0, []
    need(count <= 256, "entries")
    for _ in range(count):
        size = b.number(2)
        total += size
        need(size <= 4096 and total <= 131072, "entry length")
        found.append(b.take(size).hex())
    return found


def bl_entries(b):
    op = b.number(1)
    if op == 0:
        out = {"op": "ask", "run": b.number(1), "epoch": b.long(), "index": b.number(4),
               "count": b.number(2)}
        need(1 <= out["count"] <= 256, "count")
    elif op == 1:
        out = {"op": "answer", "run": b.number(1), "entries": entry_list(b)}
    elif op == 2:
        out = {"op": "push", "entries": entry_list(b)}
    else:
        raise Ignored(NEW)
    b.extension_area()
    return out


def cover(b):
    out = {"k": b.number(1), "part": b.number(1), "stripes": b.number(4)}
    need(1 <= out["k"] <= 32 and out["stripes"] >> out["k"] == 0, "stripes")
    return out


def bl_subscribe(b):
    out = {"id": b.number(1), "kind": b.number(1)}
    if out["kind"] > 1:
        raise Ignored(NEW)
    need(out["id"] <= 63, "id")
    out |= cover(b)
    need(out["part"] and out["stripes"], "empty")
    out |= {"epoch": b.long(), "first": b.long(), "last": b.long()}
    out["change"] = int(out["first"]) == 2**64 - 1
    b.extension_area()
    return out


def bl_grant(b):
    out = {"id": b.number(1), "reason": b.number(1)} | cover(b)
    out |= {"credit": b.number(4), "epoch": b.long(), "first": b.long()}
    out["refused"] = not (out["part"] and out["stripes"])
    b.extension_area()
    return out


def bl_skip(b):
    out = {"id": b.number(1), "reason": b.number(1)}
    count = b.number(2)
    need(count <= 256, "blocks")
    out["epoch"] = b.long()
    out["blocks"] = [b.long() for _ in range(count)]
    b.extension_area()
    return out


def bl_end(b):
    out = {"id": b.number(1), "reason": b.number(1)}
    b.extension_area()
    return out


def bl_clock(b):
    op = b.number(1)
    if op == 0:
        out = {"op": "ask", "mine": b.long()}
    elif op == 1:
        out = {"op": "answer", "mine": b.long(), "yours": b.long(), "arrived": b.long()}
    else:
        raise Ignored(NEW)
    b.extension_area()
    return out


def bl_report(b):
    op = b.number(1)
    if op > 1:
        raise Ignored(NEW)
    out = {"op": ("ask", "answer")[op], "report": b.number(1)}
    count = b.number(1)
    need(count <= 32, "rows")
    row = [lambda: b.number(4), lambda: [b.number(4), b.long()]][op]
    out["rows"] = [row() for _ in range(count)]
    fields = b.extension_area()
    if op == 1:
        values = [value for kind, value in fields if kind == 1]
        out["view"] = view(values[0]) if values else None
    return out


def view(value):
    if len(value) < 33:
        return None
    lags = [int.from_bytes(value[at:at + 2], "big") for at in range(1, 33, 2)]
    return {"reason": value[0], "lags": lags}


def bl_proof(b):
    need(len(b.rest) <= 4096, "length")
    claims = [b.take(feed.CLAIM_LEN), b.take(feed.CLAIM_LEN)]
    b.extension_area()
    for claim in claims:
        feed.parse_claim(claim)
    return {"first": claims[0].hex(), "second": claims[1].hex()}


def bl_offer(b):
    out = {"epoch": b.long()}
    need(int(out["epoch"]) < 1 << 53, "epoch")
    for name in ("base", "entries", "upload", "room", "mean"):
        out[name] = b.number(2)
    k = b.number(1)
    need(1 <= k <= 32, "stripe count")
    out["stripes"] = [[b.number(2), b.number(1), b.number(1), b.number(1)] for _ in range(k)]
    b.extension_area()
    return out


def covers(k, stripes, part, block):
    return bool(stripes >> block % k & 1 and part >> block // k % 8 & 1)


LIVE = {f.__name__: f for f in (bl_window, bl_entries, bl_subscribe, bl_grant, bl_skip, bl_end,
                                bl_clock, bl_report, bl_proof, bl_offer)}
EXTENDED = {"handshake": extension_handshake, "ut_metadata": ut_metadata, "ut_pex": ut_pex,
            "lt_donthave": lt_donthave}
