from __future__ import annotations

import asyncio
import itertools

import pytest

from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from stillhouse.errors import (
    CheckpointError,
    ContextLengthError,
    EngineUnavailableError,
    IllegalTransitionError,
    ModelLoadError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.registry.states import TRANSITIONS, ModelState, check_transition
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.messages import Message, Role
from tests.unit.serving.conftest import SteppedEngine, events_of

IDEMPOTENCY_KEY = IdempotencyKey("order-7", b"f" * 32)
BROKEN = "stillhouse/demo-tools: config.json is missing"


class Loader:
    """Loads every model with a stepped engine, but for those that it was given an error for."""

    def __init__(self, chat, **errors: Exception) -> None:
        self._chat = chat
        self._errors = errors
        self.may_load = asyncio.Event()
        self.may_load.set()

    async def __call__(self, spec, replicas):
        await self.may_load.wait()
        await replicas.start(SteppedEngine())
        if error := self._errors.get(spec.id.partition("/")[2].replace("-", "_")):
            raise error
        return ServedModel(spec, self._chat, replicas, {})


@pytest.fixture
def place(tmp_path):
    """Which database it is makes no difference here."""
    return tmp_path / "ledger.db"


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def registry(catalogue, metrics):
    return ModelRegistry(catalogue, [DEMO_MODEL, DEMO_TOOLS_MODEL], metrics)


def states(registry):
    return [status.state for status in registry.statuses]


def shown_states(metrics, model_id=DEMO_MODEL):
    """Those whose gauge is 1."""
    return [
        state
        for state in ModelState
        if metrics.registry.get_sample_value(
            "stillhouse_model_state", {"model": model_id, "state": state}
        )
    ]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ModelState, ModelState)))
def test_only_what_the_table_has_is_legal(before, after):
    """Anything else names both states, and what would be right."""
    if after in TRANSITIONS[before]:
        check_transition("a/b", before, after)
    else:
        with pytest.raises(
            IllegalTransitionError, match=f"a/b is {before} and cannot become {after}; right"
        ):
            check_transition("a/b", before, after)


async def test_a_model_that_fails_to_load_leaves_the_others(registry, metrics, chat):
    """It has its reason; a request for it is refused with both, and told to come back."""
    await registry.load_all(Loader(chat, demo_tools=CheckpointError(BROKEN)))

    assert [ModelState.SERVING, ModelState.FAILED] == states(registry)
    assert [DEMO_MODEL] == [model.spec.id for model in registry]
    assert [ModelState.FAILED] == shown_states(metrics, DEMO_TOOLS_MODEL)
    with pytest.raises(ModelUnavailableError, match=f"failed: {BROKEN}") as refusal:
        registry.lease(DEMO_TOOLS_MODEL)
    assert refusal.value.retry_after_s > 0
    with pytest.raises(ModelNotFoundError):
        registry.lease("no/such-model")


async def test_a_bug_in_a_load_is_a_reason_too(registry, chat):
    """Monitors see its type alone, as its text may hold anything; the others are served."""
    await registry.load_all(Loader(chat, demo_r1=ValueError("odd")))

    assert [ModelState.FAILED, ModelState.SERVING] == states(registry)
    assert "ValueError; the log says more" == registry.statuses[0].reason


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("no /srv/models/a b/config.json", "no …/a b/config.json"),
        ("'/srv/m/config.json' is cut short", "'…/config.json' is cut short"),
        ("/srv/m/tokenizer.json: key: is missing", "…/tokenizer.json: key: is missing"),
        ("no /srv/m/x.json and /opt/y/x.json", "no …/x.json and …/x.json"),
        ("me/model: weights are int9", "me/model: weights are int9"),
        ("2 GiB/3 GiB are free", "2 GiB/3 GiB are free"),
    ],
)
async def test_reasons_are_public_without_folders(registry, chat, reason, shown):
    """Clients without a key learn why a model failed, and not where the server keeps files."""
    await registry.load_all(Loader(chat, demo_tools=CheckpointError(reason)))
    with pytest.raises(ModelUnavailableError) as refused:
        registry.resolve_model(DEMO_TOOLS_MODEL)
    status = registry.statuses[1]

    assert (reason, shown, f"failed: {shown}") == (status.reason, status.public_reason, str(status))
    assert refused.value.message.endswith(f"it is failed: {shown}")


