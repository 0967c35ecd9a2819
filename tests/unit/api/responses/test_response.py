from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response

from stillhouse.api.responses.responses import read_response
from stillhouse.errors import EngineCrashedError
from stillhouse.types.events import FinishReason, TextDelta, ToolCallDelta
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.service_tier import ServiceTier
from tests.unit.api.sample_responses import SoFar, finish, parsed, tellings, told, whole

META = ResponseMeta("resp_0123", 7, 'a"/b', ServiceTier.FLEX, n=1)
CALL = ToolCallDelta(0, "call_1", "look_up", '{"city": "Paris"}')
DONE = {"reasoning": "reasoning_text", "message": "output_text"}


def writer(**fields):
    body = json.dumps({"model": "m", "input": "Hi"} | fields).encode()
    return read_response(body, None).writer


def stream_of(deltas, end, **fields):
    return told(writer(**fields).event_encoder(META), deltas, end)


def whole_of(deltas, end, **fields):
    return json.loads(writer(**fields).whole_body(META, (whole(deltas, end),), end))


def put_together(events):
    """The items that the deltas between the first and last events add up to, item by item."""
    created, in_progress, *middle, _ = events
    assert ["response.created", "response.in_progress"] == [created["type"], in_progress["type"]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    items = []
    is_open = False
    for event in middle:
        if event["type"] == "response.output_item.added":
            assert not is_open
            assert len(items) == event["output_index"]
            assert "in_progress" == event["item"]["status"]
            items.append(event["item"])
            is_open = True
            continue
        assert is_open
        assert len(items) - 1 == event["output_index"]
        is_open = event["type"] != "response.output_item.done"
        take(event, items[-1])
    assert not is_open
    return items


def take(event, item):
    kind = event["type"].removeprefix("response.")
    if kind == "output_item.done":
        assert event["item"] == item | {"status": event["item"]["status"]}
        item["status"] = event["item"]["status"]
        return
    assert item["id"] == event["item_id"]
    if item["type"] == "function_call":
        if kind == "function_call_arguments.delta":
            item["arguments"] += event["delta"]
        else:
            assert "function_call_arguments.done" == kind
            assert (item["name"], item["arguments"]) == (event["name"], event["arguments"])
        return
    text_kind = DONE[item["type"]]
    if kind == "content_part.added":
        assert (0, "", text_kind) == (
            event["content_index"],
            event["part"]["text"],
            event["part"]["type"],
        )
        item["content"].append(event["part"])
    elif kind == f"{text_kind}.delta":
        item["content"][0]["text"] += event["delta"]
        if item["type"] == "message":
            item["content"][0]["logprobs"] += event["logprobs"]
    elif kind == f"{text_kind}.done":
        assert item["content"][0]["text"] == event["text"]
    else:
        assert "content_part.done" == kind
        assert item["content"][0] == event["part"]


@given(tellings(has_logprobs=True), st.sampled_from(FinishReason))
def test_a_stream_is_the_whole_response(deltas, reason):
    """However an answer is cut into deltas, its stream adds up to the response in one piece."""
    end = finish(reason)
    events = stream_of(deltas, end)
    response = whole_of(deltas, end)

    assert response == events[-1]["response"]
    assert response["output"] == put_together(events)
    assert f"response.{response['status']}" == events[-1]["type"]


def test_a_delta_with_everything_is_three_items_in_order():
    """Reasoning, text and a call that come at once are told one after the other."""
    events = stream_of([TextDelta("Yes.", "Hm.", (CALL,))], finish(FinishReason.TOOL_CALLS))

    assert [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ] == [event["type"].removeprefix("response.") for event in events]


def test_whole_response():
    """Every field that OpenAI's client reads is there, and what was asked for stands beside it."""
    tool = {"type": "function", "name": "look_up", "parameters": {"maximum": 10**30}}
    fields = {
        "instructions": "Be brief.",
        "max_output_tokens": 9,
        "temperature": 0.5,
        "tools": [tool],
        "tool_choice": {"type": "function", "name": "look_up", "more": 10**30},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "metadata": {"a": "b"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": {"maximum": 10**30}}},
    }
    response = whole_of(
        [TextDelta("Yes.", "Hm.", (CALL,))], finish(FinishReason.TOOL_CALLS), **fields
    )

    Response.model_validate(response)
    assert (
        fields
        | {
            "tools": [tool | {"description": None, "strict": False}],
            "tool_choice": {"type": "function", "name": "look_up"},
            "reasoning": {"effort": "low", "summary": None},
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "n",
                    "description": None,
                    "schema": {"maximum": 10**30},
                    "strict": True,
                }
            },
            "id": "resp_0123",
            "object": "response",
            "created_at": 7,
            "status": "completed",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "model": 'a"/b',
            "output": [
                {
                    "id": "rs_012300",
                    "type": "reasoning",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "Hm."}],
                    "encrypted_content": None,
                    "status": "completed",
                },
                {
                    "id": "msg_012301",
                    "type": "message",
                    "role": "assistant",
                    "content": [
                        {"type": "output_text", "text": "Yes.", "annotations": [], "logprobs": []}
                    ],
                    "status": "completed",
                },
                {
                    "id": "fc_012302",
                    "type": "function_call",
                    "call_id": "call_1",
                    "name": "look_up",
                    "arguments": '{"city": "Paris"}',
                    "status": "completed",
                },
            ],
            "usage": {
                "input_tokens": 48,
                "input_tokens_details": {"cached_tokens": 16, "cache_write_tokens": 0},
                "output_tokens": 189,
                "output_tokens_details": {"reasoning_tokens": 5},
                "total_tokens": 237,
                "estimated_cost": 9.24e-05,
            },
            "service_tier": "flex",
            "max_tool_calls": None,
            "previous_response_id": None,
            "prompt_cache_key": None,
            "safety_identifier": None,
            "store": False,
            "top_logprobs": 0,
            "top_p": None,
            "truncation": "disabled",
            "user": None,
        }
        == response
    )


@pytest.mark.parametrize(
    ("reason", "status", "details"),
    [
        (FinishReason.STOP, "completed", None),
        (FinishReason.TOOL_CALLS, "completed", None),
        (FinishReason.LENGTH, "incomplete", {"reason": "max_output_tokens"}),
    ],
)
def test_an_answer_that_was_cut_off_is_incomplete(reason, status, details):
    """The response says so, and so does the item that was being written."""
    response = whole_of([TextDelta("Yes.", "Hm.")], finish(reason))

    assert (status, details) == (response["status"], response["incomplete_details"])
    assert ["completed", status] == [item["status"] for item in response["output"]]


def test_an_error_after_the_first_byte():
    """An error for those who look for one, then the failed response with what was whole by then."""
    encoder = writer().event_encoder(META)
    encoder.opening()
    encoder.event(TextDelta("Yes.", "Hm."), SoFar())
    error, failed = parsed(encoder.error(EngineCrashedError("died")))

    assert ("error", "server_error", "died", None) == tuple(
        error[name] for name in ("type", "code", "message", "param")
    )
    Response.model_validate(failed["response"])
    assert ("response.failed", "failed") == (failed["type"], failed["response"]["status"])
    assert {"code": "server_error", "message": "died"} == failed["response"]["error"]
    assert ["reasoning"] == [item["type"] for item in failed["response"]["output"]]
    assert error["sequence_number"] + 1 == failed["sequence_number"]
