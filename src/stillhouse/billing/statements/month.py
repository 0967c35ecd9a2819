"""Computes calendar months in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import NamedTuple, Self

from stillhouse.errors import InvalidRequestError
from stillhouse.store.ledger.usage_days import DAY_MS

_MONTH = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])")


class Month(NamedTuple):
    """A calendar month in UTC: it begins with its first moment and ends before the next one's."""

    year: int
    month: int

    @classmethod
    def of(cls, at_ms: int) -> Self:
        """Returns the month of a moment."""
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
        return cls(moment.year, moment.month)

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Parses a month such as 2026-11.

        Raises:
            InvalidRequestError: The text is not a month.

        """
        match = _MONTH.fullmatch(text)
        if match is None:
            raise InvalidRequestError(
                f"'{text}' is not a month; write it as 2026-11", param="month"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    def later(self, num_months: int) -> Month:
        """Returns the month that is a number of months later, or earlier if that is negative."""
        year, month = divmod(self.year * 12 + self.month - 1 + num_months, 12)
        return Month(year, month + 1)

    @property
    def begin_ms(self) -> int:
        """Returns its first moment."""
        return (date(self.year, self.month, 1) - date(1970, 1, 1)).days * DAY_MS

    @property
    def end_ms(self) -> int:
        """Returns the first moment after it."""
        return self.later(1).begin_ms
