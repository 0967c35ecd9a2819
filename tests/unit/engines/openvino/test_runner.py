"""The engine in this process, one step at a time."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llguidance import LLMatcher

from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep, Grammar
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.runner import Runner
from stillhouse.engines.openvino.sampling.grammar import Grammars
from stillhouse.engines.openvino.settings import EngineSettings, Precision
from stillhouse.errors import CheckpointError, ConfigError, InvalidRequestError
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage
from tests.ascii_tokenizer import END_ID, TOKENS, write_ascii_tokenizer
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint

REQUEST = GenerateRequest("r", [1, 2, 3], 5, SamplingParams(temperature=0))


@pytest.fixture
def make_runner(tmp_path):
    write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG)

    def make(**options: Any) -> Runner:
        settings = EngineSettings(
            checkpoint_dir=tmp_path / "checkpoint",
            cache_dir=tmp_path / "cache",
            precision=Precision.F32,
            **{"num_threads": 1, "kv_cache_bytes": 2**20, **options},
        )
        return load_runner(settings, lambda _: None)

    return make


GRAMMAR = Grammar('{"grammars": [{"lark_grammar": "start: /foo|bar/"}]}')
CONSTRAINED = replace(REQUEST, grammar=GRAMMAR, stop_token_ids=(END_ID,))


def nothing() -> None:
    pass


def finish(runner: Runner) -> dict[int, list[int]]:
    """Step to the end and return the tokens of every sequence."""
    token_ids: dict[int, list[int]] = {}
    while runner.has_work:
        for sequence_id, step in runner.step(nothing):
            assert isinstance(step, GenerateStep)
            token_ids.setdefault(sequence_id, []).extend(step.token_ids)
    return token_ids


def test_a_step_tells_each_sequence_once(make_runner):
    """A batch of two comes back as two steps, in the order of importance."""
    runner = make_runner()
    runner.add(1, REQUEST)
    runner.add(2, replace(REQUEST, prompt_token_ids=[4], priority=-1))
    assert [2, 1] == [sequence_id for sequence_id, _ in runner.step(nothing)]


def test_a_cancel_that_comes_during_the_computation_is_honoured(make_runner):
    """The tokens of a step that was under way when the cancel came are never told nor counted."""
    runner = make_runner()
    runner.add(1, REQUEST)
    runner.add(2, REQUEST)
    runner.step(nothing)
    told = []
    steps = runner.step(lambda: told.extend(runner.cancel(1)))
    assert [(1, GenerateStep((), TokenUsage(3, 0, 1), EngineFinish.CANCELLED))] == told
    assert [2] == [sequence_id for sequence_id, _ in steps]
    assert [] == runner.cancel(1)


def test_a_cancel_does_not_shift_the_others_logits(make_runner):
    """Who stands behind a cancelled request in the batch still gets the tokens it gets alone."""
    first, second = REQUEST, replace(REQUEST, prompt_token_ids=[50, 60], cache_salt="other")
    alone = make_runner()
    alone.add(2, second)
    expected = [alone.step(nothing), alone.step(nothing)]
    runner = make_runner()
    runner.add(1, first)
    runner.add(2, second)
    assert expected[0] == runner.step(nothing)[1:]
    assert expected[1] == runner.step(lambda: runner.cancel(1) and None)


def test_a_request_that_comes_during_the_computation_is_served(make_runner):
    """What arrives in the middle of a step is part of the next."""
    runner = make_runner()
    runner.add(1, REQUEST)
    runner.step(lambda: runner.add(2, REQUEST))
    assert {1, 2} == {sequence_id for sequence_id, _ in runner.step(nothing)}


@pytest.mark.parametrize(
    "options", [{"target_pause_s": 1e-6}, {"target_pause_s": 60.0}, {"prefill_chunk_tokens": 7}]
)
def test_how_prompts_are_cut_changes_no_token(make_runner, options):
    """In float32 a prompt gives the same answer a block, a few tokens or all of it at a time."""
    long = replace(REQUEST, prompt_token_ids=[5 + n % 90 for n in range(150)])
    alone = make_runner()
    alone.add(1, long)
    expected = finish(alone)
    runner = make_runner(**options)
    runner.add(1, replace(REQUEST, max_tokens=20))
    runner.step(nothing)
    runner.add(2, long)
    assert expected[1] == finish(runner)[2]


def test_prompts_advance_where_every_step_is_too_long(make_runner):
    """A target that no machine meets still lets a block of prompt through with each step."""
    runner = make_runner(target_pause_s=1e-9)
    runner.add(1, replace(REQUEST, max_tokens=20))
    runner.step(nothing)
    runner.add(2, replace(REQUEST, prompt_token_ids=[7] * 4 * runner.block_size))
    told = [{sequence_id for sequence_id, _ in runner.step(nothing)} for _ in range(4)]
    assert [{1}, {1}, {1}, {1, 2}] == told


def test_there_is_no_work_when_all_is_told(make_runner):
    """An engine with nothing to do can sleep."""
    runner = make_runner()
    assert not runner.has_work
    runner.add(1, replace(REQUEST, max_tokens=1))
    assert runner.has_work
    runner.step(nothing)
    assert not runner.has_work


def test_an_engine_without_work_waits_for_ever(make_runner):
    """What the loop is told: no time at all while there is work, no limit when there is none."""
    runner = make_runner()
    assert (None, []) == (runner.idle_s, runner.step(nothing))
    runner.add(1, REQUEST)
    assert 0.0 == runner.idle_s


@pytest.fixture
def blocked(monkeypatch, make_runner, tmp_path):
    """A runner whose grammars are compiled when the event is set, and what was compiled."""
    write_ascii_tokenizer(tmp_path / "checkpoint")
    may_go, texts = threading.Event(), []
    compile_ = Grammars._compile

    def wait_and_compile(self: Grammars, text: str, begun: tuple[int, ...]) -> LLMatcher:
        texts.append(text)
        may_go.wait()
        matcher: LLMatcher = compile_(self, text, begun)
        return matcher

    monkeypatch.setattr(Grammars, "_compile", wait_and_compile)
    yield make_runner(), may_go, texts
    may_go.set()


def test_a_grammar_that_is_compiled_holds_up_nobody(blocked):
    """Others run to their end meanwhile, and the engine has no step to take for it."""
    runner, may_go, _ = blocked
    runner.prepare(1, CONSTRAINED)
    runner.add(1, CONSTRAINED)
    assert (1.0, []) == (runner.idle_s, runner.step(nothing))
    assert (0, 1) == (runner.health.num_running, runner.health.num_waiting)
    runner.add(2, REQUEST)
    assert 0.0 == runner.idle_s
    tokens_of_second = [step for _ in range(5) for step in runner.step(nothing)]
    assert {2} == {sequence_id for sequence_id, _ in tokens_of_second}
    assert EngineFinish.LENGTH == tokens_of_second[-1][1].finish
    may_go.set()
    (answer,) = finish(runner).values()
    assert "".join(TOKENS[token_id] for token_id in answer[:-1]) in {"foo", "bar"}
    assert END_ID == answer[-1]


def test_a_cancel_ends_who_waits_for_a_grammar(blocked):
    """At once; what is being compiled goes on, what nobody waits for is not begun."""
    runner, may_go, texts = blocked
    other = replace(CONSTRAINED, grammar=Grammar('{"grammars": [{"lark_grammar": "start: /x/"}]}'))
    runner.add(1, CONSTRAINED)
    runner.add(2, other)
    for sequence_id in (1, 2):
        ((told_id, step),) = runner.cancel(sequence_id)
        assert (sequence_id, EngineFinish.CANCELLED) == (told_id, step.finish)
        assert TokenUsage(3, 0, 0) == step.usage
        assert [] == runner.cancel(sequence_id)
    assert not runner.has_work
    assert runner.idle_s is None
    may_go.set()
    runner.add(3, CONSTRAINED)
    assert [3] == [*finish(runner)]
    assert [GRAMMAR.text] == texts


def test_a_grammar_is_compiled_once_for_all_of_an_account(blocked):
    """However many requests want it, before and after; another account's is its own."""
    runner, may_go, texts = blocked
    for sequence_id in range(20):
        runner.add(sequence_id, replace(CONSTRAINED, cache_salt="a"))
    runner.add(20, replace(CONSTRAINED, cache_salt="b"))
    may_go.set()
    finish(runner)
    runner.add(21, replace(CONSTRAINED, cache_salt="a"))
    finish(runner)
    assert 2 * [GRAMMAR.text] == texts
    assert ["a", "b"] == [salt for salt, _ in runner.take_compile_times()]


