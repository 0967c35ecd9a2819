"""``POST /v1/openai/chat/completions``: OpenAI's chat in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stillhouse.api.bodies.parsed_request import Asked
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.openai.chat_answer import completion_out
from stillhouse.api.openai.chat_request import ChatCompletionIn
from stillhouse.api.openai.chunks import ChunkEncoder
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.types.chat import ChoiceAnswer, Finish
from stillhouse.types.response_meta import AnswerHead

ID_PREFIX = "chatcmpl-"


def read_chat_completion(body: bytes, _head: RequestHead) -> Asked:
    """
    The completion that *body* asks for.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    asked = parse_body(body, ChatCompletionIn)
    form = ChatForm(
        is_stream=bool(asked.stream),
        has_logprobs=bool(asked.logprobs),
        tells_tier=asked.service_tier is not None,
        options=asked.stream_options or StreamOptions(),
    )
    return Asked(asked.to_request(), form)


@dataclass(frozen=True, slots=True)
class ChatForm:
    """
    An answer as OpenAI's clients read it, with DeepInfra's `estimated_cost`.

    Args:
        tells_tier: Say which tier is charged, to those who asked for one; others look for no such
            field.

    """

    is_stream: bool
    has_logprobs: bool
    tells_tier: bool
    options: StreamOptions

    def whole(self, head: AnswerHead, choices: tuple[ChoiceAnswer, ...], finish: Finish) -> bytes:
        """The whole answer as JSON."""
        answer = completion_out(
            head,
            choices,
            finish,
            has_logprobs=self.has_logprobs,
            service_tier=self._tier_to_echo(head),
        )
        return msgspec.json.encode(answer)

    def stream(self, head: AnswerHead) -> ChunkEncoder:
        """What encodes the answer piece by piece."""
        return ChunkEncoder(
            head,
            self.options,
            has_logprobs=self.has_logprobs,
            service_tier=self._tier_to_echo(head),
        )

    def _tier_to_echo(self, head: AnswerHead) -> str | None:
        return head.tier.value if self.tells_tier else None
