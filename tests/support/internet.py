#!/usr/bin/env python3
"""A small internet in user space, for kernels without netem. Needs root.

Each host is a network namespace with one TUN interface; this process carries the packets between
them. What a host sends waits for its uplink (--up, Mbit/s, one value a host), crosses the net with
a one-way delay that is drawn once for each pair (--delay-ms), waits for the receiver's downlink,
and is lost with a probability of --loss or when a queue is longer than --queue-ms. Hosts are
namespaces PREFIX1, PREFIX2, ... with the addresses 10.97.0.1, 10.97.0.2, ...

Prints a line of JSON when it is up and one with what it carried when it ends, which it does when
its standard input ends.
"""

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import signal
import struct
import subprocess
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
NETWORK = bytes([10, 97, 0])
# Least queue in bytes: two packets must fit into that of the slowest line.
QUEUE_LEAST = 3000


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--up", required=True, help="Mbit/s of each host: 8,2.5,0.1")
    parser.add_argument("--down", type=float, default=100.0)
    parser.add_argument("--delay-ms", default="10-75")
    parser.add_argument("--queue-ms", type=float, default=200.0)
    parser.add_argument("--loss", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.up = [float(rate) * 1e6 / 8 for rate in given.up.split(",")]
    if not 1 <= len(given.up) <= 250:
        parser.error(f"{len(given.up)} hosts, 1 to 250 are possible")
    return given


def ip(*words, check=True):
    subprocess.run(["ip", *words], check=check, stdout=subprocess.DEVNULL)


def enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def make_host(name, number, home):
    """A namespace whose only way out is the TUN interface that is given back."""
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    namespace = os.open(f"/run/netns/{name}", os.O_RDONLY)
    enter(namespace)
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"tun0", IFF_TUN_NO_PI))
    finally:
        enter(home)
        os.close(namespace)
    ip("-n", name, "addr", "add", f"10.97.0.{number}/24", "dev", "tun0")
    ip("-n", name, "link", "set", "tun0", "up", "mtu", "1500")
    return tun


class Internet:
    def __init__(self, given, tuns):
        self.tuns, self.up = tuns, given.up
        self.down = given.down * 1e6 / 8
        self.queue_s, self.loss, self.seed = given.queue_ms / 1e3, given.loss, given.seed
        low, _, high = given.delay_ms.partition("-")
        self.delays_ms = (float(low), float(high or low))
        self.dice = random.Random(given.seed)
        self.pairs, self.way, self.turn = {}, [], 0
        self.up_free = [0.0] * len(tuns)
        self.down_free = [0.0] * len(tuns)
        self.counts = dict(carried=0, bytes=0, lost=0, overflowed=0, foreign=0)

    def delay_s(self, a, b):
        pair = (min(a, b), max(a, b))
        if pair not in self.pairs:
            dice = random.Random(f"{self.seed} {pair}")
            self.pairs[pair] = dice.uniform(*self.delays_ms) / 1e3
        return self.pairs[pair]

    def take(self, sender, packet):
        """Puts a packet on its way, unless a queue has no room for it or it is lost."""
        known = packet[0] >> 4 == 4 and packet[16:19] == NETWORK
        receiver = packet[19] - 1
        if not known or not 0 <= receiver < len(self.tuns):
            self.counts["foreign"] += 1
            return
        now = time.monotonic()
        begin = max(now, self.up_free[sender])
        if begin - now > max(self.queue_s, QUEUE_LEAST / self.up[sender]):
            self.counts["overflowed"] += 1
            return
        self.up_free[sender] = begin + len(packet) / self.up[sender]
        if self.loss and self.dice.random() < self.loss:
            self.counts["lost"] += 1
            return
        there = max(self.up_free[sender] + self.delay_s(sender, receiver), self.down_free[receiver])
        self.down_free[receiver] = there + len(packet) / self.down
        self.turn += 1
        heapq.heappush(self.way, (self.down_free[receiver], self.turn, receiver, packet))

    def deliver(self):
        now = time.monotonic()
        while self.way and self.way[0][0] <= now:
            _, _, receiver, packet = heapq.heappop(self.way)
            try:
                os.write(self.tuns[receiver], packet)
                self.counts["carried"] += 1
                self.counts["bytes"] += len(packet)
            except OSError:
                self.counts["overflowed"] += 1

    def run(self):
        hosts = {tun: number for number, tun in enumerate(self.tuns)}
        poll = select.epoll()
        for tun in self.tuns:
            poll.register(tun, select.EPOLLIN)
        poll.register(0, select.EPOLLIN | select.EPOLLHUP)
        while True:
            self.deliver()
            next_s = self.way[0][0] - time.monotonic() if self.way else 0.05
            for ready, _ in poll.poll(min(max(next_s, 0.0), 0.05)):
                if ready not in hosts:
                    if not os.read(0, 4096):
                        return
                    continue
                for _ in range(32):
                    try:
                        packet = os.read(ready, 2048)
                    except BlockingIOError:
                        break
                    self.take(hosts[ready], packet)


def main():
    given = arguments()
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    names = [f"{given.prefix}{n + 1}" for n in range(len(given.up))]
    made = []
    # A signal ends it like the end of its input: the namespaces are removed.
    signal.signal(signal.SIGTERM, lambda *_: exit(1))
    try:
        tuns = []
        for number, name in enumerate(names, 1):
            made.append(name)
            tuns.append(make_host(name, number, home))
        net = Internet(given, tuns)
        print(json.dumps(dict(hosts=names)), flush=True)
        net.run()
        net.counts["cpu_s"] = round(time.process_time(), 1)
        print(json.dumps(net.counts), flush=True)
    finally:
        for name in made:
            ip("netns", "del", name, check=False)


main()
