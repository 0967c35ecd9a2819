"""The contract of every engine."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
import re
import select
import signal
import subprocess
import sys
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import pytest_asyncio
from llguidance import LLMatcher

from stillhouse.engines.base import EngineFinish, GenerateRequest, Grammar, TokenEngine
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    InvalidRequestError,
    RequestTooLargeForEngineError,
    UnsupportedFeatureError,
)
from stillhouse.types.constraint import RegexConstraint
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage
from tests.ascii_tokenizer import END_ID, OTHER_END_ID, THINK_ID, TOKENS, text_of
from tests.contract.engine_kinds import (
    BLOCK_SIZE,
    DECLARED,
    ENGINE_KINDS,
    KINDS_WITH_GRAMMARS,
    EngineShape,
    RunningEngine,
    running,
)
from tests.random_checkpoint import LLAMA_CONFIG

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stillhouse.engines.base import GenerateStep
    from stillhouse.engines.worker.engine import WorkerEngine

GREEDY = SamplingParams(temperature=0)
DEFAULT = EngineShape()
VOCAB_SIZE = LLAMA_CONFIG["vocab_size"]
CONTEXT_LENGTH = LLAMA_CONFIG["max_position_embeddings"]
EXIT_TIMEOUT_MS = 10_000


@pytest.fixture(params=ENGINE_KINDS, scope="module")
def make_engine(request, tmp_path_factory):
    return ENGINE_KINDS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def engine_of(make_engine) -> RunningEngine:
    return running(make_engine)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(engine_of):
    async with engine_of(DEFAULT) as engine:
        yield engine


@pytest.fixture(params=KINDS_WITH_GRAMMARS, scope="module")
def grammar_engine_of(request, tmp_path_factory) -> RunningEngine:
    return running(ENGINE_KINDS[request.param](tmp_path_factory.mktemp(request.param)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grammar_engine(grammar_engine_of):
    """An engine with a real model, whose logits can be biased and masked."""
    async with grammar_engine_of(DEFAULT) as engine:
        yield engine


pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Answer:
    token_ids: list[int]
    usage: TokenUsage
    finish: EngineFinish | None
    logprobs: list[StepLogprobs]


_request_numbers = itertools.count()


def make_request(prompt: list[int], max_tokens: int = 8, **fields) -> GenerateRequest:
    """Return a greedy request that shares no prefix with those of other tests."""
    number = next(_request_numbers)
    fields = {
        "request_id": f"request {number}",
        "max_tokens": max_tokens,
        "sampling": GREEDY,
        "cache_salt": f"salt {number}",
        **fields,
    }
    return GenerateRequest(prompt_token_ids=prompt, **fields)


def make_prompt(seed: int, length: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(0, VOCAB_SIZE, length)]


async def collect(engine: TokenEngine, request: GenerateRequest) -> Answer:
    token_ids: list[int] = []
    logprobs: list[StepLogprobs] = []
    usage, finish = TokenUsage(), None
    async for step in engine.generate(request):
        assert finish is None
        token_ids += step.token_ids
        logprobs += step.logprobs
        usage, finish = step.usage, step.finish
        assert len(token_ids) == usage.completion_tokens
        assert len(request.prompt_token_ids) == usage.prompt_tokens
    return Answer(token_ids, usage, finish, logprobs)


async def collect_all(engine: TokenEngine, requests: list[GenerateRequest]) -> list[Answer]:
    return list(await asyncio.gather(*(collect(engine, request) for request in requests)))


async def collect_each_alone(engine: TokenEngine, requests: list[GenerateRequest]) -> list[Answer]:
    return [
        await collect(engine, replace(request, cache_salt=f"alone {next(_request_numbers)}"))
        for request in requests
    ]


def tokens(answers: list[Answer]) -> list[list[int]]:
    return [answer.token_ids for answer in answers]


MIXED = [make_request(make_prompt(n, 5 + 37 * n), 12 + n) for n in range(6)]


# Greedy tokens are a function of the prompt.


async def test_greedy_tokens_do_not_depend_on_the_batch(engine):
    """A request gets the same tokens alone as in a batch of others."""
    alone = await collect_each_alone(engine, MIXED)
    together = await collect_all(engine, MIXED)
    assert tokens(alone) == tokens(together)
    assert len({tuple(answer.token_ids[:5]) for answer in alone}) == len(MIXED)


@pytest.mark.parametrize("chunk_tokens", [1, 7, 48])
async def test_greedy_tokens_do_not_depend_on_the_chunk_size(engine, engine_of, chunk_tokens):
    """A prompt computed in pieces of any size gives the tokens of the whole."""
    whole = await collect_all(engine, MIXED)
    async with engine_of(EngineShape(chunk_tokens=chunk_tokens, batch_tokens=96)) as chunking:
        chunked = await collect_all(chunking, MIXED)
    assert tokens(whole) == tokens(chunked)


async def test_greedy_tokens_do_not_depend_on_arrival(engine):
    """A request that joins a running batch, and those it joins, get what they get alone."""
    first, second = make_request(make_prompt(1, 50), 60), make_request(make_prompt(2, 150), 30)
    alone = await collect_each_alone(engine, [first, second])
    late: asyncio.Task[Answer] | None = None
    early_tokens: list[int] = []
    async for step in engine.generate(first):
        early_tokens += step.token_ids
        if len(early_tokens) == 10:
            late = asyncio.create_task(collect(engine, second))
    assert late is not None
    assert tokens(alone) == [early_tokens, (await late).token_ids]


async def test_preemption_changes_nothing_but_the_time(engine, engine_of):
    """With too few blocks for all, every request still gets its tokens and its exact counts."""
    requests = [make_request(make_prompt(n, 40), 60) for n in range(4)]
    expected = await collect_all(engine, requests)
    async with engine_of(EngineShape(num_blocks=6)) as small:
        assert expected == await collect_all(small, requests)
        health = await small.health()
        assert (6, 0, 0) == (health.num_free_blocks, health.num_running, health.num_waiting)


async def test_64_at_once_equal_64_alone(engine_of):
    """Many requests of random lengths at once get the tokens that each gets alone."""
    lengths = np.random.default_rng(64).integers([1, 1], [200, 24], size=(64, 2))
    requests = [
        make_request(make_prompt(n, int(prompt)), int(new))
        for n, (prompt, new) in enumerate(lengths)
    ]
    async with engine_of(EngineShape(num_blocks=64)) as engine:
        together = await collect_all(engine, requests)
        alone = await collect_each_alone(engine, requests)
        health = await engine.health()
    assert tokens(alone) == tokens(together)
    assert health.num_blocks == health.num_free_blocks


# The prefix cache.


async def test_same_salt_shares_a_prefix(engine):
    """A prompt seen before under the same salt is cached in all its whole blocks but the last."""
    prompt = make_prompt(5, 3 * BLOCK_SIZE)
    cold = await collect(engine, make_request(prompt, cache_salt="salt of a"))
    warm = await collect(engine, make_request(prompt, cache_salt="salt of a"))
    assert 0 == cold.usage.cached_tokens
    assert 2 * BLOCK_SIZE == warm.usage.cached_tokens
    assert cold.token_ids == warm.token_ids


async def test_another_salt_never_shares(engine):
    """A prompt seen before under another salt is computed anew."""
    prompt = make_prompt(5, 100)
    await collect(engine, make_request(prompt, cache_salt="salt of a"))
    other = await collect(engine, make_request(prompt, cache_salt="salt of b"))
    unsalted = await collect(engine, make_request(prompt, cache_salt=""))
    assert (0, 0) == (other.usage.cached_tokens, unsalted.usage.cached_tokens)


@pytest.mark.parametrize("num_public_tokens", [0, 2 * BLOCK_SIZE])
async def test_other_cache_keys_never_share_and_the_same_ones_do(engine, num_public_tokens):
    """The same tokens under another adapter or medium are computed anew, public ones too."""
    prompt = make_prompt(43 + num_public_tokens, 3 * BLOCK_SIZE + 5)
    request = make_request(prompt, num_public_tokens=num_public_tokens)
    keys = [(), ("adapter a",), ("adapter b",), ("a", "b"), ("ab",), ("", "ab"), ("b", "a")]
    first = [await collect(engine, replace(request, cache_keys=key)) for key in keys]
    again = [await collect(engine, replace(request, cache_keys=key)) for key in keys]
    assert [0] * len(keys) == [answer.usage.cached_tokens for answer in first]
    assert [3 * BLOCK_SIZE] * len(keys) == [answer.usage.cached_tokens for answer in again]


@pytest.mark.parametrize("num_public_tokens", [2 * BLOCK_SIZE, 3 * BLOCK_SIZE - 1])
async def test_only_whole_public_blocks_are_everybodys(engine, num_public_tokens):
    """Of equal prompts under two salts, the whole blocks of what is public are computed once."""
    prompt = make_prompt(40 + num_public_tokens, 4 * BLOCK_SIZE + 5)
    request = make_request(prompt, num_public_tokens=num_public_tokens)
    first, second, again = [
        await collect(engine, replace(request, cache_salt=f"{num_public_tokens} {salt}"))
        for salt in ("a", "b", "b")
    ]
    cached = [answer.usage.cached_tokens for answer in (first, second, again)]
    assert [0, 2 * BLOCK_SIZE, 4 * BLOCK_SIZE] == cached
    assert first.token_ids == second.token_ids == again.token_ids


async def test_what_is_private_is_found_by_nobody_who_calls_it_public(engine):
    """Neither the empty salt nor a longer public prefix opens blocks that were private."""
    prompt = make_prompt(41, 4 * BLOCK_SIZE + 5)
    secret = make_request(prompt, num_public_tokens=BLOCK_SIZE)
    await collect(engine, secret)
    await collect(engine, make_request(make_prompt(42, 4 * BLOCK_SIZE), cache_salt=""))
    cached = [
        (await collect(engine, replace(secret, cache_salt=salt, num_public_tokens=num_public)))
        for salt, num_public in [("", BLOCK_SIZE), ("", 0), ("thief", 4 * BLOCK_SIZE)]
    ]
    unsalted = make_request(make_prompt(42, 4 * BLOCK_SIZE), num_public_tokens=4 * BLOCK_SIZE)
    cached.append(await collect(engine, unsalted))
    assert [BLOCK_SIZE, 0, BLOCK_SIZE, 0] == [answer.usage.cached_tokens for answer in cached]


async def test_a_public_prefix_may_be_the_whole_prompt(engine):
    """Tokens generated after the public prefix stay private."""
    request = make_request(make_prompt(43, 2 * BLOCK_SIZE), 2 * BLOCK_SIZE + 1)
    request = replace(request, num_public_tokens=2 * BLOCK_SIZE)
    first = await collect(engine, request)
    turn = make_request(
        request.prompt_token_ids + first.token_ids, num_public_tokens=2 * BLOCK_SIZE
    )
    other = await collect(engine, turn)
    own = await collect(engine, replace(turn, cache_salt=request.cache_salt))
    cached = (other.usage.cached_tokens, own.usage.cached_tokens)
    assert (2 * BLOCK_SIZE, 4 * BLOCK_SIZE) == cached


async def test_a_conversation_finds_its_own_answer_cached(engine):
    """The second turn's prompt holds the first answer, whose blocks are still there."""
    prompt = make_prompt(6, 50)
    first = await collect(engine, make_request(prompt, 50, cache_salt="talk"))
    turn = prompt + first.token_ids + make_prompt(7, 10)
    second = await collect(engine, make_request(turn, cache_salt="talk"))
    assert 99 // BLOCK_SIZE * BLOCK_SIZE == second.usage.cached_tokens


