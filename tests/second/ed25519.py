"""Ed25519 by RFC 8032, section 5.1, with the strict rule of specs/feed.md. Slow and plain."""

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def add(a, b):
    """The sum of two points in extended coordinates (x, y, z, t)."""
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    e1, e2 = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    e3, e4 = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = e2 - e1, e4 - e3, e4 + e3, e2 + e1
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def mul(n, point):
    """n times a point."""
    out = NEUTRAL
    while n:
        if n & 1:
            out = add(out, point)
        point = add(point, point)
        n >>= 1
    return out


def neg(point):
    x, y, z, t = point
    return (-x % P, y, z, -t % P)


def is_neutral(point):
    x, y, z, _ = point
    return x % P == 0 and (y - z) % P == 0


def encode(point):
    """The canonical 32 bytes of a point."""
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def decode(data):
    """The point of a canonical encoding, or None."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * SQRT_MINUS_1 % P
    if (v * x * x - u) % P:
        return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def point_of_key(key):
    """The point of a public key that may have a feed, or None (rule 1)."""
    point = decode(key)
    if point is None or is_neutral(mul(8, point)):
        return None
    return point


def hash_number(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def holds(key, signature, message):
    """Whether a signature holds by the four rules of specs/feed.md."""
    a = point_of_key(key)
    r, s = decode(signature[:32]), int.from_bytes(signature[32:], "little")
    if a is None or s >= L or r is None or is_neutral(mul(8, r)):
        return False
    k = hash_number(signature[:32], key, message) % L
    return encode(add(mul(s, BASE), neg(mul(k, a)))) == signature[:32]


def secret(seed):
    """The secret number of a seed and the prefix of its nonces."""
    digest = hashlib.sha512(seed).digest()
    number = int.from_bytes(digest[:32], "little")
    return number & (2**254 - 8) | 2**254, digest[32:]


def public_key(seed):
    return encode(mul(secret(seed)[0], BASE))


def sign(seed, message):
    a, prefix = secret(seed)
    return sign_with(a, hash_number(prefix, message) % L, public_key(seed), message)


def sign_with(a, nonce, key, message):
    """A signature with a nonce of the caller's choice."""
    r = encode(mul(nonce, BASE))
    s = (nonce + hash_number(r, key, message) * a) % L
    return r + s.to_bytes(32, "little")
