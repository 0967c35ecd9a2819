"""The engine with draft tokens and without: the same tokens, in fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep, Grammar
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.runner import Runner
from stillhouse.engines.openvino.scheduling.sequence import Sequence
from stillhouse.engines.openvino.scheduling.step_times import StepTimes
from stillhouse.engines.openvino.settings import EngineSettings, Precision
from stillhouse.engines.openvino.speculation.drafts import Draft
from stillhouse.engines.openvino.speculation.speculation import Speculation
from stillhouse.errors import InvalidRequestError
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage
from tests.ascii_tokenizer import END_ID, text_of, write_ascii_tokenizer
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint, write_safetensors

VOCAB_SIZE = LLAMA_CONFIG["vocab_size"]
BLOCK_BYTES = 32768
GREEDY = SamplingParams(temperature=0)
SAMPLED = SamplingParams(temperature=0.9, top_p=0.95, seed=7)
DIGITS = Grammar('{"grammars": [{"lark_grammar": "start: /(12|3,){20}/"}]}')

MakeRunner = Callable[..., Runner]


@dataclass
class Answer:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[StepLogprobs] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    usage: TokenUsage | None = None
    finish: EngineFinish | None = None
    error: str | None = None


class ConstantTimes(StepTimes):
    """A machine on which draft tokens cost nothing."""

    def predict_s(self, _num_tokens: int) -> float:
        return 1.0


class ScriptedSpeculation(Speculation):
    """
    Draft tokens of all kinds: right ones, ones that are right up to some place, and nonsense.

    Args:
        known: What each request is going to be answered.

    """

    def __init__(self, known: dict[str, Answer], seed: int) -> None:
        super().__init__(ConstantTimes(), max_draft_tokens=8)
        self._known = known
        self._rng = np.random.default_rng(seed)

    def draft(self, sequences: list[Sequence], *, num_tokens: int, most: int) -> dict[int, Draft]:
        drafts = {}
        for sequence in sequences:
            num_wanted = min(int(self._rng.integers(0, 12)), sequence.num_tokens_left - 1, most)
            if num_wanted < 1:
                continue
            most -= num_wanted
            num_made = sequence.num_tokens - sequence.num_prompt_tokens
            rest = self._known[sequence.request.request_id].token_ids[num_made:]
            draft_id = [*rest, *self._rng.integers(0, VOCAB_SIZE, num_wanted).tolist()][:num_wanted]
            if self._rng.random() < 0.6:
                draft_id[int(self._rng.integers(0, num_wanted))] = 5
            drafts[sequence.sequence_id] = Draft(tuple(draft_id), 2)
        return drafts


@pytest.fixture
def make_runner(tmp_path) -> MakeRunner:
    write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG)
    write_ascii_tokenizer(tmp_path / "checkpoint")

    def make(**options: Any) -> Runner:
        settings = EngineSettings(
            checkpoint_dir=tmp_path / "checkpoint",
            cache_dir=tmp_path / "cache",
            precision=Precision.F32,
            **{
                "num_threads": 1,
                "kv_cache_bytes": 64 * BLOCK_BYTES,
                "prefill_chunk_tokens": 64,
                "max_draft_tokens": 0,
                **options,
            },
        )
        return load_runner(settings, lambda _: None)

    return make


@pytest.fixture
def make_cycling_runner(make_runner, tmp_path):
    """Return a maker of engines in which each token has one successor, whatever came before."""
    directory = tmp_path / "checkpoint"
    weights = write_checkpoint(directory, LLAMA_CONFIG)
    for name, values in weights.items():
        if "o_proj" in name or "down_proj" in name:
            values[:] = 0
    write_safetensors(directory / "model.safetensors", weights)
    return make_runner


def use_speculation(runner: Runner, speculation: Speculation) -> None:
    """Let *speculation* take the place of the runner's own."""
    runner._speculation = runner._scheduler._speculation = speculation


def nothing() -> None:
    pass


def cancel(runner: Runner, sequence_id: int, told: list[Any]) -> None:
    told.extend(runner.cancel(sequence_id))


def answers(runner: Runner, requests: list[GenerateRequest]) -> dict[str, Answer]:
    """Add all and step to the end."""
    for number, request in enumerate(requests):
        runner.add(number, request)
    told = {request.request_id: Answer() for request in requests}
    while runner.has_work:
        for number, step in runner.step(nothing):
            answer = told[requests[number].request_id]
            assert answer.finish is None
            assert answer.error is None
            if isinstance(step, InvalidRequestError):
                answer.error = step.message
                continue
            answer.token_ids += step.token_ids
            answer.logprobs += step.logprobs
            answer.sizes.append(len(step.token_ids))
            answer.usage, answer.finish = step.usage, step.finish
            assert len(answer.token_ids) == step.usage.completion_tokens
    assert runner.health.num_free_blocks == runner.health.num_blocks
    return told


