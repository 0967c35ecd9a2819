from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from stillhouse.accounts.accounts import Principal
from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.idempotency import PastRequests
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Ledger
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.clock import FrozenClock
from stillhouse.engines.base import (
    EngineFinish,
    EngineHealth,
    GenerateRequest,
    GenerateStep,
    TokenEngine,
)
from stillhouse.engines.capabilities import ALL_CONSTRAINTS, Capabilities
from stillhouse.errors import EngineCrashedError
from stillhouse.serving.admission.config import RateLimitsConfig
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.serving.admission.quarantine import Quarantine
from stillhouse.serving.admission.rate_limits import RateLimiter
from stillhouse.serving.admission.thread_pool import FairThreadPool
from stillhouse.serving.completions import Completions
from stillhouse.serving.preparation import RequestPreparer
from stillhouse.serving.queue.config import QueueConfig
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.replicas import ReplicaSet
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.response import CompletionResponse
from stillhouse.serving.settlement import PendingSettlements
from stillhouse.store.database import Database
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.chat_model import ChatModel
from stillhouse.text.grammar.compiler import GrammarCompiler
from stillhouse.types.events import ChatEvent
from stillhouse.types.messages import Message, Role
from stillhouse.types.requests import ChatRequest
from stillhouse.types.usage import TokenUsage
from tests.ledger_audit import audit_differences
from tests.tariffs import usd_tariff
from tests.unit.billing.conftest import insert_customer

HELLO = (Message(Role.USER, "Hello!"),)
WORD_ID = 500  # all letters in the demo model's vocabulary
TARIFF = usd_tariff("0.20", "0.60")

ALL_CAPABILITIES = Capabilities(
    salted_prefix_cache=True,
    public_prefixes=True,
    priority=True,
    usage_at_abort=True,
    seed=True,
    penalties=True,
    logit_bias=True,
    max_top_logprobs=20,
    constraints=ALL_CONSTRAINTS,
)


class SteppedEngine:
    """An engine that makes its first token at once, and the others when its gate is open."""

    context_length = 4096
    max_sequences = 2
    capabilities = ALL_CAPABILITIES

    def __init__(self) -> None:
        self.is_serving = True
        self.is_slow_to_begin = False
        self._listeners: list[Callable[[], None]] = []
        self.requests: list[GenerateRequest] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self._num_crashes = 0
        self._cancelled: set[str] = set()
        self._arrivals = asyncio.Semaphore(0)

    async def has_begun(self, num_sequences: int = 1) -> None:
        """Return when so many more sequences have come to the engine."""
        for _ in range(num_sequences):
            await self._arrivals.acquire()

    def on_serving(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def crash(self) -> None:
        """Every sequence ends before its next token, and nothing is taken until `restart`."""
        self.is_serving = False
        self._num_crashes += 1
        self.failure = EngineCrashedError("it died", crash=self._num_crashes)
        self.gate.set()

    def restart(self) -> None:
        """Serve again."""
        self.failure = None
        self.is_serving = True
        for listener in self._listeners:
            listener()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def health(self) -> EngineHealth:
        return EngineHealth(0, 0, 0, 0, 0)

    async def generate(self, request: GenerateRequest) -> AsyncIterator[GenerateStep]:
        self.requests.append(request)
        self._arrivals.release()
        for number in range(1, request.max_tokens + 1):
            if number > 1 or self.is_slow_to_begin:
                await self.gate.wait()
            if self.failure:
                raise self.failure
            usage = TokenUsage(len(request.prompt_token_ids), 0, number)
            if request.request_id in self._cancelled:
                yield GenerateStep((WORD_ID,), usage, EngineFinish.CANCELLED)
                return
            finish = EngineFinish.LENGTH if number == request.max_tokens else None
            yield GenerateStep((WORD_ID,), usage, finish)

    def cancel(self, request_id: str) -> None:
        if any(request.request_id == request_id for request in self.requests):
            self._cancelled.add(request_id)
            self.gate.set()


@dataclass
class Serving:
    """Everything behind HTTP, with a real ledger, the demo model's words and a stepped engine."""

    place: Path | str
    database: Database
    ledger: Ledger
    past_requests: PastRequests
    completions: Completions
    engine: Any
    model: ServedModel
    registry: ModelRegistry
    metrics: Metrics
    clock: FrozenClock
    principal: Principal
    numbers: count[int] = field(default_factory=count)

    async def open(
        self,
        *,
        idempotency_key: IdempotencyKey | None = None,
        principal: Principal | None = None,
        **fields: Any,
    ) -> CompletionResponse:
        request = replace(ChatRequest(DEMO_MODEL, HELLO, max_tokens=3), **fields)
        return await self.completions.open(
            f"request-{next(self.numbers)}", principal or self.principal, request, idempotency_key
        )

    async def answer(self, **fields: Any) -> list[ChatEvent]:
        """A whole answer, to the durable cost."""
        return await events_of(await self.open(**fields))

    async def rows(self, columns: str = "state, outcome, completion_tokens") -> list[tuple[Any]]:
        query = f"SELECT {columns} FROM request ORDER BY number"
        return await self.database.read(
            lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)]
        )

    async def num_claims(self) -> int:
        query = "SELECT count(*) FROM idempotency_key"
        return await self.database.read(
            lambda connection: connection.exec_driver_sql(query).scalar_one()
        )

    def outstanding(self) -> float | None:
        return self.metrics.registry.get_sample_value(
            "stillhouse_outstanding_requests", {"model": DEMO_MODEL}
        )