async def test_a_prefix_being_computed_is_waited_for(engine_of):
    """The second of two requests with a new prefix waits, and reuses the first one's blocks."""
    shared = make_prompt(8, 6 * BLOCK_SIZE)
    requests = [make_request(shared + make_prompt(n, 9), 10, cache_salt="") for n in (1, 2)]
    async with engine_of(EngineShape(chunk_tokens=40)) as engine:
        first, second = await collect_all(engine, requests)
        alone = await collect_each_alone(engine, requests)
    assert (0, 6 * BLOCK_SIZE) == (first.usage.cached_tokens, second.usage.cached_tokens)
    assert tokens(alone) == tokens([first, second])


async def test_cached_tokens_are_those_of_the_first_admission(engine_of):
    """Blocks that a preempted request reuses from itself do not count as cached."""
    requests = [make_request(make_prompt(n, 70), 60) for n in range(4)]
    async with engine_of(EngineShape(num_blocks=7)) as engine:
        answers = await collect_all(engine, requests)
    assert [0, 0, 0, 0] == [answer.usage.cached_tokens for answer in answers]


# Sampling.


async def test_a_seed_repeats_its_tokens_in_any_company(engine):
    """The same seed gives the same tokens alone and in a batch; another seed gives others."""
    sampling = SamplingParams(temperature=1.0, top_p=0.95, top_k=50, min_p=0.01, seed=11)
    request = make_request(make_prompt(9, 30), 24, sampling=sampling)
    other = make_request(make_prompt(9, 30), 24, sampling=replace(sampling, seed=12))
    alone = await collect(engine, request)
    together = await collect_all(engine, [other, *MIXED, request])
    assert alone.token_ids == together[-1].token_ids
    assert alone.token_ids != together[0].token_ids


