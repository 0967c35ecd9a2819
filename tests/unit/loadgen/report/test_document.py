"""What is written to files."""

from __future__ import annotations

import re

import msgspec
import pytest

from stillhouse_loadgen.record import SCHEMA, decode_json, encode_json
from stillhouse_loadgen.report.document import (
    Document,
    LoadShape,
    command_without,
    this_environment,
)
from stillhouse_loadgen.report.goodput import parse_targets
from stillhouse_loadgen.report.page import html_page
from tests.unit.loadgen.records import document, record, refused

TARGETS = parse_targets(["ttft:2s"])
SCRIPT = "<script>alert(1)</script>"


def test_json_reads_back():
    """A document is read back as it was, by readers that refuse what they do not know."""
    written = document([record(), refused(1.0)], [record(key="b"), record()], targets=TARGETS)
    text = encode_json(written)

    assert written == decode_json(text, Document)
    assert SCHEMA == msgspec.json.decode(text)["schema"]


def test_json_names():
    """These names are what others read: changing one changes the schema's number."""
    written = msgspec.json.decode(encode_json(document([record()])))
    run = written["runs"][0]

    assert "stillhouse-bench/1" == written["schema"]
    assert {
        *("schema", "command", "environment", "url", "model", "seed", "tokens_per_word"),
        *("targets", "runs"),
    } == set(written)
    assert {
        *("number", "conversation", "turn", "key", "max_tokens", "intended_s", "is_warmup"),
        *("sent_s", "first_token_s", "gaps_s", "end_s", "status", "retry_after"),
        *("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd", "finish_reason"),
        *("failure", "message"),
    } == set(run["records"][0])
    assert {"load", "started_at", "is_interrupted", "num_given_up", "summary", "records"} == set(
        run
    )
    assert {"count", "mean", "p50", "p90", "p95", "p99", "max"} == set(run["summary"]["ttft"])


def test_unknown_fields_are_refused():
    """Whoever reads a document of another schema is told."""
    text = encode_json(document([record()])).replace(b'"seed"', b'"sead"')
    with pytest.raises(msgspec.ValidationError):
        decode_json(text, Document)


def test_keys_are_blotted_out():
    """The command is kept, and no key in it, whether with a share or without."""
    command = command_without(
        ["sh_a", "sh_b", ""], ["bench", "URL", "--key", "sh_a:10", "--key=sh_b", "--rate", "4"]
    )

    assert ["stillhouse", "bench", "URL", "--key", "***:10", "--key=***", "--rate", "4"] == command


def test_environment_is_told():
    """Versions and machine, so that a number can be compared with another."""
    environment = this_environment()

    assert environment.num_cpus >= 1
    assert all((environment.stillhouse, environment.python, environment.aiohttp))


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (LoadShape(rate=4, arrivals="poisson"), "open loop, poisson, 4 arrivals/s"),
        (LoadShape(concurrency=8), "closed loop, 8 at once"),
        (LoadShape(speed=0.5), "open loop, trace at speed 0.5"),
    ],
)
def test_loads_say_whether_they_are_closed(load, words):
    """Nobody reads a closed loop's latencies for an open one's."""
    assert words == str(load)


@pytest.fixture(scope="module")
def page():
    """A page with everything on it, where everybody tried to write a script."""
    hostile = refused(1.0, message=SCRIPT, failure=SCRIPT, key=SCRIPT, finish_reason=SCRIPT)
    runs = [record(), hostile, record(2.0, finish_reason=SCRIPT)], [record()]
    return html_page(
        document(*runs, targets=TARGETS, model=SCRIPT, url=SCRIPT, command=["stillhouse", SCRIPT])
    )


def test_page_escapes(page):
    """What a server or a user has written stays text."""
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_page_needs_nothing_else(page):
    """Nothing in it leads out, neither address nor import, and its policy forbids it."""
    links = re.findall(r"""(?:href|src|action|data)\s*=\s*["']([^"']*)""", page)

    assert {"#", "data:image/png"} >= {re.split(r"(?<=#)|;", link)[0] for link in links}
    assert [] == re.findall(r"url\((?!#)|@import|<link|<iframe|<object", page)
    assert {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"} == set(
        re.findall(r"https?://[^\s\"'<&]+", page)
    )
    assert "default-src 'none'" in page


def test_page_has_its_plots(page):
    """The sweep, the distributions, and two plots of each run."""
    assert 6 == page.count("<svg")
    assert 6 == page.count("</svg>")


@pytest.mark.parametrize("records", [[], [refused()], [record(gaps_s=(), completion_tokens=1)]])
def test_page_of_little(records):
    """A run without answers, or without anything, has a page too."""
    assert 3 == html_page(document(records)).count("<svg")
