from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.billing.holds.transactions import LEASE_MS
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.errors import InsufficientFundsError
from stillhouse.store.accounts import scopes
from stillhouse.store.accounts.scopes import TokenScope
from stillhouse.store.database import Database
from stillhouse.types.usage import TokenUsage
from tests.effort import examples
from tests.ledger_audit import audit_differences
from tests.unit.billing.conftest import TARIFF, Books

USAGE = TokenUsage(prompt_tokens=149, completion_tokens=338)
COST_PICOUSD = 354_930_000
CEILING_PICOUSD = TARIFF.ceiling_picousd(prompt_tokens=149, max_tokens=1000)


def scope_of(
    books: Books, limit_picousd: int | None, *, name: str = "a", expires_at_ms: int = 2**50
) -> TokenScope:
    return TokenScope(f"{books.key_id} {name}".encode(), limit_picousd, expires_at_ms)


async def hold(books: Books, scope: TokenScope | None) -> Hold:
    return await books.ledger.hold(
        request_id=f"request-{next(books.numbers)}",
        account_id=books.account_id,
        key_id=books.key_id,
        scope=scope,
        price=books.price,
        prompt_tokens=149,
        max_tokens=1000,
    )


async def num_admitted(books: Books, scopes: list[TokenScope | None]) -> int:
    """How many requests at once are admitted, one for each of *scopes*."""
    asked = (hold(books, scope) for scope in scopes)
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(result, Hold | InsufficientFundsError) for result in results)
    return sum(isinstance(result, Hold) for result in results)


async def balances(books: Books) -> dict[str, tuple[int, int]]:
    rows = await books.rows("SELECT holder, spent_picousd, held_picousd FROM balance")
    return {holder: (spent, held) for holder, spent, held in rows}


@pytest.mark.parametrize("num_covered", [0, 1, 7])
async def test_scope_limit_admits_exactly_what_it_covers(verified: Books, num_covered: int) -> None:
    """200 requests at once with one token never pass its limit, nor fall short of it."""
    scope = scope_of(verified, (num_covered + 1) * CEILING_PICOUSD - 1)
    assert num_covered == await num_admitted(verified, [scope] * 200)


async def test_spend_counts_on_scope_key_and_account_at_once(verified: Books) -> None:
    """What a token spends stands on its scope, its key and its account, whole or not at all."""
    scope = scope_of(verified, 10**12)
    await verified.ledger.limits.set_key_limit(verified.key_id, 10**12)
    held = await hold(verified, scope)
    before = (0, CEILING_PICOUSD)
    assert {"account": before, "key": before, "scope": before} == await balances(verified)
    await verified.ledger.settle(held, usage=USAGE, outcome=Outcome.STOP)
    after = (COST_PICOUSD, 0)
    assert {"account": after, "key": after, "scope": after} == await balances(verified)


async def test_refused_scope_reserves_nothing_on_its_key(verified: Books) -> None:
    """A request that its token's limit refuses leaves key and account as they were."""
    scope = scope_of(verified, CEILING_PICOUSD - 1)
    await verified.ledger.limits.set_key_limit(verified.key_id, 10**12)
    with pytest.raises(InsufficientFundsError, match=r"scoped token's spending limit of \$0\.0008"):
        await hold(verified, scope)
    assert {"account": (0, 0), "key": (0, 0)} == await balances(verified)
    assert [] == await verified.database.read(scopes.fetch_all)  # nor a row of its own


async def test_key_limit_binds_all_its_scopes_together(verified: Books) -> None:
    """Ten tokens that each might spend it all spend no more than their key may."""
    await verified.ledger.limits.set_key_limit(verified.key_id, 3 * CEILING_PICOUSD)
    tokens: list[TokenScope | None] = [
        scope_of(verified, 2 * CEILING_PICOUSD, name=str(number)) for number in range(9)
    ]
    assert 3 == await num_admitted(verified, [*tokens, None])


async def test_scope_without_a_limit_is_limited_by_its_key(verified: Books) -> None:
    """A token that names no limit has its key's, and no balance of its own."""
    await verified.ledger.limits.set_key_limit(verified.key_id, CEILING_PICOUSD)
    scope = scope_of(verified, None)
    assert 1 == await num_admitted(verified, [scope] * 5)
    assert {"account", "key"} == (await balances(verified)).keys()


