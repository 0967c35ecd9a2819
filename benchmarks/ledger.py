"""
Measures the latency that the ledger adds to a request, beside one fsync of this disk.

    .venv/bin/python -m benchmarks.ledger [--folder .] [--requests 500] [--rows 100000]

Every figure is of real transactions on a file in *folder*, so pass a folder on the disk in question
(a tmpfs has no fsync to wait for). The fsync's own time is measured before each figure, at the same
rate: other work on the machine affects both, and an idle disk or processor is slower at first.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from stillhouse.accounts.accounts import Accounts
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price
from stillhouse.billing.statements.statement import Statements
from stillhouse.billing.statements.usage import UsageGrouping
from stillhouse.clock import SystemClock
from stillhouse.store.database import Database
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.tariff import Tariff
from stillhouse.types.usage import TokenUsage

#: The approximate size that one small transaction appends to SQLite's log.
FSYNC_BYTES = 3 * 4096

#: The month whose size is measured.
NOVEMBER_MS = 1_793_491_200_000  # 2026-11-01 00:00 UTC
MONTH_MS = 30 * 86_400_000
NUM_KEYS = 20

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)


@dataclass
class Customer:
    """An API key and the ledger that charges it."""

    database: Database
    accounts: Accounts
    ledger: Ledger
    account_id: int
    key_id: int
    price: Price
    ids: Random

    async def hold(self) -> Hold:
        """Place the hold of a request."""
        return await self.ledger.hold(
            request_id=f"chatcmpl-{self.ids.randbytes(16).hex()}",
            account_id=self.account_id,
            key_id=self.key_id,
            price=self.price,
            prompt_tokens=149,
            max_tokens=1000,
        )

    async def add_keys(self, number: int) -> list[int]:
        """Create further keys."""
        return [
            (await self.accounts.keys.mint(self.account_id, f"key {n}")).key.id
            for n in range(number)
        ]

    async def hold_and_settle(self) -> None:
        """Place the hold of a request and settle it at once."""
        hold = await self.hold()
        await self.ledger.settle(hold, usage=USAGE, outcome=Outcome.STOP)


@asynccontextmanager
async def customer(home: Path) -> AsyncIterator[Customer]:
    """Open a new ledger in *home* with one key."""
    clock = SystemClock()
    with Database.open(home / "ledger.db", is_server=True) as database:
        accounts = await Accounts.open(database, clock, home)
        account = await accounts.create_account("benchmark")
        key = (await accounts.keys.mint(account.id, "benchmark")).key
        ledger = Ledger(database, clock)
        tariff = Tariff(input_picousd=200_000, cached_input_picousd=200_000, output_picousd=600_000)
        price = (await ledger.prices.publish({"benchmark": tariff}))["benchmark"][
            ServiceTier.DEFAULT
        ]
        random = Random(0)  # noqa: S311  (ids, not secrets)
        yield Customer(database, accounts, ledger, account.id, key.id, price, random)
        await ledger.close()


def fsync_ms(folder: Path, *, pause_s: float = 0.0, num_times: int = 100) -> float:
    """Return the median time of appending to a file in *folder* and waiting for the disk."""
    durations_ms = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for number in range(num_times):
            time.sleep(pause_s)
            os.pwrite(file.fileno(), bytes(FSYNC_BYTES), number * FSYNC_BYTES)
            begin_s = time.perf_counter()
            os.fdatasync(file.fileno())
            durations_ms.append((time.perf_counter() - begin_s) * 1000)
    return statistics.median(durations_ms)


async def open_loop(
    work: Callable[[], Awaitable[None]], *, per_second: float, num_requests: int
) -> list[float]:
    """Start *work* at a steady rate, whether or not earlier work is done; return milliseconds."""
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


async def one_client(
    work: Callable[[], Awaitable[object]], *, num_requests: int
) -> tuple[list[float], float]:
    """Repeat *work*; return durations in ms, and the processor time of each."""
    durations_ms = []
    begin_cpu_s = time.process_time()
    for _ in range(num_requests):
        begin_s = time.perf_counter()
        await work()
        durations_ms.append((time.perf_counter() - begin_s) * 1000)
    return durations_ms, (time.process_time() - begin_cpu_s) * 1000 / num_requests


async def saturate(
    work: Callable[[], Awaitable[object]], *, num_clients: int, seconds: float
) -> float:
    """Return how often per second *num_clients* complete *work* in a closed loop."""
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


async def measure_size(home: Path, num_rows: int) -> None:
    """Print the size of a month with this many requests, and the time of its statement."""
    path = home / "ledger.db"
    async with customer(home) as someone:
        keys = await someone.add_keys(NUM_KEYS)
    empty_bytes = path.stat().st_size
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    random = Random(0)  # noqa: S311 - figures, not secrets
    with connection:
        for number in range(1, num_rows + 1):
            usage = (random.randint(10, 4000), 0, random.randint(10, 2000))
            cost_picousd = 200_000 * usage[0] + 600_000 * usage[2]
            at_ms = NOVEMBER_MS + number * MONTH_MS // (num_rows + 1)
            connection.execute(
                "INSERT INTO request VALUES "
                "(?, ?, ?, ?, ?, 'SETTLED', ?, ?, NULL, ?, ?, ?, 'engine', 'stop', ?, ?, NULL)",
                (
                    *(number, f"chatcmpl-{random.randbytes(16).hex()}"),
                    *(someone.account_id, random.choice(keys), someone.price.version),
                    *(2 * cost_picousd, at_ms, *usage, cost_picousd, at_ms + 9_000),
                ),
            )
            connection.execute(
                "INSERT INTO entry VALUES (?, 'charge', ?, ?), (?, 'charge', 1, ?)",
                (number, someone.account_id, -cost_picousd, number, cost_picousd),
            )
    connection.close()
    bytes_per_request = (path.stat().st_size - empty_bytes) / num_rows
    with Database.open(path) as database:
        ledger = Ledger(database, SystemClock())
        await ledger.auditor.rebuild()
        durations_ms = []
        num_lines = 0
        for _ in range(9):
            begin_s = time.perf_counter()
            lines = await Statements(database).usage(
                by=UsageGrouping.KEY, from_ms=NOVEMBER_MS, to_ms=NOVEMBER_MS + MONTH_MS
            )
            durations_ms.append((time.perf_counter() - begin_s) * 1000)
            num_lines = len(lines)
        begin_s = time.perf_counter()
        differences = (await ledger.auditor.audit()).differences
        verify_s = time.perf_counter() - begin_s
    print(
        f"{num_rows} requests: {bytes_per_request:.0f} bytes each with entries and indexes; "
        f"a month by {num_lines} keys {statistics.median(durations_ms):.1f} ms; "
        f"verify {verify_s:.1f} s, {len(differences)} differences"
    )


def print_latencies(name: str, durations_ms: list[float], disk_ms: float) -> None:
    """Print the latencies of hold and settle."""
    p50_ms = statistics.median(durations_ms)
    p99_ms = statistics.quantiles(durations_ms, n=100)[98]
    print(
        f"{name}: hold + settle p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms; "
        f"one fsync {disk_ms:.2f} ms, p50 is {p50_ms / disk_ms:.1f} of it"
    )


async def run(folder: Path, num_requests: int, num_rows: int) -> None:
    """Print every figure."""
    home = Path(tempfile.mkdtemp(dir=folder, prefix="ledger-benchmark-"))
    try:
        await measure_size(home / "size", num_rows)
        async with customer(home) as someone:
            # The log file grows to its full size once, and commits are slower until then.
            await one_client(someone.hold_and_settle, num_requests=1500)
            disk_ms = fsync_ms(folder)
            durations_ms, cpu_ms = await one_client(
                someone.hold_and_settle, num_requests=5 * num_requests
            )
            print_latencies("one client", durations_ms, disk_ms)
            print(f"one client: {cpu_ms:.2f} ms of a processor per request")
            for per_second in (1, 50, 500):
                disk_ms = fsync_ms(folder, pause_s=1 / per_second, num_times=10 + per_second)
                durations_ms = await open_loop(
                    someone.hold_and_settle,
                    per_second=per_second,
                    num_requests=min(num_requests, 30 * per_second),
                )
                print_latencies(f"{per_second} requests/s", durations_ms, disk_ms)
            for name, work in (
                ("admissions (hold)", someone.hold),
                ("requests (hold + settle)", someone.hold_and_settle),
            ):
                commits, cpu_s = someone.database.num_commits, time.process_time()
                rate = await saturate(work, num_clients=200, seconds=5)
                commits = someone.database.num_commits - commits
                cpu_us = (time.process_time() - cpu_s) / 5 / rate * 1e6
                print(
                    f"200 clients: {rate:.0f} {name} per second, {commits / 5:.0f} commits/s, "
                    f"{cpu_us:.0f} us of a processor each"
                )
            begin_s = time.perf_counter()
            differences = (await someone.ledger.auditor.audit()).differences
            verify_s = time.perf_counter() - begin_s
            print(f"verify of all these: {len(differences)} differences in {verify_s:.2f} s")
    finally:
        shutil.rmtree(home)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--requests", type=int, default=500, help="per rate, at most 30 s of them")
    parser.add_argument("--rows", type=int, default=100_000, help="of the ledger that is weighed")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.folder, arguments.requests, arguments.rows))


if __name__ == "__main__":
    main()
