"""Hides request text behind placeholders, which a chat template can move but not read."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.text.tokenizer import Segment

OPEN, CLOSE = "\x02", "\x03"
PLACEHOLDER = re.compile(f"{OPEN}([^:{OPEN}{CLOSE}]*):([0-9]{{1,9}}){CLOSE}")
MAX_JSON_CHARS = 1 << 22  # in one rendering; the JSON of 128 long tools has some 100 000
MAX_JSON_NODES = 1 << 18

# Keywords of JSON Schema that templates look for by name. No vocabulary has a special token that is
# one of them between tags of a template's own, so they need not be hidden.
VISIBLE_KEYWORDS = frozenset(
    """
    $defs $ref additionalProperties allOf anyOf array boolean const default definitions description
    enum examples exclusiveMaximum exclusiveMinimum format function integer items maxItems maxLength
    maximum minItems minLength minimum multipleOf name not null nullable number object oneOf
    parameters pattern prefixItems properties required strict string title type uniqueItems
    """.split()  # noqa: SIM905  (as a list it fills a page)
)


@dataclass(frozen=True, slots=True)
class FieldPath:
    """
    The field of a request that holds a text.

    Args:
        name: As the caller would write it: ``messages[3].content``.
        is_needed: A template that leaves it out changes the request.

    """

    name: str
    is_needed: bool = True

    @property
    def param(self) -> str:
        """The name of the field up to the first bracket."""
        return self.name.partition("[")[0]


@dataclass(frozen=True, slots=True)
class _Hidden:
    """
    The text behind one placeholder.

    Args:
        numbers: The texts that are written with it: its own, or those in the JSON that it is.

    """

    segments: tuple[Segment, ...]
    numbers: frozenset[int]
    path: FieldPath | None = None

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True)
class _Tree:
    """A hidden value, kept so that its id stays its own, and the original with its texts."""

    hidden: object
    original: Any
    numbers: range


class HiddenJson(str):
    """
    The placeholder of a JSON text, which templates write as it is or with `tojson`, to one effect.

    Some families' templates take a call's arguments as text, others as an object.
    """

    __slots__ = ()


@dataclass(slots=True)
class PlaceholderMap:
    """
    Maps placeholders to the texts of one request; owned by one rendering.

    A placeholder is unguessable and delimited by control characters, which do not survive any
    escaping: a template that does more than write one out whole is noticed afterwards.
    """

    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _hidden: list[_Hidden] = field(default_factory=list)
    _trees: dict[int, _Tree] = field(default_factory=dict)
    _json_chars_left: int = MAX_JSON_CHARS
    _json_nodes_left: int = MAX_JSON_NODES

    @property
    def count(self) -> int:
        """The number of texts hidden so far."""
        return len(self._hidden)

    def hide(self, text: str, path: FieldPath) -> str:
        """
        Returns a placeholder in the text's own white space, so that ``| trim`` still works.

        Raises:
            InvalidRequestError: The text is not Unicode.

        """
        _check_encodable(text, path)
        stripped = text.strip()
        if not stripped:
            return text
        before, _, after = text.partition(stripped)
        return f"{before}{self._placeholder([Segment(stripped, is_template=False)], path)}{after}"

    def hide_json(self, text: str, path: FieldPath) -> HiddenJson:
        """Returns a placeholder for JSON that has been written already."""
        _check_encodable(text, path)
        return HiddenJson(self._placeholder([Segment(text, is_template=False)], path))

    def hide_segments(self, segments: Sequence[Segment], path: FieldPath) -> str:
        """Returns a placeholder for text that is in part the request's and in part a template's."""
        for segment in segments:
            _check_encodable(segment.text, path)
        return self._placeholder(segments, path)

    def hide_tree(self, value: Any, path: FieldPath) -> Any:
        """Hides all texts of a JSON value but the keywords of JSON Schema."""
        if isinstance(value, str):
            return value if value in VISIBLE_KEYWORDS else self.hide(value, path)
        if not isinstance(value, Mapping | list | tuple):
            return value
        first = self.count
        hidden: dict[str, Any] | list[Any]
        if isinstance(value, Mapping):
            hidden = {
                self.hide_tree(key, path): self.hide_tree(item, path) for key, item in value.items()
            }
        else:
            hidden = [self.hide_tree(item, path) for item in value]
        self._trees[id(hidden)] = _Tree(hidden, value, range(first, self.count))
        return hidden

    def as_json(self, value: Any, write: Callable[[Any, int], str]) -> str:
        """
        Writes *value* as JSON: a placeholder where anything in it is hidden.

        Args:
            write: From a value and the most characters to write to its JSON; raises OverflowError
                where that is not enough.

        Raises:
            InvalidRequestError: It takes more characters or nodes than allowed.

        """
        if isinstance(value, HiddenJson):
            return value
        numbers: set[int] = set()
        try:
            text = write(self._revealed(value, numbers), self._json_chars_left)
        except OverflowError as error:
            raise InvalidRequestError(
                "The tools and tool calls are too long for the model's chat template, which "
                f"writes them in more than {MAX_JSON_CHARS} characters",
                param="tools",
            ) from error
        self._json_chars_left -= len(text)
        if not numbers:
            return text
        return self._remember(_Hidden((Segment(text, is_template=False),), frozenset(numbers)))

    def take_apart(self, text: str) -> list[Segment] | None:
        """
        Splits template text from request text; None where a placeholder was cut or changed.

        Raises:
            InvalidRequestError: A text of the request that is needed is left out.

        """
        parts = PLACEHOLDER.split(text)
        own_texts, nonces = parts[::3], parts[1::3]
        numbers = [int(number) for number in parts[2::3]]
        are_ours = set(nonces) <= {self.nonce} and max(numbers, default=-1) < self.count
        if not are_ours or any(OPEN in own or CLOSE in own for own in own_texts):
            return None
        self._check_complete(numbers)
        segments = [Segment(own_texts[0], is_template=True)]
        for number, own_text in zip(numbers, own_texts[1:], strict=True):
            segments.extend(self._hidden[number].segments)
            segments.append(Segment(own_text, is_template=True))
        return segments

    def _check_complete(self, numbers: Sequence[int]) -> None:
        written = frozenset[int]().union(*(self._hidden[number].numbers for number in numbers))
        for number, hidden in enumerate(self._hidden):
            if hidden.path and hidden.path.is_needed and number not in written:
                raise _left_out(hidden.path)

    def _placeholder(self, segments: Sequence[Segment], path: FieldPath) -> str:
        return self._remember(_Hidden(tuple(segments), frozenset({self.count}), path))

    def _remember(self, hidden: _Hidden) -> str:
        self._hidden.append(hidden)
        return f"{OPEN}{self.nonce}:{self.count - 1}{CLOSE}"

    def _revealed(self, value: Any, numbers: set[int]) -> Any:
        """*value* as the request has it; *numbers* takes those of the texts that are in it."""
        self._json_nodes_left -= 1
        if self._json_nodes_left < 0:
            raise OverflowError
        if tree := self._trees.get(id(value)):
            numbers.update(tree.numbers)
            return tree.original
        if isinstance(value, HiddenJson):
            return _parsed(self._revealed_text(value, numbers))
        if isinstance(value, str):
            return self._revealed_text(value, numbers)
        if isinstance(value, dict):
            return {
                self._revealed(key, numbers): self._revealed(item, numbers)
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._revealed(item, numbers) for item in value]
        return value

    def _revealed_text(self, text: str, numbers: set[int]) -> str:
        def original(match: re.Match[str]) -> str:
            nonce, number = match[1], int(match[2])
            if nonce != self.nonce or number >= self.count:
                return match[0]
            hidden = self._hidden[number]
            numbers.update(hidden.numbers)
            return hidden.text

        return PLACEHOLDER.sub(original, text) if OPEN in text else text


def _left_out(path: FieldPath) -> InvalidRequestError:
    if path.param == "tools":
        return UnsupportedFeatureError(
            f"The model's chat template has no place for part of {path.name}; leave it out",
            param="tools",
        )
    return InvalidRequestError(
        f"The model's chat template has no place for {path.name} in this conversation; leave it "
        "out, or join it with another",
        param=path.param,
    )


def _check_encodable(text: str, path: FieldPath) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{path.name} holds half of a surrogate pair at character {error.start}; right would "
            "be whole characters",
            param=path.param,
        ) from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
