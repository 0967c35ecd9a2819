"""The OpenAPI document is what the server does."""

from __future__ import annotations

import re

import httpx
import pytest
from pydantic import TypeAdapter

from stillhouse.api.http.operation import Access
from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.api_routes import OPERATIONS, api_routes, operations_of
from tests.e2e.running_server import RunningServer

NO_KEY_ID = "999999"
BY_PATH = {(served.method, served.path): served for served in OPERATIONS}
TALK = [{"role": "user", "content": "Hello!"}]
SHORT = {"model": DEMO_MODEL, "stream": True}
STREAMS = {
    "/v1/chat/completions": {"messages": TALK, "max_tokens": 40, "n": 2, "logprobs": True},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4, "logprobs": 1},
    "/v1/messages": {"messages": TALK, "max_tokens": 40},
    "/v1/responses": {"input": "Hello!", "max_output_tokens": 40, "top_logprobs": 1},
    "/v1/inference/{model_name}": {"input": "Hello", "max_new_tokens": 4},
}


@pytest.fixture(scope="module")
def document(server: RunningServer):
    """The document, which needs no key."""
    return httpx.get(f"{server.url}/openapi.json").json()


def path_of(served) -> str:
    """One that leads to something, where its parameter is a model."""
    return re.sub(r"{model\w*}", DEMO_MODEL, served.path).replace("{api_token}", NO_KEY_ID)


def test_every_operation_is_in_it(document):
    """The operations of the served routes are the document."""
    assert "3.1.0" == document["openapi"]
    assert {(served.path, served.method) for served in OPERATIONS} == {
        (path, method) for path, methods in document["paths"].items() for method in methods
    }


def test_every_reference_leads_somewhere(server: RunningServer, document):
    """Nothing is referred to that is not there, and nothing is there for nothing."""
    text = httpx.get(f"{server.url}/openapi.json").text
    for kind in ("schemas", "headers"):
        names = set(re.findall(rf'"#/components/{kind}/([^"]+)"', text))
        assert names == document["components"][kind].keys()


def test_descriptions_are_for_people_who_do_not_know_python(document):
    """A docstring's text about a field becomes the field's description."""
    schemas = document["components"]["schemas"]
    stop = schemas["MessageIn"]["properties"]["role"]["description"]

    assert "`developer` is what OpenAI calls `system` for models that reason." == stop
    for name, schema in schemas.items():
        assert not re.search("``|Args:|\n    ", schema.get("description", "")), name


@pytest.mark.parametrize("served", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_there(server: RunningServer, served):
    """Each path knows its method: it is never `no such path` nor `no such method`."""
    url = server.url + path_of(served)
    response = httpx.request(served.method, url, headers=server.headers)
    code = "" if response.is_success else response.json()["error"].get("code")

    assert code not in {"not_found", "method_not_allowed"}
    allowed = served.operation.refusals(served.route.access)
    assert response.status_code in {*served.operation.response_statuses, *allowed} - {500}


@pytest.mark.parametrize("served", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_what_needs_no_key_is_said_so(server: RunningServer, document, served):
    """Without a key exactly the public operations answer with anything but a 401."""
    path = path_of(served)
    response = httpx.request(served.method, server.url + path)
    is_open = [] == document["paths"][served.path][served.method].get("security")

    assert is_open == (401 != response.status_code)


def test_metrics_are_public_where_only_this_machine_sees_them():
    """A server that others see says that its metrics need a key."""
    here = operations_of(api_routes(has_public_metrics=True))

    assert {"/metrics"} == {
        local.path
        for local, remote in zip(here, OPERATIONS, strict=True)
        if local.route.access is Access.PUBLIC and remote.route.access is not Access.PUBLIC
    }


@pytest.mark.parametrize("path", STREAMS)
def test_events_are_as_described(server: RunningServer, path):
    """Each event of each stream has the fields that its type has, and no others."""
    served = BY_PATH["post", path]
    described = TypeAdapter(served.operation.event)
    body = SHORT | STREAMS[path]
    with server.client() as client:
        text = client.post(path_of(served), json=body).text
    events = re.findall(r"^data: ({.*})$", text, re.MULTILINE)

    assert len(events) > 2
    for event in events:
        described.validate_json(event, strict=True, extra="forbid")
