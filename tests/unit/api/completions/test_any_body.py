from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from stillhouse.api.anthropic.messages import read_message
from stillhouse.api.responses.responses import read_response
from stillhouse.errors import InvalidRequestError

_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_ODD = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)
_TYPES = st.sampled_from(
    [
        *("text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image"),
        *("message", "reasoning", "function_call", "function_call_output", "item_reference"),
        *("input_text", "output_text", "reasoning_text", "summary_text", "refusal"),
    ]
)
_ROLES = st.sampled_from(["user", "assistant", "system", "developer"])


def _mostly(usual):
    """The usual, and now and then what nobody expects in its place."""
    return st.integers(0, 19).flatmap(lambda n: usual if n else _ODD)


def _filled(inner):
    """An object with the fields that blocks, parts and items have."""
    names = st.text(min_size=1, max_size=3)
    texts = _mostly(st.text() | st.lists(inner, max_size=3))
    return st.fixed_dictionaries(
        {"type": _mostly(_TYPES)},
        optional={
            **dict.fromkeys(["text", "thinking", "arguments", "refusal"], _mostly(st.text())),
            **dict.fromkeys(["id", "name", "tool_use_id", "call_id"], _mostly(names)),
            **dict.fromkeys(["content", "summary", "output"], texts),
            "role": _mostly(_ROLES),
            "input": _mostly(st.dictionaries(st.text(), _ODD, max_size=2)),
            "is_error": _mostly(st.booleans()),
        },
    )


_PARTS = _filled(_filled(_ODD))
_TURNS = st.lists(
    st.fixed_dictionaries(
        {"role": _mostly(_ROLES), "content": _mostly(st.text() | st.lists(_PARTS, max_size=3))}
    )
    | _PARTS,
    min_size=1,
    max_size=3,
)
_FIELDS = st.sampled_from(
    [
        *("system", "tools", "tool_choice", "thinking", "output_config", "output_format"),
        *("context_management", "max_tokens", "stop_sequences", "metadata", "instructions"),
        *("text", "reasoning", "include", "store", "prompt", "truncation", "service_tier"),
        *("stream_options", "top_logprobs", "mcp_servers"),
    ]
)


@pytest.mark.parametrize(("read", "turns"), [(read_message, "messages"), (read_response, "input")])
@given(given_turns=_TURNS, fields=st.just({}) | st.dictionaries(_FIELDS, _ODD, max_size=1))
def test_any_body_is_read_or_refused(read, turns, given_turns, fields):
    """Whatever JSON a client sends, it is a request or a fault of the request, and nothing else."""
    body = {"model": "m", turns: given_turns} | fields

    with suppress(InvalidRequestError):
        parsed = read(json.dumps(body).encode(), None)
        event("read")
        assert 0 < len(parsed.request.messages)
