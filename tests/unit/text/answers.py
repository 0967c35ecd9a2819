"""Answers token by token: a vocabulary of single bytes and tags, and replies read to their end."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from stillhouse.text.families.base import ReasoningTagIds
from stillhouse.text.families.tool_call_forms import DEEPSEEK_V31_CALLS, HERMES_CALLS, LLAMA3_CALLS
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.types.events import FinishReason, TextDelta
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.tool_call_form import ToolCallForm

DEEPSEEK, HERMES, LLAMA = DEEPSEEK_V31_CALLS, HERMES_CALLS, LLAMA3_CALLS
OPEN, CLOSE, END = 256, 257, 258
THINK = ReasoningTagIds(open=OPEN, close=CLOSE)
TAGS = {"<think>": OPEN, "</think>": CLOSE, "<end>": END} | {
    tag: 300 + index for index, tag in enumerate((*DEEPSEEK.tags, *HERMES.tags))
}
ADDED_BYTES = {token_id: tag.encode() for tag, token_id in TAGS.items()}
TOKEN_BYTES = {byte: bytes([byte]) for byte in range(256)} | dict.fromkeys(ADDED_BYTES, b"")
NAMES = ("cook", "roast")

_THINK_TAGS = ("<think>", "</think>", "<end>")


class Answer(NamedTuple):
    """All that a client has been told of one answer."""

    reasoning: str
    content: str
    calls: tuple[tuple[str, str, str], ...]  # id, name, arguments
    logprob_ids: tuple[int, ...]
    reason: FinishReason
    stop_string: str | None
    is_stopped: bool


def token_ids(text: str, *, in_vocabulary: bool | Collection[str] = True) -> list[int]:
    """Bytes; tags are one token each, calls' tags only where they are in the vocabulary."""
    if isinstance(in_vocabulary, bool):
        in_vocabulary = TAGS if in_vocabulary else ()
    tags = {*_THINK_TAGS, *in_vocabulary}
    parts = re.split("(" + "|".join(map(re.escape, tags)) + ")", text)
    return [i for part in parts for i in ([TAGS[part]] if part in tags else part.encode())]


def reader(
    form: ToolCallForm,
    *,
    in_vocabulary: bool | Collection[str] = True,
    max_calls: int | None = None,
    names: Collection[str] = NAMES,
) -> ToolCallReader:
    """Reads calls of `NAMES`, whose ids are ``id0``, ``id1`` and so on."""
    if isinstance(in_vocabulary, bool):
        in_vocabulary = form.tags if in_vocabulary else ()
    tags = {TAGS[tag]: tag for tag in in_vocabulary}
    return ToolCallReader(
        form, tags=tags, names=names, call_id=lambda i: f"id{i}", max_calls=max_calls
    )


def parser(
    *,
    calls: ToolCallReader | None = None,
    tags: ReasoningTagIds | None = THINK,
    in_reasoning: bool = False,
    stop: Sequence[str] = (),
) -> OutputParser:
    """A parser in that vocabulary."""
    return OutputParser(
        TOKEN_BYTES,
        tags=tags,
        in_reasoning=in_reasoning,
        stop=stop,
        calls=calls,
        added_bytes=ADDED_BYTES,
    )


def read(
    parser: OutputParser,
    pieces: Iterable[Sequence[int]],
    *,
    at_limit: bool = False,
    has_logprobs: bool = False,
) -> Answer:
    """What a client is told when a parser gets these pieces."""
    deltas = [
        parser.push(piece, [StepLogprobs(-0.5)] * len(piece) if has_logprobs else ())
        for piece in pieces
    ]
    deltas = [parser.opening(), *deltas, parser.finish(at_limit=at_limit)]
    return Answer(
        "".join(delta.reasoning for delta in deltas),
        "".join(delta.content for delta in deltas),
        joined_calls(deltas),
        tuple(token.sampled.token_id for delta in deltas for token in delta.logprobs),
        parser.finish_reason(at_limit=at_limit),
        parser.stop_string,
        parser.stopped,
    )


def joined_calls(deltas: Iterable[TextDelta]) -> tuple[tuple[str, str, str], ...]:
    """The calls that a client puts together from deltas, as OpenAI's clients do."""
    calls: list[tuple[str, str, str]] = []
    for call in (call for delta in deltas for call in delta.tool_calls):
        if call.index == len(calls):
            calls.append((call.id, call.name, call.arguments))
        else:
            assert ("", "") == (call.id, call.name)
            call_id, name, arguments = calls[call.index]
            calls[call.index] = (call_id, name, arguments + call.arguments)
    return tuple(calls)


def cut(token_ids: Sequence[int], cuts: Iterable[int]) -> list[Sequence[int]]:
    """The tokens in pieces."""
    bounds = [0, *sorted(cuts), len(token_ids)]
    return [token_ids[start:end] for start, end in pairwise(bounds)]
