"""Tokens that reached a client are charged, however it ends, unless the fault is ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.outcome import Outcome
from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    InvalidRequestError,
    RequestError,
    RequestTooLargeForEngineError,
    ServingError,
    StillhouseError,
)
from stillhouse.serving.completion import Completion
from stillhouse.types.events import ChatEvent, Finish
from stillhouse.types.usage import TokenUsage
from tests.unit.serving.conftest import TARIFF, WORD_ID, Serving, SteppedEngine

MAX_TOKENS = 6


@pytest.fixture
def engine():
    """Its sequences end as a test says."""
    return ScriptedEngine()


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@dataclass(frozen=True)
class Script:
    """What becomes of one sequence: so many tokens, and then its end."""

    num_tokens: int
    end: EngineFinish | type[Exception]


class ScriptedEngine(SteppedEngine):
    """An engine whose sequences go as their scripts say; each lets the others go on in between."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[Script] = []
        self.num_made: dict[str, int] = {}

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateStep]:
        script = self.scripts[int(request.request_id.partition("/")[2] or 0)]
        end = script.end if isinstance(script.end, EngineFinish) else None
        for number in range(1, script.num_tokens + 1):
            await asyncio.sleep(0)
            self.num_made[request.request_id] = number
            is_cancelled = request.request_id in self._cancelled
            finish = EngineFinish.CANCELLED if is_cancelled else None
            if number == script.num_tokens:
                finish = end or finish
            usage = TokenUsage(len(request.prompt_token_ids), 0, number)
            yield GenerateStep((WORD_ID,), usage, finish)
            if finish is not None:
                return
        await asyncio.sleep(0)
        assert not isinstance(script.end, EngineFinish)
        raise script.end("the end")

    def cancel(self, request_id: str) -> None:
        self._cancelled.add(request_id)


FAULTS_OF_REQUESTS = [InvalidRequestError, RequestTooLargeForEngineError]
FAULTS_OF_OURS = [EngineCrashedError, EngineUnavailableError, ServingError, ZeroDivisionError]
Row = tuple[str, str, int, int, int]
COLUMNS = "state, outcome, prompt_tokens, completion_tokens, cost_picousd"
ends = st.sampled_from([EngineFinish.STOP, EngineFinish.LENGTH])
faults = st.sampled_from([*FAULTS_OF_REQUESTS, *FAULTS_OF_OURS])
scripts = st.builds(Script, st.integers(1, MAX_TOKENS), ends) | st.builds(
    Script, st.integers(0, MAX_TOKENS), faults
)
stops = st.none() | st.tuples(
    st.integers(0, MAX_TOKENS),
    st.sampled_from([Outcome.CLIENT_DISCONNECT, Outcome.SLOW_CLIENT, Outcome.DRAINED]),
)


async def read(
    completion: Completion, stop: tuple[int, Outcome] | None
) -> tuple[Finish | None, StillhouseError | None]:
    """Read to the end, stopping behind so many events; return what was shown, and the error."""
    events: list[ChatEvent] = []
    num_left, outcome = stop or (-1, Outcome.CANCELLED)
    try:
        if num_left == 0:
            completion.stop(outcome)
        async for event in completion.events():
            events.append(event)
            if num_left == len(events):
                completion.stop(outcome)
    except StillhouseError as error:
        return completion.charged, error
    return (events[-1] if events and isinstance(events[-1], Finish) else None), None


@given(
    scripts=st.lists(scripts, min_size=1, max_size=3),
    stop=stops,
    is_named=st.booleans(),
)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_told_tokens_are_charged_unless_the_fault_is_ours(
    serving: Serving,
    scripts: list[Script],
    stop: tuple[int, Outcome] | None,
    is_named: bool,  # noqa: FBT001  (hypothesis gives it)
) -> None:
    """One row a request, exactly its engine's tokens at their price, whatever ends it."""
    engine = serving.engine
    assert isinstance(engine, ScriptedEngine)
    engine.scripts, engine.num_made = scripts, {}
    number = len(await serving.rows())
    idempotency_key = IdempotencyKey(f"name-{number}", b"f" * 32) if is_named else None
    completion = await serving.open(
        n=len(scripts), max_tokens=MAX_TOKENS, idempotency_key=idempotency_key
    )
    assert isinstance(completion, Completion)
    shown, error = await read(completion, stop)
    await serving.completions.drain(grace_s=5)
    (row,) = (await serving.rows(COLUMNS))[number:]
    state, outcome, prompt_tokens, completion_tokens, cost_picousd = cast("Row", row)

    num_made = sum(engine.num_made.values())
    if state == "SETTLED":
        usage = TokenUsage(prompt_tokens, 0, completion_tokens)
        assert (num_made, TARIFF.cost_picousd(usage)) == (completion_tokens, cost_picousd)
        if shown is not None:
            assert (usage, cost_picousd) == (shown.usage, shown.cost_picousd)
    else:
        assert (0, None) == (cost_picousd, shown)
        # Free is only what nothing was made for, and what failed through us.
        assert outcome == "engine_error" or not num_made
    if outcome == "engine_error":
        assert any(script.end in FAULTS_OF_OURS for script in scripts)
    if isinstance(error, RequestError):
        assert ("SETTLED" if num_made else "VOIDED", "request_fault") == (state, outcome)
    if (
        idempotency_key is not None
    ):  # a repetition runs anew where the first one has ended in an error
        past = await serving.past_requests.find(serving.principal.account_id, idempotency_key)
        assert (past is None) == (error is not None)
