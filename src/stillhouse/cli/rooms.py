"""How commands reach keys and money: in the home folder, or where the configuration says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from stillhouse.app import Rooms, open_rooms
from stillhouse.config import home_directory, load_config

T = TypeVar("T")


def configured_rooms(config: Path | None, home: Path | None) -> AbstractAsyncContextManager[Rooms]:
    """
    Open what `stillhouse serve` with the same options serves, beside it.

    Raises:
        ConfigError: The configuration is wrong, or the ledger is of a newer stillhouse.
        StoreUnavailableError: The ledger cannot be opened.

    """
    return open_rooms(home_directory(home), url=load_config(config).store.url)


def in_rooms(config: Path | None, home: Path | None, work: Callable[[Rooms], Awaitable[T]]) -> T:
    """
    The result of *work* on what is configured.

    Raises:
        ConfigError: As `configured_rooms`.
        StoreUnavailableError: The ledger cannot be used.

    """

    async def run() -> T:
        async with configured_rooms(config, home) as rooms:
            return await work(rooms)

    return asyncio.run(run())
