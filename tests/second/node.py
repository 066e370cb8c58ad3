"""What a node of a live swarm knows and does, from specs/wire.md and specs/feed.md alone."""

import hashlib
import os
import time

import feed
import says
import torrent
import wire
from peer import BLOCK, Fault, Order

# Three of no power of two, one of them in two parts: a granter serves any.
SLOTS = [(3, 255, 0b011), (3, 0x0F, 0b100), (3, 0xF0, 0b100)]
BEHIND_MAX = 16384
HELD_MAX_BYTES = 1 << 20
CLAIM_S, ASK_S, REQUEST_S, PATIENCE_S = 2.0, 2.0, 2.0, 0.7
RANDOM_ACCESS, END = 0x0001, 0x0008 | 0x0010
REASON_EPOCH, REASON_DONE, REASON_LEAVING = 20, 21, 23


def now_us():
    return time.time_ns() // 1000


class Kept:
    """An entry that was found genuine, and the blocks of its piece that were verified."""

    def __init__(self, entry, raw):
        self.entry, self.raw, self.came_at = entry, raw, time.monotonic()
        self.index, self.first = entry["index"], entry["first_block"]
        self.blocks = [None] * len(entry["hashes"])
        self.missing = len(self.blocks)

    def size(self, block):
        return min(BLOCK, self.entry["length"] - block * BLOCK)


