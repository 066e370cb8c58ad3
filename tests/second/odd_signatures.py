"""Writes specs/vectors/feed/signatures.json: signatures that no library makes, on one claim.

    python3 tests/second/odd_signatures.py > specs/vectors/feed/signatures.json
"""

import hashlib
import json

import ed25519 as ed


def torsion_point():
    """A point of order 8: the part of order 8 of a point found by trying."""
    y = 2
    while True:
        point = ed.decode(y.to_bytes(32, "little"))
        if point is not None:
            point = ed.mul(ed.L, point)
            if not ed.is_neutral(ed.mul(4, point)):
                return point
        y += 1


SEED = bytes([42]) * 32
INFO_HASH = bytes(n * 13 % 256 for n in range(20))


def subject():
    """Head and digest of the tail of an entry for a piece of 100 bytes."""
    head = b"".join([
        (1_700_000_000 << 20 | 0x12345).to_bytes(8, "big"),
        (9).to_bytes(4, "big"),
        bytes(8),
        (100).to_bytes(4, "big"),
        (1).to_bytes(2, "big"),
        bytes(2),
        (1_700_000_000_000_000).to_bytes(8, "big"),
        (200_000).to_bytes(4, "big"),
        bytes(32),
    ])
    payload = bytes((31 * 9 + i) % 251 for i in range(100))
    return head + hashlib.sha256(hashlib.sha256(payload).digest() + bytes(2)).digest()


def main():
    claim = subject()
    message = b"btlive-entry-v1\0" + INFO_HASH + claim
    a, _ = ed.secret(SEED)
    key = ed.public_key(SEED)
    t8 = torsion_point()

    good = ed.sign(SEED, message)
    rows = [("as signed", key, good)]
    s = int.from_bytes(good[32:], "little") + ed.L
    rows.append(("S is not reduced", key, good[:32] + s.to_bytes(32, "little")))
    rows.append(("another nonce", key, ed.sign_with(a, 77, key, message)))

    mixed = ed.encode(ed.add(ed.mul(a, ed.BASE), t8))
    for name, wanted in [("key of mixed order, k is a multiple of 8", True),
                         ("key of mixed order, k is no multiple of 8", False)]:
        nonce = 1
        while True:
            r = ed.encode(ed.mul(nonce, ed.BASE))
            k = ed.hash_number(r, mixed, message) % ed.L
            if (k % 8 == 0) == wanted:
                break
            nonce += 1
        rows.append((name, mixed, ed.sign_with(a, nonce, mixed, message)))

    neutral = (1).to_bytes(32, "little")
    free = ed.encode(ed.mul(5, ed.BASE)) + (5).to_bytes(32, "little")
    rows.append(("key of order 1", neutral, free))
    rows.append(("key of order 1, not canonical", (ed.P + 1).to_bytes(32, "little"), free))
    k = ed.hash_number(neutral, key, message)
    rows.append(("R of order 1", key, neutral + (k * a % ed.L).to_bytes(32, "little")))
    odd = (ed.P + 1).to_bytes(32, "little")
    k = ed.hash_number(odd, key, message)
    rows.append(("R of order 1, not canonical", key, odd + (k * a % ed.L).to_bytes(32, "little")))
    r = ed.encode(ed.add(ed.mul(5, ed.BASE), t8))
    k = ed.hash_number(r, key, message)
    s = (5 + k * a) % ed.L
    rows.append(("R of mixed order", key, r + s.to_bytes(32, "little")))
    rows.append(("key not canonical", (ed.P + 3).to_bytes(32, "little"), good))
    vectors = [{
        "name": name,
        "public_key": odd_key.hex(),
        "hex": (claim + signature).hex(),
        "has_feed": ed.point_of_key(odd_key) is not None,
        "holds": ed.holds(odd_key, signature, message),
    } for name, odd_key, signature in rows]
    print(json.dumps({"info_hash": INFO_HASH.hex(), "vectors": vectors}, indent=2))


if __name__ == "__main__":
    main()