def without_sizes(told: dict[str, Answer]) -> dict[str, Answer]:
    return {
        name: replace(answer, sizes=[], usage=None, logprobs=[]) for name, answer in told.items()
    }


def requests_of_all_kinds(sampling: SamplingParams) -> list[GenerateRequest]:
    """Return prompts long and short, with and without repetition, that stop early or late."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, VOCAB_SIZE, length).tolist() for length in (3, 150, 31, 33, 64)]
    prompts.append([7, 8, 9, 10] * 20)
    return [
        GenerateRequest(
            f"request {number}",
            prompt,
            max_tokens=(40, 25, 64, 1, 33, 50)[number],
            sampling=replace(sampling, seed=number) if sampling.seed is not None else sampling,
            cache_salt=str(number),
            priority=number % 2,
        )
        for number, prompt in enumerate(prompts)
    ]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kv_cache_bytes": 10 * BLOCK_BYTES},  # so that sequences are preempted
        {"prefill_chunk_tokens": 7},
        {"max_sequences": 3, "max_batch_tokens": 9},
    ],
)
def test_whatever_is_drafted_the_tokens_are_the_same(make_runner, sampling, options):
    """Right, half right or nonsense, at every place: no token, end or count differs."""
    requests = requests_of_all_kinds(sampling)
    plain = answers(make_runner(), requests)
    runner = make_runner(**options)
    for seed in range(3):
        use_speculation(runner, ScriptedSpeculation(plain, seed))
        fresh = [replace(r, cache_salt=f"{seed} {r.cache_salt}") for r in requests]
        speculated = answers(runner, fresh)
        assert without_sizes(plain) == without_sizes(speculated)
        assert any(size > 3 for answer in speculated.values() for size in answer.sizes)


def test_a_stop_token_among_right_draft_tokens_ends_the_answer(make_runner):
    """It is the last that is told and counted, though more had been drafted and computed."""
    (request, *_) = requests_of_all_kinds(GREEDY)
    known = answers(make_runner(), [request])
    token_ids = known[request.request_id].token_ids
    stop = next(t for t in token_ids[6:] if token_ids.index(t) >= 6)
    runner = make_runner()
    for seed in range(20):
        use_speculation(runner, ScriptedSpeculation(known, seed))
        stopping = replace(request, stop_token_ids=(stop,))
        answer = answers(runner, [stopping])[request.request_id]
        assert token_ids[: token_ids.index(stop) + 1] == answer.token_ids
        assert EngineFinish.STOP is answer.finish


@pytest.mark.parametrize(
    "fields",
    [
        {"top_logprobs": 3},
        {"sampling": SamplingParams(temperature=0, frequency_penalty=1.0, presence_penalty=0.5)},
        {"sampling": SamplingParams(temperature=0.8, repetition_penalty=1.3, seed=3)},
        {"sampling": SamplingParams(temperature=0.8, logit_bias=((65, 3.0),), seed=3)},
        {"grammar": DIGITS, "stop_token_ids": (END_ID,)},
        {"grammar": DIGITS, "stop_token_ids": (END_ID,), "sampling": SAMPLED, "top_logprobs": 1},
        {
            "grammar": DIGITS,
            "stop_token_ids": (END_ID,),
            "sampling": SamplingParams(temperature=1, repetition_penalty=1.5, seed=1),
        },
    ],
)
def test_rules_and_log_probabilities_are_those_of_each_token(make_runner, fields):
    """Penalties and grammars follow the tokens that were taken, not those that were drafted."""
    requests = [replace(r, **fields) for r in requests_of_all_kinds(GREEDY)]
    plain = answers(make_runner(), requests)
    runner = make_runner()
    for seed in range(3):
        use_speculation(runner, ScriptedSpeculation(plain, seed))
        speculated = answers(runner, [replace(r, cache_salt=f"{seed} {r}") for r in requests])
        assert without_sizes(plain) == without_sizes(speculated)
        for name, answer in speculated.items():
            assert [p.logprob for p in plain[name].logprobs] == pytest.approx(
                [p.logprob for p in answer.logprobs], abs=1e-4
            )
            assert [[t for t, _ in p.top] for p in plain[name].logprobs] == [
                [t for t, _ in p.top] for p in answer.logprobs
            ]
    if "grammar" in fields:
        long_answer = text_of(plain["request 2"].token_ids)
        assert set("123,") >= set(long_answer.removesuffix("<|end|>"))


def test_a_grammar_that_fails_in_a_step_takes_no_token_with_it(make_runner):
    """What was drawn before it failed is told first, as it is without draft tokens."""
    few = Grammar('{"grammars": [{"lark_grammar": "start: \\"12\\" \\"abc\\" /[^ -~]/"}]}')
    request = replace(requests_of_all_kinds(GREEDY)[0], grammar=few, stop_token_ids=(END_ID,))
    plain = answers(make_runner(), [request])
    (expected,) = plain.values()
    assert expected.error is not None
    assert len(expected.token_ids) >= 2
    runner = make_runner()
    largest = 0
    for seed in range(10):
        use_speculation(runner, ScriptedSpeculation(plain, seed))
        (answer,) = answers(runner, [request]).values()
        assert (expected.token_ids, expected.error) == (answer.token_ids, answer.error)
        largest = max(largest, *answer.sizes)
    assert largest >= 2


def test_a_cancel_while_draft_tokens_are_computed_is_honoured(make_runner):
    """Nothing of the step is told of who left; the others get what they would have got."""
    requests = requests_of_all_kinds(GREEDY)[:3]
    plain = answers(make_runner(), requests)
    for seed in range(5):
        runner = make_runner()
        use_speculation(runner, ScriptedSpeculation(plain, seed))
        for number, request in enumerate(requests):
            runner.add(number, request)
        told: dict[int, list[int]] = {0: [], 1: [], 2: []}
        cancelled: list[Any] = []
        for step_number in range(200):
            receive: Callable[[], None] = nothing
            if step_number == 8 + seed:
                receive = partial(cancel, runner, 2, cancelled)
            for number, step in runner.step(receive):
                assert isinstance(step, GenerateStep)
                assert not (cancelled and number == 2)
                told[number] += step.token_ids
        ((_, last),) = cancelled
        assert (EngineFinish.CANCELLED, len(told[2])) == (last.finish, last.usage.completion_tokens)
        assert [plain[f"request {n}"].token_ids for n in (0, 1)] == [told[0], told[1]]
        assert plain["request 2"].token_ids[: len(told[2])] == told[2]
        assert runner.health.num_free_blocks == runner.health.num_blocks


def test_a_text_that_repeats_takes_few_steps(make_cycling_runner):
    """The engine's own draft tokens make a long answer in a third of the steps, token for token."""
    requests = [
        GenerateRequest(str(n), [n, n + 1, n + 2], 300, cache_salt=str(n)) for n in range(4)
    ]
    plain = answers(make_cycling_runner(), requests)
    runner = make_cycling_runner(max_draft_tokens=8)
    use_speculation(runner, Speculation(ConstantTimes(), max_draft_tokens=8))
    speculated = answers(runner, requests)
    assert without_sizes(plain) == without_sizes(speculated)
    assert runner.health.num_steps < 100
    assert 9 == max(speculated["0"].sizes)


