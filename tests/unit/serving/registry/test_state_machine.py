"""
Random histories of one model: loads, failures, crashes, drains, requests and cancels.

Whatever happens, no request is lost or answered twice, no hold stays open, and the model unloads
once its last request has ended. The ledger is a real one; the engine is held by the test, so that
it generates only when a rule says so, and every rule waits for facts, not for time.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache
from itertools import count
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stillhouse.billing.outcome import Outcome
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.engines.base import EngineFinish, EngineHealth, GenerateStep
from stillhouse.errors import (
    CheckpointError,
    EngineCrashedError,
    EngineUnavailableError,
    IllegalTransitionError,
    ModelNotFoundError,
    ModelUnavailableError,
    StillhouseError,
)
from stillhouse.serving.admission.config import RateLimitsConfig
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.registry.states import ModelState
from stillhouse.serving.response import CompletionResponse
from stillhouse.store.database import Database
from stillhouse.text.chat_model import ChatModel
from stillhouse.types.events import Finish
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.usage import TokenUsage
from tests.effort import examples
from tests.unit.serving.conftest import ALL_CAPABILITIES, WORD_ID, opened_serving

#: Far longer than any history takes: nothing here ends because time is up.
LONG_S = 600
PATIENT = QueueConfig(
    max_outstanding=256, max_wait_s=LONG_S, flex_max_wait_s=LONG_S, prompt_window_tokens=4096
)


class HeldEngine:
    """An engine that generates what it is told to, when it is told to."""

    context_length = 4096
    capabilities = ALL_CAPABILITIES

    def __init__(self, max_sequences: int) -> None:
        self.max_sequences = max_sequences
        self.is_serving = False
        self.running: dict[str, asyncio.Queue[GenerateStep | Exception]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._num_tokens: Counter[str] = Counter()
        self._num_crashes = 0

    def on_serving(self, listener) -> None:
        self._listeners.append(listener)

    async def start(self) -> None:
        self.serve()

    async def stop(self) -> None:
        self.is_serving = False
        self._fail_all(EngineUnavailableError("stopped"))

    async def health(self) -> EngineHealth:
        return EngineHealth(0, 0, 0, 0, 0)

    def serve(self) -> None:
        self.is_serving = True
        for listener in self._listeners:
            listener()

    def crash(self) -> None:
        self.is_serving = False
        self._num_crashes += 1
        self._fail_all(EngineCrashedError("it died", crash=self._num_crashes))

    def emit(self, request_id: str, finish: EngineFinish | None = None) -> None:
        self._num_tokens[request_id] += 1
        usage = TokenUsage(7, 0, self._num_tokens[request_id])
        self.running[request_id].put_nowait(GenerateStep((WORD_ID,), usage, finish))
        if finish is not None:
            del self.running[request_id]

    def cancel(self, request_id: str) -> None:
        if request_id in self.running:
            self.emit(request_id, EngineFinish.CANCELLED)

    async def generate(self, request):
        if not self.is_serving:
            raise EngineUnavailableError("gone")
        steps = self.running[request.request_id] = asyncio.Queue()
        self._num_tokens[request.request_id] = 0
        while True:
            step = await steps.get()
            if isinstance(step, Exception):
                raise step
            yield step
            if step.finish is not None:
                return

    def _fail_all(self, error: Exception) -> None:
        running, self.running = self.running, {}
        for steps in running.values():
            steps.put_nowait(error)


class Client:
    """One admitted request, and all that its client has received."""

    def __init__(self, completion: CompletionResponse, num_choices: int) -> None:
        self.completion = completion
        self.num_choices = num_choices
        self.ends: list[object] = []
        self.reading = asyncio.create_task(self._read())

    @property
    def id(self) -> str:
        return self.completion.meta.request_id

    async def _read(self) -> None:
        try:
            async for event in self.completion.events():
                if isinstance(event, Finish):
                    self.ends.append(event)
        except StillhouseError as error:
            self.ends.append(error)


@cache
def words() -> tuple[Catalogue, ChatModel]:
    catalogue = Catalogue.load()
    return catalogue, load_chat_model(catalogue.resolve(DEMO_MODEL, loaded=[DEMO_MODEL]))


@cache
def empty_ledger() -> bytes:
    """A migrated file, as migrating anew for every history would take most of the time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        Database.open(path).close()
        return path.read_bytes()


