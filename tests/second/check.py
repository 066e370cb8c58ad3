"""A second decoder of the wire and the feed, written from specs/ alone, checks all vectors.

    python3 tests/second/check.py specs/vectors

It shares no code with the program and uses nothing but the standard library. Where it could not
have been written from the specifications, they are wrong, not it.
"""

import hashlib
import json
import pathlib
import sys

import bencode
import ed25519
import feed
import wire

FAULTS = []


def expect(where, name, mine, theirs):
    if mine != theirs:
        FAULTS.append(f"{where}: {name}: second decoder {mine}, vector {theirs}")


def outcome(reader, *args):
    """The fields that a reader finds, or how it came to none."""
    try:
        return reader(*args)
    except (wire.Refused, feed.Refused, bencode.Refused):
        return "refused"
    except wire.Ignored:
        return "ignored"


def wanted(vector):
    if "error" in vector:
        return "refused"
    return "ignored" if "ignored" in vector else vector["fields"]


def check_bytes(where, vectors, reader_of):
    for vector in vectors:
        reader = reader_of(vector)
        mine = outcome(reader, bytes.fromhex(vector["hex"]))
        expect(where, f"{vector.get('message', '')} {vector['name']}", mine, wanted(vector))


def live(vector):
    return lambda data: wire.LIVE[vector["message"]](wire.Bytes(data))


def entry_fields(data, info_hash):
    entry = feed.parse_entry(data)
    long = ("epoch", "first_block", "birth")
    plain = ("index", "length", "flags", "key_id", "span")
    return {name: str(entry[name]) for name in long} | {name: entry[name] for name in plain} | {
        "previous": entry["previous"].hex(),
        "hashes": [h.hex() for h in entry["hashes"]],
        "extensions": [[kind, value.hex()] for kind, value in entry["extensions"]],
        "signature": entry["signature"].hex(),
        "signed": feed.signed(entry, info_hash).hex(),
        "digest": feed.digest(entry, info_hash).hex(),
        "claim": feed.claim_of(entry).hex(),
    }


def check_entries(where, file):
    key, info_hash = bytes.fromhex(file["public_key"]), bytes.fromhex(file["info_hash"])
    expect(where, "public key", ed25519.public_key(bytes.fromhex(file["seed"])), key)
    by_name = {}
    for vector in file["vectors"]:
        data, name = bytes.fromhex(vector["hex"]), vector["name"]
        expect(where, name, outcome(entry_fields, data, info_hash), wanted(vector))
        expect(where, name, feed.verdict(data, info_hash, key, file["piece_length"]),
               vector["verdict"])
        if vector["verdict"] == "genuine":
            by_name[name] = entry = feed.parse_entry(data)
            expect(where, f"{name}: payload", payload_hashes(entry), entry["hashes"])
    for chain in file["chains"]:
        entries = [by_name[name] for name in chain]
        expect(where, "first block", entries[0]["first_block"], 0)
        expect(where, "first previous", entries[0]["previous"], bytes(32))
        for low, high in zip(entries, entries[1:]):
            expect(where, "indices", high["index"], low["index"] + 1)
            expect(where, "chain", feed.follows(low, high, info_hash), True)


def payload_hashes(entry):
    payload = bytes((31 * entry["index"] + i) % 251 for i in range(entry["length"]))
    blocks = (payload[at:at + 16384] for at in range(0, len(payload), 16384))
    return [hashlib.sha256(block).digest() for block in blocks]


def check_proofs(where, file):
    key, info_hash = bytes.fromhex(file["public_key"]), bytes.fromhex(file["info_hash"])
    for vector in file["vectors"]:
        data = bytes.fromhex(vector["hex"])
        proof = wire.bl_proof(wire.Bytes(data))
        first, second = (feed.parse_claim(bytes.fromhex(proof[n])) for n in ("first", "second"))
        expect(where, vector["name"], feed.contradict(first, second, info_hash, key),
               vector["proves"])


def check_signatures(where, file):
    info_hash = bytes.fromhex(file["info_hash"])
    for vector in file["vectors"]:
        key = bytes.fromhex(vector["public_key"])
        claim = feed.parse_claim(bytes.fromhex(vector["hex"]))
        expect(where, vector["name"], ed25519.point_of_key(key) is not None, vector["has_feed"])
        expect(where, vector["name"], feed.holds(claim, info_hash, key), vector["holds"])


def check_covers(where, file):
    for vector in file["vectors"]:
        k, stripes, part = vector["k"], vector["stripes"], vector["part"]
        mine = [n for n in range(100) if wire.covers(k, stripes, part, n)]
        expect(where, f"k = {k}", mine, vector["covered"])


FILES = {
    "feed/entries.json": check_entries,
    "feed/proofs.json": check_proofs,
    "feed/signatures.json": check_signatures,
    "wire/covers.json": check_covers,
    "wire/handshakes.json": lambda w, f: check_bytes(w, f["vectors"], lambda v: wire.handshake),
    "wire/frames.json": lambda w, f: check_bytes(w, f["vectors"], lambda v: wire.frames),
    "wire/messages.json": lambda w, f: check_bytes(w, f["vectors"], lambda v: wire.message),
    "wire/extended.json":
        lambda w, f: check_bytes(w, f["vectors"], lambda v: wire.EXTENDED[v["message"]]),
    "wire/live.json": lambda w, f: check_bytes(w, f["vectors"], live),
}


def main():
    root = pathlib.Path(sys.argv[1])
    count = 0
    for name, check in FILES.items():
        file = json.loads((root / name).read_text())
        check(name, file)
        count += len(file["vectors"])
    for folder in ("feed", "wire"):
        for path in sorted((root / folder).iterdir()):
            expect(folder, path.name, f"{folder}/{path.name}" in FILES, True)
    print("\n".join(FAULTS) or f"{count} vectors agree")
    return bool(FAULTS)


if __name__ == "__main__":
    sys.exit(main())
