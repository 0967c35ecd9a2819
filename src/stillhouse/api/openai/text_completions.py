"""``POST /v1/openai/completions``: OpenAI's text completions in DeepInfra's dialect."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.requests import Request

from stillhouse.api.completion_endpoint import Asked
from stillhouse.api.openai.generation_request import StreamOptions, parse_body
from stillhouse.api.openai.text_answer import TextChunkEncoder, text_completion_out
from stillhouse.api.openai.text_logprobs import TextLogprobs
from stillhouse.api.openai.text_request import TextCompletionIn
from stillhouse.chat import ChoiceAnswer, Finish
from stillhouse.serving.replay import AnswerHead

ID_PREFIX = "cmpl-"


def read_text_completion(body: bytes, _request: Request) -> Asked:
    """
    The completion that *body* asks for.

    Raises:
        InvalidRequestError: It is not JSON, or a field is missing, of the wrong type or range.

    """
    asked = parse_body(body, TextCompletionIn)
    return Asked(asked.to_request(), TextForm(asked))


@dataclass(frozen=True, slots=True)
class TextForm:
    """An answer as OpenAI's clients read it, with DeepInfra's `estimated_cost`."""

    asked: TextCompletionIn

    @property
    def is_stream(self) -> bool:
        """Whether it is answered piece by piece."""
        return bool(self.asked.stream)

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
            self.asked.stream_options or StreamOptions(),
            self._logprobs(head),
            service_tier=self._tier_to_echo(head),
        )

    def _logprobs(self, head: AnswerHead) -> list[TextLogprobs] | None:
        """One for each answer, where they are asked for."""
        if self.asked.logprobs is None:
            return None
        names_ids = bool(self.asked.return_tokens_as_token_ids)
        return [TextLogprobs(names_ids=names_ids) for _ in range(head.n)]

    def _tier_to_echo(self, head: AnswerHead) -> str | None:
        """The tier that is charged, for those who asked for one."""
        return None if self.asked.service_tier is None else head.tier.value
