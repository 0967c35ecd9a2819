"""
A gateway in a process of its own that admits as many requests at once as it is told to.

Each line of its input names an account, a key and how many requests; each line of its output says
how many of them were admitted.
"""

from __future__ import annotations

import asyncio
import sys
import uuid

from stillhouse.billing.ledger import Ledger
from stillhouse.clock import SystemClock
from stillhouse.errors import InsufficientFundsError, StoreUnavailableError
from stillhouse.store.database import Database
from tests.unit.billing.conftest import MODEL, TARIFF


async def race(url: str) -> None:
    with Database.open(url, is_server=True) as database:
        ledger = Ledger(database, SystemClock())
        price = (await ledger.publish_prices({MODEL: TARIFF}))[MODEL]

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
                except InsufficientFundsError:
                    return False
                except StoreUnavailableError as error:  # on a machine that is too busy to answer
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
    asyncio.run(race(sys.argv[1]))
