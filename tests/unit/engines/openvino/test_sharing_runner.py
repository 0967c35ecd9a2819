"""The engine with prompts that begin alike: tokens in float32 are those of running alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep
from stillhouse.engines.openvino.engine import openvino_engine
from stillhouse.engines.openvino.loading import default_kv_cache_bytes, load_runner
from stillhouse.engines.openvino.runner import Runner
from stillhouse.engines.openvino.settings import EngineSettings, Precision, WeightFormat
from stillhouse.errors import ConfigError
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage
from tests.random_checkpoint import LLAMA_CONFIG, write_checkpoint

BLOCK_SIZE = 32
BLOCK_BYTES = 32_768  # of LLAMA_CONFIG in float32
GREEDY = SamplingParams(temperature=0)
PROMPT = [int(t) for t in np.random.default_rng(1).integers(0, 199, 3 * BLOCK_SIZE + 20)]
REQUEST = GenerateRequest("r", PROMPT, 6, GREEDY, cache_salt="a")
MIB = 1 << 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    directory: Path = tmp_path_factory.mktemp("sharing")
    write_checkpoint(directory / "checkpoint", LLAMA_CONFIG)
    return directory


def settings_of(checkpoint: Path, **options: Any) -> EngineSettings:
    return EngineSettings(
        checkpoint_dir=checkpoint / "checkpoint",
        cache_dir=checkpoint / "cache",
        num_threads=1,
        **{"precision": Precision.F32, "kv_cache_bytes": MIB, **options},
    )


def with_disk_tier(checkpoint: Path, disk_dir: Path, **options: Any) -> EngineSettings:
    options = {"prefix_disk_bytes": MIB, "prefix_disk_dir": disk_dir, **options}
    return settings_of(checkpoint, **options)


def load(settings: EngineSettings) -> Runner:
    return load_runner(settings, lambda _: None)


def finish(runner: Runner) -> dict[int, tuple[list[int], GenerateStep]]:
    """Step to the end and return the tokens and the last step of every sequence."""
    answers: dict[int, tuple[list[int], GenerateStep]] = {}
    while runner.has_work:
        for sequence_id, step in runner.step(lambda: None):
            assert isinstance(step, GenerateStep)
            token_ids, _ = answers.get(sequence_id, ([], step))
            answers[sequence_id] = ([*token_ids, *step.token_ids], step)
    return answers


def answer_alone(runner: Runner, request: GenerateRequest) -> list[int]:
    runner.add(max(runner._sequences, default=0) + 1, request)
    ((token_ids, _),) = finish(runner).values()
    return token_ids


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


# Several answers to one prompt.


@pytest.mark.parametrize("length", [5, BLOCK_SIZE, len(PROMPT)])
def test_four_answers_compute_their_prompt_once(checkpoint, length):
    """Three of them compute one token of it, and all give what each gives alone."""
    sampled = [SamplingParams(temperature=1.0, seed=seed) for seed in range(4)]
    requests = [
        replace(REQUEST, prompt_token_ids=PROMPT[:length], sampling=sampling)
        for sampling in sampled
    ]
    runner = load(settings_of(checkpoint, max_draft_tokens=0))
    alone = [
        answer_alone(runner, replace(request, cache_salt=f"alone {number}"))
        for number, request in enumerate(requests)
    ]
    num_computed, run = [0], runner._decoder.run

    def counting(batch):
        num_computed[0] += sum(part.num_tokens for part in batch)
        return run(batch)

    runner._decoder.run = counting
    for number, request in enumerate(requests):
        runner.add(100 + number, request)
    answers = finish(runner)
    assert alone == [token_ids for token_ids, _ in answers.values()]
    assert 4 == len({tuple(token_ids) for token_ids in alone})
    assert length + 3 * 1 + 4 * (6 - 1) == num_computed[0]
    whole = (length - 1) // BLOCK_SIZE * BLOCK_SIZE
    cached = [step.usage.cached_tokens for _, step in answers.values()]
    assert [0, whole, whole, whole] == cached


# Prefixes on disk.


async def collect(settings: EngineSettings, *requests: GenerateRequest) -> list[Any]:
    """Give each request to one life of the engine, in turn; return tokens and usages."""
    engine = openvino_engine(settings)
    await engine.start()
    try:
        answers = []
        for request in requests:
            steps = [step async for step in engine.generate(request)]
            token_ids = [token for step in steps for token in step.token_ids]
            answers.append((token_ids, steps[-1].usage))
        return answers
    finally:
        await engine.stop()


async def test_a_restart_finds_the_prefix_that_two_requests_had(checkpoint, tmp_path):
    """A sound end writes all that was to be kept; the next life reads it and says the same."""
    settings = with_disk_tier(checkpoint, tmp_path)
    (tokens, cold), _ = await collect(settings, REQUEST, REQUEST)
    other = replace(REQUEST, cache_salt="b")
    (warm_tokens, warm), (other_tokens, others) = await collect(settings, REQUEST, other)
    assert TokenUsage(len(PROMPT), 0, 6) == cold
    assert TokenUsage(len(PROMPT), 3 * BLOCK_SIZE, 6) == warm
    assert TokenUsage(len(PROMPT), 0, 6) == others
    assert tokens == warm_tokens == other_tokens


async def test_a_public_prefix_is_kept_from_its_first_request_on(checkpoint, tmp_path):
    """Whoever comes after the restart finds it."""
    public = replace(REQUEST, num_public_tokens=2 * BLOCK_SIZE)
    settings = with_disk_tier(checkpoint, tmp_path)
    await collect(settings, public)
    ((_, usage),) = await collect(settings, replace(public, cache_salt="b"))
    assert 2 * BLOCK_SIZE == usage.cached_tokens


async def test_a_crash_loses_no_prefix_that_was_written(checkpoint, tmp_path):
    """Blocks are written when they prove worth it, not when the process ends."""
    settings = with_disk_tier(checkpoint, tmp_path)
    runner = load(settings)
    runner.add(1, REQUEST)
    runner.add(2, REQUEST)
    finish(runner)
    runner.close()  # waits for the writer alone
    assert 3 == len(files_in(tmp_path))
    ((_, usage),) = await collect(settings, REQUEST)
    assert 3 * BLOCK_SIZE == usage.cached_tokens


def test_nothing_is_written_unless_it_is_asked_for(checkpoint, tmp_path):
    """The default keeps nothing, with or without a folder."""
    for options in ({}, {"prefix_disk_dir": tmp_path}):
        runner = load(settings_of(checkpoint, **options))
        answer_alone(runner, REQUEST)
        answer_alone(runner, REQUEST)
        runner.close()
    assert [] == [*tmp_path.iterdir()]


def test_turning_it_off_removes_what_was_kept(checkpoint, tmp_path):
    """Who no longer wants users' prompts on the disk does not have to look for them."""
    runner = load(with_disk_tier(checkpoint, tmp_path))
    answer_alone(runner, replace(REQUEST, num_public_tokens=len(PROMPT)))
    runner.close()
    assert files_in(tmp_path)
    load(settings_of(checkpoint, prefix_disk_dir=tmp_path))
    assert [] == [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "options", [{"weights": WeightFormat.INT4}, {"precision": Precision.DEFAULT}]
)
def test_blocks_of_another_format_are_not_used(options, checkpoint, tmp_path):
    """Bytes that mean something else are in another folder."""
    runner = load(with_disk_tier(checkpoint, tmp_path))
    answer_alone(runner, replace(REQUEST, num_public_tokens=len(PROMPT)))
    runner.close()
    other = load(with_disk_tier(checkpoint, tmp_path, **options))
    other.add(1, replace(REQUEST, num_public_tokens=len(PROMPT)))
    ((_, step),) = finish(other).values()
    other.close()
    assert 0 == step.usage.cached_tokens


