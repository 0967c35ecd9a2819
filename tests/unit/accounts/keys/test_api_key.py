from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.accounts.keys import api_key

BASE62 = string.digits + string.ascii_letters


def test_minted_keys_are_well_formed_and_differ() -> None:
    """Every minted key is ours by its shape and checksum, and no two are the same."""
    keys = {api_key.mint() for _ in range(1000)}
    assert 1000 == len(keys)
    assert all(api_key.is_well_formed(key) and len(key) == 36 for key in keys)


@given(position=st.integers(min_value=3, max_value=35), letter=st.sampled_from(BASE62))
def test_one_wrong_letter_is_noticed(position: int, letter: str) -> None:
    """A single mistyped letter anywhere in a key is told without asking the ledger."""
    key = api_key.mint()
    mistyped = key[:position] + letter + key[position + 1 :]
    assert (mistyped == key) == api_key.is_well_formed(mistyped)


@given(st.text())
def test_other_text_is_refused(text: str) -> None:
    """Text from outside, whatever it holds, is refused and breaks nothing."""
    assert not api_key.is_well_formed(text)


@pytest.mark.parametrize("spoil", [str.swapcase, "{}\n".format, " {}".format, "{}0".format])
def test_almost_a_key_is_refused(spoil: object) -> None:
    """Nothing around or within a key is forgiven."""
    assert callable(spoil)
    assert not api_key.is_well_formed(spoil(api_key.mint()))


def test_shown_part_gives_nothing_away() -> None:
    """What a list shows of a key leaves more than 128 bits to guess."""
    shown = api_key.shown_part(api_key.mint())
    assert 8 == len(shown)
