"""Sets up a worker from inside: it dies with its parent, dumps no core, and has a memory limit."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent_pid: int | None = None) -> None:
    """
    Ties this process to the one that spawned it.

    A terminal's Ctrl-C and a service manager's SIGTERM reach the whole group, so both are ignored:
    the parent alone decides when its workers end, after it has drained their requests.

    Args:
        parent_pid: The parent's process id; where another process is the parent by now, this one
            exits. None for a worker that notices the end of its connection.

    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        sys.exit()  # the parent died before prctl


def forbid_core_dumps() -> None:
    """Disables core dumps of this process, as they would hold customers' prompts."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_memory(num_bytes: int) -> None:
    """Bounds the memory mapped beyond the present amount, permanently, by `RLIMIT_AS`."""
    most = _mapped_bytes() + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


class MemoryLimit:
    """Bounds, inside the context, the memory mapped beyond the amount at entry."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes

    def __enter__(self) -> None:
        gc.collect()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_mapped_bytes() + self._num_bytes, hard))

    def __exit__(self, *exception: object) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _mapped_bytes() -> int:
    """Returns the mapped memory that RLIMIT_AS counts (proc(5))."""
    num_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return num_pages * resource.getpagesize()
