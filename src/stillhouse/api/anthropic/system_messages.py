"""Moves system messages to where chat templates can render them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from stillhouse.types.messages import Message, Role


def merge_leading_system_messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Merges the system messages at the front of a conversation into one."""
    joined: list[Message] = []
    for message in messages:
        if len(joined) == 1 and joined[0].role is message.role is Role.SYSTEM:
            joined[0] = _with(joined[0], message.content)
        else:
            joined.append(message)
    return tuple(joined)


def fold_system_messages(messages: Iterable[Message]) -> tuple[Message, ...]:
    """
    Folds later system messages into the user and tool messages beside them.

    Few templates render system messages after the first, and some of those move them to the front,
    so that each one would invalidate the prefix cache. None comes between a call and its result.
    """
    result: list[Message] = []
    held = ""
    for message in merge_leading_system_messages(messages):
        if message.role is not Role.SYSTEM or not result:
            result += _after(held, message)
            held = ""
        elif result[-1].role is Role.ASSISTANT:
            held = _paragraphs(held, message.content)
        else:
            result[-1] = _with(result[-1], message.content)
    return (*result, Message(Role.USER, held)) if held else tuple(result)


def _after(remark: str, message: Message) -> list[Message]:
    if not remark:
        return [message]
    if message.role is Role.TOOL:
        return [_with(message, remark)]
    if message.role is Role.USER:
        return [replace(message, content=_paragraphs(remark, message.content))]
    return [Message(Role.USER, remark), message]


def _with(message: Message, remark: str) -> Message:
    return replace(message, content=_paragraphs(message.content, remark))


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)
