"""The base of every section of the configuration; each room defines its own section."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

KIB = 1 << 10
MIB = 1 << 20


class Section(BaseModel):
    """A table of the configuration file: frozen, finite, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
