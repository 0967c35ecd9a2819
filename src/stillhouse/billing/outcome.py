"""How a request ended, and who counted its tokens."""

from __future__ import annotations

from enum import StrEnum

from stillhouse.store.ledger.requests import LOST_OUTCOME


class Outcome(StrEnum):
    """Why nothing more was generated."""

    #: The model ended its answer.
    STOP = "stop"
    #: The answer reached max_tokens.
    LENGTH = "length"
    #: The model asked for a tool.
    TOOL_CALLS = "tool_calls"
    #: The client hung up.
    CLIENT_DISCONNECT = "client_disconnect"
    #: The client did not read.
    SLOW_CLIENT = "slow_client"
    #: The request's time was up.
    DEADLINE = "deadline"
    #: The engine failed: never charged.
    ENGINE_ERROR = "engine_error"
    #: What was asked for could not be gone on with, such as its grammar: charged as far as it came.
    REQUEST_FAULT = "request_fault"
    #: The gateway stopped for maintenance.
    DRAINED = "drained"
    #: Its API key was revoked: charged as far as it came.
    REVOKED = "revoked"
    #: An operator ended the request.
    CANCELLED = "cancelled"
    #: The gateway had lost its hold to a sweep, and could not take it back: charged if covered.
    LAPSED = "lapsed"
    #: The gateway was killed before it could settle: never charged. Only the sweep says this.
    GATEWAY_LOST = LOST_OUTCOME


class UsageSource(StrEnum):
    """Who counted a request's tokens."""

    #: The engine that made them.
    ENGINE = "engine"
    #: The gateway, as the tokens went through it.
    GATEWAY_COUNT = "gateway_count"
    #: Nobody: a guess, and marked as one for ever.
    ESTIMATE = "estimate"
