"""The OpenAPI document is what the server does."""

from __future__ import annotations

import re

import httpx
import pytest

from stillhouse.api.operations import OPERATIONS
from stillhouse.api.routes import PUBLIC_PATHS, PUBLIC_PREFIXES
from tests.e2e.running_server import RunningServer

METRICS = "/metrics"  # public on a loopback address


def test_it_is_served_to_everybody(server: RunningServer):
    """Nobody needs a key to read how the API is used, and every operation is in it."""
    document = httpx.get(f"{server.url}/openapi.json").json()

    assert "3.1.0" == document["openapi"]
    assert {(operation.path, operation.method) for operation in OPERATIONS} == {
        (path, method) for path, methods in document["paths"].items() for method in methods
    }


def test_every_reference_leads_somewhere(server: RunningServer):
    """No schema is referred to that is not there, and none is there for nothing."""
    text = httpx.get(f"{server.url}/openapi.json").text
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))

    assert names == httpx.get(f"{server.url}/openapi.json").json()["components"]["schemas"].keys()


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_every_operation_is_there(server: RunningServer, operation):
    """Each path knows its method: it is never `no such path` nor `no such method`."""
    path = re.sub(r"{\w+}", "stillhouse/demo-r1", operation.path)
    response = httpx.request(operation.method, server.url + path, headers=server.headers)
    code = "" if response.is_success else response.json()["error"].get("code")

    assert code not in {"not_found", "method_not_allowed"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: f"{o.method} {o.path}")
def test_what_needs_no_key_is_said_so(server: RunningServer, operation):
    """Without a key exactly the public operations answer with anything but a 401."""
    path = re.sub(r"{\w+}", "x", operation.path)
    response = httpx.request(operation.method, server.url + path)

    is_open = operation.is_public or operation.path == METRICS
    assert is_open == (401 != response.status_code)
    assert operation.is_public == (path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES))
