"""Names the outcomes of requests, and the sources of their token counts."""

from __future__ import annotations

from enum import StrEnum

from stillhouse.store.ledger.requests import LOST_OUTCOME


class Outcome(StrEnum):
    """The reason for a request's end."""

    #: The model ended its response.
    STOP = "stop"
    #: The response reached max_tokens.
    LENGTH = "length"
    #: The model asked for a tool.
    TOOL_CALLS = "tool_calls"
    #: The client disconnected.
    CLIENT_DISCONNECT = "client_disconnect"
    #: The client did not read its stream.
    SLOW_CLIENT = "slow_client"
    #: The request's deadline passed.
    DEADLINE = "deadline"
    #: The engine failed: never charged.
    ENGINE_ERROR = "engine_error"
    #: The request caused the failure, such as by its grammar: charged for what was generated.
    REQUEST_FAULT = "request_fault"
    #: The gateway stopped for maintenance.
    DRAINED = "drained"
    #: Its API key was revoked: charged for what was generated.
    REVOKED = "revoked"
    #: An operator ended the request.
    CANCELLED = "cancelled"
    #: A sweep had voided its hold, and the gateway could not reacquire it: charged if covered.
    LAPSED = "lapsed"
    #: The gateway was killed before it could settle: never charged. Set by the sweep alone.
    GATEWAY_LOST = LOST_OUTCOME


class UsageSource(StrEnum):
    """The source of a request's token counts."""

    #: The engine that generated them.
    ENGINE = "engine"
    #: The gateway, from the tokens that it received.
    GATEWAY_COUNT = "gateway_count"
    #: Nothing: an estimate, and marked as one for ever.
    ESTIMATE = "estimate"
