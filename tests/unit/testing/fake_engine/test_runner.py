"""The fake engine, told what time it is."""

from __future__ import annotations

import json
import math
from contextlib import closing
from pathlib import Path

import pytest

from stillhouse.checkpoints.checkpoint import PACKAGED_CHECKPOINTS
from stillhouse.checkpoints.tokenizer_json import TokenizerJson
from stillhouse.clock import FrozenClock
from stillhouse.engines.base import EngineFinish, GenerateRequest
from stillhouse.engines.capabilities import Capabilities
from stillhouse.errors import (
    ConfigError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
    UnsupportedFeatureError,
)
from stillhouse.testing.fake_engine.runner import FakeRunner
from stillhouse.testing.fake_engine.settings import DEMO_WORDS, FakeSettings, Fault, FaultKind
from stillhouse.testing.fake_engine.witness import Witnessed, WitnessLog, read_witness_log
from stillhouse.text.tokenizer import Tokenizer
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage

DEMO = PACKAGED_CHECKPOINTS / "demo-r1"
VOCAB_SIZE = 2048


def make_runner(witness=None, clock=None, **settings):
    return FakeRunner(
        FakeSettings(checkpoint_dir=DEMO, **settings),
        vocab_size=VOCAB_SIZE,
        context_length=512,
        witness=witness or WitnessLog(None),
        clock=clock or FrozenClock(0),
    )


def make_request(prompt=(1, 2, 3), max_tokens=4, *, request_id="a", seed=None, **fields):
    fields = {"sampling": SamplingParams(seed=seed), **fields}
    return GenerateRequest(request_id, list(prompt), max_tokens, **fields)


def nothing():
    pass


def run(runner, *requests):
    """Every step of the requests, by number, when time does not pass."""
    for number, request in enumerate(requests):
        runner.add(number, request)
    steps = {number: [] for number in range(len(requests))}
    while new := runner.step(nothing):
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
    tokenizer = Tokenizer(TokenizerJson(text, source="tokenizer.json"))
    words = [tokenizer.token_bytes[token] for token in range(DEMO_WORDS[0], DEMO_WORDS[1] + 1)]

    assert all(word.decode().strip() for word in words)
    assert tokenizer.control_ids.isdisjoint(range(DEMO_WORDS[0], DEMO_WORDS[1] + 1))


def test_tokens_come_when_they_are_due():
    """The first comes after its time, each further one an interval later, late ones unhurried."""
    clock = FrozenClock(10_000)
    runner = make_runner(clock=clock, first_token_s=5, token_interval_s=1)
    assert runner.idle_s is None
    runner.add(0, make_request())

    clock.advance(4.75)
    assert (0.25, []) == (runner.idle_s, runner.step(nothing))
    clock.advance(0.5)
    assert (1, 0.75) == (len(runner.step(nothing)), runner.idle_s)
    clock.advance(4.75)
    assert (1, 0.0) == (len(runner.step(nothing)), runner.idle_s)


def test_no_more_run_than_there_are_slots():
    """Who finds no slot waits, the most important first, and runs when one is free."""
    runner = make_runner(slots=1)
    runner.add(0, make_request(max_tokens=1))
    runner.add(1, make_request(max_tokens=1, priority=1))
    runner.add(2, make_request(max_tokens=1))

    assert (1, 2) == (runner.health.num_running, runner.health.num_waiting)
    assert [0, 2, 1] == [runner.step(nothing)[0][0] for _ in range(3)]
    assert [] == runner.step(nothing)


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
    runner.add(0, make_request(max_tokens=9))
    runner.add(1, make_request())
    runner.step(nothing)
    ((_, waiting),) = runner.cancel(1)
    ((_, running),) = runner.cancel(0)

    assert (EngineFinish.CANCELLED, 0) == (waiting.finish, waiting.usage.completion_tokens)
    assert (EngineFinish.CANCELLED, 1) == (running.finish, running.usage.completion_tokens)
    assert [] == runner.cancel(0)
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
    runner.add(0, make_request())
    runner.step(nothing)

    assert [] == runner.cancel(0)
    assert 1 == len(runner.step(nothing))


