"""Tokens signed with a key: what they may do, and who may not make them."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.accounts.accounts import Accounts, ApiKey, Bounds, Principal
from stillhouse.accounts.authentication import scoped_token
from stillhouse.accounts.authentication.principal_cache import LIFETIME_S
from stillhouse.accounts.authentication.scopes import YEAR_MS
from stillhouse.accounts.keys.key_sealer import KeySealer
from stillhouse.accounts.keys.pepper import Pepper
from stillhouse.clock import FrozenClock
from stillhouse.errors import AuthenticationError, InvalidRequestError, KeyNotFoundError
from stillhouse.store.accounts import keys as key_rows
from stillhouse.store.accounts import scopes as scope_rows
from stillhouse.store.database import Database
from tests.ledger_storage import stored_bytes

HOUR_S = 3600
MODELS = st.none() | st.frozensets(st.sampled_from("abcd"))
TIMES = st.none() | st.integers(min_value=0, max_value=100)


@dataclass
class Customer:
    """An account with a key, who signs tokens alone, as DeepInfra's users do."""

    accounts: Accounts
    clock: FrozenClock
    account_id: int
    key: ApiKey
    secret: str

    @property
    def uid(self) -> str:
        return f"sh:{self.account_id}"

    @property
    def kid(self) -> str:
        return f"{self.uid}:{base64.b64encode(self.key.name.encode()).decode()}"

    def sign(
        self, *, secret: str | None = None, headers: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A token made with another program than ours."""
        now_s = self.clock.now_ms() // 1000
        payload = {"sub": self.uid, "exp": now_s + HOUR_S, **claims}
        headers = {"kid": self.kid, **(headers or {})}
        return "jwt:" + jwt.encode(payload, secret or self.secret, "HS256", headers=headers)

    async def who(self, token: str) -> Principal:
        return await self.accounts.authenticate(token)


@pytest.fixture
async def customer(accounts: Accounts, clock: FrozenClock) -> Customer:
    account = await accounts.create_account("alice")
    minted = await accounts.keys.mint(account.id, "läptop 1")
    return Customer(accounts, clock, account.id, minted.key, minted.secret)


async def num_rows(database: Database) -> int:
    return len(await database.read(scope_rows.fetch_all))


def limit_of(principal: Principal) -> int | None:
    assert principal.scope
    return principal.scope.limit_picousd


async def test_minted_token_is_its_keys_scope(customer: Customer, database: Database) -> None:
    """A token that the server mints speaks for its key, within the bounds that were asked for."""
    asked = Bounds(frozenset({"a/b"}), customer.clock.now_ms() + HOUR_S * 1000, 10**12)
    token = await customer.accounts.scopes.mint(customer.account_id, customer.key.name, asked)
    principal = await customer.who(token)
    whole = await customer.who(customer.secret)
    assert token.startswith("jwt:ey")
    assert (customer.account_id, customer.key.id, frozenset({"a/b"}), 10**12) == (
        principal.account_id,
        principal.key_id,
        principal.allowed_models,
        limit_of(principal),
    )
    assert (whole.cache_salt, None) == (principal.cache_salt, whole.scope)
    assert 0 == await num_rows(database)


async def test_token_signed_with_the_key_alone(customer: Customer) -> None:
    """A token that was signed elsewhere with the key as its secret works as DeepInfra's does."""
    token = customer.sign(model="a/b", spending_limit=0.5)
    principal = await customer.who(token)
    assert (frozenset({"a/b"}), customer.key.id) == (principal.allowed_models, principal.key_id)
    assert 5 * 10**11 == limit_of(principal)


async def test_any_jwt_library_reads_a_minted_token(customer: Customer) -> None:
    """What the server mints is a plain HS256 token: the key alone verifies it."""
    asked = Bounds(limit_picousd=1)
    token = await customer.accounts.scopes.mint(customer.account_id, customer.key.name, asked)
    encoded = token.removeprefix("jwt:")
    options: Any = {"verify_exp": False}
    claims = jwt.decode(encoded, customer.secret, algorithms=["HS256"], options=options)
    assert customer.uid == claims["sub"]
    assert (customer.clock.now_ms() + YEAR_MS) // 1000 == claims["exp"]
    assert Decimal("1E-12") == Decimal(str(claims["spending_limit"]))
    assert customer.kid == jwt.get_unverified_header(encoded)["kid"]


async def test_token_is_one_scope_however_often_it_is_used(customer: Customer) -> None:
    """One token spends one limit: it is the same scope each time, even for many at once."""
    token = customer.sign(spending_limit=1)
    principals = await asyncio.gather(*(customer.who(token) for _ in range(20)))
    customer.clock.advance(LIFETIME_S)
    assert 1 == len({principal.scope for principal in [*principals, await customer.who(token)]})


async def test_token_written_otherwise_is_refused(customer: Customer) -> None:
    """A signature spelled in another way, as base64 allows, does not begin a limit anew."""
    token = customer.sign(spending_limit=1)
    await customer.who(token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    spelled = [token[:-1] + alphabet[alphabet.index(token[-1]) + 1], f"{token}=", f"{token}=="]
    for other in spelled:
        with pytest.raises(AuthenticationError):
            await customer.who(other)


async def test_two_minted_tokens_are_two_scopes(customer: Customer) -> None:
    """Tokens minted with the same bounds in the same second each have their own limit."""
    asked = Bounds(limit_picousd=7)
    mint = customer.accounts.scopes.mint
    tokens = [await mint(customer.account_id, customer.key.name, asked) for _ in range(2)]
    principals = [await customer.who(token) for token in tokens]
    assert [7, 7] == [limit_of(principal) for principal in principals]
    assert principals[0].token_id != principals[1].token_id


def _unsigned(customer: Customer) -> str:
    token = jwt.encode(
        {"sub": customer.uid, "exp": 2**32}, "", "none", headers={"kid": customer.kid}
    )
    return f"jwt:{token}"


def _other_algorithm(customer: Customer) -> str:
    claims = {"sub": customer.uid, "exp": 2**32}
    headers = {"kid": customer.kid}
    return "jwt:" + jwt.encode(claims, customer.secret * 2, "HS512", headers=headers)


def _changed_claims(customer: Customer) -> str:
    header, _, signature = customer.sign(spending_limit=1).split(".")
    claims = json.dumps({"sub": customer.uid, "exp": 2**32, "spending_limit": 1000}).encode()
    return f"{header}.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.{signature}"


def _changed_signature(customer: Customer) -> str:
    token = customer.sign()
    head, _, signature = token.rpartition(".")
    return f"{head}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def _says_another_algorithm(customer: Customer) -> str:
    """Signed as it should be, but its header says otherwise."""
    claims = customer.sign().split(".")[1]
    header = json.dumps({"alg": "HS512", "kid": customer.kid}).encode()
    signed = base64.urlsafe_b64encode(header).rstrip(b"=") + b"." + claims.encode()
    signature = hmac.digest(customer.secret.encode(), signed, "sha256")
    return f"jwt:{signed.decode()}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


FORGERIES: dict[str, Callable[[Customer], str]] = {
    "no signature": _unsigned,
    "signature cut off": lambda c: c.sign().rpartition(".")[0] + ".",
    "another algorithm": _other_algorithm,
    "says another algorithm": _says_another_algorithm,
    "claims changed": _changed_claims,
    "signature changed": _changed_signature,
    "another secret": lambda c: c.sign(secret="sh_" + "x" * 33),
    "the key's shown part": lambda c: c.sign(secret=c.key.prefix.ljust(36, "0")),
    "expired now": lambda c: c.sign(exp=c.clock.now_ms() // 1000),
    "expired long ago": lambda c: c.sign(exp=1),
    "never expires": lambda c: c.sign(exp=None),
    "expires after time": lambda c: c.sign(exp=10**15),
    "not valid yet": lambda c: c.sign(nbf=c.clock.now_ms() // 1000 + 100),
    "another account's subject": lambda c: c.sign(sub="sh:4"),
    "no subject": lambda c: c.sign(sub=None),
    "another account's key": lambda c: c.sign(headers={"kid": c.kid.replace("sh:3", "sh:4")}),
    "a key that is not": lambda c: c.sign(headers={"kid": f"{c.uid}:bm9uZQ=="}),
    "no base64": lambda c: c.sign(headers={"kid": f"{c.uid}:===="}),
    "no UTF-8": lambda c: c.sign(headers={"kid": f"{c.uid}:/w=="}),
    "another's uid": lambda c: c.sign(headers={"kid": f"di:1:{c.kid}"}),
    "a negative limit": lambda c: c.sign(spending_limit=-1),
    "a limit below a pico-dollar": lambda c: c.sign(spending_limit="1e-13"),
    "a limit that is no number": lambda c: c.sign(spending_limit="NaN"),
    "a limit beyond all money": lambda c: c.sign(spending_limit="1e999999"),
    "models of another type": lambda c: c.sign(models="a/b"),
    "too long": lambda c: c.sign(models=["a" * 2048]),
    "an extension": lambda c: c.sign(headers={"crit": ["b64"], "b64": True}),
    "nothing": lambda _: "jwt:",
    "no token": lambda _: "jwt:..",
    "no JSON": lambda _: "jwt:AAAA.AAAA.AAAA",
    "deep JSON": lambda _: f"jwt:{base64.b64encode(b'[' * 1200).decode()}.AAAA.AAAA",
    "no ASCII": lambda _: "jwt:é.é.é",
}


async def test_forged_tokens_are_refused(customer: Customer, database: Database) -> None:
    """A token that is not signed by its key, or not for now, is refused and leaves no trace."""
    told = {}
    for kind, forge in FORGERIES.items():
        try:
            told[kind] = str(await customer.who(forge(customer)))
        except AuthenticationError as error:
            told[kind] = error.message
    assert dict.fromkeys(FORGERIES, "Invalid or expired scoped token") == told
    assert 0 == await num_rows(database)


async def test_token_works_until_its_second(customer: Customer) -> None:
    """A token is refused from the moment that it names on, though it was remembered."""
    now_s = customer.clock.now_ms() // 1000
    token = customer.sign(exp=now_s + 0.75, nbf=now_s + 59)
    customer.clock.advance(0.749)
    await customer.who(token)
    customer.clock.advance(0.001)
    with pytest.raises(AuthenticationError):
        await customer.who(token)


async def test_revoked_key_ends_its_tokens(customer: Customer) -> None:
    """Revoking a key ends its tokens at once, and a new key of its name does not revive them."""
    token = customer.sign()
    await customer.who(token)
    await customer.accounts.keys.revoke_named(customer.key.name)
    with pytest.raises(AuthenticationError):
        await customer.who(token)
    await customer.accounts.keys.mint(customer.account_id, customer.key.name)
    with pytest.raises(AuthenticationError):
        await customer.who(token)


async def test_key_of_the_same_name_does_not_take_over_tokens(customer: Customer) -> None:
    """A token that was known to be right is not, once another key bears its key's name."""
    token = customer.sign()
    await customer.who(token)
    await customer.accounts.keys.revoke_named(customer.key.name)
    await customer.accounts.keys.mint(customer.account_id, customer.key.name)
    with pytest.raises(AuthenticationError):
        await customer.who(token)


async def test_key_revoked_elsewhere_ends_its_tokens_within_a_second(
    customer: Customer, tmp_path: Path, place: Path | str
) -> None:
    """A key revoked from the command line takes its tokens with it, within a second."""
    token = customer.sign()
    await customer.who(token)
    with Database.open(place) as guest:
        beside = await Accounts.open(guest, customer.clock, tmp_path)
        await beside.keys.revoke_named(customer.key.name)
    customer.clock.advance(LIFETIME_S)
    with pytest.raises(AuthenticationError):
        await customer.who(token)


async def test_expired_key_ends_its_tokens(accounts: Accounts, clock: FrozenClock) -> None:
    """A token that says it lives longer than its key is refused with the key."""
    account = await accounts.create_account("alice")
    minted = await accounts.keys.mint(account.id, "short", expires_at_ms=clock.now_ms() + 500)
    customer = Customer(accounts, clock, account.id, minted.key, minted.secret)
    token, other = customer.sign(), customer.sign(model="a/b")
    clock.advance(0.499)
    await customer.who(token)
    clock.advance(0.001)
    for expired in (token, other):
        with pytest.raises(AuthenticationError):
            await customer.who(expired)


async def test_token_signed_elsewhere_is_never_wider_than_its_key(
    accounts: Accounts, clock: FrozenClock
) -> None:
    """Models that the key may not use are not the token's either, whatever it says."""
    account = await accounts.create_account("alice")
    minted = await accounts.keys.mint(account.id, "k", allowed_models=frozenset({"a", "b"}))
    customer = Customer(accounts, clock, account.id, minted.key, minted.secret)
    wishes: list[dict[str, Any]] = [{}, {"models": ["b", "c"]}, {"model": "c"}, {"models": []}]
    allowed = [
        sorted((await customer.who(customer.sign(**claims))).allowed_models or ())
        for claims in wishes
    ]
    assert [["a", "b"], ["b"], [], []] == allowed
    assert frozenset() == (await customer.who(customer.sign(models=[]))).allowed_models


@given(asked_models=MODELS, key_models=MODELS, asked_end=TIMES, key_end=TIMES)
def test_bounds_within_a_key_are_never_wider(
    asked_models: frozenset[str] | None,
    key_models: frozenset[str] | None,
    asked_end: int | None,
    key_end: int | None,
) -> None:
    """Whatever is asked for, what comes out allows nothing that either side does not."""
    key = ApiKey(1, 3, "k", "sh_", 0, None, key_end, None, key_models, None)
    within = Bounds(asked_models, asked_end, 5).within(key)

    def allows(models: frozenset[str] | None, end: int | None, model: str, time: int) -> bool:
        return (models is None or model in models) and (end is None or time < end)

    for model in "abcd":
        for time in {0, 99, *(end - 1 for end in (asked_end, key_end) if end)}:
            assert allows(within.allowed_models, within.expires_at_ms, model, time) == (
                allows(asked_models, asked_end, model, time)
                and allows(key_models, key_end, model, time)
            )


@pytest.mark.parametrize(
    ("models", "after_s", "param"),
    [
        ({"a", "c"}, None, "models"),
        (None, 601, "expires_at"),
        (None, 0, "expires_at"),
        (None, -1, "expires_at"),
        ({f"a{number:04}" for number in range(300)}, None, "models"),
    ],
)
async def test_server_mints_nothing_wider_than_the_key(
    accounts: Accounts, clock: FrozenClock, models: set[str] | None, after_s: int | None, param: str
) -> None:
    """Asking for more than the key may do is refused with the field that asks for it."""
    account = await accounts.create_account("alice")
    now_ms = clock.now_ms()
    key_models = frozenset(models) if models and len(models) > 2 else frozenset({"a", "b"})
    await accounts.keys.mint(
        account.id, "k", expires_at_ms=now_ms + 600_000, allowed_models=key_models
    )
    asked = Bounds(
        None if models is None else frozenset(models),
        None if after_s is None else now_ms + after_s * 1000,
    )
    with pytest.raises(InvalidRequestError) as refused:
        await accounts.scopes.mint(account.id, "k", asked)
    assert param == refused.value.param


async def test_minted_token_lives_as_long_as_its_key(
    accounts: Accounts, clock: FrozenClock
) -> None:
    """Where no end is asked for, a token lives for a year, or for the rest of its key's life."""
    account = await accounts.create_account("alice")
    end_ms = clock.now_ms() + 600_000
    await accounts.keys.mint(account.id, "k", expires_at_ms=end_ms)
    token = await accounts.scopes.mint(account.id, "k", Bounds())
    scope = await accounts.scopes.find(scoped_token.parse(token, now_ms=clock.now_ms()))
    assert Bounds(None, end_ms, None) == scope.bounds


async def test_only_a_live_key_of_the_account_signs(customer: Customer) -> None:
    """A revoked key, an expired one, and one of another account sign nothing."""
    bob = await customer.accounts.create_account("bob")
    end_ms = customer.clock.now_ms() + 1000
    await customer.accounts.keys.mint(bob.id, "expired", expires_at_ms=end_ms)
    customer.clock.advance(1)
    await customer.accounts.keys.revoke_named(customer.key.name)
    for account_id, name in (
        (customer.account_id, customer.key.name),
        (bob.id, customer.key.name),
        (bob.id, "expired"),
    ):
        with pytest.raises(KeyNotFoundError):
            await customer.accounts.scopes.mint(account_id, name, Bounds())


async def test_ledger_holds_nothing_to_sign_with(
    customer: Customer, database: Database, tmp_path: Path, place: Path | str
) -> None:
    """The key that signs tokens stands in the ledger's files in no form that is read as it is."""
    await customer.who(customer.sign(spending_limit=1))
    pepper = Pepper.load(tmp_path / "pepper")  # the one thing that opens it, and not in the ledger
    assert pepper
    stored = stored_bytes(place)
    secret = customer.secret.encode()
    assert {False} == {written in stored for written in (secret, secret.hex().encode())}
    key_hmac = pepper.key_hmac(customer.secret)
    found = await database.read(partial(key_rows.fetch_by_hmac, secret_hmac=key_hmac))
    assert found
    assert found.sealed_secret
    assert secret == KeySealer(pepper).open(found.sealed_secret, key_hmac=key_hmac)
