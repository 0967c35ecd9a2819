"""API keys as the ledger keeps them: for the pepper's owner alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.accounts.keys import api_key
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper

PEPPER = Pepper(b"p" * 32)
SECRET = api_key.mint()
KEY_HMAC = PEPPER.key_hmac(SECRET)


def test_sealed_key_opens_with_its_pepper_alone() -> None:
    """Another server's pepper opens nothing, and one key sealed twice looks like two."""
    sealed = KeySealer(PEPPER).seal(SECRET)
    assert SECRET.encode() == KeySealer(PEPPER).open(sealed, key_hmac=KEY_HMAC)
    assert KeySealer(Pepper(b"q" * 32)).open(sealed, key_hmac=KEY_HMAC) is None
    assert sealed != KeySealer(PEPPER).seal(SECRET)


def test_sealed_key_is_bound_to_its_row() -> None:
    """Moved to another key's row, a sealed key does not let that key's tokens be signed with it."""
    sealed = KeySealer(PEPPER).seal(SECRET)
    assert KeySealer(PEPPER).open(sealed, key_hmac=PEPPER.key_hmac(api_key.mint())) is None


@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_altered_key_does_not_open(place: int, bit: int) -> None:
    """Whichever bit of a sealed key is turned over, it is refused."""
    altered = bytearray(KeySealer(PEPPER).seal(SECRET))
    altered[place % len(altered)] ^= 1 << bit
    assert KeySealer(PEPPER).open(bytes(altered), key_hmac=KEY_HMAC) is None


@given(sealed=st.binary(max_size=40))
def test_garbage_does_not_open(sealed: bytes) -> None:
    """What was never sealed is refused, not raised."""
    assert KeySealer(PEPPER).open(sealed, key_hmac=KEY_HMAC) is None
