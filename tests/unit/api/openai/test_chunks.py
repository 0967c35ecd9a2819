from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.openai.chunks import ChunkEncoder
from stillhouse.api.openai.generation_request import StreamOptions
from stillhouse.errors import EngineCrashedError
from stillhouse.types.events import ChoiceEnd, Finish, FinishReason, TextDelta, ToolCallDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage

META = ResponseMeta("chatcmpl-x", 7, 'a"/b', ServiceTier.DEFAULT, n=2)
FINISH = Finish(FinishReason.LENGTH, TokenUsage(48, 0, 189), 92_400_000, reasoning_tokens=5)


@dataclass
class SoFar:
    """A completion in the middle."""

    usage: TokenUsage = field(default_factory=lambda: TokenUsage(48, 16, 3))
    cost_so_far_picousd: int = 5_000_000
    reasoning_tokens: int = 2


def encoded(event, *, has_logprobs=False, **options):
    encoder = ChunkEncoder(META, StreamOptions(**options), has_logprobs=has_logprobs)
    return [parsed(chunk) for chunk in encoder.event(event, SoFar()).split(b"\n\n")[:-1]]


def parsed(event):
    assert event.startswith(b"data: ")
    return json.loads(event.removeprefix(b"data: "))


@given(st.text(), st.text())
def test_any_text_survives_as_one_event(content, reasoning):
    """Whatever the text, line breaks and quotes too, it is one event that parses back to it."""
    (chunk,) = encoded(TextDelta(content, reasoning, choice=1))

    assert 1 == chunk["choices"][0]["index"]
    assert content == chunk["choices"][0]["delta"]["content"]
    assert reasoning == chunk["choices"][0]["delta"].get("reasoning_content", "")


def test_opening_gives_each_answer_its_role():
    """The role comes once for each answer, on its first chunk."""
    encoder = ChunkEncoder(META, StreamOptions())
    chunks = [parsed(chunk) for chunk in encoder.opening().split(b"\n\n")[:-1]]

    assert [0, 1] == [chunk["choices"][0]["index"] for chunk in chunks]
    assert ["assistant"] * 2 == [chunk["choices"][0]["delta"]["role"] for chunk in chunks]


def test_finish_carries_usage_in_deepinfras_order():
    """The finish chunk has an empty delta, the reason, and usage with the exact cost."""
    (event,) = encoded(FINISH)

    assert [{"index": 0, "delta": {}, "finish_reason": "length"}] == event["choices"]
    assert ["prompt_tokens", "total_tokens", "completion_tokens", "estimated_cost"] == list(
        event["usage"]
    )[:4]
    assert 9.24e-05 == event["usage"]["estimated_cost"]
    assert {"reasoning_tokens": 5} == event["usage"]["completion_tokens_details"]
    assert ('a"/b', 7) == (event["model"], event["created"])


def test_the_end_of_one_of_several_has_no_usage_yet():
    """Usage is the request's, so it stands on the end of its last answer only."""
    (event,) = encoded(ChoiceEnd(FinishReason.STOP, choice=1))

    assert [{"index": 1, "delta": {}, "finish_reason": "stop"}] == event["choices"]
    assert event["usage"] is None


def test_usage_alone_has_no_choices():
    """OpenAI's usage chunk has an empty list of choices, and is there only when asked for."""
    end, usage = encoded(FINISH, include_usage=True)

    assert (None, []) == (end["usage"], usage["choices"])
    assert 237 == usage["usage"]["total_tokens"]
    assert [None] == [chunk["usage"] for chunk in encoded(FINISH, include_usage=False)]


def test_usage_on_every_chunk():
    """With continuous_usage_stats each chunk says what was used and cost so far."""
    (chunk,) = encoded(TextDelta("x"), continuous_usage_stats=True)

    assert (48, 3, 5e-06) == tuple(
        chunk["usage"][key] for key in ("prompt_tokens", "completion_tokens", "estimated_cost")
    )
    assert {"cached_tokens": 16} == chunk["usage"]["prompt_tokens_details"]


@pytest.mark.parametrize("delta", [TextDelta("x"), TextDelta(reasoning="x")])
def test_what_is_not_there_is_absent(delta):
    """A delta without calls has no `tool_calls` at all: null broke parsers."""
    (chunk,) = encoded(delta)

    assert not {"tool_calls", "role"} & chunk["choices"][0]["delta"].keys()
    assert "logprobs" not in chunk["choices"][0]


def test_tool_calls():
    """A call's first piece names it; the others carry only more of its arguments."""
    begin = ToolCallDelta(0, "call_1", "find", "")
    (chunk,) = encoded(TextDelta(tool_calls=(begin, ToolCallDelta(0, arguments='{"a"'))))

    assert [
        {
            "index": 0,
            "id": "call_1",
            "type": "function",
            "function": {"name": "find", "arguments": ""},
        },
        {"index": 0, "function": {"arguments": '{"a"'}},
    ] == chunk["choices"][0]["delta"]["tool_calls"]


def test_log_probabilities():
    """Each token stands with its bytes, half a character too, and the likeliest beside it."""
    drawn = Logprob(3, b"\xf0\x9f", -0.5)
    delta = TextDelta(logprobs=(TokenLogprobs(drawn, (Logprob(4, b"x", -1.0),)),))
    (chunk,) = encoded(delta, has_logprobs=True)

    assert {
        "content": [
            {
                "token": "\ufffd",
                "logprob": -0.5,
                "bytes": [0xF0, 0x9F],
                "top_logprobs": [{"token": "x", "logprob": -1.0, "bytes": [0x78]}],
            }
        ],
        "refusal": None,
    } == chunk["choices"][0]["logprobs"]


def test_error_event():
    """An error in mid-stream is an event in OpenAI's envelope."""
    event = ChunkEncoder(META, StreamOptions()).error(EngineCrashedError("gone"))

    assert ("gone", "engine_crashed") == tuple(
        parsed(event)["error"][key] for key in ("message", "code")
    )