async def events_of(completion: CompletionResponse) -> list[ChatEvent]:
    return [event async for event in completion.events()]


def replicas_of(*engines: TokenEngine) -> ReplicaSet:
    replicas = ReplicaSet()
    for engine in engines:
        replicas.add(engine)
    return replicas


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return Catalogue.load()


@pytest.fixture(scope="session")
def chat(catalogue: Catalogue) -> ChatModel:
    return load_chat_model(catalogue.resolve(DEMO_MODEL, loaded=[DEMO_MODEL]))


@pytest.fixture
def patience_s() -> float:
    """How long an answer waits for its cost: longer than a busy machine ever takes."""
    return 30


@pytest.fixture
def rules() -> RateLimitsConfig:
    """A test module overrides this."""
    return RateLimitsConfig()


@pytest.fixture
def queue_rules() -> QueueConfig:
    """A test module overrides this."""
    return QueueConfig(
        max_outstanding=256, max_wait_s=30, flex_max_wait_s=30, prompt_window_tokens=4096
    )


@pytest.fixture
def engine() -> SteppedEngine:
    """A test module overrides this."""
    return SteppedEngine()


@pytest.fixture
async def serving(  # noqa: PLR0917  (each is a fixture that some module overrides)
    place: Path | str,
    catalogue: Catalogue,
    chat: ChatModel,
    rules: RateLimitsConfig,
    queue_rules: QueueConfig,
    patience_s: float,
    engine: SteppedEngine,
) -> AsyncIterator[Serving]:
    """A new service; when the test has ended, its ledger must be right and nothing held."""
    async with opened_serving(
        place, catalogue, chat, rules, queue_rules, patience_s=patience_s, engine=engine
    ) as opened:
        yield opened


@asynccontextmanager
async def opened_serving(
    place: Path | str,
    catalogue: Catalogue,
    chat: ChatModel,
    rules: RateLimitsConfig,
    queue_rules: QueueConfig,
    *,
    patience_s: float,
    engine: Any,
) -> AsyncIterator[Serving]:
    clock, metrics = FrozenClock(), Metrics()
    with Database.open(place, is_server=True) as database:
        ledger = Ledger(database, clock)
        past_requests = PastRequests(database, clock)
        prices = await ledger.prices.publish({DEMO_MODEL: TARIFF})
        account_id, key_id = await database.write(insert_customer("customer"))

        async def load(spec: ModelSpec, replicas: ReplicaSet) -> ServedModel:
            await replicas.start(engine)
            return ServedModel(spec, chat, replicas, prices[DEMO_MODEL])

        registry = ModelRegistry(catalogue, [DEMO_MODEL], metrics)
        await registry.load_all(load)
        model = registry.resolve_model(DEMO_MODEL)
        admission = AdmissionController(
            queue_rules, limits=RateLimiter(rules, clock), clock=clock, metrics=metrics
        )
        completions = Completions(
            models=registry,
            ledger=ledger,
            past_requests=past_requests,
            admission=admission,
            preparer=RequestPreparer(
                threads=FairThreadPool(2, clock),
                grammars=GrammarCompiler(),
                admission=admission,
                metrics=metrics,
            ),
            quarantine=Quarantine(clock, quarantine_s=600),
            settlements=PendingSettlements(cost_timeout_s=patience_s),
            clock=clock,
            metrics=metrics,
            cancel_timeout_s=5,
        )
        principal = Principal(account_id, key_id, "key", "salt")
        yield Serving(
            place,
            database,
            ledger,
            past_requests,
            completions,
            engine,
            model,
            registry,
            metrics,
            clock,
            principal,
        )
        await completions.drain(grace_s=5)
        await ledger.close()
        clock.advance(LEASE_MS / 1000)
        assert [] == await audit_differences(ledger)
        assert 0 == await ledger.leases.sweep()
