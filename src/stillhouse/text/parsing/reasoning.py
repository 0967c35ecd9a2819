"""What a model thinks: told apart from its content or, on demand, in it."""

from __future__ import annotations

from stillhouse.text.families.base import ReasoningTags
from stillhouse.text.parsing.delta_buffer import DeltaBuffer


class Reasoning:
    """
    What a model thinks: told apart from its content or, on demand, in it.

    Newlines at its start and at its end are no part of it.

    Args:
        inline_tags: Between these, each on a line of its own, it is told in the content; None
            tells it apart.
        is_continuation: It goes on amid what the prompt has begun.

    """

    def __init__(
        self, buffer: DeltaBuffer, *, inline_tags: ReasoningTags | None, is_continuation: bool
    ) -> None:
        self._buffer = buffer
        self._inline_tags = inline_tags
        self._has_begun = is_continuation
        self._held: list[str] = []

    def open(self) -> None:
        """The model, or its prompt, begins to think."""
        if self._inline_tags:
            self._buffer.content += f"{self._inline_tags.open}\n"

    def close(self) -> None:
        """The model has thought."""
        if self._inline_tags:
            self._buffer.content += f"\n{self._inline_tags.close}\n\n"
            self._has_begun, self._held = False, []

    def push(self, text: str) -> None:
        """Go on with *text*; newlines are told only once it is clear that more follows them."""
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
