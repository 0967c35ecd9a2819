"""Reads a checkpoint's JSON files key by key, with errors that say what would be right."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Self

from stillhouse.checkpoints.text_file import read_text_file
from stillhouse.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path


class ConfigJson:
    """
    Reads the values of a JSON object by type.

    Every method raises CheckpointError with the file, the key, its value and what would be right.
    A key that is missing or null has the *default*, where one is given.
    """

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._values = values
        self._where = where

    @classmethod
    def read(cls, path: Path, *, is_optional: bool = False) -> Self:
        """
        Reads the object in *path*.

        Args:
            is_optional: A file that does not exist is an empty object.

        """
        if is_optional and not path.is_file():
            return cls({}, str(path))
        try:
            values = json.loads(read_text_file(path))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: is not JSON ({error})") from error
        if not isinstance(values, dict):
            raise CheckpointError(f"{path}: right would be a JSON object")
        return cls(values, str(path))

    def value(self, key: str) -> Any:
        """Returns the value of *key* as it is, None where there is none."""
        return self._values.get(key)

    def error(self, key: str, expected: str) -> CheckpointError:
        """Returns the error that *key* is not as *expected*."""
        if self._values.get(key) is None:
            return CheckpointError(f"{self._where}: {key} is missing; it must be {expected}.")
        value = json.dumps(self._values[key])[:80]
        return CheckpointError(f"{self._where}: {key} is {value}; it must be {expected}.")

    def integer(self, key: str, *, minimum: int = 1, default: int | None = None) -> int:
        """Returns an integer of at least *minimum*."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise self.error(key, f"an integer of at least {minimum}")
        return value

    def positive(self, key: str, *, default: float | None = None) -> float:
        """Returns a finite number above 0."""
        value = self._get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(key, "a number")
        if not math.isfinite(value) or value <= 0:
            raise self.error(key, "a finite number above 0")
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """Returns true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def choice(self, key: str, choices: Collection[str], *, default: str | None = None) -> str:
        """Returns one of *choices*."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self.error(key, " or ".join(json.dumps(choice) for choice in sorted(choices)))
        return value

    def section(self, key: str) -> ConfigJson | None:
        """Returns the object under *key*, None where there is none."""
        value = self._values.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "an object or null")
        return ConfigJson(value, f"{self._where}: {key}")

    def has(self, key: str) -> bool:
        """Returns whether *key* is there and not null."""
        return self._values.get(key) is not None

    def _get(self, key: str, default: Any) -> Any:
        value = self._values.get(key)
        return default if value is None else value
