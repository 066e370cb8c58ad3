"""Entries and claims, from specs/feed.md alone."""

import hashlib

import ed25519

HEAD_LEN = 72
CLAIM_LEN = 168
DOMAIN = b"btlive-entry-v1\0"
CRITICAL = 0x8000
EMPTY = 0x0004 | 0x0008 | 0x0010
HEAD = [("epoch", 8), ("index", 4), ("first_block", 8), ("length", 4), ("flags", 2),
        ("key_id", 2), ("birth", 8), ("span", 4)]


class Refused(Exception):
    """The bytes break a rule of form."""


def need(condition, why):
    if not condition:
        raise Refused(why)


def fields_of(area):
    """The fields of an extension area: type and value, in order."""
    found, at = [], 0
    while at < len(area):
        need(at + 4 <= len(area), "field cut short")
        kind, size = (int.from_bytes(area[n:n + 2], "big") for n in (at, at + 2))
        need(at + 4 + size <= len(area), "field cut short")
        found.append((kind, area[at + 4:at + 4 + size]))
        at += 4 + size
    return found


def needs_newer(fields):
    return any(kind & CRITICAL for kind, _ in fields)


def blocks(length):
    return -(-length // 16384)


def parse_head(data):
    head, at = {}, 0
    for name, size in HEAD:
        head[name] = int.from_bytes(data[at:at + size], "big")
        at += size
    head["previous"] = data[at:at + 32]
    need(1 <= head["epoch"] < 2**53, "epoch")
    need(head["index"] <= 2**32 - 2, "index")
    need(head["first_block"] < 2**53, "first block")
    need(head["length"] <= 1 << 20, "length")
    need(head["birth"] < 2**53, "birth")
    need((head["length"] == 0) == bool(head["flags"] & EMPTY), "flags")
    return head


def parse_claim(data):
    need(len(data) == CLAIM_LEN, "length")
    claim = parse_head(data)
    claim["raw_head"], claim["tail"], claim["signature"] = data[:72], data[72:104], data[104:]
    return claim


def parse_entry(data):
    need(HEAD_LEN <= len(data) <= 4096, "length")
    entry = parse_head(data)
    end = HEAD_LEN + 32 * blocks(entry["length"])
    need(end + 2 <= len(data), "length")
    size = int.from_bytes(data[end:end + 2], "big")
    need(size <= 512, "extension length")
    need(len(data) == end + 2 + size + 64, "length")
    entry["hashes"] = [data[at:at + 32] for at in range(HEAD_LEN, end, 32)]
    entry["extensions"] = fields_of(data[end + 2:end + 2 + size])
    entry["raw_head"] = data[:HEAD_LEN]
    entry["tail"] = hashlib.sha256(data[HEAD_LEN:end + 2 + size]).digest()
    entry["signature"] = data[-64:]
    return entry


def claim_of(entry):
    return entry["raw_head"] + entry["tail"] + entry["signature"]


def signed(claim, info_hash):
    return DOMAIN + info_hash + claim["raw_head"] + claim["tail"]


def digest(claim, info_hash):
    return hashlib.sha256(signed(claim, info_hash)).digest()


def holds(claim, info_hash, key):
    return ed25519.holds(key, claim["signature"], signed(claim, info_hash))


def verdict(data, info_hash, key, piece_length):
    """Judging an entry by a node that knows nothing."""
    try:
        entry = parse_entry(data)
    except Refused:
        return "form"
    if entry["key_id"] != 0:
        return "needs newer"
    if not holds(entry, info_hash, key):
        return "forged"
    if needs_newer(entry["extensions"]):
        return "needs newer"
    return "too long" if entry["length"] > piece_length else "genuine"


def follows(low, high, info_hash):
    """Whether an entry follows its neighbour."""
    return (high["previous"] == digest(low, info_hash)
            and high["first_block"] == low["first_block"] + blocks(low["length"])
            and high["birth"] >= low["birth"])


def contradict(a, b, info_hash, key):
    """Whether two claims prove equivocation."""
    if a["key_id"] or b["key_id"] or a["epoch"] != b["epoch"]:
        return False
    if not (holds(a, info_hash, key) and holds(b, info_hash, key)):
        return False
    low, high = sorted((a, b), key=lambda claim: claim["index"])
    if low["index"] == high["index"]:
        return signed(a, info_hash) != signed(b, info_hash)
    return high["index"] - low["index"] == 1 and not follows(low, high, info_hash)
