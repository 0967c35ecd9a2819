"""``POST /v1/openai/chat/completions``: OpenAI's chat in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.requests import Request

from stillhouse.api.completion_endpoint import Asked
from stillhouse.api.openai.chat_answer import completion_out
from stillhouse.api.openai.chat_request import ChatCompletionIn
from stillhouse.api.openai.chunks import ChunkEncoder
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.chat import ChoiceAnswer, Finish
from stillhouse.serving.replay import AnswerHead

ID_PREFIX = "chatcmpl-"


def read_chat_completion(body: bytes, _request: Request) -> Asked:
    """
    The completion that *body* asks for.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    asked = parse_body(body, ChatCompletionIn)
    return Asked(asked.to_request(), ChatForm(asked))


@dataclass(frozen=True, slots=True)
class ChatForm:
    """An answer as OpenAI's clients read it, with DeepInfra's `estimated_cost`."""

    asked: ChatCompletionIn

    @property
    def is_stream(self) -> bool:
        """Whether it is answered piece by piece."""
        return bool(self.asked.stream)

    def whole(self, head: AnswerHead, choices: tuple[ChoiceAnswer, ...], finish: Finish) -> bytes:
        """The whole answer as JSON."""
        answer = completion_out(
            head,
            choices,
            finish,
            has_logprobs=bool(self.asked.logprobs),
            service_tier=self._tier_to_echo(head),
        )
        return msgspec.json.encode(answer)

    def stream(self, head: AnswerHead) -> ChunkEncoder:
        """What encodes the answer piece by piece."""
        return ChunkEncoder(
            head,
            self.asked.stream_options or StreamOptions(),
            has_logprobs=bool(self.asked.logprobs),
            service_tier=self._tier_to_echo(head),
        )

    def _tier_to_echo(self, head: AnswerHead) -> str | None:
        """The tier that is charged, for those who asked for one; others look for no such field."""
        return None if self.asked.service_tier is None else head.tier.value