async def test_no_seed_draws_afresh(engine):
    """Two requests without a seed get different tokens."""
    requests = [
        make_request(make_prompt(9, 30), 32, sampling=SamplingParams(temperature=1.0))
        for _ in range(2)
    ]
    first, second = await collect_all(engine, requests)
    assert first.token_ids != second.token_ids


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=1.5, top_k=1),
        SamplingParams(temperature=1.5, top_p=1e-6),
        SamplingParams(temperature=1.5, min_p=1.0),
        SamplingParams(temperature=1e-9),
    ],
)
async def test_the_narrowest_sampling_is_greedy(engine, sampling):
    """Each parameter alone can leave only the likeliest token."""
    request = make_request(make_prompt(10, 20), 16)
    greedy = await collect(engine, request)
    narrow = await collect(engine, replace(request, sampling=sampling))
    assert greedy.token_ids == narrow.token_ids


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_bias_of_100_forces_and_of_minus_100_forbids(engine, temperature):
    """OpenAI's extremes decide whatever the model says; what is forbidden never comes."""
    sampling = SamplingParams(temperature=temperature, seed=3)
    request = make_request(make_prompt(30, 20), 30, sampling=sampling)
    free = await collect(engine, request)
    forbidden = tuple((token_id, -100.0) for token_id in {*free.token_ids})
    banned = await collect(
        engine, replace(request, sampling=replace(sampling, logit_bias=forbidden))
    )
    forced_sampling = replace(sampling, logit_bias=((42, 100.0), (free.token_ids[0], -100.0)))
    forced = await collect(engine, replace(request, sampling=forced_sampling))
    assert {*free.token_ids}.isdisjoint(banned.token_ids)
    assert 30 * [42] == forced.token_ids


async def test_penalties_are_taken_and_change_no_other_request(grammar_engine):
    """A request with all of them is served, the same again for its seed, and leaves others be."""
    sampling = SamplingParams(
        temperature=1.0,
        seed=5,
        presence_penalty=1.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.2,
        logit_bias=((7, 2.5), (8, -1.5)),
    )
    request = make_request(make_prompt(31, 30), 40, sampling=sampling)
    alone = await collect(grammar_engine, request)
    plain = await collect_each_alone(grammar_engine, MIXED)
    together = await collect_all(grammar_engine, [*MIXED, request])
    assert alone.token_ids == together[-1].token_ids
    assert tokens(plain) == tokens(together[:-1])


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(temperature=0, presence_penalty=2.0),
        SamplingParams(temperature=0, frequency_penalty=2.0),
        SamplingParams(temperature=0, repetition_penalty=2.0),
    ],
)
async def test_penalties_lead_away_from_what_was_said(grammar_engine, sampling):
    """A greedy model that is biased to one token says others too when penalised for it."""
    biased = replace(sampling, logit_bias=((42, 3.0),))
    plain = SamplingParams(temperature=0, logit_bias=biased.logit_bias)
    request = make_request(make_prompt(32, 20), 100, sampling=plain)
    free = await collect(grammar_engine, request)
    penalised = await collect(grammar_engine, replace(request, sampling=biased))
    assert len({*penalised.token_ids}) > len({*free.token_ids})


