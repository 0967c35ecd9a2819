"""Answers token by token: a vocabulary of single bytes and marks, and replies read to their end."""

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from stillhouse.text.families.base import MarkIds
from stillhouse.text.families.tool_call_form import (
    DEEPSEEK_V31_CALLS,
    HERMES_CALLS,
    LLAMA3_CALLS,
    ToolCallForm,
)
from stillhouse.text.parsing.output_parser import Reply
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.types.chat import FinishReason, StepLogprobs, TextDelta

DEEPSEEK, HERMES, LLAMA = DEEPSEEK_V31_CALLS, HERMES_CALLS, LLAMA3_CALLS
OPEN, CLOSE, END = 256, 257, 258
THINK = MarkIds(open=OPEN, close=CLOSE)
MARKS = {"<think>": OPEN, "</think>": CLOSE, "<end>": END} | {
    mark: 300 + index for index, mark in enumerate((*DEEPSEEK.marks, *HERMES.marks))
}
ADDED_BYTES = {token_id: mark.encode() for mark, token_id in MARKS.items()}
TOKEN_BYTES = {byte: bytes([byte]) for byte in range(256)} | dict.fromkeys(ADDED_BYTES, b"")
NAMES = ("cook", "roast")

_THINK_MARKS = ("<think>", "</think>", "<end>")


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
    """Bytes; marks are one token each, calls' marks only where they are in the vocabulary."""
    if isinstance(in_vocabulary, bool):
        in_vocabulary = MARKS if in_vocabulary else ()
    marks = {*_THINK_MARKS, *in_vocabulary}
    parts = re.split("(" + "|".join(map(re.escape, marks)) + ")", text)
    return [i for part in parts for i in ([MARKS[part]] if part in marks else part.encode())]


def reader(
    form: ToolCallForm,
    *,
    in_vocabulary: bool | Collection[str] = True,
    max_calls: int | None = None,
    names: Collection[str] = NAMES,
) -> ToolCallReader:
    """Reads calls of `NAMES`, whose ids are ``id0``, ``id1`` and so on."""
    if isinstance(in_vocabulary, bool):
        in_vocabulary = form.marks if in_vocabulary else ()
    marks = {MARKS[mark]: mark for mark in in_vocabulary}
    return ToolCallReader(
        form, marks=marks, names=names, call_id=lambda i: f"id{i}", max_calls=max_calls
    )


def reply(
    *,
    calls: ToolCallReader | None = None,
    marks: MarkIds | None = THINK,
    in_reasoning: bool = False,
    stop: Sequence[str] = (),
) -> Reply:
    """A reply in that vocabulary."""
    return Reply(
        TOKEN_BYTES,
        marks=marks,
        in_reasoning=in_reasoning,
        stop=stop,
        calls=calls,
        added_bytes=ADDED_BYTES,
    )


def read(
    reply: Reply,
    pieces: Iterable[Sequence[int]],
    *,
    at_limit: bool = False,
    has_logprobs: bool = False,
) -> Answer:
    """What a client is told when a reply gets these pieces."""
    deltas = [
        reply.push(piece, [StepLogprobs(-0.5)] * len(piece) if has_logprobs else ())
        for piece in pieces
    ]
    deltas = [reply.opening(), *deltas, reply.finish(at_limit=at_limit)]
    return Answer(
        "".join(delta.reasoning for delta in deltas),
        "".join(delta.content for delta in deltas),
        joined_calls(deltas),
        tuple(token.drawn.token_id for delta in deltas for token in delta.logprobs),
        reply.finish_reason(at_limit=at_limit),
        reply.stop_string,
        reply.stopped,
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
