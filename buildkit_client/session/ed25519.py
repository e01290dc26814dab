"""Ed25519 signing in plain Python, for the token authority, and for SSH keys where no faster library is installed.

The standard library has no Ed25519, and this is all we need of it: a few short signatures per build. It is slow
(milliseconds). Each signature takes the same number of curve operations whatever the key, but Python's integers do not
take the same time for all values, so who can measure very many signatures may learn something. The token authority's
keys are worth nothing elsewhere: they are derived from the daemon's own salt and a random seed. For SSH keys,
:mod:`~buildkit_client.session.ssh_keys` prefers the package ``cryptography``. Do not use this for anything else.

Points are kept in extended coordinates (X : Y : Z : T) with x = X/Z, y = Y/Z, x*y = T/Z.

Reference: RFC 8032 section 5.1.
"""

from __future__ import annotations

import functools
import hashlib

SEED_BYTES = 32

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, -1, _P) % _P

_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def public_key(seed: bytes) -> bytes:
    """Return the 32-byte public key of a 32-byte private seed."""
    scalar, _ = _expand(seed)
    return _encode(_times_base(scalar))


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of a message under a 32-byte private seed.

    Reference: RFC 8032 section 5.1.6.
    """
    scalar, prefix = _expand(seed)
    key = _encode(_times_base(scalar))
    nonce = _hash_to_int(prefix, message)
    commitment = _encode(_times_base(nonce))
    response = (nonce + _hash_to_int(commitment, key, message) * scalar) % _ORDER
    return commitment + response.to_bytes(32, "little")


def _expand(seed: bytes) -> tuple[int, bytes]:
    """Return the secret scalar and the prefix that makes nonces unpredictable."""
    if len(seed) != SEED_BYTES:
        raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, this one {len(seed)}")
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    scalar &= (1 << 254) - 8  # clear the lowest three bits and the highest two
    return scalar | 1 << 254, digest[32:]


def _hash_to_int(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % _ORDER


def _add(p: _Point, q: _Point) -> _Point:
    """Add two points; the formula holds for equal points too, since the curve's d is no square."""
    a = (p[1] - p[0]) * (q[1] - q[0])
    b = (p[1] + p[0]) * (q[1] + q[0])
    c = 2 * _D * p[3] * q[3]
    d = 2 * p[2] * q[2]
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


@functools.cache
def _base_powers() -> tuple[_Point, ...]:
    """Return the base point times 1, 2, 4, ... 2^254."""
    y = 4 * pow(5, -1, _P) % _P
    # x^2 = (y^2 - 1) / (d*y^2 + 1); for this prime a square root is u^((p+3)/8), perhaps times sqrt(-1).
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if x * x % _P != square:
        x = x * pow(2, (_P - 1) // 4, _P) % _P
    if x % 2:
        x = _P - x
    points = [(x, y, 1, x * y % _P)]
    for _ in range(254):
        points.append(_add(points[-1], points[-1]))
    return tuple(points)


def _times_base(scalar: int) -> _Point:
    result = _NEUTRAL
    for bit, point in enumerate(_base_powers()):
        # Adds for clear bits as well, so that the number of additions tells nothing about the scalar.
        result = (result, _add(result, point))[scalar >> bit & 1]
    return result


def _encode(point: _Point) -> bytes:
    """Return y as 32 little-endian bytes, with the lowest bit of x as the highest bit."""
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")