async def test_strict_ends_at_the_first_failure(registry, chat):
    """As does a server of which no model can be loaded, which says every reason."""
    with pytest.raises(ModelLoadError, match=BROKEN):
        await registry.load_all(Loader(chat, demo_tools=CheckpointError(BROKEN)), is_strict=True)
    await registry.close()

    assert [ModelState.STOPPED, ModelState.FAILED] == states(registry)


async def test_no_model_at_all(registry, chat):
    """Every reason is told."""
    failing = Loader(
        chat, demo_r1=EngineUnavailableError("it died"), demo_tools=CheckpointError(BROKEN)
    )
    with pytest.raises(ModelLoadError, match=f"{DEMO_MODEL}: it died\n{DEMO_TOOLS_MODEL}: "):
        await registry.load_all(failing)


async def test_a_failed_model_may_be_loaded_again(registry, chat):
    """The engine of the load that failed is gone, the new one serves."""
    await registry.load(DEMO_MODEL, Loader(chat, demo_r1=CheckpointError(BROKEN)))
    before = len(registry._lives[DEMO_MODEL].replicas)
    await registry.load(DEMO_MODEL, Loader(chat))

    assert 0 == before
    assert 1 == len(registry.resolve_model(DEMO_MODEL).replicas)
    assert "" == registry.statuses[0].reason


async def test_while_it_loads_requests_are_refused(registry, chat):
    """And a second load is illegal; a load that is cancelled leaves the model stopped."""
    loader = Loader(chat)
    loader.may_load.clear()
    loading = asyncio.create_task(registry.load(DEMO_MODEL, loader))
    await asyncio.sleep(0)
    with pytest.raises(ModelUnavailableError, match="loading"):
        registry.lease(DEMO_MODEL)
    with pytest.raises(IllegalTransitionError):
        await registry.load(DEMO_MODEL, loader)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading

    assert ModelState.STOPPED is registry.statuses[0].state


async def test_a_busy_model_drains_before_it_is_unloaded(serving):
    """What was admitted is served, waiting requests too; what comes meanwhile is refused."""
    serving.engine.gate.clear()
    admitted = [await serving.open() for _ in range(4)]
    await serving.engine.has_begun(2)
    unloading = asyncio.create_task(serving.registry.unload(DEMO_MODEL, grace_s=600))
    await asyncio.sleep(0)
    with pytest.raises(ModelUnavailableError, match="draining"):
        await serving.open()
    was_draining = states(serving.registry)
    serving.engine.gate.set()

    assert [3] * 4 == [(await events_of(each))[-1].usage.completion_tokens for each in admitted]
    await unloading
    assert [ModelState.DRAINING] == was_draining
    assert [ModelState.STOPPED] == states(serving.registry)
    assert [ModelState.STOPPED] == shown_states(serving.metrics)
    with pytest.raises(ModelNotFoundError, match="not served here"):
        await serving.open()


async def test_a_request_that_is_refused_holds_no_lease(serving):
    """Nor does one that was settled, or one that repeats another."""
    await serving.answer(idempotency_key=IDEMPOTENCY_KEY)
    assert (await serving.open(idempotency_key=IDEMPOTENCY_KEY)).is_replay
    too_long = (Message(Role.USER, "word " * 5000),)
    with pytest.raises(ContextLengthError):
        await serving.open(messages=too_long)

    assert 0 == serving.registry._lives[DEMO_MODEL].num_leases


async def test_a_drain_has_an_end(serving):
    """A request that does not end in the grace loses its engine, not the unload its end."""
    serving.engine.gate.clear()
    opened = await serving.open()
    await serving.engine.has_begun()
    await serving.registry.unload(DEMO_MODEL, grace_s=0)
    serving.engine.gate.set()
    await events_of(opened)

    assert [ModelState.STOPPED] == states(serving.registry)