def test_blocks_of_another_openvino_are_not_used(checkpoint, tmp_path, monkeypatch):
    """What the bytes mean is the plugin's own affair, which it may change."""
    request = replace(REQUEST, num_public_tokens=len(PROMPT))
    cached = []
    for version in ("2026.4.1", "2026.4.1", "2027.0.0"):
        monkeypatch.setattr("openvino.__version__", version)
        runner = load(with_disk_tier(checkpoint, tmp_path))
        runner.add(1, request)
        ((_, step),) = finish(runner).values()
        runner.close()
        cached.append(step.usage.cached_tokens)
    assert [0, 3 * BLOCK_SIZE, 0] == cached


def test_a_changed_checkpoint_uses_and_keeps_nothing_of_the_old(checkpoint, tmp_path):
    """What was computed with other weights is removed."""
    write_checkpoint(tmp_path / "checkpoint", LLAMA_CONFIG)
    public = replace(REQUEST, num_public_tokens=len(PROMPT))
    settings = with_disk_tier(tmp_path, tmp_path / "prefixes")
    runner = load(settings)
    answer_alone(runner, public)
    runner.close()
    old = {path.parent for path in files_in(tmp_path / "prefixes")}
    write_checkpoint(tmp_path / "checkpoint", {**LLAMA_CONFIG, "rope_theta": 20000.0})
    runner = load(settings)
    runner.add(1, public)
    ((_, step),) = finish(runner).values()
    runner.close()
    assert 0 == step.usage.cached_tokens
    new = {path.parent for path in files_in(tmp_path / "prefixes")}
    assert (1, 1) == (len(old), len(new))
    assert old.isdisjoint(new)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix_disk_bytes": -1}, "prefix_disk_bytes is -1"),
        ({"prefix_disk_bytes": 1}, "needs a prefix_disk_dir"),
        ({"num_models": 0}, "num_models is 0"),
    ],
)
def test_settings_that_cannot_work_are_refused(options, message):
    """The error names the setting and what would be right."""
    with pytest.raises(ConfigError, match=message):
        EngineSettings(checkpoint_dir=Path("a"), cache_dir=Path("b"), **options)


