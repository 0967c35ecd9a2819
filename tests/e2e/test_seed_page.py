"""The seed page's requests, word for word, with only host and token changed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.running_server import RunningServer, environment

SEED = Path(__file__).parent / "seed"
SEED_HOST = "https://api.deepinfra.com"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def curl(server: RunningServer, name: str, *, stream: bool = False) -> str:
    command = (SEED / f"{name}.sh").read_text().replace(SEED_HOST, server.url)
    if stream:
        command = command.replace('"messages"', '"stream": true,\n"messages"')
    done = subprocess.run(
        ["bash", "-c", command.rstrip() + " --silent --show-error --fail-with-body"],
        env=environment(server.home) | {"DEEPINFRA_TOKEN": server.key},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def events_in(stream):
    lines = [line for line in stream.split("\n\n") if line]
    assert "data: [DONE]" == lines[-1]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_hello_is_greeted_and_priced(server):
    """The first curl is answered with a greeting, counts that add up and their exact cost."""
    answer = json.loads(curl(server, "hello"))

    assert "stillhouse/demo-r1" == answer["model"]
    assert "chat.completion" == answer["object"]
    choice = answer["choices"][0]
    assert "stop" == choice["finish_reason"]
    assert "hello" in choice["message"]["content"].lower()
    assert choice["message"]["reasoning_content"]
    usage = answer["usage"]
    assert ["prompt_tokens", "total_tokens", "completion_tokens", "estimated_cost"] == list(usage)[
        :4
    ]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    cost_picousd = 200_000 * usage["prompt_tokens"] + 600_000 * usage["completion_tokens"]
    assert cost_picousd / 10**12 == usage["estimated_cost"]


def test_second_turn_is_about_the_second_method(server):
    """Asked for the second method of an earlier answer, the model tells of Sous le Sable."""
    content = json.loads(curl(server, "conversation"))["choices"][0]["message"]["content"]

    assert "sous le sable" in content.lower()
    assert "sous vide" not in content.lower()
    assert "hot smoking" not in content.lower()


@pytest.mark.parametrize("name", ["hello", "conversation"])
def test_streams_end_with_usage_and_done(server, name):
    """Streamed, each conversation ends with usage on the finish chunk, then [DONE]."""
    text = curl(server, name, stream=True)
    events = events_in(text)

    assert {"chat.completion.chunk"} == {event["object"] for event in events}
    assert 1 == len({(event["id"], event["created"]) for event in events})
    assert {"role": "assistant", "content": ""} == events[0]["choices"][0]["delta"]
    assert ["stop"] == [
        event["choices"][0]["finish_reason"]
        for event in events
        if event["choices"][0]["finish_reason"]
    ]
    assert 0 < events[-1]["usage"]["estimated_cost"]
    assert all(event["usage"] is None for event in events[:-1])
    assert "<" not in text.replace("\\u003c", "<")


def test_the_pages_own_stream_request(server):
    """The page's third curl, which asks for a stream itself, gets one."""
    events = events_in(curl(server, "stream"))

    content = "".join(event["choices"][0]["delta"].get("content", "") for event in events)
    assert "hello" in content.lower()
