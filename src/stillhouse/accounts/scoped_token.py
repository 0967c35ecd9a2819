"""
Scoped tokens on the wire: ``jwt:`` and a JSON Web Token signed with an API key.

The header's ``kid`` names the key as ``{account uid}:{base64 of the key's name}``; the claims say
what the token is for. Anybody who has the key can sign one without asking this server.

Source:
    docs.deepinfra.com/account/authentication; RFC 7519 (JWT), RFC 8725 (its best practices).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from decimal import Decimal

import jwt
import msgspec
from jwt.algorithms import HMACAlgorithm

from stillhouse.accounts import signing_state
from stillhouse.errors import AuthenticationError
from stillhouse.money import picousd

PREFIX = "jwt:"

#: Enough for some twenty models; checking a signature takes time with a token's length.
MAX_LENGTH = 2048

#: The year 10000: later than any time that can be written down.
END_OF_TIME_S = 253_402_300_800

#: A token that is valid from now on, made by a clock that is a little fast, is valid now.
_LEEWAY_S = 60

_ALGORITHM = "HS256"
_UID = "sh:"
_KID = re.compile(rf"{_UID}([0-9]{{1,18}}):([A-Za-z0-9+/]+={{0,2}})")


class Claims(msgspec.Struct, omit_defaults=True):
    """
    What a token says of itself; times in seconds since 1970, money in USD.

    Args:
        model: DeepInfra's older way of naming one model.
        models: None when the token is for every model of its key.
        nbf: The token is not valid before.
        jti: Keeps two tokens that say the same apart.

    """

    sub: str
    exp: int | float
    model: str | None = None
    models: list[str] | None = None
    spending_limit: Decimal | None = None
    nbf: int | float | None = None
    jti: str | None = None

    @property
    def allowed_models(self) -> frozenset[str] | None:
        """The models that the token names; None when it names none."""
        if self.model is None and self.models is None:
            return None
        return frozenset([*(self.models or ()), *([] if self.model is None else [self.model])])

    @property
    def limit_picousd(self) -> int | None:
        """What may be spent with the token; ValueError when that is no amount."""
        return None if self.spending_limit is None else picousd(self.spending_limit)


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """
    A token that anybody may have written.

    Args:
        encoded: Without the prefix.

    """

    account_id: int
    key_name: str
    encoded: str

    @property
    def fingerprint(self) -> bytes:
        """
        What the token's scope is known by.

        Of the signed part alone: base64 allows one signature to be written in several ways, and a
        token must not become a new one, with its whole spending limit, by being written otherwise.
        """
        return hashlib.sha256(self.encoded.rpartition(".")[0].encode()).digest()

    def claims(self, state: bytes, *, now_ms: int) -> Claims:
        """
        What the token says, once it is known to be signed by its key and to be valid now.

        Raises:
            AuthenticationError: It is not.

        """
        try:
            payload = _jws().decode(self.encoded, state, algorithms=[_ALGORITHM])
            claims = msgspec.json.decode(payload, type=Claims)
            _check(claims, self.account_id, now_s=now_ms / 1000)
        except (jwt.InvalidTokenError, msgspec.MsgspecError, ValueError) as error:
            raise wrong_token() from error
        return claims


def parse(secret: str) -> UnverifiedToken:
    """
    Read which key a token names.

    Raises:
        AuthenticationError: It is no token, or too long to be looked at.

    """
    encoded = secret.removeprefix(PREFIX)
    if len(encoded) > MAX_LENGTH or not encoded.isascii():
        raise wrong_token()
    try:
        kid = _KID.fullmatch(jwt.get_unverified_header(encoded).get("kid", ""))
        if kid is None:
            raise wrong_token()
        name = base64.b64decode(kid[2], validate=True).decode()
    except (jwt.InvalidTokenError, binascii.Error, UnicodeDecodeError, RecursionError) as error:
        raise wrong_token() from error
    return UnverifiedToken(int(kid[1]), name, encoded)


def sign(claims: Claims, *, account_id: int, key_name: str, state: bytes) -> str:
    """Write a token, signed with the key that left *state*."""
    kid = f"{account_uid(account_id)}:{base64.b64encode(key_name.encode()).decode()}"
    payload = msgspec.json.Encoder(decimal_format="number").encode(claims)
    return PREFIX + _jws().encode(payload, state, algorithm=_ALGORITHM, headers={"kid": kid})


def account_uid(account_id: int) -> str:
    """An account as clients see it."""
    return f"{_UID}{account_id}"


def wrong_token() -> AuthenticationError:
    """Say the same whatever is wrong."""
    return AuthenticationError("Invalid or expired scoped token")


def _check(claims: Claims, account_id: int, *, now_s: float) -> None:
    """ValueError unless the claims are of this account, and for now."""
    if claims.sub != account_uid(account_id):
        raise ValueError("sub is another account than kid's")
    if not now_s < claims.exp < END_OF_TIME_S:
        raise ValueError("expired, or never to expire")
    if claims.nbf is not None and claims.nbf > now_s + _LEEWAY_S:
        raise ValueError("not valid yet")
    if claims.limit_picousd is not None and claims.limit_picousd < 0:
        raise ValueError("less than nothing")


class _StateAlgorithm(HMACAlgorithm):
    """HS256 whose key is the state that an API key left."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def sign(self, msg: bytes, key: bytes) -> bytes:
        return signing_state.sign(key, msg)

    def verify(self, msg: bytes, key: bytes, sig: bytes) -> bool:
        return signing_state.verify(key, msg, sig)


def _jws() -> jwt.PyJWS:
    """A reader and writer that knows one algorithm, whatever a token's header may ask for."""
    jws = jwt.PyJWS(algorithms=[])
    jws.register_algorithm(_ALGORITHM, _StateAlgorithm(HMACAlgorithm.SHA256))
    return jws