class World:
    """One model behind a registry, a queue and a ledger, with the clients of its requests."""

    def __init__(self) -> None:
        self.clients: list[Client] = []
        self.unloading: asyncio.Task[None] | None = None
        self._numbers = count()
        self._stack = AsyncExitStack()

    async def open(self, max_sequences: int) -> None:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        place = Path(folder) / "ledger.db"
        place.write_bytes(empty_ledger())
        self.engine = HeldEngine(max_sequences)
        opening = opened_serving(
            place, *words(), RateLimitsConfig(), PATIENT, patience_s=LONG_S, engine=self.engine
        )
        self.serving = await self._stack.enter_async_context(opening)
        self.registry = self.serving.registry

    async def close(self) -> None:
        """Let everything end; `opened_serving` audits the ledger, and finds holds left open."""
        try:
            await self._end_all()
        except BaseException as error:
            await self._stack.__aexit__(type(error), error, error.__traceback__)
            raise
        await self._stack.aclose()

    async def _end_all(self) -> None:
        if self.state is ModelState.SERVING and not self.engine.is_serving:
            self.engine.serve()
        while self.unfinished:
            if not self.engine.is_serving:
                self.engine.serve()
            await self.settle()
            assert self.running, "requests wait, and nothing is at the engine"
            for client in self.running:
                self.finish(client)
            await self.settle()
        if self.unloading is not None:
            await self.unloading
        await self.registry.close()
        rows = await self.serving.rows("state")
        assert all(len(client.ends) == 1 for client in self.clients)
        assert len(self.clients) == len(rows)
        assert {state for (state,) in rows} <= {"SETTLED", "VOIDED"}

    @property
    def state(self) -> ModelState:
        return self.registry.statuses[0].state

    @property
    def unfinished(self) -> list[Client]:
        return [client for client in self.clients if not client.reading.done()]

    @property
    def running(self) -> list[Client]:
        """The clients of which every answer is at the engine."""
        at_engine = {request_id.partition("/")[0] for request_id in self.engine.running}
        return [client for client in self.unfinished if client.id in at_engine]

    async def request(self, num_choices: int) -> Client:
        number = next(self._numbers)
        completion = await self.serving.open(
            n=num_choices, sampling=SamplingOverrides(seed=100 * number)
        )
        client = Client(completion, num_choices)
        self.clients.append(client)
        return client

    def finish(self, client: Client) -> None:
        for request_id in [i for i in self.engine.running if i.partition("/")[0] == client.id]:
            self.engine.emit(request_id, EngineFinish.LENGTH)

    async def load(self, spec, replicas):
        await replicas.start(self.engine)
        return ServedModel(spec, words()[1], replicas, self.serving.model.prices)

    async def settle(self) -> None:
        """Return once every request waits, is at the engine with all its answers, or has ended."""
        async with asyncio.timeout(30):
            while not self._is_settled():  # noqa: ASYNC110  (these are the facts)
                await asyncio.sleep(0)

    def _is_settled(self) -> bool:
        life = self.registry._lives[DEMO_MODEL]
        labels = {"model": DEMO_MODEL, "tier": "default"}
        gauge = "stillhouse_waiting_requests"
        num_waiting = self.serving.metrics.registry.get_sample_value(gauge, labels) or 0
        unfinished = self.unfinished
        num_expected = sum(client.num_choices for client in self.running)
        is_drained = life.state is ModelState.DRAINING and not unfinished
        return (
            num_waiting + len(self.running) == len(unfinished) == life.num_leases
            and num_expected == len(self.engine.running)
            and not is_drained
        )