def test_whether_the_engine_draft_tokens_by_itself_changes_nothing(make_cycling_runner):
    """As it is configured by default, it may draft token or not; the tokens are those without."""
    request = GenerateRequest("r", [1, 2, 3] * 20, 400)
    plain = answers(make_cycling_runner(), [request])
    speculated = answers(make_cycling_runner(max_draft_tokens=8), [request])
    assert without_sizes(plain) == without_sizes(speculated)


def test_an_answer_with_draft_tokens_is_cached_as_one_without(make_runner):
    """The next turn finds every whole block, whose content is that of the tokens taken."""
    request = requests_of_all_kinds(GREEDY)[2]
    plain = make_runner()
    known = answers(plain, [request])
    (answer,) = known.values()
    turn = replace(
        request, prompt_token_ids=[*request.prompt_token_ids, *answer.token_ids], max_tokens=30
    )
    expected = answers(plain, [turn])
    for seed in range(5):
        runner = make_runner()
        use_speculation(runner, ScriptedSpeculation(known, seed))
        answers(runner, [request])
        use_speculation(runner, ScriptedSpeculation(expected, seed))
        next_turn = answers(runner, [turn])
        assert expected[turn.request_id].usage == next_turn[turn.request_id].usage
        assert without_sizes(expected) == without_sizes(next_turn)
