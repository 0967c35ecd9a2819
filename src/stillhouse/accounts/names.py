"""Checks names of accounts and keys."""

from __future__ import annotations

from stillhouse.errors import InvalidRequestError

MAX_NAME_LENGTH = 100


def check_name(name: str) -> None:
    """
    Refuses a name that cannot be shown in a table or signed in a token.

    Raises:
        InvalidRequestError: The name is empty, too long or more than a line.

    """
    if not 0 < len(name) <= MAX_NAME_LENGTH or not name.isprintable():
        raise InvalidRequestError(
            f"A name is a line of 1 to {MAX_NAME_LENGTH} characters.", param="name"
        )
