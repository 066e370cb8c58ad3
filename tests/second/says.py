"""Writers of the messages of specs/wire.md: values to bytes, without the length of the frame."""

LAST = 2**64 - 1
NEWEST = 2**32 - 1
RESERVED = bytes([0, 0, 0, 0, 0, 0x10, 0, 0x04])


def number(value, size):
    return value.to_bytes(size, "big")


def handshake(info_hash, peer_id):
    return b"\x13BitTorrent protocol" + RESERVED + info_hash + peer_id


def frame(message):
    return number(len(message), 4) + message


def simple(kind):
    return bytes([kind])


def have(index):
    return b"\x04" + number(index, 4)


def three(kind, index, offset, length):
    return bytes([kind]) + number(index, 4) + number(offset, 4) + number(length, 4)


def piece(index, offset, payload):
    return b"\x07" + number(index, 4) + number(offset, 4) + payload


def extended(ext, payload):
    return bytes([20, ext]) + payload


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(k) + bencode(v) for k, v in sorted(value.items())) + b"e"


def window(epoch, base, kept_ms, hops, reason, held):
    """The message bl_window; held are indices not below the base."""
    bits = bytearray()
    for index in held:
        place = index - base
        if place // 8 >= 2048:
            continue
        if place // 8 >= len(bits):
            bits.extend(bytes(place // 8 + 1 - len(bits)))
        bits[place // 8] |= 0x80 >> place % 8
    return (number(epoch, 8) + number(base, 4) + number(kept_ms, 4) + bytes([hops, reason])
            + number(len(bits), 2) + bytes(bits))


def ask(run, epoch, index, count):
    return bytes([0, run]) + number(epoch, 8) + number(index, 4) + number(count, 2)


def entry_list(entries):
    return number(len(entries), 2) + b"".join(number(len(e), 2) + e for e in entries)


def answer(run, entries):
    return bytes([1, run]) + entry_list(entries)


def push(entries):
    return b"\x02" + entry_list(entries)


def subscribe(ident, kind, k, part, stripes, epoch, first, last):
    return (bytes([ident, kind, k, part]) + number(stripes, 4) + number(epoch, 8)
            + number(first, 8) + number(last, 8))


def grant(ident, reason, k, part, stripes, credit, epoch, first):
    return (bytes([ident, reason, k, part]) + number(stripes, 4) + number(credit, 4)
            + number(epoch, 8) + number(first, 8))


def skip(ident, reason, epoch, blocks):
    return (bytes([ident, reason]) + number(len(blocks), 2) + number(epoch, 8)
            + b"".join(number(block, 8) for block in blocks))


def end(ident, reason):
    return bytes([ident, reason])


def clock_ask(mine):
    return b"\0" + number(mine, 8)


def clock_answer(mine, yours, arrived):
    return b"\1" + number(mine, 8) + number(yours, 8) + number(arrived, 8)


def report_answer(report, rows):
    return bytes([1, report, len(rows)]) + b"".join(number(c, 4) + number(n, 8) for c, n in rows)
