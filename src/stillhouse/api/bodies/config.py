"""Section ``[bodies]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class BodiesConfig(Section):
    """Section ``[bodies]``: bounds on large request bodies, by account."""

    max_mib_in_flight: int = Field(default=128, ge=1)
    max_mib_in_flight_per_account: int = Field(default=32, ge=1)
    mib_per_minute: int = Field(default=512, ge=1)
    burst_mib: int = Field(default=16, ge=1)
    max_waiting: int = Field(default=200, ge=0)
    max_wait_s: float = Field(default=30, gt=0)
    processes: int = Field(default=2, ge=1, le=64)
    process_memory_mib: int = Field(default=512, ge=64)
    timeout_s: float = Field(default=30, gt=0)
    tokenizer_threads: int = Field(default=2, ge=1, le=64)