async def test_penalties_survive_preemption(grammar_engine, grammar_engine_of):
    """A preempted request continues with its penalties, with or without a grammar."""
    sampling = SamplingParams(temperature=1.0, frequency_penalty=1.5, repetition_penalty=1.3)
    requests = [
        make_request(make_prompt(n, 40), 60, sampling=replace(sampling, seed=n)) for n in range(4)
    ]
    expected = await collect_all(grammar_engine, requests)
    async with grammar_engine_of(EngineShape(num_blocks=6)) as small:
        assert tokens(expected) == tokens(await collect_all(small, requests))


# Log probabilities.


async def test_no_log_probabilities_unless_asked(engine):
    """A request without log probabilities gets none."""
    answer = await collect(engine, make_request(make_prompt(33, 9)))
    assert [] == answer.logprobs


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
async def test_log_probabilities_come_with_every_token(engine, num_top):
    """One for each token, with as many of the likeliest as were asked for, likeliest first."""
    answer = await collect(engine, make_request(make_prompt(33, 9), 12, top_logprobs=num_top))
    assert 12 == len(answer.logprobs)
    for token_id, logprobs in zip(answer.token_ids, answer.logprobs, strict=True):
        values = [value for _, value in logprobs.top]
        assert num_top == len({top_id for top_id, _ in logprobs.top})
        assert sorted(values, reverse=True) == values
        assert sum(map(math.exp, values)) <= 1 + 1e-6
        assert dict(logprobs.top).get(token_id, logprobs.logprob) == logprobs.logprob
        if num_top:  # greedy
            assert (token_id, logprobs.logprob) == logprobs.top[0]


async def test_log_probabilities_are_the_models_alone(grammar_engine):
    """Neither temperature nor bias nor penalty nor company changes them, only what is drawn."""
    request = make_request(make_prompt(34, 20), 10, top_logprobs=3)
    free = await collect(grammar_engine, request)
    sampling = SamplingParams(
        temperature=0.3,
        top_k=1,
        repetition_penalty=1.001,
        logit_bias=((free.token_ids[0], 1e-6),),
    )
    other = await collect(grammar_engine, replace(request, sampling=sampling))
    company = (await collect_all(grammar_engine, [*MIXED, request]))[-1]
    assert free.token_ids == other.token_ids
    assert free.token_ids == company.token_ids
    assert numbers(free) == pytest.approx(numbers(other), abs=1e-4)
    assert numbers(free) == pytest.approx(numbers(company), abs=1e-4)
    forced = SamplingParams(temperature=0, logit_bias=((42, 100.0),))
    unlikely = await collect(grammar_engine, replace(request, sampling=forced))
    assert numbers(free)[1:4] == pytest.approx(numbers(unlikely)[1:4], abs=1e-4)
    assert unlikely.logprobs[0].logprob < free.logprobs[0].logprob


def numbers(answer: Answer) -> list[float]:
    """Return all log probabilities, for each token its own and then the likeliest."""
    return [
        value
        for logprobs in answer.logprobs
        for value in (logprobs.logprob, *(value for _, value in logprobs.top))
    ]


# Grammars.

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"enum": [1, 22, None]}},
    "required": ["name", "age"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}
JSON_GRAMMAR = Grammar(LLMatcher.grammar_from_json_schema(PERSON))
REGEX = r"(foo|[0-9]{2,5})(-[a-c]{1,3})?!"
REGEX_GRAMMAR = Grammar(LLMatcher.grammar_from_regex(REGEX))
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
ENDS = (END_ID, OTHER_END_ID)


def grammar_requests(grammar: Grammar, num_requests: int = 8) -> list[GenerateRequest]:
    """Return greedy and hot requests under *grammar*."""
    return [
        make_request(
            make_prompt(40 + n, 40),
            60,
            sampling=SamplingParams(temperature=float(n % 3), seed=n),
            stop_token_ids=ENDS,
            grammar=grammar,
        )
        for n in range(num_requests)
    ]


async def test_an_answer_under_a_schema_fits_it(grammar_engine):
    """Each ends by an end token, and what is before it is JSON of the schema."""
    answers = await collect_all(grammar_engine, grammar_requests(JSON_GRAMMAR))
    for answer in answers:
        *token_ids, end = answer.token_ids
        person = json.loads(text_of(token_ids))
        assert {"name", "age"} == person.keys()
        assert person["age"] in {1, 22, None}
        assert len(person["name"]) <= 12
        assert (EngineFinish.STOP, True) == (answer.finish, end in ENDS)
    assert len({tuple(answer.token_ids) for answer in answers}) > 4


