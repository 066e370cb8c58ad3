"""A second implementation of a viewer and relay, written from specs/ alone.

    python3 tests/second/viewer.py TORRENT|MAGNET --peer HOST:PORT > stream.ts
    python3 tests/second/viewer.py TORRENT|MAGNET --peer HOST:PORT --listen HOST:PORT > /dev/null

It dials the peer, subscribes to the feed and to all stripes there, fetches by requests what lies
before, verifies everything and writes the stream in order to standard output. With `--listen` it
serves those who come, as a relay; that address stands in the first line on standard error. It ends
with code 0 at the signed end (a relay a little later), with 1 if a piece is missed or a peer was
found at fault, so that a test sees both.
"""

import argparse
import asyncio
import pathlib
import signal
import sys
import time

import says
import torrent
from node import REASON_LEAVING, Node
from peer import Peer

TICK_S, STUCK_S = 0.05, 10.0


def say(text):
    print(text, file=sys.stderr, flush=True)


def address(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def arguments():
    parser = argparse.ArgumentParser(description="a second viewer and relay of live torrents")
    parser.add_argument("torrent")
    parser.add_argument("--peer", type=address, action="append", default=[])
    parser.add_argument("--listen", type=address)
    parser.add_argument("--back", type=float, default=2.0, help="seconds of history to begin with")
    parser.add_argument("--history", type=int, default=64, help="entries to ask for")
    parser.add_argument("--linger", type=float, default=10.0, help="a relay stays after the end")
    return parser.parse_args()


def node_of(args):
    if args.torrent.startswith("magnet:"):
        return Node(torrent.of_magnet(args.torrent), None, say, args.history)
    live = torrent.of_file(pathlib.Path(args.torrent).read_bytes())
    return Node(live.info_hash, live, say, args.history)


async def dial(node, host, port):
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port)
            await connection(node, reader, writer, True)
        except OSError as why:
            say(f"{host}:{port}: {why}")
        await asyncio.sleep(1)


async def connection(node, reader, writer, dialled):
    peer = Peer(node, reader, writer, dialled)
    node.peers.append(peer)
    await peer.run_until_closed()


async def play(node, args, stop):
    """Writes pieces until the end. Returns whether nothing was missed."""
    moved_at = time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(TICK_S)
        node.tick()
        if not any(peer.asks for peer in node.peers):
            node.start(args.back)
        while node.cursor is not None:
            payload, ended = node.take()
            if payload is None:
                break
            moved_at = time.monotonic()
            sys.stdout.buffer.write(payload)
            sys.stdout.buffer.flush()
            if ended:
                return True
        if time.monotonic() > moved_at + STUCK_S:
            say(f"stuck at {node.cursor}, head {node.head}")
            return False
    return True


async def run(args):
    node, stop = node_of(args), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if args.listen:
        server = await asyncio.start_server(
            lambda r, w: connection(node, r, w, False), *args.listen)
        node.port = server.sockets[0].getsockname()[1]
        say(f"listening on {args.listen[0]}:{node.port}")
    tasks = [asyncio.create_task(dial(node, *peer)) for peer in args.peer]
    good = await play(node, args, stop)
    deadline = time.monotonic() + args.linger
    while not stop.is_set() and time.monotonic() < deadline:
        if all(peer.dialled for peer in node.peers):
            break
        await asyncio.sleep(TICK_S)
        node.tick()
    for peer in node.peers:
        for flow in peer.flows.values():
            peer.live_message("bl_end", says.end(flow.ident, REASON_LEAVING))
        peer.writer.close()
    for task in tasks:
        task.cancel()
    say(f"blocks: {node.came_as}, faults: {node.faults}")
    return 0 if good and not node.faults else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(run(arguments())))
