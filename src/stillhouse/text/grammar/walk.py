"""Walks through a grammar a few tokens far, to find work that would come late in an answer."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

#: Tokens of each walk: too much work shows after a few tokens, or where it is.
_WALKS: tuple[tuple[int | None, int], ...] = ((None, 48), (1, 48), (2, 12), (3, 12), (4, 12))
_PART_WALKS: tuple[tuple[int | None, int], ...] = ((None, 8), (1, 24), (2, 12), (3, 12))
MAX_PARTS = 64
#: All walks of one grammar together, of the processor's time.
MAX_WALK_S = 0.4

#: The error of the one limit that is used up by all copies of a matcher together.
_ADDED_UP = "too many states"
_NOT_ZERO = re.compile(rb"[^\0]")
#: What ends a value, in the order that leaves out the least of what may still come.
_CLOSERS = ('"', "]", ",", "}")
#: In a schema these are worth a walk from their own start, wherever they stand.
_PARTS_WITH = frozenset({"pattern", "patternProperties", "allOf"})
_DEFINITIONS = ("$defs", "definitions")


@dataclass(slots=True)
class Walker:
    """
    Tries answers that a grammar allows, and finds those that take too much work.

    A walk draws tokens that the grammar allows: at random, but the same ones for the same grammar,
    or those that end a value, so that as many members of an object as possible have their turn.
    Every part of a schema that has a regular expression is walked from its own start, too.
    """

    tokenizer: LLTokenizer
    limits: LLParserLimits
    _ends_s: float = field(init=False, default=0.0)
    _closers: list[int] = field(init=False)
    _ends: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        spelled = (self.tokenizer.tokenize_str(text) for text in _CLOSERS)
        self._closers = [token_ids[0] for token_ids in spelled if len(token_ids) == 1]
        self._ends = frozenset(self.tokenizer.eos_tokens)

    def fault_of(self, grammar: str, matcher: LLMatcher) -> str | None:
        """
        Returns the compiler's message of the first answer that failed; None if none did.

        Args:
            matcher: Of *grammar*, at its start; stays there.

        """
        self._ends_s = time.thread_time() + MAX_WALK_S
        for seed, max_steps in _WALKS:
            if fault := self._walk(grammar, matcher.deep_copy(), seed, max_steps):
                return fault
        for part in _parts(grammar):
            matcher = self._matcher(part)
            if matcher.is_error():
                continue  # an empty choice, or a reference to another part
            for seed, max_steps in _PART_WALKS:
                if fault := self._walk(part, matcher.deep_copy(), seed, max_steps):
                    return fault
        return None

    def _matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self.tokenizer, grammar, log_level=0, limits=self.limits)

    def _walk(
        self, grammar: str, matcher: LLMatcher, seed: int | None, max_steps: int
    ) -> str | None:
        """Walks once; without a seed, to the ends of values first."""
        draw = random.Random(seed or 0)  # noqa: S311 (no secret)
        taken: list[int] = []
        for _ in range(max_steps):
            if matcher.is_stopped() or time.thread_time() > self._ends_s:
                break
            mask = matcher.compute_bitmask()
            token_id = None if matcher.is_error() else self._draw(mask, draw, closes=seed is None)
            if token_id is None:
                break
            taken.append(token_id)
            matcher.consume_token(token_id)
        if not matcher.is_error():
            return None
        if _ADDED_UP not in matcher.get_error():
            return str(matcher.get_error())
        return self._fault_alone(grammar, taken)

    def _fault_alone(self, grammar: str, taken: list[int]) -> str | None:
        """Repeats a walk alone: the limits may have been reached by several walks together."""
        alone = self._matcher(grammar)
        alone.consume_tokens(taken)
        if not alone.is_error():
            alone.compute_bitmask()
        return alone.get_error() if alone.is_error() else None

    def _draw(self, mask: bytes, draw: random.Random, *, closes: bool) -> int | None:
        """Returns a token that *mask* allows, but no end token; None where there is none."""
        if closes:
            for token_id in self._closers:
                if mask[token_id // 8] >> token_id % 8 & 1:
                    return token_id
        start = draw.randrange(len(mask))
        for first, last in ((start, len(mask)), (0, start)):
            position = first
            while found := _NOT_ZERO.search(mask, position, last):
                position = found.start() + 1
                token_ids = self._allowed(mask, found.start())
                if token_ids:
                    return draw.choice(token_ids)
        return None

    def _allowed(self, mask: bytes, byte: int) -> list[int]:
        return [
            token_id
            for token_id in range(8 * byte, 8 * byte + 8)
            if mask[byte] >> token_id % 8 & 1 and token_id not in self._ends
        ]


def _parts(grammar: str) -> Iterator[str]:
    """Returns grammars of the parts of all schemas that deserve a walk of their own, each once."""
    seen: set[str] = set()
    for part in json.loads(grammar)["grammars"]:
        schema = part.get("json_schema")
        if not isinstance(schema, dict):
            continue
        shared = {key: schema[key] for key in ("x-guidance", *_DEFINITIONS) if key in schema}
        for place in _with_patterns(schema):
            text = json.dumps({"grammars": [{"json_schema": shared | place}]})
            if place is not schema and text not in seen and len(seen) < MAX_PARTS:
                seen.add(text)
                yield text


def _with_patterns(schema: Any) -> Iterator[dict[str, Any]]:
    """Walks without recursion, as a literal value may be nested deeply."""
    pending = [schema]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            if not _PARTS_WITH.isdisjoint(value):
                yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value
