"""What a request wants of its answer's form, as a grammar for llguidance."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, assert_never

from llguidance import LLMatcher

from stillhouse.errors import InvalidRequestError
from stillhouse.text.families.tool_call_form import ToolCallForm
from stillhouse.text.grammar.regex_bounds import check_regex
from stillhouse.text.grammar.schema_bounds import bounded_schema
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import (
    JsonObjectFormat,
    JsonSchemaFormat,
    RegexFormat,
    ResponseFormat,
)

MAX_REGEX_LENGTH = 4096
MAX_GRAMMAR_LENGTH = 256 * 1024

#: The id of the vocabulary's added token that reads so; None where it has none.
TokenId = Callable[[str], int | None]

#: One space or none after a colon or comma, as models write it of themselves, and no other white
#: space: where any is allowed, a model that has lost its thread writes it until its last token.
_SEPARATORS: Mapping[str, Any] = MappingProxyType(
    {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}
)
_ANY_OBJECT: Mapping[str, Any] = MappingProxyType({"type": "object"})
_NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType(
    {"type": "object", "properties": {}, "additionalProperties": False}
)
_JSON_LEXEME = re.compile(r'"[^"]*"|[:,] ?|(?s:.)')
_NAME = re.compile(r"[A-Za-z0-9_.-]+")


def grammar_of(response_format: ResponseFormat) -> str:
    """
    The grammar of answers in this form: a JSON object with the key ``grammars``.

    JSON has its members in the schema's order, none but the one white space that `_SEPARATORS`
    tells, and characters outside of ASCII as themselves. A regular expression is that of Rust's
    regex crate and matches the whole answer.

    Raises:
        InvalidRequestError: The schema or expression is out of bounds, or asks for what cannot be
            enforced. Whether it compiles is still to be seen (`GrammarCompiler`).

    """
    param = "response_format"
    return _text([_format_grammar(response_format, param=param)], param=param)


def tools_grammar(
    tools: Sequence[Tool],
    choice: ToolChoice,
    form: ToolCallForm,
    token_id: TokenId,
    *,
    text_format: ResponseFormat | None = None,
) -> str | None:
    """
    The grammar of answers that call *tools* as *choice* says; None where any answer will do.

    Where a call is required, the answer is nothing but calls. Where it is the model's choice, and
    some tool is strict, the answer is text, then calls, if any; a form without tags has either
    text or calls, and what begins as a call does is one. Arguments fit the parameters of their
    tool. Where it is not strict, keywords that cannot be enforced are left to the model.

    Args:
        text_format: What an answer without calls has to be; it has nothing beside it then.

    Raises:
        InvalidRequestError: No such tool; or its parameters are out of bounds, or it is strict
            and they ask for what cannot be enforced.

    """
    if choice.mode is ToolMode.REQUIRED:
        tools = _chosen(tools, choice)
    elif choice.mode is ToolMode.NONE or not _binds(tools, text_format):
        return None
    arguments = [
        {"name": f"arguments_{index}", **_arguments_grammar(tool)}
        for index, tool in enumerate(tools)
    ]
    lark = _Lark(form, token_id)
    calls = lark.calls(tools, max_calls=form.max_calls if choice.is_parallel else 1)
    if choice.mode is ToolMode.REQUIRED:
        return _text([_named("answer", lark.only(calls)), *arguments], param="tools")
    if text_format is None:
        return _text([_named("answer", lark.text_or(calls)), *arguments], param="tools")
    text = {"name": "text", **_format_grammar(text_format, param="response_format")}
    return _text([_named("answer", lark.format_or(calls, tools)), text, *arguments], param="tools")


def _binds(tools: Sequence[Tool], text_format: ResponseFormat | None) -> bool:
    return any(tool.is_strict or text_format is not None for tool in tools)


def _named(name: str, lark: str) -> dict[str, Any]:
    return {"name": name, "lark_grammar": lark}


def _text(grammars: Sequence[Mapping[str, Any]], *, param: str) -> str:
    text = json.dumps({"grammars": grammars}, separators=(",", ":"))
    if len(text) > MAX_GRAMMAR_LENGTH:
        raise InvalidRequestError(
            f"{param} asks for a grammar of {len(text)} characters; right would be at most "
            f"{MAX_GRAMMAR_LENGTH}: smaller schemas, or fewer tools",
            param=param,
        )
    return text


def _format_grammar(response_format: ResponseFormat, *, param: str) -> dict[str, Any]:
    match response_format:
        case JsonObjectFormat():
            return _json_grammar(_ANY_OBJECT)
        case JsonSchemaFormat(schema=schema):
            return _json_grammar(bounded_schema(schema, name="The JSON Schema", param=param))
        case RegexFormat(regex=regex):
            return _regex_grammar(regex, param=param)
        case _:
            assert_never(response_format)


def _json_grammar(schema: Mapping[str, Any], *, is_lenient: bool = False) -> dict[str, Any]:
    options = dict(_SEPARATORS) | ({"lenient": True} if is_lenient else {})
    return {"json_schema": dict(schema) | {"x-guidance": options}}


def _regex_grammar(regex: str, *, param: str) -> dict[str, Any]:
    check_regex(regex, where="The regular expression", max_length=MAX_REGEX_LENGTH, param=param)
    try:
        grammar: dict[str, Any] = json.loads(LLMatcher.grammar_from_regex(regex))
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"The regular expression holds half of a surrogate pair at character {error.start}; "
            "right would be whole characters",
            param=param,
        ) from error
    return {"lark_grammar": grammar["grammars"][0]["lark_grammar"]}


def _chosen(tools: Sequence[Tool], choice: ToolChoice) -> Sequence[Tool]:
    chosen = [tool for tool in tools if choice.name in {None, tool.name}]
    if not chosen:
        raise InvalidRequestError(
            f"tool_choice requires {choice.name or 'a call'!r}, and tools has "
            f"{', '.join(repr(tool.name) for tool in tools) or 'none'}; right would be one of them",
            param="tool_choice",
        )
    return chosen


def _arguments_grammar(tool: Tool) -> dict[str, Any]:
    if tool.parameters is None:
        return _json_grammar(_NO_ARGUMENTS)
    name = f"The parameters of tool {tool.name!r}"
    schema = bounded_schema(tool.parameters, name=name, param="tools", is_strict=tool.is_strict)
    if schema.get("type", "object") not in ("object", ["object"]):
        raise InvalidRequestError(
            f"{name} are of type {schema['type']!r}; right would be 'object', as arguments have "
            "names",
            param="tools",
        )
    return _json_grammar(dict(_ANY_OBJECT) | schema, is_lenient=not tool.is_strict)


class _Lark:
    """Writes a form of tool calls in llguidance's variant of Lark."""

    def __init__(self, form: ToolCallForm, token_id: TokenId) -> None:
        self._form = form
        self._token_id = token_id

    def calls(self, tools: Sequence[Tool], *, max_calls: int) -> str:
        """All that follows the opening of the first call; the tools' order is their arguments'."""
        form = self._form
        bodies = [
            f"{self._written(_checked_name(tool) + form.before_arguments)} "
            f"@arguments_{index} {self._written(form.call_end)}"
            for index, tool in enumerate(tools)
        ]
        further = self._written(form.separator + form.call_begin)
        more = f"({further} body){{0,{max_calls - 1}}}" if max_calls > 1 else ""
        return f"calls: body {more} {self._written(form.end)}\nbody: {' | '.join(bodies)}"

    def only(self, calls: str) -> str:
        """The answer is calls."""
        return f"start: {self._written(self._form.opening)} calls\n{calls}"

    def format_or(self, calls: str, tools: Sequence[Tool]) -> str:
        """The answer is what the grammar *text* says, or calls."""
        form = self._form
        if form.tags:
            return f"start: @text | {self._written(form.opening)} calls\n{calls}"
        # Both are JSON perhaps, and a lexer that has begun a long lexeme does not go back to a
        # brace; so the call is written in JSON's own lexemes.
        bodies = (
            f"{_lexemes(form.opening + _checked_name(tool) + form.before_arguments)} "
            f"@arguments_{index} {_lexemes(form.call_end + form.end)}"
            for index, tool in enumerate(tools)
        )
        return f"start: @text | {' | '.join(bodies)}"

    def text_or(self, calls: str) -> str:
        """The answer is text, then calls, if any."""
        (first, is_tag), *_ = self._form.pieces(self._form.opening)
        if not is_tag:
            return self._plain_or(calls)
        if self._token_id(first) is None:
            return self._text_until(first, calls)
        opening = self._written(self._form.opening)
        return f"start: TEXT | TEXT {opening} calls\nTEXT: /(?s:.*)/\n{calls}"

    def _plain_or(self, calls: str) -> str:
        """What begins as a call is one, and other text may not, nor hide it behind spaces."""
        opening = self._form.opening
        text = rf"/[^\s{re.escape(opening[0])}](?s:.*)/"
        return f'start: "" | TEXT | {self._written(opening)} calls\nTEXT: {text}\n{calls}'

    def _text_until(self, tag: str, calls: str) -> str:
        """Lazily, the text ends where the tag, here of ordinary letters, first stands in it."""
        rest = self._written(self._form.opening.removeprefix(tag))
        return (
            f"start: TEXT | opening {rest} calls\n"
            f"opening[lazy]: TEXT {_quoted(tag)}\nTEXT: /(?s:.*)/\n{calls}"
        )

    def _written(self, text: str) -> str:
        """One of the form's texts: its tags by token id, where the vocabulary has them."""
        return " ".join(
            _quoted(piece)
            if not is_tag or (token_id := self._token_id(piece)) is None
            else f"<[{token_id}]>"
            for piece, is_tag in self._form.pieces(text)
        )


def _checked_name(tool: Tool) -> str:
    if not _NAME.fullmatch(tool.name):
        raise InvalidRequestError(
            f"tools has the name {tool.name!r}; right would be letters, digits, '_', '.' and '-'",
            param="tools",
        )
    return tool.name


def _lexemes(text: str) -> str:
    return " ".join(map(_quoted, _JSON_LEXEME.findall(text)))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
