"""The model lists, and the public metrics of the last minute."""

from __future__ import annotations

import httpx
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL, DEMO_TOOLS_MODEL
from tests.e2e.test_service import wait_until

CENTS_PER_USD, MILLION = 100, 10**6
OWNER = DEMO_MODEL.partition("/")[0]


@pytest.fixture
def anybody(server):
    """A client without a key."""
    with httpx.Client(base_url=server.url) as client:
        yield client


def error_of(response):
    error = response.json()["error"]
    assert ["message", "type", "param", "code"] == list(error)
    return error


@pytest.mark.parametrize("base", ["/v1/openai/models", "/v1/models"])
def test_models_for_openais_clients(anybody, base):
    """The list and each of its entries, with prices in USD per million tokens."""
    listed = anybody.get(base, params={"filter": "with_meta", "sort_by": "omp"}).json()
    model, tools_model = listed["data"]

    assert ("list", "model", OWNER) == (listed["object"], model["object"], model["owned_by"])
    assert {"input_tokens": 0.2, "output_tokens": 0.6, "cache_read_tokens": 0.2} == model[
        "metadata"
    ]["pricing"]
    assert {"reasoning", "can-disable-reasoning", "json"} <= set(model["metadata"]["tags"])
    assert (DEMO_TOOLS_MODEL, True) == (
        tools_model["id"],
        "tools" in tools_model["metadata"]["tags"],
    )
    assert listed == anybody.get(base).json()
    assert model == anybody.get(f"{base}/{DEMO_MODEL}").json()
    assert model == anybody.get(f"{base}/demo-r1").json()


def test_a_filter_that_is_none_is_refused(anybody):
    """A list that is not filtered would be the wrong one."""
    refused = anybody.get("/v1/models", params={"filter": "cheap"})

    assert (422, "filter") == (refused.status_code, error_of(refused)["param"])


@pytest.mark.parametrize("base", ["/v1/openai/models", "/v1/models", "/models"])
def test_a_model_that_is_not_there(anybody, base):
    """A name with slashes, too, is a 404 that says what is loaded."""
    refused = anybody.get(f"{base}/a/b/c")

    assert (404, "model_not_found") == (refused.status_code, error_of(refused)["code"])
    assert f"Models here: {DEMO_MODEL}, {DEMO_TOOLS_MODEL}." in error_of(refused)["message"]


@pytest.mark.parametrize("path", ["/models/list", "/models/featured"])
def test_deepinfras_catalogue(anybody, path):
    """A flat list, whose prices are cents per token, exactly; max_tokens is the context."""
    card, _ = anybody.get(path).json()
    pricing = card["pricing"]

    assert (DEMO_MODEL, "text-generation", 2048) == (
        card["model_name"],
        card["type"],
        card["max_tokens"],
    )
    assert ("tokens", 2e-05, 6e-05, 1) == tuple(pricing.values())[:4]
    assert 0.6 == pricing["cents_per_output_token"] * MILLION / CENTS_PER_USD
    assert "$0.20/$0.60 in/out Mtoken" == pricing["short"]


def test_a_model_of_the_catalogue(anybody):
    """A model's entry is that of the list, with the schema of its native endpoint."""
    card, _ = anybody.get("/models/list").json()
    info = anybody.get(f"/models/{DEMO_MODEL}", params={"version": "1"}).json()

    assert card == {key: info[key] for key in card}
    assert ("1", OWNER, 2048) == (info["version"], info["owner"], info["max_output_tokens"])
    assert {"input", "max_new_tokens", "num_responses"} <= info["in_schema"]["properties"].keys()
    assert "model" not in info["in_schema"]["properties"]
    assert f"/v1/inference/{DEMO_MODEL}" in info["curl_inv"]
    assert 404 == anybody.get(f"/models/{DEMO_MODEL}", params={"version": "2"}).status_code


def test_versions(anybody):
    """The one that is loaded."""
    (version,) = anybody.get(f"/models/{DEMO_MODEL}/versions").json()

    assert (DEMO_MODEL, "1") == (version["model_name"], version["version"])
    assert 404 == anybody.get("/models/a/b/versions").status_code


def test_models_for_openrouter(anybody):
    """Prices are text, in USD per token."""
    model, tools_model = anybody.get("/openrouter/models").json()["data"]

    assert {
        "prompt": "0.0000002",
        "completion": "0.0000006",
        "input_cache_read": "0.0000002",
    } == model["pricing"]
    assert "reasoning" in model["supported_features"]
    assert [False, True] == ["tools" in m["supported_features"] for m in (model, tools_model)]


def test_the_last_minute(server, anybody):
    """The public figures include a request a second later."""
    body = {"model": DEMO_MODEL, "prompt": "Hello", "max_tokens": 6, "temperature": 0}
    with server.client() as client:
        assert 200 == client.post("/v1/completions", json=body).status_code
    wait_until(lambda: 6 <= 60 * anybody.get("/v1/metrics/live").json()["tokens_per_second"])
    live = anybody.get("/v1/metrics/live").json()

    assert 0 < live["time_to_first_token"] < 60
    assert 1 / 60 <= live["requests_per_second"]
    assert live["total_tflops"] is None
