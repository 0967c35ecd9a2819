"""The fake engine, told what time it is."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from stillhouse.chat import SamplingParams, TokenUsage
from stillhouse.engines.base import EngineFinish, GenerateRequest
from stillhouse.engines.fake.runner import FakeRunner
from stillhouse.engines.fake.settings import DEMO_WORDS, FakeSettings, Fault, FaultKind
from stillhouse.engines.fake.witness import Witnessed, WitnessLog, read_witness_log
from stillhouse.errors import ConfigError, InvalidRequestError, RequestTooLargeForEngineError
from stillhouse.models.checkpoint import PACKAGED_CHECKPOINTS
from stillhouse.models.tokenizer import Tokenizer

DEMO = PACKAGED_CHECKPOINTS / "demo-r1"
VOCAB_SIZE = 2048


def make_runner(witness=None, **settings):
    return FakeRunner(
        FakeSettings(checkpoint_dir=DEMO, **settings),
        vocab_size=VOCAB_SIZE,
        context_length=512,
        witness=witness or WitnessLog(None),
    )


def make_request(prompt=(1, 2, 3), max_tokens=4, *, request_id="a", seed=None, **fields):
    sampling = SamplingParams(seed=seed)
    return GenerateRequest(request_id, list(prompt), max_tokens, sampling, **fields)


def run(runner, *requests, now_s=0.0):
    """Every step of the requests, by number, when time does not pass."""
    for number, request in enumerate(requests):
        runner.add(number, request, now_s=now_s)
    steps = {number: [] for number in range(len(requests))}
    while new := runner.step(now_s):
        for number, step in new:
            steps[number].append(step)
    return steps


def tokens(steps):
    return [token for step in steps for token in step.token_ids]


def test_tokens_are_a_function_of_prompt_seed_and_index():
    """The same request has the same tokens in any engine and company; another seed has others."""
    (alone,) = run(make_runner(), make_request(max_tokens=9, seed=1)).values()
    other, together = run(
        make_runner(),
        make_request(max_tokens=9, seed=2, request_id="b"),
        make_request(max_tokens=9, seed=1),
    ).values()

    assert tokens(alone) == tokens(together)
    assert tokens(alone) != tokens(other)
    assert [TokenUsage(3, 0, n) for n in range(1, 10)] == [step.usage for step in alone]
    assert EngineFinish.LENGTH is alone[-1].finish


def test_every_word_is_visible_text_of_the_demo_model():
    """Each token is letters, so that each is a delta, and none is a control token."""
    text = (DEMO / "tokenizer.json").read_text()
    tokenizer = Tokenizer(text, source="tokenizer.json")
    words = [tokenizer.token_bytes[token] for token in range(DEMO_WORDS[0], DEMO_WORDS[1] + 1)]

    assert all(word.decode().strip() for word in words)
    assert tokenizer.control_ids.isdisjoint(range(DEMO_WORDS[0], DEMO_WORDS[1] + 1))


def test_tokens_come_when_they_are_due():
    """The first comes after its time, each further one an interval later, late ones unhurried."""
    runner = make_runner(first_token_s=5, token_interval_s=1)
    runner.add(0, make_request(), now_s=10)

    assert (15, []) == (runner.next_due_s, runner.step(14.9))
    assert (1, 16) == (len(runner.step(15.2)), runner.next_due_s)
    assert (1, 20) == (len(runner.step(20)), runner.next_due_s)


def test_no_more_run_than_there_are_slots():
    """Who finds no slot waits, the most important first, and runs when one is free."""
    runner = make_runner(slots=1)
    runner.add(0, make_request(max_tokens=1), now_s=0)
    runner.add(1, make_request(max_tokens=1, priority=1), now_s=0)
    runner.add(2, make_request(max_tokens=1), now_s=0)

    assert (1, 2) == (runner.health.num_running, runner.health.num_waiting)
    assert [0, 2, 1] == [runner.step(0)[0][0] for _ in range(3)]
    assert [] == runner.step(0)


def test_a_prefix_is_cached_under_its_salt_alone():
    """Whole blocks of what was seen are cached, the last token never, other salts never."""
    runner = make_runner(block_size=4)
    prompt = range(12)
    counts = [
        run(runner, make_request(prompt, 1, cache_salt=salt))[0][0].usage.cached_tokens
        for salt in ("x", "x", "y")
    ]
    assert [0, 8, 0] == counts


def test_a_cancelled_sequence_has_an_exact_end():
    """Running or waiting, it ends with what was made, and its blocks are free."""
    runner = make_runner(slots=1, block_size=4)
    runner.add(0, make_request(max_tokens=9), now_s=0)
    runner.add(1, make_request(), now_s=0)
    runner.step(0)
    ((_, waiting),) = runner.cancel(1, now_s=0)
    ((_, running),) = runner.cancel(0, now_s=0)

    assert (EngineFinish.CANCELLED, 0) == (waiting.finish, waiting.usage.completion_tokens)
    assert (EngineFinish.CANCELLED, 1) == (running.finish, running.usage.completion_tokens)
    assert [] == runner.cancel(0, now_s=0)
    assert runner.health.num_blocks == runner.health.num_free_blocks


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (FaultKind.NEGATIVE_USAGE, -1),
        (FaultKind.HUGE_USAGE, 10**9),
        (FaultKind.NO_USAGE, 0),
    ],
)
def test_counts_are_wrong_from_the_token_and_for_the_seed_that_is_told(kind, count):
    """A fault begins with its token, and only for requests with its seed."""
    runner = make_runner(faults=(Fault(kind, at_token=2, seed=7),))
    faulty, sound = run(runner, make_request(seed=7), make_request(seed=8, request_id="b")).values()

    assert [1, 2, count, count] == [step.usage.completion_tokens for step in faulty]
    assert [1, 2, 3, 4] == [step.usage.completion_tokens for step in sound]


def test_an_ignored_cancel_changes_nothing():
    """The sequence goes on to its end."""
    runner = make_runner(faults=(Fault(FaultKind.IGNORE_CANCEL),))
    runner.add(0, make_request(), now_s=0)
    runner.step(0)

    assert [] == runner.cancel(0, now_s=0)
    assert 1 == len(runner.step(0))


def test_the_witness_has_every_token_and_end(tmp_path: Path):
    """What was told stands in the log, which outlives engines and a line cut short by a kill."""
    path = tmp_path / "witness.jsonl"
    with closing(WitnessLog(path)) as witness:
        (first,) = run(make_runner(witness), make_request()).values()
    with path.open("a") as file:
        file.write(json.dumps({"request_id": "a", "index": 4})[:-5])
    with closing(WitnessLog(path)) as witness:
        runner = make_runner(witness)
        runner.add(0, make_request(request_id="b", seed=1), now_s=0)
        ((_, step),) = runner.step(0)

    assert {
        "a": Witnessed(tokens(first), EngineFinish.LENGTH),
        "b": Witnessed([*step.token_ids], None),
    } == read_witness_log(path)


@pytest.mark.parametrize(
    ("request_fields", "error"),
    [
        ({"prompt": ()}, InvalidRequestError),
        ({"prompt": (VOCAB_SIZE,)}, InvalidRequestError),
        ({"max_tokens": -1}, InvalidRequestError),
        ({"max_tokens": 510}, RequestTooLargeForEngineError),
    ],
)
def test_what_no_engine_can_do_is_refused(request_fields, error):
    """Bad requests are refused as any engine refuses them."""
    with pytest.raises(error):
        make_runner().add(0, make_request(**request_fields), now_s=0)


def test_settings_travel_as_json():
    """A worker reads what the gateway wrote."""
    settings = FakeSettings(
        checkpoint_dir=DEMO,
        witness_log=Path("/w"),
        faults=(Fault(FaultKind.CRASH, at_token=3, seed=1), Fault(FaultKind.HANG)),
    )
    assert settings == FakeSettings.from_json(settings.to_json())


@pytest.mark.parametrize("settings", [{"slots": 0}, {"block_size": 0}, {"word_ids": (5, 4)}])
def test_settings_that_cannot_be_are_told(settings):
    """A value that makes no sense is an operator's error."""
    with pytest.raises(ConfigError):
        make_runner(**settings)
