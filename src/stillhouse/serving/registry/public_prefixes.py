"""Holds the prompt prefixes that the operator declared public; all accounts share their cache."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Self

from stillhouse.errors import ConfigError, RequestError
from stillhouse.text.chat_model import ChatModel
from stillhouse.types.messages import Message, Role
from stillhouse.types.requests import ChatRequest

#: Two user messages without a common prefix, so prompts differ from there on.
_USERS = ("0", "Z")

#: Characters of a system message that an error repeats.
_MAX_TOLD = 50


@dataclass(frozen=True, slots=True)
class PublicPrefixes:
    """
    The public prefixes of one model.

    Args:
        prefixes: As token ids, the longest first.

    """

    prefixes: tuple[tuple[int, ...], ...] = ()

    @classmethod
    def render(cls, chat: ChatModel, systems: Iterable[str]) -> Self:
        """
        The prompts that begin with any of *systems*, up to where the user speaks.

        Raises:
            ConfigError: The model has no words for a system message, or not for this one.

        """
        prefixes = (_prefix(chat, system) for system in systems)
        return cls(tuple(sorted(prefixes, key=len, reverse=True)))

    def num_tokens_of(self, prompt_token_ids: Sequence[int]) -> int:
        """Returns how many of a prompt's tokens are public: those of its longest public prefix."""
        for prefix in self.prefixes:
            if tuple(prompt_token_ids[: len(prefix)]) == prefix:
                return len(prefix)
        return 0


NO_PUBLIC_PREFIXES = PublicPrefixes()


def _prefix(chat: ChatModel, system: str) -> tuple[int, ...]:
    bare, *prompts = (_token_ids(chat, messages) for messages in _conversations(system))
    prefix = _common(*prompts)
    if len(prefix) <= len(_common(bare, prefix)):
        raise ConfigError(
            f"public_prefixes: the prompts of {chat.model_id} do not begin with the system message "
            f"{_shortened(system)!r}; right would be a text that its chat template puts first"
        )
    return prefix


def _conversations(system: str) -> Iterable[tuple[Message, ...]]:
    yield (Message(Role.USER, _USERS[0]),)
    for user in _USERS:
        yield (Message(Role.SYSTEM, system), Message(Role.USER, user))


def _token_ids(chat: ChatModel, messages: tuple[Message, ...]) -> list[int]:
    try:
        return chat.encode_prompt(ChatRequest(chat.model_id, messages)).token_ids
    except RequestError as error:
        raise ConfigError(
            f"public_prefixes: {chat.model_id} cannot take a system message: {error.message}"
        ) from error


def _common(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return tuple(token_id for token_id, _ in pairs)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_TOLD else f"{text[:_MAX_TOLD]}…"