def test_settings_with_a_disk_tier_survive_the_command_line():
    """A worker reads the folder that its gateway wrote."""
    settings = with_disk_tier(Path("a"), Path("b c"))
    assert settings == EngineSettings.from_json(settings.to_json())


@pytest.mark.parametrize(("num_models", "share"), [(1, 0.25), (2, 0.25), (3, 1 / 6), (8, 1 / 16)])
def test_caches_of_many_models_take_half_of_what_is_free(num_models, share):
    """A quarter each for one or two, less for more; nothing where nothing is free."""
    assert int(share * 2**34) == default_kv_cache_bytes(2**34, num_models)
    assert 0 == default_kv_cache_bytes(-1, num_models)


# All of it at once.


@pytest.mark.parametrize("seed", range(6))
def test_whatever_arrives_gets_the_tokens_of_running_alone(seed, checkpoint, tmp_path):
    """Random arrivals, chunks, priorities, salts, answers, cancels; little memory; two lives."""
    rng = np.random.default_rng(seed)
    requests = [random_request(rng) for _ in range(14)]
    alone = load(settings_of(checkpoint, max_draft_tokens=0))
    expected = [
        answer_alone(alone, replace(request, cache_salt=f"alone {number}", num_public_tokens=0))
        for number, request in enumerate(requests)
    ]
    num_blocks = int(rng.integers(8, 20))
    num_cached = 0
    for _ in range(2):
        runner = load(
            with_disk_tier(
                checkpoint,
                tmp_path,
                kv_cache_bytes=num_blocks * BLOCK_BYTES,
                prefix_disk_bytes=int(rng.integers(2, 9)) * (BLOCK_BYTES + 1024),
                prefill_chunk_tokens=int(rng.integers(1, 100)),
                max_sequences=int(rng.integers(1, 8)),
            )
        )
        answers = serve(runner, requests, rng)
        runner.close()
        for number, (token_ids, step) in answers.items():
            if step.finish is EngineFinish.CANCELLED:
                assert expected[number][: len(token_ids)] == token_ids
            else:
                assert expected[number] == token_ids
            assert step.usage.completion_tokens == len(token_ids)
            num_cached += step.usage.cached_tokens
        assert {*answers} == {*range(len(requests))}
        assert num_blocks == runner.health.num_blocks == runner.health.num_free_blocks
    assert num_cached > 0


def random_request(rng: np.random.Generator) -> GenerateRequest:
    prefix = PROMPT[: int(rng.integers(0, len(PROMPT)))]
    own = [int(t) for t in rng.integers(0, 3, int(rng.integers(1, 4)))]
    return GenerateRequest(
        "r",
        prefix + own,
        int(rng.integers(1, 40)),
        SamplingParams(temperature=float(rng.integers(0, 2)), seed=int(rng.integers(0, 3))),
        cache_salt=str(rng.choice(["", "a", "b"])),
        priority=int(rng.integers(0, 3)),
        num_public_tokens=int(rng.integers(0, len(prefix) + 1)),
    )


def serve(
    runner: Runner, requests: list[GenerateRequest], rng: np.random.Generator
) -> dict[int, tuple[list[int], GenerateStep]]:
    """Let *requests* arrive and some be cancelled at random; their ids are their places."""
    answers: dict[int, tuple[list[int], GenerateStep]] = {}
    waiting = [*range(len(requests))]
    while waiting or runner.has_work:
        while waiting and rng.random() < 0.4:
            runner.add(waiting[0], requests[waiting[0]])
            waiting.pop(0)
        running = [*runner._sequences]
        steps = runner.cancel(int(rng.choice(running))) if running and rng.random() < 0.02 else []
        for sequence_id, step in [*steps, *runner.step(lambda: None)]:
            assert isinstance(step, GenerateStep)
            token_ids, _ = answers.get(sequence_id, ([], step))
            answers[sequence_id] = ([*token_ids, *step.token_ids], step)
    return answers