@pytest.mark.parametrize(
    "request_",
    [replace(CONSTRAINED, grammar=Grammar("nonsense")), replace(CONSTRAINED, max_tokens=-1)],
)
def test_what_is_refused_leaves_nothing_behind(make_runner, tmp_path, request_):
    """Neither what no grammar can be made of nor a request that is wrong in another way."""
    write_ascii_tokenizer(tmp_path / "checkpoint")
    runner = make_runner()
    runner.prepare(1, request_)
    with pytest.raises(InvalidRequestError):
        add_and_run(runner, request_)
    assert {} == runner._grammars.thread._wanted
    assert not runner.has_work


def add_and_run(runner: Runner, request: GenerateRequest) -> None:
    """Raise why a request is refused, at once or when its grammar was tried."""
    runner.add(1, request)
    while runner.has_work:
        for _, step in runner.step(nothing):
            if isinstance(step, InvalidRequestError):
                raise step


LATE_TROUBLE = Grammar(
    json.dumps(
        {
            "grammars": [
                {
                    "lark_grammar": 'start: /xyz[a-c]{3,8}/ "!" HUGE\n'
                    "HUGE: /((((a{1000}){1000}){1000}){1000})/"
                }
            ]
        }
    )
)


def test_one_text_does_not_fail_another_of_the_same_grammar(make_runner, tmp_path):
    """Who was failed by a limit that another has used up goes on, under a grammar of its own."""
    write_ascii_tokenizer(tmp_path / "checkpoint")
    words = tuple((TOKENS.index(word), -100.0) for word in ("ab", "abc"))
    request = replace(CONSTRAINED, grammar=LATE_TROUBLE, max_tokens=11)
    early, late = (
        replace(request, sampling=SamplingParams(temperature=0, logit_bias=(*words, mark)))
        for mark in ((TOKENS.index("!"), 100.0), (TOKENS.index("!"), -100.0))
    )
    alone = make_runner()
    alone.add(1, late)
    expected = finish(alone)[1]
    assert 11 == len(expected)
    runner = make_runner()
    runner.add(1, early)
    runner.add(2, late)
    told: dict[int, list[int]] = {1: [], 2: []}
    errors: dict[int, InvalidRequestError] = {}
    while runner.has_work:
        for sequence_id, step in runner.step(nothing):
            if isinstance(step, InvalidRequestError):
                errors[sequence_id] = step
            else:
                told[sequence_id] += step.token_ids
    assert expected == told[2]
    assert [1] == [*errors]
    assert "cannot be followed" in errors[1].message
    assert 3 == len(runner.take_compile_times())
    assert runner.health.num_blocks == runner.health.num_free_blocks


