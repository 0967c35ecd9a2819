"""Corrects derived sums beside a running server: long snapshot reads, then short writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from stillhouse.billing.audit.verify import WrongSums, find_wrong_sums
from stillhouse.billing.limits.spending_limits import begin_anew
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger import balances, usage_days
from stillhouse.store.ledger.balances import KEY
from stillhouse.store.ledger.usage_days import DaySums

#: The length of one transaction, not counting its last change; other writes wait for its end.
_SLICE_S = 0.05

#: Sums that go wrong during one pass are found by the next one.
_MAX_PASSES = 4

_NOTHING = DaySums(0, 0, 0, 0, 0, 0)

Correction = Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """
    The result of a rebuild.

    Args:
        is_right: Whether the last pass found nothing to correct.

    """

    num_corrected: int
    is_right: bool


async def rebuild(database: Database) -> RebuildResult:
    """
    Corrects every day's sums and balance that differ from requests and entries.

    A pass reads a snapshot, and computes by how much each sum is wrong. Requests that are resolved
    meanwhile change a sum and its due value alike, so the difference stays valid, and is added to
    the sum as it is then. The next pass verifies the result.

    Raises:
        ConflictError: A corrected balance would be above its limit.
        StoreUnavailableError: The ledger cannot be used; finished corrections stay.

    """
    num_corrected = 0
    for _ in range(_MAX_PASSES):
        corrections = _corrections(await database.read(find_wrong_sums))
        if not corrections:
            return RebuildResult(num_corrected, is_right=True)
        while corrections:
            num_done = await database.write(partial(_correct_some, corrections=corrections))
            num_corrected += num_done
            corrections = corrections[num_done:]
    return RebuildResult(num_corrected, is_right=False)


def _corrections(wrong: WrongSums) -> list[Correction]:
    """Returns the corrections, those of days first, as keys' balances are computed from them."""
    corrections: list[Correction] = []
    for day, kept_sums, due_sums in wrong.days:
        pairs = zip(due_sums or _NOTHING, kept_sums or _NOTHING, strict=True)
        by = DaySums(*(due - kept for due, kept in pairs))
        corrections.append(partial(usage_days.correct, key=day, by=by))
    for key, kept, due in wrong.balances:
        if key.holder == KEY:
            corrections.append(partial(begin_anew, of_key=key))
        else:
            corrections.append(partial(balances.correct, key=key, kept=kept, due=due))
    return corrections


def _correct_some(connection: Connection, corrections: Sequence[Correction]) -> int:
    """Runs as many corrections as fit into one transaction, and returns their number."""
    end_s = time.monotonic() + _SLICE_S
    for number, correct in enumerate(corrections, start=1):
        correct(connection)
        if time.monotonic() >= end_s:
            return number
    return len(corrections)
