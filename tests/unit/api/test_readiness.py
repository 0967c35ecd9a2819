from __future__ import annotations

import json

import pytest
from starlette.requests import Request

from stillhouse.api.http.drain import Drain
from stillhouse.api.models.model_list import ModelList
from stillhouse.api.probes import Probes, SharedCheck
from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from stillhouse.clock import FrozenClock
from stillhouse.errors import CheckpointError
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.telemetry.background import BackgroundLoops
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.service_tier import ServiceTier
from tests.unit.serving.conftest import SteppedEngine

BROKEN = "config.json is missing"


class Words:
    context_length = 4096


class FreePrice:
    input_picousd = output_picousd = cached_input_picousd = 0


async def load(spec, replicas):
    if spec.id == DEMO_TOOLS_MODEL:
        raise CheckpointError(BROKEN)
    await replicas.start(SteppedEngine())
    return ServedModel(spec, Words(), replicas, {ServiceTier.DEFAULT: FreePrice()})


def request(query=b""):
    return Request({"type": "http", "query_string": query, "headers": []})


@pytest.fixture
async def registry():
    models = ModelRegistry(Catalogue.load(), [DEMO_MODEL, DEMO_TOOLS_MODEL], Metrics())
    await models.load_all(load)
    yield models
    await models.close()


async def probe(registry):
    async def store_is_fine() -> None: ...

    clock = FrozenClock()
    store = SharedCheck(store_is_fine, clock)
    probes = Probes(registry, Metrics(), store, Drain(), BackgroundLoops(clock))
    response = await probes.readyz(request())
    return response.status_code, json.loads(response.body)


async def test_a_failed_model_is_named_and_leaves_the_server_ready(registry):
    """Another one serves."""
    assert (
        200,
        {DEMO_MODEL: "ok", DEMO_TOOLS_MODEL: f"failed: {BROKEN}", "store": "ok"},
    ) == await probe(registry)


async def test_a_server_without_a_serving_model_is_not_ready(registry):
    """The last one was unloaded."""
    await registry.unload(DEMO_MODEL, grace_s=0)
    status, report = await probe(registry)

    assert (503, "stopped") == (status, report[DEMO_MODEL])


async def test_a_failed_model_is_listed_apart(registry):
    """Clients take what is in data for usable."""
    listed = json.loads((await ModelList(registry, created=0).list_all(request())).body)

    assert [DEMO_MODEL] == [model["id"] for model in listed["data"]]
    assert [
        {"id": DEMO_TOOLS_MODEL, "object": "model", "status": "failed", "reason": BROKEN}
    ] == listed["unavailable"]


async def test_where_all_serve_the_list_is_openais(registry):
    """Without anything of our own beside it."""
    await registry.unload(DEMO_TOOLS_MODEL, grace_s=0)
    listed = json.loads((await ModelList(registry, created=0).list_all(request())).body)

    assert {"object", "data"} == listed.keys()
