"""A second implementation of a source, written from specs/ alone.

    encoder | python3 tests/second/source.py TORRENT KEY --listen HOST:PORT

It cuts standard input into pieces, signs their entries and serves whoever comes, until the input
ends; then it signs the end and stays a while. The address stands in the first line on standard
error. It has no state on disk: every run is a new epoch.
"""

import argparse
import asyncio
import hashlib
import os
import pathlib
import sys
import time

import ed25519
import feed
import says
import torrent
from node import END, RANDOM_ACCESS, REASON_LEAVING, Node
from peer import BLOCK, Fault
from viewer import address, connection, say

PIECE_S, IDLE_S, PACKET = 0.2, 1.0, 188
IDLE, ENDED = 0x0004, 0x0008


def seed_of(path, live):
    """The seed in a key file, if it belongs to the torrent."""
    text = pathlib.Path(path).read_text(encoding="ascii")
    first, *lines = text.splitlines()
    fields = dict(line.split(": ") for line in lines if line and not line.startswith("#"))
    seed = bytes.fromhex(fields["seed"])
    if first != "btlive key 1" or ed25519.public_key(seed) != live.key:
        sys.exit("the key is not that of the torrent")
    return seed


def begins_random_access(data, at):
    """Whether a table of programs stands here and a key frame directly behind the tables."""
    def packet(n):
        return data[at + n * PACKET:at + (n + 1) * PACKET]
    if len(packet(0)) < 3 or packet(0)[0] != 0x47 or packet(0)[1] & 0x1F or packet(0)[2]:
        return False
    frame = packet(2)
    return len(frame) > 5 and frame[3] & 0x20 and frame[4] > 0 and frame[5] & 0x40 != 0


class Source(Node):
    """A node that signs what it keeps."""

    def __init__(self, live, seed):
        super().__init__(live.info_hash, live, say, 0)
        self.seed, self.hops = seed, 0
        self.epoch = int(time.time()) << 20 | int.from_bytes(os.urandom(3), "big") >> 4
        self.next_block, self.previous, self.birth = 0, bytes(32), 0

    def publish(self, payload, flags, born_us):
        """Signs a piece and hands it out: the entry before its blocks."""
        now = time.time_ns() // 1000
        self.birth = max(self.birth, born_us)
        index = 0 if self.head is None else self.head + 1
        hashes = [hashlib.sha256(payload[at:at + BLOCK]).digest()
                  for at in range(0, len(payload), BLOCK)]
        number = says.number
        head = (number(self.epoch, 8) + number(index, 4) + number(self.next_block, 8)
                + number(len(payload), 4) + number(flags, 2) + number(0, 2)
                + number(self.birth, 8) + number(max(0, now - self.birth), 4) + self.previous)
        tail = b"".join(hashes) + number(0, 2)
        signed = feed.DOMAIN + self.info_hash + head + hashlib.sha256(tail).digest()
        raw = head + tail + ed25519.sign(self.seed, signed)
        self.previous = hashlib.sha256(signed).digest()
        self.next_block += len(hashes)
        self.keep(None, feed.parse_entry(raw), raw)
        for block in range(len(hashes)):
            self.verify(None, self.kept[index], block, payload[block * BLOCK:][:BLOCK])

    def tick(self):
        now = time.monotonic()
        for peer in self.peers:
            if peer.ready and now > peer.said_at + 60:
                peer.send(b"")

    def judge(self, peer, raw):
        entry = feed.parse_entry(raw)
        peer.knows_entry((entry["epoch"], entry["index"]))
        if entry["epoch"] > self.epoch and feed.holds(entry, self.info_hash, self.live.key):
            raise SystemExit("another source is ahead")
        if entry["epoch"] == self.epoch and entry["index"] not in self.kept:
            raise Fault("an entry of ours that is not ours")


class Cutter:
    """Bytes of an encoder to pieces."""

    def __init__(self, source):
        self.source, self.open, self.flags = source, bytearray(), RANDOM_ACCESS
        self.born_us, self.begun, self.published = 0, 0.0, time.monotonic()

    def take(self, data):
        for at in range(0, len(data), PACKET):
            if begins_random_access(data, at):
                self.close()
                self.flags = RANDOM_ACCESS
            if not self.open:
                self.born_us, self.begun = time.time_ns() // 1000, time.monotonic()
            self.open += data[at:at + PACKET]
            while len(self.open) >= self.source.live.piece_length:
                self.close()

    def close(self):
        if self.open:
            size = self.source.live.piece_length
            rest = self.open[size:]
            self.source.publish(bytes(self.open[:size]), self.flags, self.born_us)
            self.open, self.flags, self.published = bytearray(rest), 0, time.monotonic()

    def empty(self, flag):
        self.source.publish(b"", flag, time.time_ns() // 1000)
        self.published = time.monotonic()

    def tick(self):
        now = time.monotonic()
        if self.open and now > self.begun + PIECE_S:
            self.close()
        elif not self.open and now > self.published + IDLE_S:
            self.empty(IDLE)


async def packets(reader, limit=64):
    """Whole packets of standard input, enough of them that tables and a frame come together."""
    data = await reader.read(limit * PACKET)
    if len(data) % PACKET:
        try:
            data += await reader.readexactly(PACKET - len(data) % PACKET)
        except asyncio.IncompleteReadError as short:
            data += short.partial
    return data


async def run(args):
    live = torrent.of_file(pathlib.Path(args.torrent).read_bytes())
    source = Source(live, seed_of(args.key, live))
    cutter = Cutter(source)
    server = await asyncio.start_server(
        lambda r, w: connection(source, r, w, False), *args.listen)
    source.port = server.sockets[0].getsockname()[1]
    say(f"listening on {args.listen[0]}:{source.port}")
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def keep_time():
        while True:
            await asyncio.sleep(0.02)
            cutter.tick()
            source.tick()

    clock = asyncio.create_task(keep_time())
    while data := await packets(reader):
        cutter.take(data)
    clock.cancel()
    cutter.close()
    cutter.empty(ENDED)
    assert ENDED & END
    deadline = time.monotonic() + args.linger
    while time.monotonic() < deadline and source.peers:
        await asyncio.sleep(0.05)
        source.tick()
    for peer in source.peers:
        for flow in peer.flows.values():
            peer.live_message("bl_end", says.end(flow.ident, REASON_LEAVING))
        peer.writer.close()
    say(f"faults: {source.faults}")
    return 1 if source.faults else 0


def arguments():
    parser = argparse.ArgumentParser(description="a second source of live torrents")
    parser.add_argument("torrent")
    parser.add_argument("key")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0))
    parser.add_argument("--linger", type=float, default=10.0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
