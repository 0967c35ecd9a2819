"""Authenticates requests, and turns errors into responses."""

from __future__ import annotations

import secrets

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillhouse.accounts.accounts import Accounts
from stillhouse.accounts.keys.admin_key import AdminKey
from stillhouse.api.http import errors as http_errors
from stillhouse.api.http.access import PathAccess
from stillhouse.api.http.body_drain import BodyDrainer
from stillhouse.api.http.drain import Drain
from stillhouse.errors import (
    AuthenticationError,
    PermissionDeniedError,
    ServingError,
    StillhouseError,
)
from stillhouse.telemetry.metrics import Metrics

log = structlog.get_logger()

#: OpenAI's clients read the first, Anthropic's the second.
_ID_HEADERS = (b"x-request-id", b"request-id")
_CLOSE = (b"connection", b"close")


class AuthMiddleware:
    """
    Wraps an ASGI application: authenticates requests, and turns errors into responses.

    It puts the `Principal` into ``scope["principal"]`` and a new request id into
    ``scope["request_id"]``. Every response has the id as ``x-request-id``. A client's own id is not
    used: two requests could share one.

    Args:
        access: Decides which credential each path needs.

    """

    def __init__(  # noqa: PLR0913  (given once, by `create_api`)
        self,
        app: ASGIApp,
        access: PathAccess,
        *,
        accounts: Accounts,
        admin_key: AdminKey,
        metrics: Metrics,
        drain: Drain,
    ) -> None:
        self._app = app
        self._access = access
        self._accounts = accounts
        self._admin_key = admin_key
        self._metrics = metrics
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one HTTP request; other protocols are ignored."""
        if scope["type"] != "http":
            return
        has_started = False
        body = BodyDrainer(receive)
        scope["request_id"] = secrets.token_hex(16)
        id_headers = [(name, scope["request_id"].encode()) for name in _ID_HEADERS]

        async def noting_send(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                # A connection with an unread body cannot be used again, nor can one to a server
                # that shuts down.
                is_last = self._drain.is_refusing or body.has_remainder
                close = (_CLOSE,) if is_last else ()
                message["headers"] = [*message.get("headers", ()), *id_headers, *close]
            await send(message)

        try:
            if not self._access.is_public(scope["path"]):
                await self._authenticate(scope)
            await self._app(scope, body.receive, noting_send)
        except ClientDisconnect:
            log.info("client disconnected before its request was read", path=scope["path"])
        except StillhouseError as error:
            if has_started:  # too late for a status: the connection is closed, which clients notice
                raise
            await self._refuse(error, scope, body, noting_send)
        except Exception:
            log.exception("request failed", path=scope["path"])
            if has_started:
                raise
            await self._refuse(ServingError("Internal error"), scope, body, noting_send)

    async def _authenticate(self, scope: Scope) -> None:
        is_admins = self._access.is_admins(scope["path"])
        if not is_admins:  # monitors may read metrics during the shutdown
            self._drain.check()
        secret = _secret_in(Headers(scope=scope))
        if is_admins and self._admin_key.is_equal(secret):
            return
        scope["principal"] = await self._accounts.authenticate(secret, _address(scope))
        if is_admins:
            raise PermissionDeniedError(
                f"{scope['path']} is for the operator's admin key, not for an API key."
            )

    async def _refuse(
        self, error: StillhouseError, scope: Scope, body: BodyDrainer, send: Send
    ) -> None:
        status = http_errors.status_of(error)
        self._metrics.refused.labels(str(status)).inc()
        response = Response(
            http_errors.body_of(
                error,
                path=scope["path"],
                request_id=scope["request_id"],
                charged=scope.get("charged"),
            ),
            status_code=status,
            headers=http_errors.headers_of(error),
            media_type="application/json",
        )
        expect = Headers(scope=scope).get("expect", "")
        await body.drain(awaits_continue=expect.lower() == "100-continue")
        await response(scope, body.receive, send)


def _address(scope: Scope) -> str:
    """Returns the client's address from the connection, as headers can be forged."""
    client = scope.get("client")
    return client[0] if client else ""


def _secret_in(headers: Headers) -> str | None:
    """
    Returns the key in the request's headers.

    It is in ``Authorization: Bearer`` (any case, RFC 6750), in DeepInfra's ``xi-api-key``, or in
    ``x-api-key``, as Anthropic's clients send it.
    """
    if authorization := headers.get("authorization"):
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError("Not authenticated: use 'Authorization: Bearer <key>'")
        return secret.strip()
    return headers.get("xi-api-key") or headers.get("x-api-key")
