"""Opens accounts and ledger for commands, in the home folder or where the configuration says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from stillhouse.app.config import home_directory, load_config
from stillhouse.app.services import Services, open_services

T = TypeVar("T")


def configured_services(
    config: Path | None, home: Path | None, *, must_exist: bool = False
) -> AbstractAsyncContextManager[Services]:
    """
    Open the state of `stillhouse serve` with the same options, beside it.

    Args:
        must_exist: Refuse to create a missing ledger.

    Raises:
        ConfigError: The configuration is wrong, or the ledger is of a newer stillhouse, missing, or
            not the home's own.
        StoreUnavailableError: The ledger cannot be opened.

    """
    loaded = load_config(config)
    return open_services(
        home_directory(home),
        url=loaded.store.url,
        accounts_config=loaded.accounts,
        must_exist=must_exist,
    )


def with_services(
    config: Path | None,
    home: Path | None,
    work: Callable[[Services], Awaitable[T]],
    *,
    must_exist: bool = False,
) -> T:
    """
    Run *work* on the configured services, and return its result.

    Args:
        must_exist: Refuse to create a missing ledger.

    Raises:
        ConfigError: As `configured_services`.
        StoreUnavailableError: The ledger cannot be used.

    """

    async def run() -> T:
        async with configured_services(config, home, must_exist=must_exist) as services:
            return await work(services)

    return asyncio.run(run())
