from __future__ import annotations

import functools

import msgspec
import pytest

from stillhouse.api.nested_json import json_text, raw_json
from stillhouse.errors import InvalidRequestError


def test_text_is_what_models_have_read():
    """Spaces as everywhere, and letters as they are."""
    assert '{"city": "Köln"}' == json_text({"city": "Köln"}, param="input")


def test_any_integer_goes_back_as_it_came():
    """JSON has integers that msgspec has not."""
    assert b'{"a":1%b}' % (b"0" * 30) == msgspec.json.encode({"a": raw_json(10**30, param="a")})


def test_nesting_beyond_reason_is_a_fault_of_the_request():
    """What cannot be written is refused, and its field named."""
    deep = functools.reduce(lambda inner, _: [inner], range(100_000), [])

    with pytest.raises(InvalidRequestError) as caught:
        raw_json(deep, param="tools.0.parameters")

    assert "tools.0.parameters" == caught.value.param
