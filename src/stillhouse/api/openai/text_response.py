"""Builds text completions in OpenAI's JSON, with DeepInfra's extensions: whole, and in chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from stillhouse.api.http.usage import UsageOut, usage_out
from stillhouse.api.openai.chunks import OpenAIEncoder
from stillhouse.api.openai.generation_request import StreamOptions
from stillhouse.api.openai.text_logprobs import TextLogprobs, TextLogprobsOut
from stillhouse.types.events import ChoiceAnswer, ChoiceEnd, Finish, FinishReason, TextDelta
from stillhouse.types.response_meta import ResponseMeta

_OBJECT: Literal["text_completion"] = "text_completion"


class TextChoiceOut(TypedDict):
    """One of the choices, or its new text; the reason is null until it has ended."""

    index: int
    text: str
    logprobs: TextLogprobsOut | None
    finish_reason: FinishReason | None


class TextCompletionOut(TypedDict):
    """
    A whole text completion, or one chunk of a stream.

    A chunk's `usage` is null if the stream's options request none.
    """

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoiceOut]
    usage: UsageOut | None
    service_tier: NotRequired[str]


def text_completion_out(
    meta: ResponseMeta,
    choices: tuple[ChoiceAnswer, ...],
    finish: Finish,
    logprobs: Sequence[TextLogprobs] | None,
    *,
    service_tier: str | None,
) -> TextCompletionOut:
    """
    Returns a whole text completion.

    Args:
        logprobs: The encoder of log probabilities per choice, if they are requested.
        service_tier: The tier that was used, if the request named one.

    """
    answer: TextCompletionOut = {
        "id": meta.request_id,
        "object": _OBJECT,
        "created": meta.created_s,
        "model": meta.model_id,
        "choices": [
            {
                "index": index,
                "text": choice.content,
                "logprobs": logprobs[index].push(choice.logprobs) if logprobs else None,
                "finish_reason": choice.reason,
            }
            for index, choice in enumerate(choices)
        ],
        "usage": usage_out(finish.usage, finish.cost_picousd, finish.reasoning_tokens),
    }
    if service_tier:
        answer["service_tier"] = service_tier
    return answer


class TextChunkEncoder(OpenAIEncoder):
    """
    Encodes a text completion.

    Args:
        logprobs: The encoder of log probabilities per choice, if they are requested.

    """

    def __init__(
        self,
        meta: ResponseMeta,
        options: StreamOptions,
        logprobs: Sequence[TextLogprobs] | None,
        *,
        service_tier: str | None = None,
    ) -> None:
        super().__init__(meta, options, object_name=_OBJECT, service_tier=service_tier)
        self._logprobs = logprobs

    def opening(self) -> bytes:
        """Returns nothing: a text has no role."""
        return b""

    def delta_choice(self, delta: TextDelta) -> str:
        """Encodes new text."""
        logprobs = self._logprobs and self._logprobs[delta.choice].push(delta.logprobs)
        return _choice(delta.choice, delta.content, logprobs or None)

    def end_choice(self, event: ChoiceEnd | Finish) -> str:
        """Encodes the finish reason without new text."""
        return _choice(event.choice, "", None, event.reason)


def _choice(
    index: int, text: str, logprobs: TextLogprobsOut | None, reason: FinishReason | None = None
) -> str:
    choice: TextChoiceOut = {
        "index": index,
        "text": text,
        "logprobs": logprobs,
        "finish_reason": reason,
    }
    return json.dumps(choice, ensure_ascii=False)
