"""Forced tool calls through every endpoint except chat, which any model must make."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import openai
import pytest

from stillhouse.checkpoints.checkpoint import find_checkpoint
from tests.e2e.running_server import RunningServer, run_server
from tests.unit.text.templates import V31_TOOLS

MODEL = "test/tools"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
CITIES = [{"city": "Paris"}, {"city": "Rome"}]
MESSAGE = {
    "model": MODEL,
    "max_tokens": 160,
    "messages": [{"role": "user", "content": "Where shall I go?"}],
    "tools": [{"name": "travel", "input_schema": SCHEMA, "strict": True}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
}
RESPONSE = {
    "model": MODEL,
    "max_output_tokens": 160,
    "input": "Where shall I go?",
    "tools": [{"type": "function", "name": "travel", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "travel"},
    "parallel_tool_calls": False,
}


def write_model(directory: Path) -> Path:
    """The demo model's weights with a template that knows tools; what it says is all the same."""
    shutil.copytree(find_checkpoint("demo-r1"), directory)
    config = directory / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"chat_template": V31_TOOLS}))
    return directory


@pytest.fixture(scope="module")
def tools_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("tools")
    config = home / "stillhouse.toml"
    config.write_text(
        f'[models."{MODEL}"]\n'
        f'checkpoint = "{write_model(home / "model")}"\n'
        'family = "deepseek_v31"\n'
        'usd_per_million_tokens = { input = "0.10", output = "0.10" }\n'
        'tags = ["chat", "tools"]\n'
    )
    with run_server(home / "state", "--config", str(config)) as server:
        yield server


@pytest.fixture
def client(tools_server):
    with tools_server.client() as client:
        yield client


def events_of(response):
    blocks = response.text.split("\n\n")[:-1]
    return [json.loads(block.partition("\ndata: ")[2]) for block in blocks]


def test_anthropics_tool_use(client):
    """A forced call is a tool_use block with an object that fits, whole or in a stream."""
    message = client.post("/anthropic/v1/messages", json=MESSAGE).json()
    events = events_of(client.post("/anthropic/v1/messages", json=MESSAGE | {"stream": True}))

    (block,) = message["content"]
    assert ("tool_use", "travel") == (block["type"], block["name"])
    assert block["input"] in CITIES
    assert "tool_use" == message["stop_reason"] == events[-2]["delta"]["stop_reason"]
    starts = [event for event in events if event["type"] == "content_block_start"]
    assert ["tool_use"] == [event["content_block"]["type"] for event in starts]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert json.loads("".join(delta["partial_json"] for delta in deltas)) in CITIES


def test_the_result_of_a_tool_goes_back(client):
    """A call that was answered may be sent back with its result, and the model goes on."""
    message = client.post("/anthropic/v1/messages", json=MESSAGE).json()
    result = {
        "type": "tool_result",
        "tool_use_id": message["content"][0]["id"],
        "content": "Booked.",
    }
    conversation = [
        *MESSAGE["messages"],
        {"role": "assistant", "content": message["content"]},
        {"role": "user", "content": [result, {"type": "text", "text": "Thanks!"}]},
    ]
    ask = MESSAGE | {"messages": conversation, "tool_choice": {"type": "none"}, "max_tokens": 4}
    answer = client.post("/anthropic/v1/messages", json=ask)

    assert 200 == answer.status_code, answer.text
    assert answer.json()["stop_reason"] in {"max_tokens", "end_turn"}


def test_a_call_that_max_tokens_cuts(client):
    """Arguments that are cut off are an object all the same, and the reason says why."""
    messages = [
        client.post("/anthropic/v1/messages", json=MESSAGE | {"max_tokens": n}).json()
        for n in range(60, 90)
    ]
    cut = [message for message in messages if message["stop_reason"] == "max_tokens"]
    inputs = [block["input"] for m in cut for block in m["content"] if block["type"] == "tool_use"]

    assert {} in inputs
    assert all(given in [{}, *CITIES] for given in inputs)


def test_openais_function_call(tools_server):
    """A forced call is an item of its own, and its result goes back in by its call_id."""
    with openai.OpenAI(base_url=f"{tools_server.url}/v1", api_key=tools_server.key) as client:
        response = client.responses.create(**RESPONSE)
        with client.responses.stream(**RESPONSE) as stream:
            list(stream)
            streamed = stream.get_final_response()
        (call,) = response.output
        output = {"type": "function_call_output", "call_id": call.call_id, "output": "Booked."}
        again = client.responses.create(
            model=MODEL,
            max_output_tokens=4,
            input=[{"role": "user", "content": RESPONSE["input"]}, call, output],
            tools=RESPONSE["tools"],
            tool_choice="none",
        )

    assert ("function_call", "travel", "completed") == (call.type, call.name, call.status)
    assert json.loads(call.arguments) in CITIES
    assert ["function_call"] == [item.type for item in streamed.output]
    assert json.loads(streamed.output[0].arguments) in CITIES
    assert 0 < again.usage.output_tokens


def test_json_of_a_schema(client):
    """Each endpoint's own field for a schema constrains the answer."""
    schema = {"type": "json_schema", "schema": SCHEMA}
    message = client.post(
        "/anthropic/v1/messages",
        json={name: MESSAGE[name] for name in ("model", "max_tokens", "messages")}
        | {"output_config": {"format": schema}},
    ).json()
    response = client.post(
        "/v1/responses",
        json={name: RESPONSE[name] for name in ("model", "max_output_tokens", "input")}
        | {"text": {"format": schema | {"name": "trip"}}},
    ).json()

    assert json.loads(message["content"][0]["text"]) in CITIES
    assert json.loads(response["output"][0]["content"][0]["text"]) in CITIES


def test_models_without_tools_say_so(server):
    """Tools are refused by name where the model has no words for them."""
    demo = MESSAGE | {"model": "stillhouse/demo-r1"}
    with server.client() as client:
        refusal: httpx.Response = client.post("/anthropic/v1/messages", json=demo)

    assert 405 == refusal.status_code
    assert "Tool calling is not supported for model" in refusal.json()["error"]["message"]


def test_the_ledger_says_that_it_called(client, tools_server):
    """A request that ended in a call is known by it, and not as one that had its say."""
    message_id = client.post("/anthropic/v1/messages", json=MESSAGE).json()["id"]

    query = "SELECT outcome FROM request WHERE request_id = ?"
    with closing(sqlite3.connect(tools_server.home / "stillhouse.db")) as database:
        assert [("tool_calls",)] == database.execute(query, [message_id]).fetchall()
