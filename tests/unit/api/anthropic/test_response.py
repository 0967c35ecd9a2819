from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from stillhouse.api.anthropic.messages import read_message
from stillhouse.api.anthropic.response import message_out
from stillhouse.api.anthropic.stream import MessageEncoder
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.errors import EngineCrashedError
from stillhouse.types.events import FinishReason, TextDelta, ToolCallDelta
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.service_tier import ServiceTier
from tests.unit.api.sample_responses import finish, parsed, tellings, told, whole

META = ResponseMeta("msg_0123", 7, 'a"/b', ServiceTier.DEFAULT, n=1)
CALL = ToolCallDelta(0, "call_1", "look_up", '{"city": "Paris"}')


def writer(**fields):
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    return read_message(json.dumps(body | fields).encode(), RequestHead()).writer


def stream_of(deltas, end, **fields):
    return told(writer(**fields).event_encoder(META), deltas, end)


def whole_of(deltas, end, **fields):
    return json.loads(writer(**fields).whole_body(META, (whole(deltas, end),), end))


def put_together(events):
    """The message as Anthropic's own client accumulates it, and stricter about the order."""
    first, *middle, last_but_one, last = events
    assert "message_start" == first["type"]
    assert ["message_delta", "message_stop"] == [last_but_one["type"], last["type"]]
    message = first["message"]
    block, buffer = None, ""
    for event in middle:
        if event["type"] == "content_block_start":
            assert block is None
            assert len(message["content"]) == event["index"]
            block, buffer = event["content_block"], ""
            message["content"].append(block)
            continue
        assert len(message["content"]) - 1 == event["index"]
        assert block is not None
        if event["type"] == "content_block_stop":
            if block["type"] == "tool_use":
                block["input"] = json_object(buffer)
            block = None
            continue
        assert "content_block_delta" == event["type"]
        delta = event["delta"]
        match delta["type"]:
            case "text_delta":
                block["text"] += delta["text"]
            case "thinking_delta":
                block["thinking"] += delta["thinking"]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "input_json_delta":
                buffer += delta["partial_json"]
    assert block is None
    return message | last_but_one["delta"] | {"usage": last_but_one["usage"]}


def json_object(text):
    try:
        value = from_json(text, allow_partial=True, allow_inf_nan=False)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@given(tellings(), st.sampled_from(FinishReason))
def test_a_stream_is_the_whole_message(deltas, reason):
    """However an answer is cut into deltas, its stream adds up to the message in one piece."""
    end = finish(reason)

    assert whole_of(deltas, end) == put_together(stream_of(deltas, end))


def test_a_delta_with_everything_is_three_blocks_in_order():
    """Thoughts, text and a call that come at once are told one after the other."""
    events = stream_of([TextDelta("Yes.", "Hm.", (CALL,))], finish(FinishReason.TOOL_CALLS))

    assert [
        "message_start",
        "content_block_start thinking",
        "content_block_delta thinking_delta",
        "content_block_delta signature_delta",
        "content_block_stop",
        "content_block_start text",
        "content_block_delta text_delta",
        "content_block_stop",
        "content_block_start tool_use",
        "content_block_delta input_json_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ] == [
        " ".join(
            [event["type"]]
            + [
                event[part]["type"]
                for part in ("content_block", "delta")
                if "type" in event.get(part, {})
            ]
        )
        for event in events
    ]


def test_whole_message():
    """Every field that Anthropic's clients read, with the cost beside the tokens."""
    message = whole_of([TextDelta("Yes.", "Hm.", (CALL,))], finish(FinishReason.TOOL_CALLS))

    assert {
        "id": "msg_0123",
        "type": "message",
        "role": "assistant",
        "model": 'a"/b',
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": ""},
            {"type": "text", "text": "Yes."},
            {"type": "tool_use", "id": "call_1", "name": "look_up", "input": {"city": "Paris"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 32,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 16,
            "output_tokens": 189,
            "service_tier": "standard",
            "output_tokens_details": {"thinking_tokens": 5},
            "estimated_cost": 9.24e-05,
        },
    } == message


def test_message_start_tells_what_is_known_by_then():
    """The prompt's tokens stand in the first event, those from the cache apart."""
    start = stream_of([TextDelta("Yes.")], finish())[0]["message"]

    assert (32, 16) == (start["usage"]["input_tokens"], start["usage"]["cache_read_input_tokens"])
    assert ([], None) == (start["content"], start["stop_reason"])


@pytest.mark.parametrize(
    ("reason", "stop_string", "expected"),
    [
        (FinishReason.STOP, None, ("end_turn", None)),
        (FinishReason.STOP, "\n\n", ("stop_sequence", "\n\n")),
        (FinishReason.LENGTH, None, ("max_tokens", None)),
        (FinishReason.TOOL_CALLS, None, ("tool_use", None)),
    ],
)
def test_why_it_ended(reason, stop_string, expected):
    """The reason in Anthropic's words, and the stop sequence where one was met."""
    end = finish(reason, stop_string=stop_string)
    message = whole_of([TextDelta("Yes.")], end)

    assert expected == (message["stop_reason"], message["stop_sequence"])
    assert expected == tuple(stream_of([], end)[-2]["delta"].values())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {}),
        ("null", {}),
        ("[1]", {}),
        ("{oops}", {}),
        ('{"a": NaN}', {}),
        ('{"a": 1, "b": "cu', {"a": 1}),
        ('{"a": [1, 2', {"a": [1, 2]}),
        ('{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('{"a": 123456789012345678901234567890, "b', {"a": 123456789012345678901234567890}),
        ("[" * 100_000, {}),
    ],
)
def test_input_is_an_object_whatever_the_model_wrote(arguments, expected):
    """Arguments that were cut are those that are whole; what is no JSON object is an empty one."""
    call = ToolCallDelta(0, "call_1", "look_up", arguments)
    message = whole_of([TextDelta(tool_calls=(call,))], finish(FinishReason.LENGTH))

    assert expected == message["content"][0]["input"]


def test_omitted_thoughts_are_an_empty_block():
    """Who asks for no thoughts gets none, in one piece or in many, and pays for them still."""
    thinking = {"type": "adaptive", "display": "omitted"}
    deltas = [TextDelta(reasoning="Secret."), TextDelta("Yes.")]
    message = whole_of(deltas, finish(), thinking=thinking)

    assert message == put_together(stream_of(deltas, finish(), thinking=thinking))
    assert {"type": "thinking", "thinking": "", "signature": ""} == message["content"][0]


def test_a_cost_that_is_not_known_is_null():
    """While the ledger is down nobody is told a cost."""
    end = finish(cost_picousd=None)
    message = message_out(META, whole([], end), end, shows_thinking=True)

    assert message["usage"]["estimated_cost"] is None


def test_an_error_after_the_first_byte():
    """The error event has Anthropic's envelope with the request's own id, and ends the stream."""
    (event,) = parsed(MessageEncoder(META, shows_thinking=True).error(EngineCrashedError("died")))

    assert {
        "type": "error",
        "error": {"type": "api_error", "message": "died"},
        "request_id": "0123",
    } == event


def test_silence_is_filled_with_pings():
    """What keeps a stream alive is Anthropic's own event for it."""
    assert [{"type": "ping"}] == parsed(MessageEncoder(META, shows_thinking=True).keep_alive)


def test_line_ends_of_unicode_do_not_tear_an_event():
    """Characters that some clients end a line at are escaped, and arrive as they were."""
    events = stream_of([TextDelta("a\u2028b\u2029c\u0085d")], finish())

    assert "a\u2028b\u2029c\u0085d" == events[2]["delta"]["text"]
