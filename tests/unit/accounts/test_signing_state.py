from __future__ import annotations

import hmac
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.accounts import api_key, signing_state


@given(secret=st.binary(max_size=130), message=st.binary(max_size=300))
def test_state_signs_as_its_secret_does(secret: bytes, message: bytes) -> None:
    """What is kept of a key makes the very signatures that HMAC-SHA-256 makes with the key."""
    state = signing_state.signing_state(secret)
    signature = hmac.digest(secret, message, "sha256")
    assert signature == signing_state.sign(state, message)
    assert signing_state.verify(state, message, signature)


@pytest.mark.parametrize("length", [0, 54, 55, 56, 63, 64, 65, 118, 119, 120, 128])
def test_every_length_of_padding(length: int) -> None:
    """Messages that end at and around the edges of a block are signed right."""
    message = os.urandom(length)
    state = signing_state.signing_state(b"secret")
    assert hmac.digest(b"secret", message, "sha256") == signing_state.sign(state, message)


def test_published_example() -> None:
    """RFC 4231's second example comes out."""
    state = signing_state.signing_state(b"Jefe")
    assert "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" == (
        signing_state.sign(state, b"what do ya want for nothing?").hex()
    )


@given(message=st.binary(max_size=80), bit=st.integers(min_value=0, max_value=255))
def test_one_wrong_bit_is_noticed(message: bytes, bit: int) -> None:
    """A signature with any single bit changed is refused, and so is one that is cut short."""
    state = signing_state.signing_state(api_key.mint().encode())
    signature = bytearray(signing_state.sign(state, message))
    signature[bit // 8] ^= 1 << bit % 8
    assert not signing_state.verify(state, message, bytes(signature))
    assert not signing_state.verify(state, message, bytes(signature[:31]))