def test_the_witness_has_every_token_and_end(tmp_path: Path):
    """What was told stands in the log, which outlives engines and a line cut short by a kill."""
    path = tmp_path / "witness.jsonl"
    with closing(WitnessLog(path)) as witness:
        (first,) = run(make_runner(witness), make_request()).values()
    with path.open("a") as file:
        file.write(json.dumps({"request_id": "a", "index": 4})[:-5])
    with closing(WitnessLog(path)) as witness:
        runner = make_runner(witness)
        runner.add(0, make_request(request_id="b", seed=1))
        ((_, step),) = runner.step(nothing)

    assert {
        "a": Witnessed(tokens(first), EngineFinish.LENGTH),
        "b": Witnessed([*step.token_ids], None),
    } == read_witness_log(path)


def test_the_witness_adds_up_the_answers_of_one_request(tmp_path: Path):
    """Sequences "a", "a/1" and "a/2" are one request, which ends when all of them have."""
    path = tmp_path / "witness.jsonl"
    with closing(WitnessLog(path)) as witness:
        runner = make_runner(witness)
        requests = [
            make_request(request_id=name, max_tokens=2 + number, seed=number)
            for number, name in enumerate(("a", "a/1", "a/2", "ab"))
        ]
        steps = run(runner, *requests)
        runner.add(4, make_request(request_id="c/1"))
        runner.cancel(4)
        runner.add(5, make_request(request_id="c"))
        runner.step(nothing)

    log = read_witness_log(path)
    assert {"a", "ab", "c"} == log.keys()
    assert tokens(steps[0] + steps[1] + steps[2]) == log["a"].token_ids
    assert tokens(steps[3]) == log["ab"].token_ids
    assert EngineFinish.LENGTH is log["a"].finish
    assert (1, None) == (len(log["c"].token_ids), log["c"].finish)


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
        make_runner().add(0, make_request(**request_fields))


def test_a_decisive_bias_forces_or_forbids_words():
    """From 100 a token is always drawn; from -100 never, as long as there is another word."""
    words = (446, 447, 448)

    def drawn(*logit_bias):
        sampling = SamplingParams(seed=5, logit_bias=logit_bias)
        runner = make_runner(word_ids=(words[0], words[-1]))
        return tokens(run(runner, make_request(max_tokens=40, sampling=sampling))[0])

    assert {*words} == {*drawn()}
    assert drawn() == drawn((446, 99.9), (447, -99.9))
    assert {7} == {*drawn((7, 100.0))}
    assert {448} == {*drawn((446, -100.0), (447, -200.0), (9, -100.0))}
    assert {*words} == {*drawn(*((word, -100.0) for word in words))}


@pytest.mark.parametrize("num_top", [0, 2, 20])
def test_made_up_log_probabilities_halve(num_top):
    """The drawn word has 1/2, those after it 1/4 and so on, as many as there are words."""
    runner = make_runner(word_ids=(10, 12))
    (steps,) = run(runner, make_request(seed=3, top_logprobs=num_top)).values()

    for step in steps:
        (drawn,) = step.token_ids
        expected = [10 + (drawn - 10 + rank) % 3 for rank in range(3)][:num_top]
        assert expected == [token for token, _ in step.logprobs[0].top]
        assert step.logprobs[0].logprob == pytest.approx(math.log(0.5))
        shares = [math.exp(logprob) for _, logprob in step.logprobs[0].top]
        assert [0.5, 0.25, 0.125][:num_top] == pytest.approx(shares)


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("seed", {"seed": 3}),
        ("logit_bias", {"sampling": SamplingParams(logit_bias=((500, 100.0),))}),
    ],
)
def test_a_fake_engine_with_fewer_capabilities_refuses_more(param, fields):
    """What its settings do not declare, it refuses by name."""
    runner = make_runner(capabilities=Capabilities())
    with pytest.raises(UnsupportedFeatureError) as refused:
        run(runner, make_request(**fields))
    assert param == refused.value.param
    with pytest.raises(UnsupportedFeatureError, match="no log probabilities"):
        run(runner, make_request(top_logprobs=1))


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
