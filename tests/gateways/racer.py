"""
Runs a gateway in a process of its own that admits many requests at once.

Each line of its input names an account, a key and a number of requests; each line of its output is
the number admitted. The second argument is JSON of the limits that gateways share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid

from stillhouse.billing.ledger import Ledger
from stillhouse.billing.limits.shared_rate_limiter import SharedRateLimiter
from stillhouse.clock import SystemClock
from stillhouse.errors import InsufficientFundsError, RateLimitError, StoreUnavailableError
from stillhouse.store.database import Database
from stillhouse.types.service_tier import ServiceTier
from tests.unit.billing.conftest import MODEL, TARIFF


async def race(url: str, limits: SharedRateLimiter | None) -> None:
    with Database.open(url, is_server=True) as database:
        ledger = Ledger(database, SystemClock(), limits)
        price = (await ledger.prices.publish({MODEL: TARIFF}))[MODEL][ServiceTier.DEFAULT]

        async def is_admitted(account_id: int, key_id: int) -> bool:
            request_id = uuid.uuid4().hex
            while True:
                try:
                    await ledger.hold(
                        request_id=request_id,
                        account_id=account_id,
                        key_id=key_id,
                        price=price,
                        prompt_tokens=149,
                        max_tokens=1000,
                    )
                except (InsufficientFundsError, RateLimitError):
                    return False
                except StoreUnavailableError as error:  # on a busy machine
                    print(error, file=sys.stderr)  # noqa: T201
                else:
                    return True

        print("ready", flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            account_id, key_id, number = map(int, line.split())
            admitted = await asyncio.gather(
                *(is_admitted(account_id, key_id) for _ in range(number))
            )
            print(sum(admitted), flush=True)  # noqa: T201


if __name__ == "__main__":
    given = SharedRateLimiter(**json.loads(sys.argv[2])) if len(sys.argv) > 2 else None
    asyncio.run(race(sys.argv[1], given))
