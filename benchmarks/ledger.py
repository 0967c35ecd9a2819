"""
What the ledger adds to a request, beside what this disk needs for one fsync.

    .venv/bin/python benchmarks/ledger.py [--folder .] [--requests 200]

Every figure is of real transactions on a file in *folder*, so give a folder on the disk in question
(a tmpfs has no fsync to wait for). The fsync's own time is measured before each figure and stands
beside it, as other work on the machine moves both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from stillhouse.accounts.accounts import Accounts
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price, Tariff
from stillhouse.chat import TokenUsage
from stillhouse.clock import SystemClock
from stillhouse.store.database import Database

#: About what one small transaction appends to SQLite's log.
FSYNC_BYTES = 3 * 4096

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)


@dataclass
class Customer:
    """A key with a ledger to charge."""

    database: Database
    ledger: Ledger
    account_id: int
    key_id: int
    price: Price
    numbers: count[int]

    async def hold(self) -> Hold:
        """Admit a request."""
        return await self.ledger.hold(
            request_id=f"chatcmpl-{next(self.numbers):032x}",
            account_id=self.account_id,
            key_id=self.key_id,
            price=self.price,
            prompt_tokens=149,
            max_tokens=1000,
        )

    async def hold_and_settle(self) -> None:
        """Admit a request and settle it at once."""
        hold = await self.hold()
        await self.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


@asynccontextmanager
async def customer(home: Path) -> AsyncIterator[Customer]:
    """Open a new ledger in *home* with one key."""
    clock = SystemClock()
    with Database.open(home / "ledger.db", is_server=True) as database:
        accounts = await Accounts.open(database, clock, home)
        account = await accounts.create_account("benchmark")
        key = (await accounts.create_key(account.id, "benchmark")).key
        ledger = Ledger(database, clock)
        tariff = Tariff.from_usd_per_million(input_usd="0.20", output_usd="0.60")
        price = (await ledger.publish_prices({"benchmark": tariff}))["benchmark"]
        yield Customer(database, ledger, account.id, key.id, price, count())
        await ledger.close()


def fsync_ms(folder: Path, num_times: int = 200) -> float:
    """Median time of appending to a file in *folder* and waiting for the disk."""
    durations_ms = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for number in range(num_times):
            os.pwrite(file.fileno(), bytes(FSYNC_BYTES), number * FSYNC_BYTES)
            begin_s = time.perf_counter()
            os.fdatasync(file.fileno())
            durations_ms.append((time.perf_counter() - begin_s) * 1000)
    return statistics.median(durations_ms)


async def open_loop(
    work: Callable[[], Awaitable[None]], *, per_second: float, num_requests: int
) -> list[float]:
    """Start *work* at a steady rate whether or not earlier work is done; durations in ms."""
    durations_ms = []

    async def timed(intended_s: float) -> None:
        await work()
        durations_ms.append((time.perf_counter() - intended_s) * 1000)

    begin_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(num_requests):
            intended_s = begin_s + number / per_second
            await asyncio.sleep(max(0.0, intended_s - time.perf_counter()))
            tasks.create_task(timed(time.perf_counter()))
    return durations_ms


async def saturate(
    work: Callable[[], Awaitable[object]], *, num_clients: int, seconds: float
) -> float:
    """How often per second *num_clients* complete *work* when each begins anew at once."""
    end_s = time.perf_counter() + seconds
    num_done = 0

    async def client() -> None:
        nonlocal num_done
        while time.perf_counter() < end_s:
            await work()
            num_done += 1

    begin_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(num_clients)))
    return num_done / (time.perf_counter() - begin_s)


async def run(folder: Path, num_requests: int) -> None:
    """Print every figure."""
    home = Path(tempfile.mkdtemp(dir=folder, prefix="ledger-benchmark-"))
    try:
        async with customer(home) as someone:
            await saturate(someone.hold_and_settle, num_clients=1, seconds=0.5)  # warm up
            for per_second in (1, 50, 500):
                disk_ms = fsync_ms(folder)
                durations_ms = await open_loop(
                    someone.hold_and_settle,
                    per_second=per_second,
                    num_requests=min(num_requests, 30 * per_second),
                )
                p50_ms = statistics.median(durations_ms)
                p99_ms = statistics.quantiles(durations_ms, n=100)[98]
                print(
                    f"{per_second:4} requests/s: hold + settle p50 {p50_ms:.2f} ms, "
                    f"p99 {p99_ms:.2f} ms; one fsync {disk_ms:.2f} ms, "
                    f"p50 is {p50_ms / disk_ms:.1f} of it"
                )
            for name, work in (
                ("admissions (hold)", someone.hold),
                ("requests (hold + settle)", someone.hold_and_settle),
            ):
                commits = someone.database.num_commits
                rate = await saturate(work, num_clients=200, seconds=5)
                commits = someone.database.num_commits - commits
                print(f"200 clients: {rate:.0f} {name} per second, {commits / 5:.0f} commits/s")
            begin_s = time.perf_counter()
            differences = await someone.ledger.verify()
            print(
                f"verify: {len(differences)} differences among {next(someone.numbers)} requests "
                f"in {time.perf_counter() - begin_s:.2f} s"
            )
    finally:
        shutil.rmtree(home)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--requests", type=int, default=500, help="per rate, at most 30 s of them")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.folder, arguments.requests))


if __name__ == "__main__":
    main()
