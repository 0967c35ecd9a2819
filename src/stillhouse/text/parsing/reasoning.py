"""Separates reasoning from content, or keeps both in content if configured."""

from __future__ import annotations

from stillhouse.text.families.base import ReasoningTags
from stillhouse.text.parsing.delta_buffer import DeltaBuffer


class Reasoning:
    """
    Separates reasoning from content, or keeps both in content if configured.

    Newlines at the start and at the end of reasoning are dropped.

    Args:
        inline_tags: The tags, each on a line of its own, around reasoning in the content; None
            keeps it separate.
        is_continuation: The reasoning continues text of the prompt.

    """

    def __init__(
        self, buffer: DeltaBuffer, *, inline_tags: ReasoningTags | None, is_continuation: bool
    ) -> None:
        self._buffer = buffer
        self._inline_tags = inline_tags
        self._has_begun = is_continuation
        self._held: list[str] = []

    def open(self) -> None:
        """Opens the reasoning."""
        if self._inline_tags:
            self._buffer.content += f"{self._inline_tags.open}\n"

    def close(self) -> None:
        """Closes the reasoning."""
        if self._inline_tags:
            self._buffer.content += f"\n{self._inline_tags.close}\n\n"
            self._has_begun, self._held = False, []

    def push(self, text: str) -> None:
        """Adds *text*; newlines are emitted only once more text follows them."""
        if not self._has_begun:
            text = text.lstrip("\n")
            self._has_begun = bool(text)
        certain = text.rstrip("\n")
        if certain:
            self._emit("".join([*self._held, certain]) if self._held else certain)
            self._held.clear()
        if certain != text:
            self._held.append(text[len(certain) :])

    def _emit(self, text: str) -> None:
        if self._inline_tags:
            self._buffer.content += text
        else:
            self._buffer.reasoning += text
