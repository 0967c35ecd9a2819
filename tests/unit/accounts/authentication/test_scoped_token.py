"""Tokens as anybody may write them: read or refused, and never anything else."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.accounts.authentication import scoped_token
from stillhouse.accounts.authentication.scoped_token import TokenClaims, UnverifiedToken
from stillhouse.errors import AuthenticationError

NOW_MS = 1_750_000_000_000
SECRET = b"sh_" + b"k" * 33
KID = "sh:3:" + base64.b64encode(b"laptop").decode()

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
#: Mostly right, so that what is wrong lies deep.
_HEADERS = st.fixed_dictionaries(
    {"alg": st.just("HS256") | _JSON, "kid": st.just(KID) | _JSON},
    optional={"typ": _JSON, "crit": _JSON, "b64": _JSON},
)
_CLAIMS = st.fixed_dictionaries(
    {"sub": st.just("sh:3") | _JSON, "exp": st.just(2**33) | _JSON},
    optional={
        "models": _JSON,
        "model": _JSON,
        "spending_limit": _JSON,
        "nbf": _JSON,
        "jti": _JSON,
        "other": _JSON,
    },
)


def encoded(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def read(token: str) -> UnverifiedToken | None:
    """What the token says; None where it is refused. Nothing else may be raised."""
    try:
        return scoped_token.parse(token, now_ms=NOW_MS)
    except AuthenticationError:
        return None


@given(st.text() | st.text(alphabet="jwt:.AZaz09-_=+/{}\"'", max_size=99))
def test_any_text_is_refused(text: str) -> None:
    """What is no token is refused like a wrong one, whatever it is."""
    assert read(text) is None
    assert read(f"jwt:{text}") is None


@given(header=_HEADERS, claims=_CLAIMS, signature=st.binary(max_size=40))
def test_any_header_and_claims_are_read_or_refused(
    header: dict[str, Any], claims: dict[str, Any], signature: bytes
) -> None:
    """Whatever types the fields have, a token is read or refused; nothing unsigned is signed."""
    end = base64.urlsafe_b64encode(signature).decode().rstrip("=")
    token = read(f"jwt:{encoded(header)}.{encoded(claims)}.{end}")
    if token is not None:
        assert not token.is_signed_by(SECRET)
        assert ("HS256", 3) == (header["alg"], token.account_id)
        assert (token.claims.limit_picousd or 0) >= 0


@given(
    models=st.none() | st.lists(st.text(max_size=20), max_size=5),
    exp=st.integers(min_value=NOW_MS // 1000 + 1, max_value=2**33),
    name=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=50),
)
def test_signed_token_is_read_as_it_was_written(
    models: list[str] | None, exp: int, name: str
) -> None:
    """What was signed is read again, for its key alone, and no bit of it can be turned over."""
    claims = TokenClaims(sub="sh:3", exp=exp, models=models)
    written = scoped_token.sign(claims, account_id=3, key_name=name, secret=SECRET)
    token = read(written)
    assert token is not None
    assert (3, name, claims) == (token.account_id, token.key_name, token.claims)
    assert token.is_signed_by(SECRET)
    assert not token.is_signed_by(SECRET[:-1])


@given(place=st.integers(min_value=0), other=st.sampled_from("AZaz09-_."))
def test_token_with_another_character_is_not_signed(place: int, other: str) -> None:
    """One character changed, anywhere, and its key has not signed it."""
    claims = TokenClaims(sub="sh:3", exp=2**33, spending_limit=None)
    written = scoped_token.sign(claims, account_id=3, key_name="laptop", secret=SECRET)
    at = len("jwt:") + place % (len(written) - len("jwt:"))
    changed = written[:at] + other + written[at + 1 :]
    token = read(changed)
    assert changed == written or token is None or not token.is_signed_by(SECRET)