class ModelHistory(RuleBasedStateMachine):
    """One model's life, under requests."""

    @initialize(max_sequences=st.integers(1, 4))
    def open(self, max_sequences):
        self.runner = asyncio.Runner()
        self.world = World()
        self.run(self.world.open(max_sequences))

    def run(self, work):
        return self.runner.run(work)

    def teardown(self):
        if hasattr(self, "world"):
            try:
                self.run(self.world.close())
            finally:
                self.runner.close()

    @property
    def state(self):
        return self.world.state

    def _is(self, *states):
        return self.state in states

    @rule(num_choices=st.integers(1, 2))
    def request(self, num_choices):
        """It is admitted where the model serves, also while its engine restarts."""
        refusals = {
            ModelState.SERVING: (),
            ModelState.DRAINING: (ModelUnavailableError,),
            ModelState.FAILED: (ModelUnavailableError,),
            ModelState.STOPPED: (ModelNotFoundError,),
        }[self.state]

        async def ask():
            try:
                await self.world.request(num_choices)
            except refusals:
                return
            assert not refusals
            await self.world.settle()

        self.run(ask())

    @precondition(lambda self: self.world.running)
    @rule(which=st.integers(0, 100))
    def generate(self, which):
        """A request's first token ends its right to start over."""

        async def emit():
            client = self.world.running[which % len(self.world.running)]
            for request_id in list(self.world.engine.running):
                if request_id.partition("/")[0] == client.id:
                    self.world.engine.emit(request_id)
            await self.world.settle()

        self.run(emit())

    @precondition(lambda self: self.world.running)
    @rule(which=st.integers(0, 100))
    def finish(self, which):
        """It gets its whole answer, and one that waits takes its place."""

        async def end():
            client = self.world.running[which % len(self.world.running)]
            self.world.finish(client)
            await client.reading
            assert isinstance(client.ends[0], Finish)
            await self.world.settle()

        self.run(end())

    @precondition(lambda self: self.world.unfinished)
    @rule(which=st.integers(0, 100))
    def cancel(self, which):
        """A client that leaves the queue or the engine is done at once."""

        async def leave():
            client = self.world.unfinished[which % len(self.world.unfinished)]
            client.completion.stop(Outcome.CLIENT_DISCONNECT)
            await client.reading
            await self.world.settle()

        self.run(leave())

    @precondition(lambda self: self.world.engine.is_serving)
    @rule()
    def crash(self):
        """What had no token yet waits again, once; the rest fails."""

        async def die():
            self.world.engine.crash()
            await self.world.settle()

        self.run(die())

    @precondition(
        lambda self: (
            self._is(ModelState.SERVING, ModelState.DRAINING) and not self.world.engine.is_serving
        )
    )
    @rule()
    def restart(self):
        """What waits is dispatched."""

        async def serve():
            self.world.engine.serve()
            await self.world.settle()

        self.run(serve())

    @rule()
    def drain(self):
        """The model is unloaded once its requests have ended; only a serving one can be."""

        async def unload():
            if self.state is ModelState.SERVING:
                self.world.unloading = asyncio.create_task(
                    self.world.registry.unload(DEMO_MODEL, grace_s=LONG_S)
                )
                await asyncio.sleep(0)
                await self.world.settle()
            elif self.state is ModelState.FAILED:
                await self.world.registry.unload(DEMO_MODEL, grace_s=0)
            else:
                await is_illegal(self.world.registry.unload(DEMO_MODEL, grace_s=0))

        self.run(unload())

    @rule(max_sequences=st.integers(1, 4))
    def load(self, max_sequences):
        """A stopped or failed model serves again, with an engine of another size."""

        async def begin():
            if self.state not in {ModelState.STOPPED, ModelState.FAILED}:
                await is_illegal(self.world.registry.load(DEMO_MODEL, self.world.load))
                return
            self.world.engine = HeldEngine(max_sequences)
            await self.world.registry.load(DEMO_MODEL, self.world.load)
            assert self.state is ModelState.SERVING

        self.run(begin())

    @precondition(lambda self: self._is(ModelState.STOPPED, ModelState.FAILED))
    @rule()
    def fail(self):
        """A load that fails says why, and leaves no engine."""

        async def load(spec, replicas):
            await replicas.start(HeldEngine(1))
            raise CheckpointError("config.json is missing")

        self.run(self.world.registry.load(DEMO_MODEL, load))
        assert [ModelState.FAILED, "config.json is missing"] == [
            self.state,
            self.world.registry.statuses[0].reason,
        ]

    @invariant()
    def nobody_is_answered_twice(self):
        if hasattr(self, "world"):
            assert all(len(client.ends) <= 1 for client in self.world.clients)
            assert all(client.ends for client in self.world.clients if client.reading.done())

    @invariant()
    def the_engine_has_no_more_than_it_works_on(self):
        """A request of more answers than it has slots goes alone."""
        if hasattr(self, "world"):
            engine = self.world.engine
            assert len(engine.running) <= max(engine.max_sequences, 2)
            assert len(engine.running) <= engine.max_sequences or len(self.world.running) == 1


async def is_illegal(work):
    try:
        await work
    except IllegalTransitionError:
        return
    raise AssertionError("an illegal transition was made")


TestModelHistory = ModelHistory.TestCase
TestModelHistory.settings = settings(
    max_examples=examples(40),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


async def test_a_crash_with_fifty_waiting_answers_all_of_them():
    """After the restart, in the order of the queue, each once."""
    world = World()
    await world.open(max_sequences=2)
    running = [await world.request(1) for _ in range(2)]
    await world.settle()
    for client in running:
        world.engine.emit(client.id)
    waiting = [await world.request(1) for _ in range(50)]
    await world.settle()
    world.engine.crash()
    await world.settle()
    failed = [type(client.ends[0]) for client in running]
    num_unanswered = len(world.unfinished)
    world.engine.serve()
    await world.close()

    assert [EngineCrashedError] * 2 == failed
    assert 50 == num_unanswered
    assert all(isinstance(client.ends[0], Finish) for client in waiting)
