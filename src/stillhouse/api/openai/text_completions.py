"""``POST /v1/openai/completions``: OpenAI's text completions in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from stillhouse.api.bodies.parsed_request import Asked
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.api.openai.text_answer import TextChunkEncoder, text_completion_out
from stillhouse.api.openai.text_logprobs import TextLogprobs
from stillhouse.api.openai.text_request import TextCompletionIn
from stillhouse.types.chat import ChoiceAnswer, Finish
from stillhouse.types.response_meta import AnswerHead

ID_PREFIX = "cmpl-"


def read_text_completion(body: bytes, _head: RequestHead) -> Asked:
    """
    The completion that *body* asks for.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    asked = parse_body(body, TextCompletionIn)
    form = TextForm(
        is_stream=bool(asked.stream),
        has_logprobs=asked.logprobs is not None,
        names_ids=bool(asked.return_tokens_as_token_ids),
        tells_tier=asked.service_tier is not None,
        options=asked.stream_options or StreamOptions(),
    )
    return Asked(asked.to_request(), form)


@dataclass(frozen=True, slots=True)
class TextForm:
    """
    An answer as OpenAI's clients read it, with DeepInfra's `estimated_cost`.

    Args:
        names_ids: Log probabilities name tokens by their ids.
        tells_tier: Say which tier is charged, to those who asked for one.

    """

    is_stream: bool
    has_logprobs: bool
    names_ids: bool
    tells_tier: bool
    options: StreamOptions

    def whole(self, head: AnswerHead, choices: tuple[ChoiceAnswer, ...], finish: Finish) -> bytes:
        """The whole answer as JSON."""
        answer = text_completion_out(
            head, choices, finish, self._logprobs(head), service_tier=self._tier_to_echo(head)
        )
        return msgspec.json.encode(answer)

    def stream(self, head: AnswerHead) -> TextChunkEncoder:
        """What encodes the answer piece by piece."""
        return TextChunkEncoder(
            head,
            self.options,
            self._logprobs(head),
            service_tier=self._tier_to_echo(head),
        )

    def _logprobs(self, head: AnswerHead) -> list[TextLogprobs] | None:
        """One for each answer, where they are asked for."""
        if not self.has_logprobs:
            return None
        return [TextLogprobs(names_ids=self.names_ids) for _ in range(head.n)]

    def _tier_to_echo(self, head: AnswerHead) -> str | None:
        return head.tier.value if self.tells_tier else None
