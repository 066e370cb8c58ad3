"""One connection of specs/wire.md: its handshakes, its frames and what each side has said."""

import asyncio
import collections
import time

import bencode
import feed
import says
import torrent
import wire

# Chosen here, so that whoever takes the numbers for fixed ones is found out.
NUMBERS = {name: 201 + at for at, name in enumerate(
    ["ut_metadata", "ut_pex", "lt_donthave", "bl_window", "bl_entries", "bl_subscribe", "bl_grant",
     "bl_skip", "bl_end", "bl_clock", "bl_report", "bl_proof"])}
NAMES = {number: name for name, number in NUMBERS.items()}
NEEDED = ["bl_window", "bl_entries", "bl_subscribe", "bl_grant", "bl_skip", "bl_end"]
HANDSHAKE_MAX_S, SILENCE_MAX_S, KEEP_ALIVE_S, PLAIN_S = 10, 120, 60, 5
METADATA_MAX = 4194304
BLOCK = 16384
ASKS_MAX, REQUESTS_MAX = 8, 250


class Fault(Exception):
    """The peer did what no correct peer does."""


class Order:
    """A subscription: the ids belong to the subscriber, whichever side that is."""

    def __init__(self, ident, kind, k, part, stripes, epoch, first, last=says.LAST):
        self.ident, self.kind, self.k, self.part, self.stripes = ident, kind, k, part, stripes
        self.epoch, self.first, self.last = epoch, first, last
        self.active, self.ending, self.credit, self.brought_at = False, False, 0, 0.0

    def covers(self, block):
        return (self.kind == 0 and self.first <= block <= self.last
                and wire.covers(self.k, self.stripes, self.part, block))


