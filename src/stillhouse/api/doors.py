"""The doors to a completion: which path reads which dialect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from stillhouse.api import chat_completions
from stillhouse.api.completion_endpoint import Asked, CompletionEndpoint
from stillhouse.api.json_route import JsonRoute
from stillhouse.serving.completions import Completions

#: Every OpenAI door is there under both, as at DeepInfra.
OPENAI_BASES = ("/v1/openai", "/v1")


@dataclass(frozen=True, slots=True)
class Door:
    """
    One dialect, and where it is spoken.

    Args:
        id_prefix: Of the ids that its clients see.
        read: From a body, with its path and headers, to what it asks for.

    """

    paths: tuple[str, ...]
    id_prefix: str
    read: Callable[[bytes, Request], Asked]


DOORS = (
    Door(
        tuple(f"{base}/chat/completions" for base in OPENAI_BASES),
        chat_completions.ID_PREFIX,
        chat_completions.read_chat_completion,
    ),
)


def door_routes(completions: Completions, *, max_body_bytes: int) -> list[JsonRoute]:
    """A route for each path of each door."""
    return [
        JsonRoute(path, endpoint, methods=["POST"])
        for door in DOORS
        for endpoint in [CompletionEndpoint(completions, max_body_bytes, door.id_prefix, door.read)]
        for path in door.paths
    ]
