"""Audits the ledger against the engines' own token logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stillhouse.billing.audit.verify import Difference
from stillhouse.billing.outcome import UsageSource
from stillhouse.store.database import Database
from stillhouse.store.ledger.requests import SETTLED, Counted, fetch_counts


async def compare_with_engine_logs(
    database: Database, num_generated: Mapping[str, int]
) -> list[Difference]:
    """
    Returns the differences between the ledger's token counts and the engines' logs.

    Args:
        num_generated: Tokens by request id, from the logs of every engine that ran on the ledger.

    Raises:
        StoreUnavailableError: The ledger cannot be read.

    """
    counted = await database.read(fetch_counts)
    unknown = num_generated.keys() - {row.request_id for row in counted}
    return [
        *(difference for row in counted for difference in _compare(row, num_generated)),
        *(
            Difference(
                f"request {request_id}",
                f"is not known, but an engine made {num_generated[request_id]} tokens",
            )
            for request_id in sorted(unknown)
        ),
    ]


def _compare(row: Counted, num_generated: Mapping[str, int]) -> Iterator[Difference]:
    made = num_generated.get(row.request_id, 0)
    counted = row.completion_tokens
    if counted is None or counted == made:
        return
    # The gateway counts fewer if an engine continued after its cancellation; that is not charged.
    if counted > made or (row.state == SETTLED and row.usage_source == UsageSource.ENGINE):
        yield Difference(
            f"request {row.request_id}",
            f"has {counted} completion tokens, but the engine made {made}",
        )
