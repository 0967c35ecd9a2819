"""What this process may use of the machine that it runs on."""

from __future__ import annotations

import os
from pathlib import Path


def num_physical_cores() -> int:
    """Returns how many cores this process may run on, hyper-threads counted once."""
    allowed = os.sched_getaffinity(0)
    cores = set()
    for processor in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")
        try:
            cores.add(topology.read_text())
        except OSError:
            cores.add(str(processor))
    return max(1, min(len(cores), _cpu_quota()))


def available_memory_bytes() -> int:
    """Returns how much memory can be had without swapping, a container's limit respected."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit():
        available = min(available, max(0, int(limit) - int(used)))
    return available


def _cpu_quota() -> int:
    """Returns how many cores' worth of time a container may use, rounded up."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    if not quota.isdigit():
        return len(os.sched_getaffinity(0))
    return -(-int(quota) // int(period))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
