"""Bencode as specs/wire.md takes it from peers: keys in any order, everything else canonical."""

import re

DEPTH_MAX = 16
INT = re.compile(rb"i(0|-?[1-9][0-9]*)e")
LENGTH = re.compile(rb"(0|[1-9][0-9]*):")


class Refused(Exception):
    """The bytes break a rule."""


def read(data, at=0, depth=0):
    """The value at an offset and where it ends. Integers, bytes, lists and dictionaries."""
    first = data[at:at + 1]
    if first == b"i":
        match = INT.match(data, at)
        if not match or not -2**63 <= int(match[1]) < 2**63:
            raise Refused("integer")
        return int(match[1]), match.end()
    if first.isdigit():
        match = LENGTH.match(data, at)
        if not match or match.end() + int(match[1]) > len(data):
            raise Refused("string")
        end = match.end() + int(match[1])
        return data[match.end():end], end
    if first not in (b"l", b"d"):
        raise Refused("no value")
    if depth == DEPTH_MAX:
        raise Refused("too deep")
    at += 1
    items = []
    while data[at:at + 1] != b"e":
        item, at = read(data, at, depth + 1)
        items.append(item)
    return (items if first == b"l" else dictionary(items)), at + 1


def dictionary(items):
    keys, values = items[::2], items[1::2]
    if len(keys) != len(values) or not all(isinstance(key, bytes) for key in keys):
        raise Refused("keys")
    if len(set(keys)) != len(keys):
        raise Refused("a key occurs twice")
    return dict(zip(keys, values))


def read_dictionary(data):
    """A dictionary and what stands behind it."""
    value, end = read(data)
    if not isinstance(value, dict):
        raise Refused("no dictionary")
    return value, data[end:]


def whole_dictionary(data):
    value, rest = read_dictionary(data)
    if rest:
        raise Refused("bytes behind the dictionary")
    return value