class Peer:
    """A connection. What it means for the stream is the node's business."""

    def __init__(self, node, reader, writer, dialled):
        self.node, self.reader, self.writer, self.dialled = node, reader, writer, dialled
        self.name = "%s:%s" % writer.get_extra_info("peername")[:2]
        self.theirs, self.live, self.ready, self.closed = None, False, False, False
        self.peer_id, self.opened_at, self.heard_at, self.said_at = None, 0.0, 0.0, 0.0
        # What the peer says.
        self.epoch, self.base, self.kept, self.hops = 0, 0, 0, 255
        self.held, self.shown = set(), -1
        # BEP 3: both sides begin choked and not interested.
        self.choked, self.choking, self.unjudged = True, True, []
        # What is under way.
        self.orders, self.flows = {}, {}
        self.requests, self.asks, self.run = {}, {}, 0
        self.knows = collections.OrderedDict()
        self.claimed_at, self.refused_until, self.refusals = None, 0.0, 0
        self.metadata, self.metadata_size = {}, None

    def send(self, message):
        if not self.closed:
            self.writer.write(says.frame(message))
            self.said_at = time.monotonic()

    def live_message(self, name, payload):
        """An extended message under the number that this peer gave, if it gave one."""
        number = (self.theirs or {}).get(name)
        if number:
            self.send(says.extended(number, payload))

    async def run_until_closed(self):
        self.opened_at = self.heard_at = self.said_at = time.monotonic()
        try:
            await asyncio.wait_for(self.handshakes(), HANDSHAKE_MAX_S)
            while not self.closed:
                self.take(await asyncio.wait_for(self.frame(), SILENCE_MAX_S))
                if not self.live and time.monotonic() > self.opened_at + PLAIN_S:
                    break
        except (Fault, wire.Refused, bencode.Refused, feed.Refused) as why:
            self.node.say(f"{self.name}: protocol error: {why!r}")
            self.node.faults += 1
        except (OSError, EOFError, asyncio.TimeoutError) as why:
            self.node.say(f"{self.name}: closed: {why!r}")
        finally:
            self.closed = True
            self.writer.close()
            self.node.lost(self)

    async def handshakes(self):
        ours = says.handshake(self.node.info_hash, self.node.peer_id)
        if self.dialled:
            self.writer.write(ours)
        got = wire.handshake(await self.reader.readexactly(68))
        if bytes.fromhex(got["info_hash"]) != self.node.info_hash:
            raise Fault("another torrent")
        self.peer_id = bytes.fromhex(got["peer_id"])
        if self.peer_id == self.node.peer_id:
            raise EOFError("that is us")
        if not self.dialled:
            self.writer.write(ours)
        self.send(says.simple(15))
        self.say_hello()
        bits = got["extended"] and got["fast"]
        while self.theirs is None:
            self.take(await self.frame())
            if not got["extended"]:
                break
        self.live = bits and all(name in (self.theirs or {}) for name in NEEDED)
        self.ready = True
        self.node.met(self)

    def say_hello(self):
        hello = {b"m": {name.encode(): n for name, n in NUMBERS.items() if name != "ut_pex"},
                 b"reqq": REQUESTS_MAX, b"v": b"second 1"}
        if self.node.live:
            hello[b"metadata_size"] = len(self.node.live.raw)
        if self.node.port:
            hello[b"p"] = self.node.port
        self.send(says.extended(0, says.bencode(hello)))

    async def frame(self):
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        if size > wire.FRAME_MAX:
            raise Fault(f"frame of {size} bytes")
        data = await self.reader.readexactly(size)
        self.heard_at = time.monotonic()
        return data

    def take(self, data):
        try:
            got = wire.message(data)
            kind = got["message"]
            if kind == "extended":
                self.take_extended(got["number"], bytes.fromhex(got["payload"]))
            elif self.theirs is not None and self.live:
                self.take_plain(kind, got)
        except wire.Ignored:
            pass

    def take_plain(self, kind, got):
        node = self.node
        if kind in ("bitfield", "have all"):
            raise Fault(kind)
        if kind == "choke":
            self.choked = True
            for order in [o for o in self.orders.values() if o.active and o.kind == 0]:
                del self.orders[order.ident]
        elif kind == "unchoke":
            self.choked = False
        elif kind == "interested" and self.choking:
            self.choking = False
            self.send(says.simple(1))
        elif kind == "have":
            node.has(self, got["index"])
        elif kind == "request":
            node.requested(self, got["index"], got["offset"], got["length"])
        elif kind == "cancel":
            # Every request is answered at once here: the answer is already on its way. A
            # subscribed block too.
            pass
        elif kind == "piece":
            node.brought(self, got["index"], got["offset"], bytes.fromhex(got["payload"]))
        elif kind == "reject":
            self.requests.pop((got["index"], got["offset"]), None)

    def take_extended(self, number, payload):
        if number == 0:
            said = wire.extension_handshake(payload)
            self.theirs, self.metadata_size = said["m"], said["metadata_size"]
            return
        if self.theirs is None:
            raise Fault("extended message before the extension handshake")
        name = NAMES.get(number)
        if name == "ut_metadata":
            self.take_metadata(wire.ut_metadata(payload))
        elif name == "lt_donthave" and self.live:
            self.held.discard(wire.lt_donthave(payload)["index"])
        elif name in wire.LIVE and self.live:
            getattr(self.node, name)(self, wire.LIVE[name](wire.Bytes(payload)))

    # BEP 9, both ways.

    def want_metadata(self):
        if self.metadata_size and self.theirs.get("ut_metadata"):
            for piece in range(-(-min(self.metadata_size, torrent.INFO_MAX) // BLOCK)):
                self.live_message("ut_metadata", says.bencode({b"msg_type": 0, b"piece": piece}))

    def take_metadata(self, got):
        live = self.node.live
        if got["type"] == "request":
            data = live.raw[got["piece"] * BLOCK:][:BLOCK] if live else b""
            head = {b"msg_type": 1 if data else 2, b"piece": got["piece"]}
            if data:
                head[b"total_size"] = len(live.raw)
            self.live_message("ut_metadata", says.bencode(head) + data)
        elif got["type"] == "data" and live is None and got["piece"] == 0:
            self.node.metadata(self, bytes.fromhex(got["data"]))

    # Asks and orders of ours.

    def ask(self, index, count, epoch=0):
        if len(self.asks) >= ASKS_MAX:
            return False
        self.run = (self.run + 1) % 256
        self.asks[self.run] = time.monotonic()
        self.live_message("bl_entries", says.ask(self.run, epoch, index, count))
        return True

    def order(self, kind, k, part, stripes, epoch, first):
        ident = next(i for i in range(64) if i not in self.orders)
        self.orders[ident] = Order(ident, kind, k, part, stripes, epoch, first)
        self.live_message("bl_subscribe", says.subscribe(
            ident, kind, k, part, stripes, epoch, first, says.LAST))

    def give_up(self, order):
        """A change whose last block is past: the granter ends the subscription."""
        order.ending = True
        self.live_message("bl_subscribe", says.subscribe(
            order.ident, order.kind, order.k, order.part, order.stripes, order.epoch,
            says.LAST, 0))

    def knows_entry(self, place):
        self.knows[place] = True
        while len(self.knows) > 4096:
            self.knows.popitem(last=False)