class Node:
    def __init__(self, info_hash, live, say, history):
        self.info_hash, self.live, self.say, self.history = info_hash, live, say, history
        self.peer_id = b"-SE0001-" + os.urandom(12)
        self.port, self.peers, self.faults = None, [], 0
        self.epoch, self.head, self.proof = 0, None, None
        self.kept, self.by_block = {}, {}
        self.unknown, self.asked_history, self.hops = [], False, 255
        self.cursor, self.started_at, self.came_as = None, None, {}
        self.credits = {}

    # Connections.

    def met(self, peer):
        for other in [p for p in self.peers if p is not peer and p.peer_id == peer.peer_id]:
            ours_wins = self.peer_id < peer.peer_id
            loser = peer if other.dialled == peer.dialled or other.dialled == ours_wins else other
            loser.closed = True
            loser.writer.close()
        if self.live is None:
            peer.want_metadata()
        if not peer.live:
            return
        if self.head is not None:
            self.push(peer, self.kept[self.head])
        self.say_window(peer)
        peer.live_message("bl_clock", says.clock_ask(now_us()))
        peer.send(says.simple(2))

    def lost(self, peer):
        if peer in self.peers:
            self.peers.remove(peer)

    def metadata(self, peer, raw):
        if hashlib.sha1(raw).digest() != self.info_hash:
            raise Fault("metadata of another torrent")
        self.live = torrent.Live(raw)
        for other in self.peers:
            if other.ready:
                other.say_hello()
            for waiting in other.unjudged:
                self.judge(other, waiting)
            other.unjudged = []

    # Entries.

    def judge(self, peer, raw):
        if self.live is None:
            peer.unjudged = (peer.unjudged + [raw])[-8:]
            return
        entry = feed.parse_entry(raw)
        epoch, index = entry["epoch"], entry["index"]
        peer.knows_entry((epoch, index))
        if epoch < self.epoch:
            return
        known = self.kept.get(index) if epoch == self.epoch else None
        if known and known.raw == raw:
            return
        if epoch == self.epoch and index < self.head - BEHIND_MAX or entry["key_id"] != 0:
            return
        if not feed.holds(entry, self.info_hash, self.live.key):
            raise Fault("forged entry")
        if feed.needs_newer(entry["extensions"]):
            self.say("a newer version is needed")
            return
        if entry["length"] > self.live.piece_length:
            raise Fault("piece too long")
        if epoch > self.epoch:
            self.enter(epoch)
        self.compare(entry)
        if not known:
            self.keep(peer, entry, raw)

    def compare(self, entry):
        """A genuine entry against those of its place and of the two beside it."""
        for index in range(entry["index"] - 1, entry["index"] + 2):
            other = self.kept.get(index)
            if other and feed.contradict(entry, other.entry, self.info_hash, self.live.key):
                self.say(f"two entries contradict each other at {index}")

    def enter(self, epoch):
        self.say(f"epoch {epoch}")
        for peer in self.peers:
            for flow in [f for f in peer.flows.values() if f.kind == 0]:
                peer.live_message("bl_end", says.end(flow.ident, REASON_EPOCH))
                del peer.flows[flow.ident]
            peer.requests.clear()
        self.epoch, self.head = epoch, None
        self.kept, self.by_block, self.unknown = {}, {}, []
        self.cursor, self.asked_history, self.came_as = None, False, {}
        for peer in self.peers:
            if peer.live:
                self.say_window(peer)

    def keep(self, peer, entry, raw):
        kept = Kept(entry, raw)
        self.kept[kept.index] = kept
        for block in range(len(kept.blocks)):
            self.by_block[kept.first + block] = (kept, block)
        if self.head is None or kept.index > self.head:
            self.head = kept.index
            for other in self.peers:
                if any(f.kind == 1 for f in other.flows.values()):
                    self.push(other, kept)
        floor = self.kept[self.head].entry["birth"] - self.live.window * 10**6
        for index in [i for i, k in self.kept.items() if k.entry["birth"] < floor]:
            old = self.kept.pop(index)
            for block in range(len(old.blocks)):
                self.by_block.pop(old.first + block, None)
        waiting = [held for held in self.unknown if held[1] == kept.index]
        self.unknown = [held for held in self.unknown if held[1] != kept.index]
        for sender, index, offset, payload in waiting:
            self.verify(sender, kept, offset // BLOCK, payload)

    def push(self, peer, kept):
        place = (self.epoch, kept.index)
        if place not in peer.knows and kept.index not in self.held_by(peer):
            peer.live_message("bl_entries", says.push([kept.raw]))
            peer.knows_entry(place)

    def bl_entries(self, peer, got):
        if got["op"] == "ask":
            peer.live_message("bl_entries", says.answer(got["run"], self.run_of(peer, got)))
            return
        if got["op"] == "answer" and peer.asks.pop(got["run"], None) is None:
            return
        for raw in got["entries"]:
            self.judge(peer, bytes.fromhex(raw))

    def run_of(self, peer, got):
        newest = got["index"] == says.NEWEST
        if self.head is None or not newest and int(got["epoch"]) != self.epoch:
            return []
        index, run, size = self.head if newest else got["index"], [], 0
        while len(run) < got["count"] and index in self.kept:
            size += len(self.kept[index].raw)
            if size > 131072:
                break
            run.append(self.kept[index].raw)
            peer.knows_entry((self.epoch, index))
            index -= 1
        return run

    # Windows and haves.

    def say_window(self, peer):
        whole = sorted(i for i, k in self.kept.items() if k.blocks and not k.missing)
        base = whole[0] if whole else 0
        kept_ms = self.live.window * 1000 if self.live else 0
        peer.live_message("bl_window", says.window(
            self.epoch, base, kept_ms, min(255, self.hops), 0, whole))

    def bl_window(self, peer, got):
        epoch = int(got["epoch"])
        if epoch < peer.epoch:
            raise Fault("an epoch below the one declared")
        if epoch > peer.epoch:
            for flow in [f for f in peer.flows.values() if f.kind == 0]:
                peer.live_message("bl_end", says.end(flow.ident, REASON_EPOCH))
                del peer.flows[flow.ident]
        peer.epoch, peer.base, peer.kept, peer.hops = epoch, got["base"], got["kept"], got["hops"]
        peer.held = set(got["held"])
        if epoch > self.epoch and self.live:
            peer.claimed_at = time.monotonic()
            peer.ask(says.NEWEST, 1)
        elif epoch < self.epoch and self.head is not None:
            self.push(peer, self.kept[self.head])

    def held_by(self, peer):
        return peer.held if peer.epoch == self.epoch else ()

    def has(self, peer, index):
        peer.held.add(index)
        if len(peer.held) > BEHIND_MAX:
            peer.held.discard(min(peer.held))

    # Blocks.

    def brought(self, peer, index, offset, payload):
        requested = peer.requests.pop((index, offset), None)
        if peer.epoch != self.epoch:
            return
        kept = self.kept.get(index)
        if kept is None:
            if sum(len(held[3]) for held in self.unknown) + len(payload) <= HELD_MAX_BYTES:
                self.unknown.append((peer, index, offset, payload))
            peer.ask(index, 1, self.epoch)
            return
        block = offset // BLOCK
        if offset % BLOCK or block >= len(kept.blocks) or len(payload) != kept.size(block):
            raise Fault("no whole block")
        covering = [o for o in peer.orders.values() if o.covers(kept.first + block)]
        if not requested and not covering:
            raise Fault(f"piece {index} block {block} is neither requested nor covered")
        for order in covering:
            order.brought_at = time.monotonic()
            if order.credit:
                self.credits[order.credit] = self.credits.get(order.credit, 0) + len(payload)
        self.count("requested" if requested else "covered")
        self.verify(peer, kept, block, payload)

    def verify(self, peer, kept, block, payload):
        if block >= len(kept.blocks) or kept.blocks[block] is not None:
            self.count("again")
            return
        if hashlib.sha256(payload).digest() != kept.entry["hashes"][block]:
            raise Fault("block with a wrong hash")
        kept.blocks[block] = payload
        kept.missing -= 1
        for other in self.peers:
            if any(flow.covers(kept.first + block) for flow in other.flows.values()):
                self.give(other, kept, block)
        if not kept.missing:
            for other in self.peers:
                if other.live:
                    other.send(says.have(kept.index))

    def count(self, what):
        self.came_as[what] = self.came_as.get(what, 0) + 1

    def give(self, peer, kept, block):
        if kept.index not in self.held_by(peer):
            self.push(peer, kept)
            peer.send(says.piece(kept.index, block * BLOCK, kept.blocks[block]))

    def requested(self, peer, index, offset, length):
        kept, block = self.kept.get(index), offset // BLOCK
        good = (kept and peer.epoch == self.epoch and not peer.choking and offset % BLOCK == 0
                and block < len(kept.blocks) and kept.size(block) == length
                and kept.blocks[block] is not None)
        if good:
            self.push(peer, kept)
            peer.send(says.piece(index, offset, kept.blocks[block]))
        else:
            peer.send(says.three(16, index, offset, length))

    # Subscriptions at us.

    def bl_subscribe(self, peer, got):
        ident, flow = got["id"], peer.flows.get(got["id"])
        last = int(got["last"])
        if got["change"]:
            if flow:
                flow.last = last
                if flow.kind == 1 and last != says.LAST or last <= max(self.by_block, default=0):
                    peer.live_message("bl_end", says.end(ident, REASON_DONE))
                    del peer.flows[ident]
            return
        if flow:
            raise Fault("a wish for an id that is not free")
        flow = Order(ident, got["kind"], got["k"], got["part"], got["stripes"],
                     int(got["epoch"]), int(got["first"]), last)
        if flow.kind == 0 and flow.epoch != self.epoch:
            peer.live_message("bl_grant", says.grant(
                ident, REASON_EPOCH, flow.k, 0, 0, 0, flow.epoch, flow.first))
            return
        peer.flows[ident] = flow
        credit = next((o.credit for p in self.peers if p.hops == 0 for o in p.orders.values()
                       if o.kind == 0 and o.credit), 0) if flow.kind == 0 else 0
        peer.live_message("bl_grant", says.grant(
            ident, 0, flow.k, flow.part, flow.stripes, credit, flow.epoch, flow.first))
        if flow.kind == 0:
            peer.choking = False
        elif self.head is not None:
            self.push(peer, self.kept[self.head])
        for number in sorted(self.by_block):
            kept, block = self.by_block[number]
            if flow.covers(number) and kept.blocks[block] is not None:
                self.give(peer, kept, block)

    # What is said of our subscriptions.

    def bl_grant(self, peer, got):
        order = peer.orders.get(got["id"])
        if order is None:
            return
        if got["refused"]:
            peer.refusals += 1
            peer.refused_until = time.monotonic() + min(4, 0.3 * 2 ** (peer.refusals // len(SLOTS)))
            del peer.orders[order.ident]
            return
        if order.active:
            order.credit = got["credit"]
            return
        if (got["k"] != order.k or got["part"] & ~order.part or got["stripes"] & ~order.stripes
                or int(got["first"]) < order.first):
            raise Fault("a grant of more than was wished for")
        peer.refusals = 0
        order.active, order.credit, order.brought_at = True, got["credit"], time.monotonic()
        order.part, order.stripes, order.first = got["part"], got["stripes"], int(got["first"])
        if order.kind == 0:
            peer.choked = False

    def bl_skip(self, peer, got):
        for number in map(int, got["blocks"]):
            if number in self.by_block:
                self.by_block[number][0].came_at = 0.0

    def bl_end(self, peer, got):
        peer.orders.pop(got["id"], None)

    def bl_clock(self, peer, got):
        if got["op"] == "ask":
            arrived = now_us()
            peer.live_message("bl_clock", says.clock_answer(now_us(), int(got["mine"]), arrived))

    def bl_report(self, peer, got):
        if got["op"] == "ask":
            rows = [(credit, self.credits.get(credit, 0)) for credit in got["rows"]]
            peer.live_message("bl_report", says.report_answer(got["report"], rows))

    def bl_proof(self, peer, got):
        claims = [feed.parse_claim(bytes.fromhex(got[name])) for name in ("first", "second")]
        if claims[0]["epoch"] < self.epoch or self.proof is not None or self.live is None:
            return
        if not feed.contradict(*claims, self.info_hash, self.live.key):
            raise Fault("a proof that proves nothing")
        self.proof = got
        self.say("the broadcaster contradicts itself")
        for other in self.peers:
            if other is not peer and other.live:
                other.live_message("bl_proof", bytes.fromhex(got["first"] + got["second"]))

    # What time brings.

    def tick(self):
        now = time.monotonic()
        for peer in [p for p in self.peers if p.ready]:
            if now > peer.said_at + 60:
                peer.send(b"")
            peer.asks = {run: at for run, at in peer.asks.items() if now < at + ASK_S}
            if peer.claimed_at and peer.epoch > self.epoch and now > peer.claimed_at + CLAIM_S:
                peer.closed = True
                peer.writer.close()
        if self.head is None:
            return
        hops = min((p.hops + 1 for p in self.peers for o in p.orders.values()
                    if o.active and o.kind == 0), default=255)
        if hops != self.hops:
            self.hops = hops
            for peer in [p for p in self.peers if p.live]:
                self.say_window(peer)
        upstream = [p for p in self.peers if p.live and p.dialled and p.epoch == self.epoch]
        self.subscribe(upstream)
        self.fetch(upstream, now)

    def subscribe(self, upstream):
        if not upstream:
            return
        if not self.asked_history:
            self.asked_history = upstream[0].ask(self.head, self.history, self.epoch)
        upstream = [p for p in upstream if time.monotonic() >= p.refused_until]
        for peer in upstream[:2]:
            if not any(o.kind == 1 for o in peer.orders.values()):
                peer.order(1, 1, 255, 1, 0, 0)
        head = self.kept[self.head]
        for at, (k, part, stripes) in enumerate(SLOTS):
            if not any(o.kind == 0 and o.epoch == self.epoch and o.k == k and o.part & part
                       and o.stripes & stripes and not o.ending
                       for p in self.peers for o in p.orders.values()) and upstream:
                upstream[at % len(upstream)].order(
                    0, k, part, stripes, self.epoch, head.first + len(head.blocks))

    def fetch(self, upstream, now):
        """Fills holes in the feed by asks and gaps in the stream by requests."""
        if self.cursor is None:
            return
        for index in range(self.cursor, self.head + 1):
            kept = self.kept.get(index)
            if kept is None:
                if upstream and not upstream[0].asks and index + 1 in self.kept:
                    upstream[0].ask(index, 8, self.epoch)
                continue
            for block, payload in enumerate(kept.blocks):
                if payload is None:
                    self.request(upstream, kept, block, now)

    def request(self, upstream, kept, block, now):
        key, number = (kept.index, block * BLOCK), kept.first + block
        if now < kept.came_at + PATIENCE_S and any(
                o.active and o.covers(number) for p in upstream for o in p.orders.values()):
            return
        if any(now < p.requests.get(key, -REQUEST_S) + REQUEST_S for p in upstream):
            return
        for peer in upstream:
            if (kept.index in peer.held and not peer.choked and key not in peer.requests
                    and len(peer.requests) < 16):
                peer.requests[key] = now
                peer.send(says.three(6, *key, kept.size(block)))
                return

    def start(self, back_s):
        """Sets the cursor to the oldest random access point of the newest part of the stream."""
        if self.head is None or self.cursor is not None:
            return
        index, found = self.head, None
        while index in self.kept:
            kept = self.kept[index]
            if self.kept[self.head].entry["birth"] - kept.entry["birth"] > back_s * 10**6 and found:
                break
            if kept.entry["flags"] & RANDOM_ACCESS:
                found = index
            index -= 1
        self.cursor = found

    def take(self):
        """The next whole piece in order, or None; and whether the stream ended."""
        kept = self.kept.get(self.cursor)
        if kept is None or kept.missing:
            return None, False
        self.cursor += 1
        return b"".join(kept.blocks), bool(kept.entry["flags"] & END)
