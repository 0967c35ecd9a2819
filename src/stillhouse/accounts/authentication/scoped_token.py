"""
Scoped tokens on the wire: ``jwt:`` and a JSON Web Token signed with an API key.

The header's ``kid`` names the key as ``{account uid}:{base64 of the key's name}``; the claims say
what the token is for. A client with the key can sign a token without a call to this server.

Source:
    docs.deepinfra.com/account/authentication; RFC 7515 (JWS), RFC 7519 (JWT), RFC 8725 (its best
    practices).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from stillhouse.errors import AuthenticationError
from stillhouse.money import picousd

PREFIX = "jwt:"

#: Enough for some twenty models; reading a token takes time with its length.
MAX_LENGTH = 2048

#: The year 10000, later than any time that a date can express.
END_OF_TIME_S = 253_402_300_800

#: A token that is valid from now on, made by a clock that is a little fast, is valid now.
_LEEWAY_S = 60

_ALGORITHM = "HS256"
_UID = "sh:"
_KID = re.compile(rf"{_UID}([0-9]{{1,18}}):([A-Za-z0-9+/]+={{0,2}})")
_TO_PLAIN_BASE64 = bytes.maketrans(b"-_", b"+/")


class _Header(msgspec.Struct, omit_defaults=True):
    """The token's header: the algorithm of its signature, and the key."""

    alg: str
    kid: str
    typ: str | None = None
    crit: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class TokenClaims(msgspec.Struct, omit_defaults=True):
    """
    The claims of a token; times in seconds since 1970, money in USD.

    Args:
        model: DeepInfra's older way of naming one model.
        models: None when the token is for every model of its key.
        nbf: The token is not valid before.
        jti: Distinguishes two tokens with the same claims.

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
        """Returns the models that the token names; None if it names none."""
        if self.model is None and self.models is None:
            return None
        return frozenset([*(self.models or ()), *([] if self.model is None else [self.model])])

    @property
    def limit_picousd(self) -> int | None:
        """Returns the token's spending limit; raises ValueError if it is no amount."""
        return None if self.spending_limit is None else picousd(self.spending_limit)


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """
    A token whose signature has not been checked.

    Args:
        claims: The token's claims; valid now, if its key has signed it.

    """

    account_id: int
    key_name: str
    claims: TokenClaims
    signed_part: bytes
    signature: bytes

    @property
    def fingerprint(self) -> bytes:
        """
        Returns the fingerprint of the token's scope.

        It covers the signed part alone: another spelling of the signature must not make a new
        token, with the whole spending limit.
        """
        return hashlib.sha256(self.signed_part).digest()

    def is_signed_by(self, secret: bytes) -> bool:
        """Returns whether the API key *secret* made the signature."""
        return hmac.compare_digest(_signature(self.signed_part, secret), self.signature)


def parse(secret: str, *, now_ms: int) -> UnverifiedToken:
    """
    Parses and checks a token without its key; the cheapest checks come first.

    Raises:
        AuthenticationError: It is no token, too long, or not valid now.

    """
    encoded = secret.removeprefix(PREFIX)
    if len(encoded) > MAX_LENGTH or not encoded.isascii() or encoded.count(".") != 2:
        raise wrong_token()
    signed_part, _, signature = encoded.encode().rpartition(b".")
    header_part, _, claims_part = signed_part.partition(b".")
    try:
        header = msgspec.json.decode(_decode(header_part), type=_Header)
        kid = _KID.fullmatch(header.kid)
        if kid is None or header.alg != _ALGORITHM or header.crit is not msgspec.UNSET:
            raise wrong_token()
        account_id, name = int(kid[1]), base64.b64decode(kid[2], validate=True).decode()
        if not name.isprintable():  # no key has such a name, and PostgreSQL no such text
            raise wrong_token()
        claims = msgspec.json.decode(_decode(claims_part), type=TokenClaims)
        _check(claims, account_id, now_s=now_ms / 1000)
        return UnverifiedToken(account_id, name, claims, signed_part, _decode(signature))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise wrong_token() from error


def sign(claims: TokenClaims, *, account_id: int, key_name: str, secret: bytes) -> str:
    """Returns a token, signed with the API key *secret*."""
    kid = f"{account_uid(account_id)}:{base64.b64encode(key_name.encode()).decode()}"
    header = msgspec.json.encode(_Header(alg=_ALGORITHM, kid=kid, typ="JWT"))
    payload = msgspec.json.Encoder(decimal_format="number").encode(claims)
    signed_part = _encode(header) + b"." + _encode(payload)
    return PREFIX + (signed_part + b"." + _encode(_signature(signed_part, secret))).decode()


def account_uid(account_id: int) -> str:
    """Returns the account's id as clients see it."""
    return f"{_UID}{account_id}"


class ForgedTokenError(AuthenticationError):
    """Raised if a token names a key that has not signed it."""

    def __init__(self, key_id: int) -> None:
        super().__init__(wrong_token().message)
        self.key_id = key_id


class UnsealedKeyError(AuthenticationError):
    """Raised if a token's key is stored in an older form, which cannot check signatures."""


def wrong_token() -> AuthenticationError:
    """Returns the same error for every fault."""
    return AuthenticationError("Invalid or expired scoped token")


def _signature(signed_part: bytes, secret: bytes) -> bytes:
    return hmac.digest(secret, signed_part, "sha256")


def _encode(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def _decode(part: bytes) -> bytes:
    """Decodes a JWT's base64; raises ValueError unless *part* is the canonical encoding."""
    padded = part.translate(_TO_PLAIN_BASE64) + b"=" * (-len(part) % 4)
    decoded = binascii.a2b_base64(padded, strict_mode=True)
    if _encode(decoded) != part:
        raise ValueError("base64 that is not canonical")
    return decoded


def _check(claims: TokenClaims, account_id: int, *, now_s: float) -> None:
    """Raises ValueError unless the claims are of this account, and valid now."""
    if claims.sub != account_uid(account_id):
        raise ValueError("sub is another account than kid's")
    if not now_s < claims.exp < END_OF_TIME_S:
        raise ValueError("expired, or never to expire")
    if claims.nbf is not None and claims.nbf > now_s + _LEEWAY_S:
        raise ValueError("not valid yet")
    if claims.limit_picousd is not None and claims.limit_picousd < 0:
        raise ValueError("less than nothing")
