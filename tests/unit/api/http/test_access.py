from __future__ import annotations

import pytest

from stillhouse.api.http.access import PathAccess
from stillhouse.api.http.operation import Access, Operation, declares
from stillhouse.api.http.routing import endpoint_route


@declares(Operation("Nothing"))
async def nothing(_request):
    """An endpoint that no test calls."""


async def undeclared(_request):
    """An endpoint without an operation."""


def route(path, access):
    return endpoint_route(path, tag="Tests", access=access, GET=nothing)


def test_only_declared_paths_are_public():
    """A path needs a key, whether or not a route has it, unless a public route says otherwise."""
    access = PathAccess(
        [
            route("/open", Access.PUBLIC),
            route("/models/{name:path}", Access.PUBLIC),
            route("/closed", Access.INFERENCE),
            route("/metrics", Access.ADMIN),
        ]
    )

    assert ["/open", "/models/a/b"] == [
        path
        for path in ("/open", "/opened", "/models/a/b", "/models", "/closed", "/metrics", "/other")
        if access.is_public(path)
    ]
    assert ["/metrics"] == [p for p in ("/open", "/closed", "/metrics") if access.is_admins(p)]


def test_a_public_route_cannot_open_another():
    """A public parameter in front of a path that needs a key stops the start."""
    with pytest.raises(ValueError, match="/v1/me needs a key"):
        PathAccess([route("/v1/{anything:path}", Access.PUBLIC), route("/v1/me", Access.ACCOUNT)])


def test_an_endpoint_without_operation_is_no_route():
    """Every route that is served is described."""
    with pytest.raises(TypeError, match="declares no operation"):
        endpoint_route("/x", tag="Tests", access=Access.PUBLIC, GET=undeclared)
