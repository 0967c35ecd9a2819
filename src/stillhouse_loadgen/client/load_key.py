"""The API keys of a load, and the share of it that each one sends."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stillhouse_loadgen.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class LoadKey:
    """
    An API key.

    Args:
        label: Its name in reports, which holds nothing of the secret.
        share: Its weight relative to the other keys.

    """

    label: str
    secret: str = field(repr=False)
    share: float = 1.0


class KeyRing:
    """Picks keys at random by their shares, so that each key's arrivals are Poisson, too."""

    def __init__(self, keys: Sequence[LoadKey]) -> None:
        self.keys = tuple(keys)
        shares = np.array([key.share for key in keys])
        self._bounds = np.cumsum(shares) / shares.sum()

    def draw(self, rng: np.random.Generator) -> LoadKey:
        """Returns the next request's key."""
        return self.keys[int(np.searchsorted(self._bounds, rng.random(), side="right"))]


def parse_keys(texts: Sequence[str]) -> list[LoadKey]:
    """
    Parses keys as options spell them: ``SECRET`` or ``SECRET:SHARE``.

    Raises:
        ArgumentError: A secret is empty, or a share is not above zero.

    """
    return [_key(text.strip(), f"key {number}") for number, text in enumerate(texts, start=1)]


def read_keys(path: Path) -> list[LoadKey]:
    """
    Reads keys from a TOML file with a table for each: ``[name]``, ``key = "…"``, ``share = 2``.

    Raises:
        ArgumentError: The file cannot be read, or an entry is wrong.

    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError(f"--keys-file {path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ArgumentError(f"--keys-file {path}: is not TOML: {error}") from error
    if not tables:
        raise ArgumentError(f'--keys-file {path}: has no keys; write [name] and key = "…" under it')
    return [_key_of(path, name, table) for name, table in tables.items()]


def _key(text: str, label: str) -> LoadKey:
    secret, colon, share = text.rpartition(":")
    if colon and _number(share) is not None:
        return LoadKey(label, _checked(secret, label), _share(_number(share), label))
    return LoadKey(label, _checked(text, label))  # a scoped token, jwt:…, contains a colon


def _key_of(path: Path, name: str, table: Any) -> LoadKey:
    where = f"--keys-file {path}: [{name}]"
    if not isinstance(table, dict) or not isinstance(table.get("key"), str):
        raise ArgumentError(f'{where} has no key; write key = "…" under it')
    if unknown := set(table) - {"key", "share"}:
        raise ArgumentError(f"{where} has {min(unknown)!r}; known here: key, share")
    share = table.get("share", 1)
    is_number = isinstance(share, int | float) and not isinstance(share, bool)
    return LoadKey(name, _checked(table["key"], where), _share(share if is_number else None, where))


def _checked(secret: str, where: str) -> str:
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ArgumentError(f"{where} is not an API key; one is letters, digits and marks")
    return secret


def _share(share: float | None, where: str) -> float:
    if share is None or not 0 < share < float("inf"):
        raise ArgumentError(f"{where} has a share that is not a number above 0")
    return float(share)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
