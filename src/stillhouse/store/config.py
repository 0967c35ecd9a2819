"""Section ``[store]`` of the configuration."""

from __future__ import annotations

from pydantic import Field

from stillhouse.settings import Section


class StoreConfig(Section):
    """
    Where the ledger is stored, and for how long.

    Args:
        url: Of a PostgreSQL database, which several gateways may share; None keeps the ledger in a
            file in the home folder.
        retention_months: So many whole months before this one keep their requests; older ones are
            moved into files in the home folder. None moves nothing.

    """

    url: str | None = Field(default=None, pattern="^postgres(ql)?://")
    retention_months: int | None = Field(default=None, ge=1, le=1200)
