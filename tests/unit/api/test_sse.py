from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.sse import ChunkEncoder, error_event
from stillhouse.chat import Finish, FinishReason, TextDelta, TokenUsage
from stillhouse.errors import EngineCrashedError

ENCODER = ChunkEncoder(completion_id="chatcmpl-x", created=7, model='a"/b')
FINISH = Finish(FinishReason.LENGTH, TokenUsage(48, 0, 189), 92_400_000)


def parsed(event):
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert 1 == event.count(b"\n\n")
    return json.loads(event.removeprefix(b"data: "))


@given(st.text(), st.text())
def test_any_text_survives_as_one_event(content, reasoning):
    """Whatever the text, line breaks and quotes too, it is one event that parses back to it."""
    delta = parsed(ENCODER.delta(TextDelta(content, reasoning)))["choices"][0]["delta"]

    assert content == delta["content"]
    assert reasoning == delta.get("reasoning_content", "")


def test_finish_carries_usage_in_deepinfras_order():
    """The finish chunk has an empty delta, the reason, and usage with the exact cost."""
    event = parsed(ENCODER.finish(FINISH, has_usage=True))

    assert [{"index": 0, "delta": {}, "finish_reason": "length"}] == event["choices"]
    assert ["prompt_tokens", "total_tokens", "completion_tokens", "estimated_cost"] == list(
        event["usage"]
    )[:4]
    assert 9.24e-05 == event["usage"]["estimated_cost"]
    assert ('a"/b', 7) == (event["model"], event["created"])


def test_usage_alone_has_no_choices():
    """OpenAI's usage chunk has an empty list of choices."""
    assert [] == parsed(ENCODER.usage(FINISH))["choices"]
    assert parsed(ENCODER.finish(FINISH, has_usage=False))["usage"] is None


def test_error_event():
    """An error in mid-stream is an event in OpenAI's envelope."""
    error = parsed(error_event(EngineCrashedError("gone")))["error"]

    assert ("gone", "engine_crashed") == (error["message"], error["code"])
