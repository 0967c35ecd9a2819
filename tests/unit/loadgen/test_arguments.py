"""A command line as a plan, and what is wrong with one."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from typer.testing import CliRunner

from stillhouse.cli.main import app
from stillhouse_loadgen.arguments import Arguments
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.report.document import LoadShape
from stillhouse_loadgen.workload.mooncake import TraceRequest
from stillhouse_loadgen.workload.workload import Extent

DEFAULTS: dict[str, Any] = {
    "url": "http://127.0.0.1:8000/v1",
    "model": "a/model",
    "key": [],
    "keys_file": None,
    "rate": None,
    "arrivals": "poisson",
    "concurrency": None,
    "trace": None,
    "speed": None,
    "requests": None,
    "duration": None,
    "warmup": None,
    "input_tokens": "256",
    "output_tokens": "64",
    "turns": "1",
    "think": "0",
    "prefixes": 0,
    "prefix_length": 512,
    "prefix_share": 1.0,
    "goodput": [],
    "extra": "{}",
    "timeout": "10m",
    "max_in_flight": 10_000,
    "tokens_per_word": None,
    "seed": 0,
}


def plan(**given):
    return Arguments(**DEFAULTS | given).plan()


def test_sweep_of_rates():
    """Numbers between commas are a run each; without an end, a hundred requests."""
    swept = plan(rate="1,2.5", arrivals="constant")

    assert (
        LoadShape(rate=1, arrivals="constant"),
        LoadShape(rate=2.5, arrivals="constant"),
    ) == swept.loads
    assert Extent(num_requests=100) == swept.extent


def test_closed_loop():
    """So many at once, for so long."""
    closed = plan(concurrency="4,16", duration="2m", warmup="10s")

    assert (LoadShape(concurrency=4), LoadShape(concurrency=16)) == closed.loads
    assert (Extent(duration_s=120.0), 10.0) == (closed.extent, closed.warmup_s)


def test_trace(tmp_path):
    """A trace ends by itself."""
    path = tmp_path / "trace.jsonl"
    path.write_text('{"timestamp": 0, "input_length": 3, "output_length": 1}\n')
    replay = plan(trace=path)

    assert (LoadShape(speed=1.0),) == replay.loads
    assert ([TraceRequest(0, 3, 1)], Extent()) == (replay.content, replay.extent)


def test_no_key():
    """Servers without keys are asked without one."""
    assert [("no key", "")] == [(k.label, k.secret) for k in plan(rate="1").keys.keys]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({}, "give one of --rate, --concurrency and --trace, not none"),
        ({"rate": "1", "concurrency": "2"}, "not --rate and --concurrency"),
        ({"rate": "0"}, "--rate: '0' is not a list of numbers above 0"),
        ({"rate": "1,,2"}, "--rate: '1,,2'"),
        ({"rate": "nan"}, "--rate: 'nan'"),
        ({"rate": "inf"}, "--rate: 'inf'"),
        ({"rate": "1", "arrivals": "gamma"}, "'gamma' is none of poisson, constant"),
        ({"rate": "1", "speed": "2"}, "--speed is a trace's"),
        ({"concurrency": "1.5"}, "--concurrency: 1.5 is no whole number"),
        ({"concurrency": "1000000"}, "--concurrency: 1e.06 is no whole number"),
        ({"rate": "1", "duration": "10s", "warmup": "10s"}, "nothing would be counted"),
        ({"rate": "1", "duration": "10"}, "--duration: '10' is not a duration"),
        ({"rate": "1", "timeout": "never"}, "--timeout: 'never'"),
        ({"rate": "1", "input_tokens": "long"}, "--input: 'long' is not a distribution"),
        ({"rate": "1", "output_tokens": "x"}, "--output: 'x' is not a distribution"),
        ({"rate": "1", "turns": "x"}, "--turns: 'x' is not a distribution"),
        ({"rate": "1", "think": "x"}, "--think: 'x' is not a distribution"),
        ({"rate": "1", "extra": "{"}, "--extra: is not a JSON object"),
        ({"rate": "1", "extra": "[]"}, "--extra: is not a JSON object"),
        ({"rate": "1", "extra": '{"stream": false}'}, "--extra: 'stream' is set by the load"),
        ({"rate": "1", "tokens_per_word": 0.0}, "--tokens-per-word is 0.0"),
        ({"rate": "1", "goodput": ["ttft"]}, "--goodput: 'ttft' is no target"),
        ({"rate": "1", "url": "here"}, "'here' is not the URL"),
    ],
)
def test_what_is_wrong(given, complaint):
    """Each mistake is named with its option and its value."""
    with pytest.raises(ArgumentError, match=complaint):
        plan(**given)


def run(*arguments):
    env = {"NO_COLOR": "1", "DEEPINFRA_TOKEN": ""}
    return CliRunner().invoke(app, ["bench", *arguments], env=env)


def test_missing_extra(monkeypatch):
    """Without the libraries, the command says how to get them."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = run("http://127.0.0.1:1/v1", "--model", "m", "--rate", "1")

    assert "pip install 'stillhouse[bench]'" in result.exception.message
    assert "aiohttp and matplotlib" in result.exception.message


def test_files_are_tried_before_the_load(tmp_path):
    """Nobody waits for half an hour to hear that there is no such folder."""
    path = str(tmp_path / "none" / "b.json")
    result = run("http://127.0.0.1:1/v1", "--model", "m", "--rate", "1", "--json", path)

    assert "b.json: cannot be written" in result.exception.message