async def test_an_answer_under_a_regular_expression_matches_it(grammar_engine):
    """Requests get the same tokens alone and in a batch, constrained or not."""
    requests = grammar_requests(REGEX_GRAMMAR)
    alone = await collect_each_alone(grammar_engine, requests)
    together = await collect_all(grammar_engine, [*MIXED, *requests])
    for answer in alone:
        assert re.fullmatch(REGEX, text_of(answer.token_ids[:-1]))
    assert tokens(alone) == tokens(together[len(MIXED) :])
    assert tokens(together[: len(MIXED)]) == tokens(await collect_all(grammar_engine, MIXED))


async def test_a_grammar_survives_preemption(grammar_engine, grammar_engine_of):
    """A preempted request continues at its position in the grammar."""
    requests = grammar_requests(JSON_GRAMMAR)
    expected = await collect_all(grammar_engine, requests)
    async with grammar_engine_of(EngineShape(num_blocks=7)) as small:
        assert tokens(expected) == tokens(await collect_all(small, requests))


async def test_a_grammar_binds_from_its_token_on(grammar_engine):
    """Text before the token is free, and text after it is constrained."""
    request = make_request(make_prompt(41, 40), 40, stop_token_ids=ENDS)
    free = await collect(grammar_engine, request)
    begin = free.token_ids[5]
    num_before = free.token_ids.index(begin) + 1
    grammar = replace(REGEX_GRAMMAR, after_token_id=begin)
    bound = await collect(grammar_engine, replace(request, grammar=grammar))
    assert free.token_ids[:num_before] == bound.token_ids[:num_before]
    assert re.fullmatch(REGEX, text_of(bound.token_ids[num_before:-1]))


async def test_a_grammar_can_name_a_special_token(grammar_engine):
    """Special tokens come where a grammar names them, and the rest is text around them."""
    lark = f'start: /[a-c]{{2}}/ <[{THINK_ID}]> "x"'
    grammar = Grammar(json.dumps({"grammars": [{"lark_grammar": lark}]}))
    (request,) = grammar_requests(grammar, 1)
    *token_ids, _ = (await collect(grammar_engine, request)).token_ids
    assert re.fullmatch("[a-c]{2}<think>x", text_of(token_ids))
    assert THINK_ID in token_ids


async def test_a_grammar_and_a_penalty_go_together(grammar_engine):
    """A token that the grammar requires is generated even if a bias forbids it."""
    sampling = SamplingParams(
        temperature=0,
        frequency_penalty=2.0,
        logit_bias=tuple((TOKENS.index(letter), -100.0) for letter in "0123456789"),
    )
    grammar = Grammar(LLMatcher.grammar_from_regex("[0-9]{5}"))
    request = replace(grammar_requests(grammar, 1)[0], sampling=sampling, top_logprobs=1)
    answer = await collect(grammar_engine, request)
    assert re.fullmatch("[0-9]{5}", text_of(answer.token_ids[:-1]))
    assert len(answer.token_ids) == len(answer.logprobs)


async def test_a_grammar_that_becomes_too_much_work_ends_its_request_alone(grammar_engine):
    """The request fails with the reason in the middle of its answer; all others continue."""
    (request,) = grammar_requests(LATE_TROUBLE, 1)
    others = [asyncio.create_task(collect(grammar_engine, other)) for other in MIXED]
    stream = grammar_engine.generate(request)
    begin = [token_id for _ in range(3) for token_id in (await anext(stream)).token_ids]
    assert "xyz" == text_of(begin)
    with pytest.raises(InvalidRequestError, match="grammar cannot be followed"):
        await drain(stream)
    answers = await asyncio.gather(*others)
    assert tokens(await collect_all(grammar_engine, MIXED)) == tokens(answers)
    health = await grammar_engine.health()
    assert (0, health.num_blocks) == (health.num_running, health.num_free_blocks)


async def test_a_grammar_of_great_depth_does_not_end_the_engine(grammar_engine):
    """The recursive compiler has enough stack."""
    worker_pid = grammar_engine.worker_pid
    depth = 5000
    definitions = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(depth)}
    definitions[f"d{depth}"] = {"enum": ["deep", "deeper"]}
    schema = {"$ref": "#/$defs/d0", "$defs": definitions}
    grammar = Grammar(LLMatcher.grammar_from_json_schema(schema))
    (answer,) = await collect_all(grammar_engine, grammar_requests(grammar, 1))
    assert json.loads(text_of(answer.token_ids[:-1])) in {"deep", "deeper"}
    assert worker_pid == grammar_engine.worker_pid


@pytest.mark.parametrize(
    ("is_declared", "param", "fields"),
    [
        (lambda c: c.seed, "seed", {"sampling": SamplingParams(seed=1)}),
        (
            lambda c: c.penalties,
            "presence_penalty",
            {"sampling": SamplingParams(presence_penalty=1.0)},
        ),
        (
            lambda c: c.penalties,
            "frequency_penalty",
            {"sampling": SamplingParams(frequency_penalty=1.0)},
        ),
        (
            lambda c: c.penalties,
            "repetition_penalty",
            {"sampling": SamplingParams(repetition_penalty=1.1)},
        ),
        (
            lambda c: c.logit_bias,
            "logit_bias",
            {"sampling": SamplingParams(logit_bias=((42, 100.0),))},
        ),
        (lambda c: c.max_top_logprobs is not None, "logprobs", {"top_logprobs": 1}),
        (lambda c: c.constraints, "response_format", {"grammar": REGEX_GRAMMAR}),
    ],
)
async def test_what_is_declared_is_taken_and_what_is_not_is_refused(
    engine, is_declared, param, fields
):
    """An engine serves what it declares, refuses the rest by its field, and then serves on."""
    request = make_request([1, 2, 3], **{"stop_token_ids": ENDS, **fields})
    if is_declared(engine.capabilities):
        assert (await collect(engine, request)).token_ids
    else:
        with pytest.raises(UnsupportedFeatureError) as refused:
            await collect(engine, request)
        assert param == refused.value.param
    assert 8 == len((await collect(engine, make_request([1, 2, 3]))).token_ids)