@given(
    limits=st.lists(st.none() | st.integers(min_value=0, max_value=4), min_size=1, max_size=4),
    key_limit=st.none() | st.integers(min_value=0, max_value=6),
    uses=st.lists(st.integers(min_value=0, max_value=3), max_size=12),
)
@settings(max_examples=examples(15), deadline=None)
def test_scopes_never_spend_more_than_anything_above_them(
    tmp_path_factory: pytest.TempPathFactory,
    limits: list[int | None],
    key_limit: int | None,
    uses: list[int],
) -> None:
    """Whichever tokens ask, as many requests are admitted as each token and their key allow."""

    async def admit_all() -> tuple[int, list[object]]:
        path = tmp_path_factory.mktemp("scopes") / "ledger.db"
        with Database.open(path, is_server=True) as database:
            books = await Books.open(database)
            if key_limit is not None:
                await books.ledger.limits.set_key_limit(books.key_id, key_limit * CEILING_PICOUSD)
            tokens = [
                scope_of(
                    books, None if limit is None else limit * CEILING_PICOUSD, name=str(number)
                )
                for number, limit in enumerate(limits)
            ]
            asked: list[TokenScope | None] = [tokens[use % len(tokens)] for use in uses]
            admitted = await num_admitted(books, asked)
            return admitted, list(await audit_differences(books.ledger))

    by_token = [uses_of(number, uses, len(limits)) for number in range(len(limits))]
    covered = sum(
        used if limit is None else min(used, limit)
        for used, limit in zip(by_token, limits, strict=True)
    )
    expected = covered if key_limit is None else min(covered, key_limit)
    assert (expected, []) == asyncio.run(admit_all())


def uses_of(token: int, uses: list[int], num_tokens: int) -> int:
    return sum(use % num_tokens == token for use in uses)


async def test_killed_server_gives_scopes_their_holds_back(verified: Books) -> None:
    """What a dead server held under a token's limit is free again after the sweep."""
    scope = scope_of(verified, CEILING_PICOUSD)
    await hold(verified, scope)
    verified.clock.advance(LEASE_MS / 1000)
    restarted = Ledger(verified.database, verified.clock)
    assert 1 == await restarted.leases.sweep()
    assert 1 == await num_admitted(verified, [scope])


@pytest.mark.parametrize("loss", ["DELETE FROM balance", "UPDATE balance SET spent_picousd = 1"])
async def test_scope_balances_are_audited_and_rebuilt(books: Books, loss: str) -> None:
    """A token's balance that is lost or wrong is found, and summed again from its requests."""
    scope = scope_of(books, 2 * CEILING_PICOUSD)
    for _ in range(2):
        held = await hold(books, scope)
        await books.ledger.settle(held, usage=USAGE, outcome=Outcome.STOP)
    await books.tamper(loss)
    assert "balance of scope 1" in {d.subject for d in await audit_differences(books.ledger)}
    await books.ledger.auditor.rebuild()
    assert [] == await audit_differences(books.ledger)
    assert (2 * COST_PICOUSD, 0) == (await balances(books))["scope"]


async def test_scope_of_another_key_is_found(books: Books) -> None:
    """A request that somebody has moved to another key's token is named by the audit."""
    other = await books.beside("other")
    await other.ledger.void(await hold(other, scope_of(other, None)), outcome=Outcome.CANCELLED)
    held = await books.hold(request_id="moved")
    await books.ledger.settle(held, usage=USAGE, outcome=Outcome.STOP)
    await books.tamper("UPDATE request SET scope_id = 1 WHERE request_id = 'moved'")
    assert ["request moved: was made with a scope of another key"] == [
        str(difference) for difference in await audit_differences(books.ledger)
    ]


async def test_expired_scopes_are_purged_and_the_ledger_stays_right(books: Books) -> None:
    """A day after its token's end a scope is gone; what it paid for stays, and is audited."""
    purge = partial(scopes.delete_expired, before_ms=1000, at_most=2)
    tokens = [scope_of(books, 10**12, name=str(end), expires_at_ms=end) for end in range(997, 1002)]
    for token in [*tokens, scope_of(books, None)]:
        await books.ledger.settle(await hold(books, token), usage=USAGE, outcome=Outcome.STOP)
    assert [2, 1, 0] == [await books.database.write(purge) for _ in range(3)]
    left = await books.database.read(scopes.fetch_all)
    assert [1000, 1001, 2**50] == [row.expires_at_ms for row in left]
    await books.ledger.auditor.rebuild()
    assert [] == await audit_differences(books.ledger)
    assert [(6,)] == await books.rows("SELECT count(*) FROM request WHERE scope_id IS NOT NULL")


async def test_number_of_a_purged_scope_is_not_given_again(books: Books) -> None:
    """A new token's scope never takes over what another one has paid for."""
    old = scope_of(books, 10**12, name="old", expires_at_ms=1)
    await books.ledger.settle(await hold(books, old), usage=USAGE, outcome=Outcome.STOP)
    purge = partial(scopes.delete_expired, before_ms=1000, at_most=10)
    assert 0 == await books.database.write(purge)  # the newest one stays, for its number
    await hold(books, scope_of(books, 10**12, name="new"))
    assert 1 == await books.database.write(purge)
    assert [2] == [row.id for row in await books.database.read(scopes.fetch_all)]
    assert [] == await audit_differences(books.ledger)


async def test_scope_that_holds_money_is_not_purged(books: Books) -> None:
    """A request that outlasts its token by more than a day still counts on it."""
    await hold(books, scope_of(books, 10**12, expires_at_ms=1))
    await hold(books, scope_of(books, 10**12, name="newer"))
    purge = partial(scopes.delete_expired, before_ms=1000, at_most=10)
    assert 0 == await books.database.write(purge)
