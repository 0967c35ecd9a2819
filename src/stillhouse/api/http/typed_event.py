"""Server-sent events that name their type, as Anthropic's streams and OpenAI's responses do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from stillhouse.api.http.one_line import one_line


def typed_event(data: Mapping[str, Any]) -> bytes:
    """One event of the type that *data* names in ``type``."""
    return b"event: %b\ndata: %b\n\n" % (data["type"].encode(), one_line(msgspec.json.encode(data)))
