"""Stops the requests of API keys that were revoked while they ran, here or on another gateway."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

import structlog

from stillhouse.errors import AuthenticationError, StoreUnavailableError
from stillhouse.serving.completions import Completions

log = structlog.get_logger()

_REVOKED = "The API key was revoked while the request was under way; what came of it is charged."


@dataclass(frozen=True, slots=True)
class RevocationCheck:
    """
    Looks up the keys of all running requests with one query, and stops those that are revoked.

    Args:
        find_revoked: Returns which of the given keys are revoked, by whichever process.

    """

    completions: Completions
    find_revoked: Callable[[Collection[int]], Awaitable[Collection[int]]]

    async def run(self) -> None:
        """Stops the requests of revoked keys; if the ledger is down, the next run does."""
        key_ids = self.completions.running_key_ids()
        if not key_ids:
            return
        try:
            revoked = await self.find_revoked(key_ids)
        except StoreUnavailableError:
            return
        for key_id in revoked:
            num_stopped = self.completions.stop_key(key_id, AuthenticationError(_REVOKED))
            log.info("requests_of_revoked_key_stopped", key_id=key_id, num_requests=num_stopped)
