"""Defines section ``[accounts]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class AccountsConfig(Section):
    """
    Bounds the cost of API keys.

    Args:
        max_keys: Working keys of one account, over the API or by command.
        keys_minted_per_minute: Keys that one account makes over the API, revoked ones included.
        auth_failures_per_minute: Wrong keys and forged tokens of one client address, and of one
            key's tokens.

    """

    max_keys: int = Field(default=1000, ge=1)
    keys_minted_per_minute: int = Field(default=60, ge=1)
    auth_failures_per_minute: int = Field(default=60, ge=1, le=1_000_000)
