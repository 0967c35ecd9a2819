from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.checkpoints.tokenizer_json import TokenizerJson
from stillhouse.text.parsing.text_stream import TextStream
from stillhouse.text.tokenizer import Tokenizer
from tests.effort import examples
from tests.unit.text.checkpoints import BOS

BYTES = {byte: bytes([byte]) for byte in range(256)}


@pytest.fixture(scope="module")
def token_bytes(tokenizer):
    """Bytes by id of the test tokenizer."""
    return Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json")).token_bytes


@settings(max_examples=examples(100), deadline=None)
@given(st.data())
def test_any_tokens_give_what_the_library_decodes(tokenizer, token_bytes, data):
    """Token by token, valid or not, the text is what decoding all of them at once gives."""
    first_added_id = tokenizer.token_to_id(BOS)
    token_ids = data.draw(st.lists(st.integers(0, first_added_id - 1), max_size=40))

    assert tokenizer.decode(token_ids) == _text(token_bytes, token_ids)


@given(st.text())
def test_no_character_is_ever_split(text):
    """Byte by byte, each character comes whole, with the byte that completes it."""
    stream = TextStream(BYTES)

    pieces = [stream.push(byte) for byte in text.encode()]

    assert text == "".join(pieces)
    assert not any("\ufffd" in piece for piece in pieces if "\ufffd" not in text)
    assert "" == stream.flush()


@pytest.mark.parametrize(
    ("token_ids", "expected"),
    [
        ([0xF0, 0x9F, 0x9A], "\ufffd"),  # a rocket cut short
        ([0x80], "\ufffd"),
        ([0xC3, 0x41], "\ufffdA"),
        ([0xE2, 0x82, 0xAC], "€"),
        ([0x41, 9999, 0x42], "AB"),
    ],
)
def test_bytes_that_are_no_text_become_replacement_characters(token_ids, expected):
    """Invalid bytes show as U+FFFD, and ids beyond the vocabulary as nothing."""
    assert expected == _text(BYTES, token_ids)


def _text(token_bytes: Mapping[int, bytes], token_ids: Iterable[int]) -> str:
    stream = TextStream(token_bytes)
    return "".join([stream.push(token_id) for token_id in token_ids]) + stream.flush()