def test_a_checkpoint_without_tokenizer_takes_no_grammar(make_runner):
    """A grammar is refused, as the engine has none; requests without a grammar are served."""
    runner = make_runner()
    with pytest.raises(InvalidRequestError, match="engine has no grammars"):
        runner.add(1, CONSTRAINED)
    runner.add(2, REQUEST)
    assert [2] == [*finish(runner)]


def test_the_cache_is_no_larger_than_could_be_used(make_runner):
    """A small model does not take memory that no sequence could fill."""
    runner = make_runner(kv_cache_bytes=None, max_sequences=3)
    assert 3 * 512 // runner.block_size == runner.health.num_blocks


def test_a_cache_of_a_given_size_has_it(make_runner):
    """What no running sequence needs keeps prefixes for those to come."""
    runner = make_runner(kv_cache_bytes=40 * 32768, max_sequences=1)
    assert 40 == runner.health.num_blocks


def test_the_context_can_be_made_shorter_but_not_longer(make_runner):
    """The operator's limit and the model's both hold."""
    assert 100 == make_runner(context_length=100).context_length
    assert 512 == make_runner(context_length=100_000).context_length


def test_a_cache_too_small_for_one_block_is_refused(make_runner):
    """The error names the setting, its value and what a block takes."""
    with pytest.raises(ConfigError, match=r"kv_cache_bytes is 1000; one block of 32 .* 32768"):
        make_runner(kv_cache_bytes=1000)


@pytest.mark.parametrize("isa", ["AVX2", "AVX512_CORE"])
async def test_an_older_processor_is_served_too(isa, tmp_path, monkeypatch):
    """Where OpenVINO's own choice of kernels does not run, float32 does, and nobody need know."""
    write_checkpoint(tmp_path, LLAMA_CONFIG)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)  # oneDNN then hides what the processor has more
    settings = EngineSettings(checkpoint_dir=tmp_path, cache_dir=tmp_path, num_threads=1)
    engine = openvino_engine(settings)
    await engine.start()
    steps = [step async for step in engine.generate(REQUEST)]
    await engine.stop()
    assert 5 == steps[-1].usage.completion_tokens


def test_a_checkpoint_that_is_not_there_is_named(tmp_path):
    """The first file that is missed is named."""
    settings = EngineSettings(checkpoint_dir=tmp_path / "gone", cache_dir=tmp_path)
    with pytest.raises(CheckpointError, match=r"gone/config\.json"):
        load_runner(settings, lambda _: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_sequences": 0}, "max_sequences is 0"),
        ({"num_threads": -1}, "num_threads is -1"),
        ({"target_pause_s": 0.0}, "target_pause_s is 0.0; it must be above 0"),
        ({"max_batch_tokens": 64}, "max_batch_tokens is 64; it must be more than max_sequences"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    """The error names the setting and what would be right."""
    with pytest.raises(ConfigError, match=message):
        EngineSettings(checkpoint_dir=Path("a"), cache_dir=Path("b"), **options)


def test_settings_survive_the_command_line():
    """A worker reads the settings that its gateway wrote."""
    settings = EngineSettings(checkpoint_dir=Path("a b"), cache_dir=Path("c"), num_threads=3)
    assert settings == EngineSettings.from_json(settings.to_json())
