"""Starts, watches and ends child processes."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

LINE_BYTES = 1 << 26
START_TIMEOUT_S = 300
STOP_TIMEOUT_S = 30


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def shown(command: Sequence[str]) -> str:
    """Return *command* as a shell line, relative to this folder."""
    here = f"{Path(__file__).parent}{os.sep}"
    parts = ["python", *command[1:]] if command[0] == sys.executable else list(command)
    return shlex.join(part.removeprefix(here) for part in parts)


@asynccontextmanager
async def running(
    command: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    answers: bool = True,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start *command* with its errors in *log*, and its output, too, unless it *answers* there."""
    with log.open("w") as errors:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if answers else errors,
            stderr=errors,
            env=os.environ | (environment or {}),
            limit=LINE_BYTES,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def until_connected(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    """Wait until a server listens on *port*."""
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            if process.returncode is not None:
                raise SystemExit(f"It ended instead of serving:\n{tail(log)}")
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def tail(log: Path) -> str:
    """Return the end of *log*."""
    return log.read_text()[-4000:]


def cpu_seconds(pid: int) -> float:
    """Return the processor time of *pid* and all its children."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has exited
        return 0.0
    seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return seconds + sum(map(cpu_seconds, children_of(pid)))


def pin(pid: int, core: int, *, children_core: int | None = None) -> None:
    """Pin all threads of *pid* to *core*, and its children to *children_core* if given."""
    if os.cpu_count() == 1:
        return
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
    if children_core is not None:
        for child in children_of(pid):
            pin(child, children_core)


def children_of(pid: int) -> list[int]:
    """Return the children of *pid*."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in found for child in file.read_text().split()]
