"""Encodes requests as the token ids that an engine continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stillhouse.errors import InvalidRequestError, WrongTaskError
from stillhouse.text.prompt.conversation import ConversationWriter
from stillhouse.text.prompt.limit import PromptLimit
from stillhouse.text.tokenizer import Segment, Tokenizer
from stillhouse.types.requests import ChatRequest, TextRequest


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    A prompt as an engine continues it.

    Args:
        opens_in_reasoning: The answer starts inside the reasoning that the prompt has opened.
        is_continuation: The prompt ends in the assistant's own text, reasoning or content.
        is_raw: The prompt is no conversation: its answer is one text, with nothing split off.
        text: The text of a raw prompt.

    """

    token_ids: list[int]
    opens_in_reasoning: bool
    is_continuation: bool = False
    is_raw: bool = False
    text: str = ""


class PromptEncoder:
    """
    Encodes conversations and raw texts as prompts.

    Args:
        conversations: None of a model for raw texts alone.
        bos: The text that stands before every raw text, unless it begins with it; may be empty.

    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        conversations: ConversationWriter | None,
        limit: PromptLimit,
        *,
        bos: str,
    ) -> None:
        self._tokenizer = tokenizer
        self._conversations = conversations
        self._limit = limit
        self._bos = bos

    def encode(self, request: ChatRequest | TextRequest) -> Prompt:
        """
        Encodes the prompt of a request.

        Raises:
            ContextLengthError: The prompt is too long.
            InvalidRequestError: The template refuses the conversation; or the prompt is empty, or
                holds invalid text or unknown tokens.
            UnsupportedFeatureError: The model does not support what the request asks for.
            WrongTaskError: A conversation is sent to a model for raw texts alone.
            CheckpointError: The template fails.

        """
        self._check_known(request.stop_token_ids, param="stop_token_ids")
        self._check_known([id_ for id_, _ in request.sampling.logit_bias], param="logit_bias")
        if isinstance(request, TextRequest):
            return self._encode_text(request)
        if self._conversations is None:
            raise WrongTaskError(
                "the model completes raw prompts and has no chat template; right would be "
                "POST /v1/openai/completions, or a model for chat",
                param="model",
            )
        self._conversations.check(request)
        self._limit.check_chat(request)
        rendered = self._conversations.write(request)
        self._limit.check_in_pieces(rendered.segments, param="messages")
        token_ids = self._tokenizer.encode(rendered.segments)
        self._limit.check(len(token_ids), param="messages")
        return Prompt(
            token_ids,
            opens_in_reasoning=rendered.opens_in_reasoning,
            is_continuation=rendered.is_continuation,
        )

    def _encode_text(self, request: TextRequest) -> Prompt:
        prompt = request.prompt
        if isinstance(prompt, str):
            token_ids, text = self._ids_of(prompt), prompt
        else:
            token_ids, text = self._known_ids(prompt), self._tokenizer.text_of(prompt)
        if not token_ids:
            raise InvalidRequestError("prompt is empty; it needs a token", param="prompt")
        self._limit.check(len(token_ids), param="prompt")
        return Prompt(token_ids, opens_in_reasoning=False, is_raw=True, text=text)

    def _ids_of(self, text: str) -> list[int]:
        self._limit.check_text(text)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequestError(
                f"prompt holds half of a surrogate pair at character {error.start}; right would "
                "be whole characters",
                param="prompt",
            ) from error
        bos = "" if text.startswith(self._bos) else self._bos
        segments = [Segment(bos + text, is_template=True)]
        self._limit.check_in_pieces(segments, param="prompt")
        return self._tokenizer.encode(segments)

    def _known_ids(self, token_ids: Sequence[int]) -> list[int]:
        self._limit.check(len(token_ids), param="prompt", is_lower_bound=True)
        self._check_known(token_ids, param="prompt")
        return list(token_ids)

    def _check_known(self, token_ids: Sequence[int], *, param: str) -> None:
        known = self._tokenizer.token_bytes
        for token_id in token_ids:
            if token_id not in known:
                raise InvalidRequestError(
                    f"{param} names the token {token_id}; right would be token ids of the model, "
                    f"from 0 to {max(known)}",
                    param=param,
                )
