"""Writes portable constraints as grammars for llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from llguidance import LLMatcher

from stillhouse.errors import InvalidRequestError
from stillhouse.types.constraint import (
    JsonSchemaConstraint,
    PortableConstraint,
    RegexConstraint,
    ToolCallConstraint,
)
from stillhouse.types.json_object import JsonObject

MAX_GRAMMAR_LENGTH = 256 * 1024

#: Returns the id of the vocabulary's added token with this text, or None.
TokenId = Callable[[str], int | None]

#: One space or none after a colon or comma, as models write it of themselves, and no other white
#: space: where any is allowed, a model that has lost its thread writes it until its last token.
_SEPARATORS: Mapping[str, Any] = MappingProxyType(
    {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
)
_JSON_LEXEME = re.compile(r'"[^"]*"|[:,] ?|(?s:.)')


def write_grammar(constraint: PortableConstraint, token_id: TokenId) -> str:
    """
    Writes *constraint* as llguidance reads it: a JSON object with the key ``grammars``.

    JSON has its members in the schema's order, no white space but that of `_SEPARATORS`, and
    characters outside of ASCII as themselves. Tool calls in a form without tags come alone: such
    an answer is either text or calls, and what begins as a call is one.

    Raises:
        InvalidRequestError: The grammar is longer than `MAX_GRAMMAR_LENGTH`.

    """
    if not isinstance(constraint, ToolCallConstraint):
        return _text([_text_grammar(constraint)], param="response_format")
    lark = _Lark(constraint, token_id)
    arguments = [
        {
            "name": f"arguments_{index}",
            **_json_grammar(tool.schema, is_lenient=not tool.is_strict),
        }
        for index, tool in enumerate(constraint.tools)
    ]
    if constraint.is_required:
        return _text([_named("answer", lark.only_calls()), *arguments], param="tools")
    if constraint.text is None:
        return _text([_named("answer", lark.text_or_calls()), *arguments], param="tools")
    text = {"name": "text", **_text_grammar(constraint.text)}
    return _text([_named("answer", lark.format_or_calls()), text, *arguments], param="tools")


def _text_grammar(constraint: JsonSchemaConstraint | RegexConstraint) -> dict[str, Any]:
    if isinstance(constraint, JsonSchemaConstraint):
        return _json_grammar(constraint.schema)
    grammar: dict[str, Any] = json.loads(LLMatcher.grammar_from_regex(constraint.regex))
    return {"lark_grammar": grammar["grammars"][0]["lark_grammar"]}


def _named(name: str, lark: str) -> dict[str, Any]:
    return {"name": name, "lark_grammar": lark}


def _text(grammars: list[dict[str, Any]], *, param: str) -> str:
    text = json.dumps({"grammars": grammars}, separators=(",", ":"))
    if len(text) > MAX_GRAMMAR_LENGTH:
        raise InvalidRequestError(
            f"{param} asks for a grammar of {len(text)} characters; right would be at most "
            f"{MAX_GRAMMAR_LENGTH}: smaller schemas, or fewer tools",
            param=param,
        )
    return text


def _json_grammar(schema: JsonObject, *, is_lenient: bool = False) -> dict[str, Any]:
    options = dict(_SEPARATORS) | ({"lenient": True} if is_lenient else {})
    return {"json_schema": dict(schema) | {"x-guidance": options}}


class _Lark:
    """Writes a constraint to tool calls in llguidance's variant of Lark."""

    def __init__(self, constraint: ToolCallConstraint, token_id: TokenId) -> None:
        self._tools = constraint.tools
        self._max_calls = constraint.max_calls
        self._form = constraint.form
        self._token_id = token_id

    def only_calls(self) -> str:
        """Returns the rules of an answer that is nothing but calls."""
        return f"start: {self._written(self._form.opening)} calls\n{self._calls()}"

    def text_or_calls(self) -> str:
        """Returns the rules of an answer that is text, then calls, if any."""
        (first, is_tag), *_ = self._form.pieces(self._form.opening)
        if not is_tag:
            return self._plain_text_or_calls()
        if self._token_id(first) is None:
            return self._text_until(first)
        opening = self._written(self._form.opening)
        return f"start: TEXT | TEXT {opening} calls\nTEXT: /(?s:.*)/\n{self._calls()}"

    def format_or_calls(self) -> str:
        """Returns the rules of an answer that the grammar *text* accepts, or that is calls."""
        form = self._form
        if form.tags:
            return f"start: @text | {self._written(form.opening)} calls\n{self._calls()}"
        # Both are JSON perhaps, and a lexer that has begun a long lexeme does not go back to a
        # brace; so the call is written in JSON's own lexemes.
        bodies = (
            f"{_lexemes(form.opening + tool.tool_name + form.before_arguments)} "
            f"@arguments_{index} {_lexemes(form.call_end + form.end)}"
            for index, tool in enumerate(self._tools)
        )
        return f"start: @text | {' | '.join(bodies)}"

    def _calls(self) -> str:
        """Returns the rules of all that follows the opening of the first call."""
        form = self._form
        bodies = [
            f"{self._written(tool.tool_name + form.before_arguments)} "
            f"@arguments_{index} {self._written(form.call_end)}"
            for index, tool in enumerate(self._tools)
        ]
        further = self._written(form.separator + form.call_begin)
        more = f"({further} body){{0,{self._max_calls - 1}}}" if self._max_calls > 1 else ""
        return f"calls: body {more} {self._written(form.end)}\nbody: {' | '.join(bodies)}"

    def _plain_text_or_calls(self) -> str:
        """Returns rules by which an answer that begins as a call is one, and other text is not."""
        opening = self._form.opening
        text = rf"/[^\s{re.escape(opening[0])}](?s:.*)/"
        return f'start: "" | TEXT | {self._written(opening)} calls\nTEXT: {text}\n{self._calls()}'

    def _text_until(self, tag: str) -> str:
        """Returns rules by which text ends lazily where *tag*, of ordinary letters, occurs."""
        rest = self._written(self._form.opening.removeprefix(tag))
        return (
            f"start: TEXT | opening {rest} calls\n"
            f"opening[lazy]: TEXT {_quoted(tag)}\nTEXT: /(?s:.*)/\n{self._calls()}"
        )

    def _written(self, text: str) -> str:
        """Writes a text of the form, its tags by token id where the vocabulary has them."""
        return " ".join(
            _quoted(piece)
            if not is_tag or (token_id := self._token_id(piece)) is None
            else f"<[{token_id}]>"
            for piece, is_tag in self._form.pieces(text)
        )


def _lexemes(text: str) -> str:
    return " ".join(map(_quoted, _JSON_LEXEME.findall(text)))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