async def test_a_regex_is_enforced_where_it_is_declared(grammar_engine):
    """An engine with grammars writes what the regular expression says."""
    (request,) = grammar_requests(REGEX_GRAMMAR, 1)
    answer = await collect(grammar_engine, request)
    assert re.fullmatch(REGEX, text_of(answer.token_ids[:-1]))


async def test_the_portable_constraint_stays_in_the_gateway(grammar_engine):
    """A worker enforces the compiled grammar, whatever the portable form beside it says."""
    (request,) = grammar_requests(REGEX_GRAMMAR, 1)
    answer = await collect(grammar_engine, replace(request, constraint=RegexConstraint(REGEX)))
    assert re.fullmatch(REGEX, text_of(answer.token_ids[:-1]))


async def test_an_engine_declares_what_is_expected_of_it(request, engine):
    """A capability that is lost or new is seen here; the others of this suite follow from it."""
    assert DECLARED[request.node.callspec.params["make_engine"]] == engine.capabilities


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": Grammar("")},
        {"grammar": Grammar("\x00{")},
        {"grammar": Grammar(LLMatcher.grammar_from_regex("("))},
        {"grammar": Grammar('{"grammars": [{"json_schema": {"type": 7}}]}')},
        {"grammar": replace(REGEX_GRAMMAR, after_token_id=VOCAB_SIZE)},
        {"grammar": replace(REGEX_GRAMMAR, after_token_id=-1)},
        {"grammar": REGEX_GRAMMAR, "stop_token_ids": ()},
        {"grammar": REGEX_GRAMMAR, "stop_token_ids": (-1, VOCAB_SIZE)},
    ],
)
async def test_a_bad_grammar_is_refused_and_harms_nobody(engine, fields):
    """An invalid grammar is the caller's error, and the next request is served."""
    with pytest.raises(InvalidRequestError):
        await collect(engine, make_request([1], **{"stop_token_ids": ENDS, **fields}))
    assert 8 == len((await collect(engine, make_request([1, 2, 3]))).token_ids)


# Several answers to one request.


async def test_four_answers_compute_their_prompt_once(engine_of):
    """Sequences of one prompt and salt share its whole blocks, and each has its own seed."""
    prompt = make_prompt(50, 4 * BLOCK_SIZE + 4)
    async with engine_of(EngineShape(chunk_tokens=40)) as engine:
        requests = choices(prompt)
        answers = await collect_all(engine, requests)
        alone = await collect_each_alone(engine, requests)
    assert [0, *3 * [4 * BLOCK_SIZE]] == [answer.usage.cached_tokens for answer in answers]
    assert tokens(alone) == tokens(answers)
    assert 4 == len({tuple(token_ids) for token_ids in tokens(answers)})


async def test_cancelling_one_of_four_answers_leaves_the_others(engine):
    """Each is a sequence of its own, the first one too, whose blocks the others share."""
    requests = choices(make_prompt(51, 2 * BLOCK_SIZE), max_tokens=200)
    expected = await collect_each_alone(engine, requests)
    streams = [asyncio.create_task(collect(engine, request)) for request in requests[1:]]
    async with aclosing(engine.generate(requests[0])) as stream:
        await anext(stream)
    answers = await asyncio.gather(*streams)
    health = await engine.health()
    assert tokens(expected[1:]) == tokens(answers)
    assert (0, health.num_blocks) == (health.num_running, health.num_free_blocks)


def choices(prompt: list[int], max_tokens: int = 12) -> list[GenerateRequest]:
    """Return the sequences of a request for four answers, as a gateway sends them."""
    first = make_request(prompt, max_tokens)
    return [
        replace(
            first,
            request_id=f"{first.request_id}/{n}" if n else first.request_id,
            sampling=SamplingParams(temperature=1.0, seed=n),
        )
        for n in range(4)
    ]


# The end of a request.


async def test_max_tokens_ends_with_length(engine):
    """Generation ends after max_tokens, and says that this was why."""
    answer = await collect(engine, make_request(make_prompt(11, 9), 5))
    assert (5, EngineFinish.LENGTH) == (len(answer.token_ids), answer.finish)


async def test_no_tokens_wanted_computes_the_prompt_alone(engine):
    """With max_tokens 0 the prompt is computed (and cached) and nothing is generated."""
    prompt = make_prompt(12, 3 * BLOCK_SIZE + 1)
    answer = await collect(engine, make_request(prompt, 0, cache_salt="none"))
    again = await collect(engine, make_request(prompt, 0, cache_salt="none"))
    assert ([], EngineFinish.LENGTH) == (answer.token_ids, answer.finish)
    assert 3 * BLOCK_SIZE == again.usage.cached_tokens


