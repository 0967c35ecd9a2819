"""Audits a ledger as `stillhouse ledger verify` does."""

from __future__ import annotations

from stillhouse.billing.audit.verify import Difference
from stillhouse.billing.ledger import Ledger


async def audit_differences(ledger: Ledger) -> list[Difference]:
    """Recompute everything that the ledger derives; empty if it is exactly right."""
    return (await ledger.auditor.audit()).differences
