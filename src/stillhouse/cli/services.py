"""How commands reach keys and money: in the home folder, or where the configuration says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from stillhouse.app.config import home_directory, load_config
from stillhouse.app.services import Rooms, open_rooms

T = TypeVar("T")


def configured_rooms(
    config: Path | None, home: Path | None, *, must_exist: bool = False
) -> AbstractAsyncContextManager[Rooms]:
    """
    Open what `stillhouse serve` with the same options serves, beside it.

    Args:
        must_exist: Make no ledger where there is none.

    Raises:
        ConfigError: The configuration is wrong, or the ledger is of a newer stillhouse, missing, or
            not the home's own.
        StoreUnavailableError: The ledger cannot be opened.

    """
    loaded = load_config(config)
    return open_rooms(
        home_directory(home),
        url=loaded.store.url,
        accounts_config=loaded.accounts,
        must_exist=must_exist,
    )


def in_rooms(
    config: Path | None,
    home: Path | None,
    work: Callable[[Rooms], Awaitable[T]],
    *,
    must_exist: bool = False,
) -> T:
    """
    The result of *work* on what is configured.

    Args:
        must_exist: Make no ledger where there is none.

    Raises:
        ConfigError: As `configured_rooms`.
        StoreUnavailableError: The ledger cannot be used.

    """

    async def run() -> T:
        async with configured_rooms(config, home, must_exist=must_exist) as rooms:
            return await work(rooms)

    return asyncio.run(run())
