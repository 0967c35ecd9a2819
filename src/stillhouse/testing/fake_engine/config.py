"""Section ``[engine.fake]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from stillhouse.settings import Section


class FaultConfig(Section):
    """A fault of the fake engine; `testing/fake_engine/settings.py` says more."""

    kind: Literal[
        "crash", "hang", "refuse", "ignore_cancel", "negative_usage", "huge_usage", "no_usage"
    ]
    at_token: int = Field(default=0, ge=0)
    seed: int | None = None


class FakeEngineConfig(Section):
    """
    Behaviour of the fake engine, which is for tests of faults and load.

    Args:
        witness_log: A relative path starts in the home folder.

    """

    first_token_s: float = Field(default=0, ge=0)
    token_interval_s: float = Field(default=0, ge=0)
    slots: int = Field(default=64, ge=1)
    witness_log: Path | None = None
    faults: tuple[FaultConfig, ...] = ()
