"""JSON answers of the account endpoints."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

# An amount in USD is a number that says exactly what the ledger says.
_ENCODER = msgspec.json.Encoder(decimal_format="number")


def answer(content: object) -> Response:
    """A 200 whose body is *content*; nobody keeps it, as some of it is secret."""
    headers = {"Cache-Control": "no-store"}
    return Response(_ENCODER.encode(content), headers=headers, media_type="application/json")
