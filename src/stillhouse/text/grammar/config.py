"""Section ``[grammars]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class GrammarsConfig(Section):
    """
    Bounds on compiling schemas and regular expressions.

    Args:
        processes: Most grammars compiled at once, one of each account; of two and more, one is
            kept for accounts that had less than `heavy_from_s` lately.
        process_memory_mib: Memory of each process beyond its tokenizers, by `RLIMIT_AS`.
        timeout_s: Longest compilation of one grammar, from when its tokenizer is loaded.
        start_timeout_s: Longest start of a process, with its tokenizer.
        heavy_from_s: Time of a process; half of it is forgotten each minute.
        max_waiting: Most grammars that wait for a process; one more is refused.
        max_waiting_per_account: The same of one account.
        max_wait_s: Longest wait of one grammar for a process.
        max_remembered: Most grammars whose verdict is remembered, each by its digest: less than a
            kilobyte.
        bad_for_s: How long a bad verdict is remembered; a busy machine may have been the cause.

    """

    processes: int = Field(default=2, ge=1, le=64)
    process_memory_mib: int = Field(default=512, ge=1)
    timeout_s: float = Field(default=2, gt=0)
    start_timeout_s: float = Field(default=30, gt=0)
    heavy_from_s: float = Field(default=1, ge=0)
    max_waiting: int = Field(default=256, ge=0)
    max_waiting_per_account: int = Field(default=32, ge=0)
    max_wait_s: float = Field(default=30, gt=0)
    max_remembered: int = Field(default=10_000, ge=1)
    bad_for_s: float = Field(default=600, ge=0)
