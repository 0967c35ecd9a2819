"""Section ``[[public_prefixes]]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from stillhouse.settings import Section


class PublicPrefixConfig(Section):
    """
    A public system message, whose cached tokens all accounts share.

    Args:
        system: Its text.
        system_file: A file with its text instead; a relative path starts at the folder of the
            configuration.

    """

    model: str
    system: str | None = Field(default=None, min_length=1)
    system_file: Path | None = None

    @model_validator(mode="after")
    def _has_one_text(self) -> Self:
        if (self.system is None) == (self.system_file is None):
            raise ValueError("it needs either system or system_file")
        return self