async def test_a_stop_token_is_reported_and_counted(engine):
    """Generation ends with the stop token, which is part of what was generated."""
    request = make_request(make_prompt(13, 9), 40)
    free = await collect(engine, request)
    stop_token = free.token_ids[10]
    stopped = await collect(engine, replace(request, stop_token_ids=(stop_token, 1)))
    end = next(n for n, token in enumerate(free.token_ids) if token in (stop_token, 1))
    assert free.token_ids[: end + 1] == stopped.token_ids
    assert (EngineFinish.STOP, end + 1) == (stopped.finish, stopped.usage.completion_tokens)


async def test_cancel_ends_with_the_exact_count(engine):
    """A cancelled request ends, says so, and counts just the tokens that were handed over."""
    request = make_request(make_prompt(14, 40), 400)
    num_received = 0
    async for step in engine.generate(request):
        if num_received == 0:
            engine.cancel(request.request_id)
        num_received += len(step.token_ids)
    health = await engine.health()
    assert EngineFinish.CANCELLED == step.finish
    assert num_received == step.usage.completion_tokens < 400
    assert (0, health.num_blocks) == (health.num_running, health.num_free_blocks)


async def test_a_waiting_request_can_be_cancelled(engine_of):
    """A request that has not begun ends without a token."""
    busy = make_request(make_prompt(15, 40), 300)
    queued = make_request(make_prompt(16, 40), 10)
    async with (
        engine_of(EngineShape(max_sequences=1)) as engine,
        aclosing(engine.generate(busy)) as stream,
    ):
        await anext(stream)
        waiting = asyncio.create_task(collect(engine, queued))
        await asyncio.sleep(0)  # lets it be sent
        engine.cancel(queued.request_id)
        answer = await waiting
    assert ([], EngineFinish.CANCELLED) == (answer.token_ids, answer.finish)


async def test_leaving_the_stream_cancels(engine):
    """Closing the stream cancels the generation and frees its blocks."""
    async with aclosing(engine.generate(make_request(make_prompt(17, 40), 400))) as stream:
        await anext(stream)
    health = await engine.health()
    assert (0, health.num_blocks) == (health.num_running, health.num_free_blocks)


async def test_cancelling_what_is_not_running_does_nothing(engine):
    """An unknown or finished request is left alone."""
    request = make_request(make_prompt(18, 9))
    engine.cancel("never heard of")
    await collect(engine, request)
    engine.cancel(request.request_id)
    assert EngineFinish.LENGTH == (await collect(engine, request)).finish


# Requests that are refused.


@pytest.mark.parametrize(
    ("prompt", "fields"),
    [
        ([], {}),
        ([1, VOCAB_SIZE], {}),
        ([-1], {}),
        ([1], {"max_tokens": -1}),
        ([1], {"sampling": SamplingParams(temperature=float("nan"))}),
        ([1], {"sampling": SamplingParams(top_p=0.0)}),
        ([1], {"sampling": SamplingParams(top_k=-1)}),
        ([1], {"sampling": SamplingParams(min_p=1.5)}),
        ([1], {"sampling": SamplingParams(seed=2**64)}),
        ([1], {"sampling": SamplingParams(presence_penalty=2.1)}),
        ([1], {"sampling": SamplingParams(presence_penalty=float("nan"))}),
        ([1], {"sampling": SamplingParams(frequency_penalty=-2.1)}),
        ([1], {"sampling": SamplingParams(frequency_penalty=float("-inf"))}),
        ([1], {"sampling": SamplingParams(repetition_penalty=0.0)}),
        ([1], {"sampling": SamplingParams(repetition_penalty=5.1)}),
        ([1], {"sampling": SamplingParams(repetition_penalty=float("nan"))}),
        ([1], {"sampling": SamplingParams(logit_bias=((1, float("nan")),))}),
        ([1], {"sampling": SamplingParams(logit_bias=((1, float("inf")),))}),
        ([1], {"sampling": SamplingParams(logit_bias=((VOCAB_SIZE, 1.0),))}),
        ([1], {"sampling": SamplingParams(logit_bias=((-1, 1.0),))}),
        ([1], {"sampling": SamplingParams(logit_bias=((2**70, 1.0),))}),
        ([1], {"sampling": SamplingParams(logit_bias=((1, 1.0), (1, 2.0)))}),
        ([1], {"sampling": SamplingParams(logit_bias=((1, 1.0),) * 10**5)}),
        ([1], {"top_logprobs": 21}),
        ([1], {"top_logprobs": -1}),
        ([1], {"top_logprobs": 2**70}),
        ([1], {"num_public_tokens": -1}),
        ([1], {"num_public_tokens": 2}),
        ([1], {"num_public_tokens": 2**70}),
    ],
)
async def test_bad_input_is_refused_and_harms_nobody(engine, prompt, fields):
    """Invalid input is the caller's error, and the next request is served."""
    with pytest.raises(InvalidRequestError):
        await collect(engine, make_request(prompt, **fields))
    assert 8 == len((await collect(engine, make_request([1, 2, 3]))).token_ids)


async def test_what_exceeds_the_context_is_refused_with_both_numbers(engine):
    """Prompt and max_tokens beyond the context are refused; exactly the context is served."""
    assert CONTEXT_LENGTH == engine.context_length
    with pytest.raises(RequestTooLargeForEngineError, match=r"500 prompt tokens and 13 .* 512"):
        await collect(engine, make_request(make_prompt(19, 500), 13))
    answer = await collect(engine, make_request(make_prompt(19, 500), 12))
    assert 12 == len(answer.token_ids)


