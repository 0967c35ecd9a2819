"""Sets spending limits of accounts, keys and scopes, and reserves amounts under them."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from stillhouse.clock import Clock
from stillhouse.errors import InsufficientFundsError, InvalidRequestError
from stillhouse.money import format_usd
from stillhouse.store.accounts import accounts, keys, scopes
from stillhouse.store.accounts.keys import KeyLimit
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Connection, Database
from stillhouse.store.ledger import audit, balances, entries, usage_days
from stillhouse.store.ledger.balances import ACCOUNT, ALL_TIME, KEY, SCOPE, Balance, BalanceKey

#: DeepInfra's text, which clients may match.
NO_FUNDS = "You need positive balance to do inference. Please add balance manually or setup top-up"


class LimitPeriod(StrEnum):
    """The period after which a key's spending limit is refilled."""

    #: Never.
    TOTAL = keys.TOTAL
    #: With each calendar month in UTC.
    MONTH = keys.MONTH


class SpendingLimits:
    """Sets the spending limits of keys, and tops up prepaid accounts."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def set_key_limit(
        self, key_id: int, limit_picousd: int | None, *, period: LimitPeriod = LimitPeriod.TOTAL
    ) -> None:
        """
        Sets a key's spending limit; None leaves only its account's limit.

        The amount that the key has already spent in the period
        counts. A request is admitted only if its
        highest possible cost is covered, so the limit is never exceeded, not by a pico-dollar.

        Raises:
            InsufficientFundsError: The key has spent and holds more than that; revoke it instead.
            StoreUnavailableError: The ledger cannot be written.

        """
        limit = None if limit_picousd is None else KeyLimit(limit_picousd, period)
        now_ms = self._clock.now_ms()
        await self._database.write(
            partial(_set_key_limit, key_id=key_id, limit=limit, now_ms=now_ms)
        )

    async def top_up(self, account_id: int, amount_picousd: int, *, note: str = "") -> None:
        """
        Adds a customer's payment to a prepaid account.

        Raises:
            InvalidRequestError: The account is not prepaid, or the amount is not positive.
            StoreUnavailableError: The ledger cannot be written.

        """
        if amount_picousd <= 0:
            raise InvalidRequestError("A top-up must be more than nothing.", param="amount")
        await self._database.write(
            partial(
                _top_up,
                account_id=account_id,
                amount_picousd=amount_picousd,
                note=note,
                now_ms=self._clock.now_ms(),
            )
        )


def reserve_on_key(
    connection: Connection, key_id: int, amount_picousd: int, *, now_ms: int
) -> None:
    """
    Holds an amount on a key that has a limit of its own; others are limited by their account.

    Raises:
        InsufficientFundsError: The limit, less what is spent and held, is below the amount.

    """
    limit = keys.fetch_limit(connection, key_id)
    if limit is None:
        return
    of_key = BalanceKey(KEY, key_id, _period(limit, now_ms))
    if not balances.has_row(connection, of_key):  # the key's first request in this month
        _begin(connection, of_key, limit)
    if not balances.reserve(connection, of_key, amount_picousd):
        whose = f"API key's spending limit of {format_usd(limit.amount_picousd)} {_in_words(limit)}"
        raise not_covered(f"This {whose}", amount_picousd)


def reserve_on_scope(
    connection: Connection, token: TokenScope, *, key_id: int, amount_picousd: int, now_ms: int
) -> int:
    """
    Holds an amount on a scope that has a limit of its own; others are limited by their key.

    A token's first request makes its scope, which is undone with the rest if it is refused.

    Returns:
        The scope's id.

    Raises:
        InsufficientFundsError: The limit, less what is spent and held, is below the amount.

    """
    row = scopes.ensure(connection, token, key_id=key_id, created_at_ms=now_ms)
    if row.limit_picousd is not None and not balances.reserve(
        connection, BalanceKey(SCOPE, row.id, ALL_TIME), amount_picousd
    ):
        whose = f"This scoped token's spending limit of {format_usd(row.limit_picousd)}"
        raise not_covered(whose, amount_picousd)
    return row.id


def not_covered(whose: str, amount_picousd: int) -> InsufficientFundsError:
    """Returns the error for a request that a balance or limit does not cover."""
    return InsufficientFundsError(
        f"{NO_FUNDS}. {whose} does not cover the request's highest possible cost, "
        f"{format_usd(amount_picousd)}."
    )


def _set_key_limit(
    connection: Connection, *, key_id: int, limit: KeyLimit | None, now_ms: int
) -> None:
    keys.set_limit(connection, key_id, limit)
    balances.delete_rows(connection, KEY, key_id)
    if limit is not None:
        _begin(connection, BalanceKey(KEY, key_id, _period(limit, now_ms)), limit)


def _top_up(
    connection: Connection, *, account_id: int, amount_picousd: int, note: str, now_ms: int
) -> None:
    prepaid = {row.id for row in accounts.fetch_customers(connection) if row.is_prepaid}
    if account_id not in prepaid:
        raise InvalidRequestError(f"Account {account_id} is not prepaid.", param="account")
    entries.insert_top_up(
        connection,
        account_id=account_id,
        amount_picousd=amount_picousd,
        note=note,
        created_at_ms=now_ms,
    )
    of_account = BalanceKey(ACCOUNT, account_id, ALL_TIME)
    balances.raise_limit(connection, of_account, amount_picousd)


def begin_anew(connection: Connection, of_key: BalanceKey) -> None:
    """
    Rebuilds a key's balance from its days' sums and its holds.

    If that is above the key's limit, no balance is inserted, and no request of the key is admitted.
    """
    balances.delete_row(connection, of_key)
    limit = keys.fetch_limit(connection, of_key.holder_id)
    begin = _sum(connection, of_key, limit.amount_picousd if limit else None)
    if limit is None or begin.spent_picousd + begin.held_picousd <= limit.amount_picousd:
        balances.insert_row(connection, of_key, begin)


def _sum(connection: Connection, of_key: BalanceKey, limit_picousd: int | None) -> Balance:
    """Returns the amounts that a key's requests of a period cost and hold."""
    from_day, to_day = balances.days_of(of_key.period)
    return Balance(
        usage_days.sum_cost_of_key(connection, of_key.holder_id, from_day=from_day, to_day=to_day),
        audit.sum_held_of_key(connection, of_key),
        limit_picousd,
    )


def _begin(connection: Connection, of_key: BalanceKey, limit: KeyLimit) -> None:
    """Inserts a key's balance, with the amounts that its requests of the period cost and hold."""
    begin = _sum(connection, of_key, limit.amount_picousd)
    if begin.spent_picousd + begin.held_picousd > limit.amount_picousd:
        raise InsufficientFundsError(
            f"The key has spent {format_usd(begin.spent_picousd)} {_in_words(limit)} and holds "
            f"{format_usd(begin.held_picousd)}, which is more than a limit of "
            f"{format_usd(limit.amount_picousd)}."
        )
    balances.insert_row(connection, of_key, begin)


def _period(limit: KeyLimit, now_ms: int) -> int:
    return balances.month_of(now_ms) if limit.period == keys.MONTH else ALL_TIME


def _in_words(limit: KeyLimit) -> str:
    return "this month" if limit.period == keys.MONTH else "in total"
