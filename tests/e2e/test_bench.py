"""`stillhouse bench` as a person would run it, against the demo model."""

from __future__ import annotations

import json

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse_loadgen.record import decode_json
from stillhouse_loadgen.report.document import Document

QUICK = ("--requests=6", "--input=12", "--output=4", "--tokens-per-word=2")


@pytest.fixture
def bench(server, tmp_path):
    """Runs the command, and reads the document that it writes."""

    def run(*options, keys=(server.key,), model=DEMO_MODEL):
        path = tmp_path / "bench.json"
        keys = [f"--key={key}" for key in keys]
        done = server.command(
            "bench", server.url, f"--model={model}", f"--json={path}", *keys, *options
        )
        is_written = path.exists() and path.stat().st_size
        return done, decode_json(path.read_bytes(), Document) if is_written else None

    return run


def used_by(server, name):
    rows = json.loads(server.command("usage", "--by", "key", "--json").stdout)
    return next(row for row in rows if row["heading"].endswith(name))


def test_numbers_are_the_ledgers(server, bench):
    """The records' sums equal what the ledger charged the key, with each request once."""
    name = "bench-ledger"
    key = server.command("keys", "create", name).stdout.strip()
    _, document = bench(*QUICK, "--rate=50", keys=[key])
    summary, used = document.runs[0].summary, used_by(server, name)

    assert (6, 6) == (summary.num_requests, summary.num_completed)
    assert (used["num_requests"], used["prompt_tokens"], used["completion_tokens"]) == (
        6,
        summary.prompt_tokens,
        summary.completion_tokens,
    )
    assert used["cost_picousd"] == round(summary.cost_usd * 10**12)


def test_sweep_with_two_keys_and_files(bench, tmp_path):
    """Two runs, numbers by key, a page, and no key in anything that is written."""
    page = tmp_path / "bench.html"
    options = ("--concurrency=1,2", f"--html={page}", "--goodput=ttft:1h")
    done, document = bench(*QUICK, *options, keys=["sh_wrong:2", "sh_wrong_too:1"])

    assert 1 == done.returncode  # nobody has those keys
    assert "no request was answered: http_401" in done.stderr
    assert [1, 2] == [run.load.concurrency for run in document.runs]
    assert {"http_401"} == {r.failure for run in document.runs for r in run.records}
    assert "sh_wrong" not in page.read_text() + str(document) + done.stdout + done.stderr
    assert "closed loop, 2 at once" in done.stdout


def test_conversations_go_on(bench):
    """The second question comes with the first answer, and finds the first prompt cached."""
    _, document = bench(
        *("--requests=4", "--rate=50", "--turns=2", "--output=8", "--prefixes=1"),
        *("--prefix-length=200", "--input=20", "--extra", '{"temperature": 0}'),
    )
    records = sorted(document.runs[0].records, key=lambda r: (r.conversation, r.turn))

    assert [(0, 0), (0, 1), (1, 0), (1, 1)] == [(r.conversation, r.turn) for r in records]
    for first, second in zip(records[::2], records[1::2], strict=True):
        assert second.intended_s == pytest.approx(first.end_s, abs=1e-5)
        assert second.prompt_tokens > first.prompt_tokens + 10
        assert second.cached_tokens > 100
    assert document.tokens_per_word > 0.5  # which was measured


def test_trace(bench, tmp_path):
    """A trace is replayed, each request with its own lengths."""
    path = tmp_path / "trace.jsonl"
    lines = [(0, 30, 3), (40, 60, 2), (80, 30, 1)]
    path.write_text(
        "".join(
            json.dumps({"timestamp": at_ms, "input_length": prompt, "output_length": answer}) + "\n"
            for at_ms, prompt, answer in lines
        )
    )
    _, document = bench(f"--trace={path}", "--speed=2", "--tokens-per-word=2")
    records = document.runs[0].records

    assert [0.0, 0.02, 0.04] == [record.intended_s for record in records]
    assert [3, 2, 1] == [record.max_tokens for record in records]
    assert all(record.is_whole for record in records)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"keys": ["sh_wrong"]}, "refuses: 401: "),
        ({"model": "no/model"}, "refuses: 404: "),
    ],
)
def test_server_that_refuses_everything(bench, options, complaint):
    """The first request, which measures words, says why; no load is sent after it."""
    done, document = bench("--rate=1", "--requests=1", **options)

    assert (1, None) == (done.returncode, document)
    assert complaint in done.stderr