async def test_what_exceeds_the_cache_is_refused(engine_of):
    """A request larger than the KV cache is refused at once; one that just fits is served."""
    async with engine_of(EngineShape(num_blocks=3)) as engine:
        assert 3 * BLOCK_SIZE == engine.context_length
        with pytest.raises(RequestTooLargeForEngineError, match=r"90 prompt tokens and 7 .* 96"):
            await collect(engine, make_request(make_prompt(20, 90), 7))
        answers = await collect_all(engine, [make_request(make_prompt(n, 90), 6) for n in range(3)])
    assert [6, 6, 6] == [len(answer.token_ids) for answer in answers]


async def test_a_request_id_is_unique_among_the_running(engine):
    """A second request of the same id is refused while the first runs, and only then."""
    request = make_request(make_prompt(21, 9), 200)
    async with aclosing(engine.generate(request)) as stream:
        await anext(stream)
        with pytest.raises(InvalidRequestError, match="running already"):
            await collect(engine, request)
    assert EngineFinish.LENGTH == (await collect(engine, request)).finish


# Start, stop and crashes.


async def test_an_engine_serves_between_start_and_stop(make_engine):
    """Before start and after stop requests and health checks fail; it can be started again."""
    engine = make_engine(DEFAULT)
    for _ in range(2):
        with pytest.raises(EngineUnavailableError):
            await collect(engine, make_request([1]))
        with pytest.raises(EngineUnavailableError):
            await engine.health()
        await engine.start()
        assert 8 == len((await collect(engine, make_request([1]))).token_ids)
        await engine.stop()


async def test_stop_fails_what_is_running(make_engine):
    """A request that is cut off by stop fails as unavailable."""
    engine = make_engine(DEFAULT)
    await engine.start()
    async with aclosing(engine.generate(make_request(make_prompt(22, 9), 400))) as stream:
        await anext(stream)
        await engine.stop()
        with pytest.raises(EngineUnavailableError):
            await drain(stream)


async def test_it_says_how_many_sequences_run_at_once(make_engine):
    """The number is the configured one, and known from the start."""
    engine = make_engine(EngineShape(max_sequences=5))
    with pytest.raises(EngineUnavailableError):
        _ = engine.max_sequences
    await engine.start()
    assert 5 == engine.max_sequences
    await engine.stop()


async def test_health_is_the_loops_own(engine):
    """A health check counts the steps that the loop has made."""
    before = await engine.health()
    await collect(engine, make_request(make_prompt(23, 9), 5))
    after = await engine.health()
    assert 5 == after.num_steps - before.num_steps


async def crash(engine: WorkerEngine, requests: list[GenerateRequest]) -> None:
    """Kill the worker while it runs *requests*, and check that each fails as crashed."""
    streams = [engine.generate(request) for request in requests]
    for stream in streams:
        await anext(stream)
    assert engine.worker_pid is not None
    os.kill(engine.worker_pid, signal.SIGKILL)
    for stream in streams:
        with pytest.raises(EngineCrashedError):
            await drain(stream)


async def drain(stream: AsyncIterator[GenerateStep]) -> None:
    async for _ in stream:
        pass


async def test_a_crash_fails_what_is_running_and_heals(engine_of):
    """The requests of a killed worker fail as crashed, new ones wait for the next worker."""
    async with engine_of(DEFAULT) as engine:
        await crash(engine, [make_request(make_prompt(n, 9), 400) for n in range(3)])
        with pytest.raises(EngineUnavailableError):
            await collect(engine, make_request([1]))
        await engine.wait_until_serving()
        assert 8 == len((await collect(engine, make_request([1]))).token_ids)


async def test_it_is_told_when_requests_are_served_again(engine_of):
    """A listener is notified of each restart, when requests are accepted again."""
    told = []
    async with engine_of(DEFAULT) as engine:
        engine.on_serving(lambda: told.append(engine.is_serving))
        served = [engine.is_serving]
        for number in range(2):
            await crash(engine, [make_request(make_prompt(24 + number, 9), 400)])
            served.append(engine.is_serving)
            await engine.wait_until_serving()

    assert [True, False, False] == served
    assert [True, True] == told


PARENT = """
import asyncio, pathlib, sys
import structlog
from tests.contract.engine_kinds import ENGINE_KINDS, EngineShape

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    engine = ENGINE_KINDS[sys.argv[1]](pathlib.Path(sys.argv[2]))(EngineShape())
    await engine.start()
    print(engine.worker_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ENGINE_KINDS)
async def test_a_worker_dies_with_its_parent(kind, tmp_path):
    """Nothing is left running when the gateway is killed."""
    with subprocess.Popen(  # noqa: ASYNC220 (the loop has nothing else to do)
        [sys.executable, "-c", PARENT, kind, str(tmp_path)],
        stdout=subprocess.PIPE,
    ) as parent:
        try:
            assert parent.stdout is not None
            worker = os.pidfd_open(int(parent.stdout.readline()))
        finally:
            parent.kill()
    poll = select.poll()
    poll.register(worker, select.POLLIN)  # readable when the process has ended
    has_ended = poll.poll(EXIT_TIMEOUT_MS)
    os.close(worker)
    assert has_ended
