"""Defines section ``[store]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class StoreConfig(Section):
    """
    Sets where the ledger is stored, and for how long.

    Args:
        url: Of a PostgreSQL database, which several gateways may share; None keeps the ledger in a
            file in the home folder.
        retention_months: The number of whole months before this one that keep their requests; older
            requests are moved into files in the home folder. None moves nothing.

    """

    url: str | None = Field(default=None, pattern="^postgres(ql)?://")
    retention_months: int | None = Field(default=None, ge=1, le=1200)
