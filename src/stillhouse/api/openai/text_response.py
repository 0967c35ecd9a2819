"""Text completions in OpenAI's JSON as DeepInfra writes it, whole and in chunks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NotRequired

from typing_extensions import TypedDict

from stillhouse.api.openai.chat_response import UsageOut, usage_out
from stillhouse.api.openai.chunks import OpenAIEncoder
from stillhouse.api.openai.generation_request import StreamOptions
from stillhouse.api.openai.text_logprobs import TextLogprobs, TextLogprobsOut
from stillhouse.types.events import ChoiceAnswer, ChoiceEnd, Finish, FinishReason, TextDelta
from stillhouse.types.response_meta import ResponseMeta

_OBJECT: Literal["text_completion"] = "text_completion"


class TextChoiceOut(TypedDict):
    """One of the answers, or what is new in it; the reason is null until it has ended."""

    index: int
    text: str
    logprobs: TextLogprobsOut | None
    finish_reason: FinishReason | None


class TextCompletionOut(TypedDict):
    """
    A whole text completion, or one chunk of a stream.

    A chunk's `usage` is null where the stream's options put none.
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
    A whole text completion.

    Args:
        logprobs: What tells each answer's log probabilities, where they are asked for.
        service_tier: The one that was used, where the request has asked for one.

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
        logprobs: What tells each answer's log probabilities, where they are asked for.

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
        """Nothing: a text has no role."""
        return b""

    def delta_choice(self, delta: TextDelta) -> str:
        """New text."""
        logprobs = self._logprobs and self._logprobs[delta.choice].push(delta.logprobs)
        return _choice(delta.choice, delta.content, logprobs or None)

    def end_choice(self, event: ChoiceEnd | Finish) -> str:
        """The reason, and nothing new."""
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
