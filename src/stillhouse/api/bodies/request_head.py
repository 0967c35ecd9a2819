"""The parts of a request's head that parsing its body needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from starlette.requests import Request

from stillhouse.api.http import idempotency_header
from stillhouse.billing.idempotency_key import IdempotencyKey


@dataclass(frozen=True, slots=True)
class RequestHead:
    """
    The context in which a body is parsed; it can be sent to another process.

    Args:
        target: The path with its query.
        model_name: The model in the path; empty if there is none.
        version: The model's version in the query.
        idempotency_key: As the client sent it, unchecked.
        token: Identifies a scoped token: a response to one is not replayed to another.

    """

    target: str = ""
    model_name: str = ""
    version: str | None = None
    content_type: str = ""
    idempotency_key: str | None = None
    token: str | None = None

    @classmethod
    def of(cls, request: Request, *, token: str | None = None) -> Self:
        """Returns the head of *request*."""
        query: str = request.scope["query_string"].decode("latin-1")
        path = request.scope["path"]
        return cls(
            target=f"{path}?{query}" if query else path,
            model_name=request.path_params.get("model_name", ""),
            version=request.query_params.get("version") if query else None,
            content_type=request.headers.get("content-type", ""),
            idempotency_key=request.headers.get(idempotency_header.NAME),
            token=token,
        )

    def idempotency_key_of(self, body: bytes) -> IdempotencyKey | None:
        """
        Returns the idempotency key of the request; None if it has none.

        Raises:
            InvalidRequestError: It is empty, too long, or has unprintable characters.

        """
        return idempotency_header.read_idempotency_key(
            self.idempotency_key, path=self.target, body=body, token=self.token
        )
