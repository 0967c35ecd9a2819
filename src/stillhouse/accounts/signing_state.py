"""
HMAC-SHA-256 from the state that a key leaves behind, without the key itself.

The first thing that HMAC does with a key is to feed it, padded to one block, to each of its two
hashes. Whoever keeps the hashes' state after that block can sign and verify as the key could, but
cannot find the key: SHA-256's compression of a block has no known way back. RFC 2104, section 4,
describes this, and asks that the state be guarded like the key.

Python's hashlib keeps its states to itself, so the compression function stands here in Python: some
80 µs per block of 64 bytes. Tests compare it with `hmac`.

Source:
    RFC 2104 (HMAC), FIPS 180-4 (SHA-256).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import struct

_BLOCK = 64
_WORD = 0xFFFF_FFFF
_STATE = struct.Struct(">8I")


def signing_state(secret: bytes) -> bytes:
    """What is kept of *secret*, to sign and verify with: 64 bytes."""
    if len(secret) > _BLOCK:
        secret = hashlib.sha256(secret).digest()
    padded = secret.ljust(_BLOCK, b"\0")
    return b"".join(
        _STATE.pack(*_compress(_FIRST_STATE, bytes(byte ^ pad for byte in padded)))
        for pad in (0x36, 0x5C)
    )


def sign(state: bytes, message: bytes) -> bytes:
    """The HMAC-SHA-256 of *message* under the secret that left *state*."""
    inner, outer = _STATE.unpack(state[:32]), _STATE.unpack(state[32:])
    return _finish(outer, _finish(inner, message))


def verify(state: bytes, message: bytes, signature: bytes) -> bool:
    """Whether *signature* was made with the secret that left *state*."""
    return hmac.compare_digest(sign(state, message), signature)


def _finish(state: tuple[int, ...], message: bytes) -> bytes:
    """Hash *message* as what follows the one block that led to *state*."""
    num_bits = 8 * (_BLOCK + len(message))
    zeros = b"\0" * (-(len(message) + 9) % _BLOCK)
    padded = message + b"\x80" + zeros + struct.pack(">Q", num_bits)
    for start in range(0, len(padded), _BLOCK):
        state = _compress(state, padded[start : start + _BLOCK])
    return _STATE.pack(*state)


def _compress(state: tuple[int, ...], block: bytes) -> tuple[int, ...]:
    """SHA-256's compression function (FIPS 180-4, section 6.2.2)."""
    a, b, c, d, e, f, g, h = state
    for constant, word in zip(_CONSTANTS, _schedule(block), strict=True):
        # A word beside itself: shifting the pair rotates the word.
        ee, aa = e << 32 | e, a << 32 | a
        mixed_e = (ee >> 6 ^ ee >> 11 ^ ee >> 25) & _WORD
        mixed_a = (aa >> 2 ^ aa >> 13 ^ aa >> 22) & _WORD
        first = h + mixed_e + (e & f ^ ~e & g) + constant + word
        second = mixed_a + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (first + second) & _WORD, a, b, c, (d + first) & _WORD, e, f, g
    return tuple(
        (old + new) & _WORD for old, new in zip(state, (a, b, c, d, e, f, g, h), strict=True)
    )


def _schedule(block: bytes) -> list[int]:
    words = list(struct.unpack(">16I", block))
    for i in range(16, 64):
        early, late = words[i - 15], words[i - 2]
        early_pair, late_pair = early << 32 | early, late << 32 | late
        mixed_early = (early_pair >> 7 ^ early_pair >> 18) & _WORD ^ early >> 3
        mixed_late = (late_pair >> 17 ^ late_pair >> 19) & _WORD ^ late >> 10
        words.append((words[i - 16] + mixed_early + words[i - 7] + mixed_late) & _WORD)
    return words


def _fraction_of_root(number: int, degree: int) -> int:
    """The first 32 bits behind the point of a root: SHA-256's constants, from nowhere hidden."""
    scaled = number << 32 * degree
    root = math.isqrt(scaled) if degree == 2 else _cube_root(scaled)
    return root & _WORD


def _cube_root(number: int) -> int:
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**3 <= number else (low, middle)
    return low


_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, math.isqrt(n) + 1))]
_FIRST_STATE = tuple(_fraction_of_root(prime, 2) for prime in _PRIMES[:8])
_CONSTANTS = [_fraction_of_root(prime, 3) for prime in _PRIMES]
