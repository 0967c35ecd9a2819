"""Parses the body of a text completion: OpenAI's older JSON with DeepInfra's extensions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from stillhouse.api.openai.chat_request import MAX_TOP_LOGPROBS
from stillhouse.api.openai.generation_request import GenerationIn
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.requests import TextRequest

MAX_STOP_TOKEN_IDS = 64
_TOKEN_ID_END = 2**31

TokenId = Annotated[int, Field(ge=0, lt=_TOKEN_ID_END)]


_PromptIn = (
    str
    | list[TokenId]
    | Annotated[list[str], Field(min_length=1, max_length=1)]
    | Annotated[list[list[TokenId]], Field(min_length=1, max_length=1)]
)


def _read_prompt(value: object) -> str | tuple[int, ...]:
    """Returns a text or token ids, also from a list with one prompt."""
    if isinstance(value, list) and value and isinstance(value[0], str | list):
        if len(value) > 1:
            raise ValueError(
                f"it holds {len(value)} prompts; right would be one, and a request for each"
            )
        value = value[0]
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(_is_token_id(item) for item in value):
        return tuple(value)
    raise ValueError("right would be a text, or a list of token ids")


def _is_token_id(value: object) -> bool:
    return type(value) is int and 0 <= value < _TOKEN_ID_END


class DataIn(BaseModel):
    """
    Inputs besides the prompt, for vision models.

    Args:
        image: Any image is a 405, as there is no vision model here.

    """

    model_config = ConfigDict(extra="ignore", strict=True)

    image: list[Any] | None = None


class TextCompletionIn(GenerationIn):
    """
    The body of a text completion, with DeepInfra's ranges.

    Args:
        echo: Not allowed with `logprobs`.

    """

    prompt: Annotated[
        str | tuple[int, ...],
        PlainValidator(_read_prompt, json_schema_input_type=_PromptIn),
    ]
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    stop_token_ids: (
        Annotated[list[TokenId], Field(max_length=MAX_STOP_TOKEN_IDS, fail_fast=True)] | None
    ) = None
    return_tokens_as_token_ids: bool | None = None
    data: DataIn | None = None

    def to_request(self) -> TextRequest:
        """
        Returns the request as a value of ``stillhouse.types``.

        Raises:
            InvalidRequestError: Fields exclude each other.
            UnsupportedFeatureError: There are images.

        """
        if self.data is not None and self.data.image:
            raise UnsupportedFeatureError(
                f"Multimodal is not supported for model: {self.model}", param="data"
            )
        if self.echo and self.logprobs is not None:
            raise InvalidRequestError(
                "echo cannot be given with logprobs: a prompt's tokens have no log probabilities "
                "here; leave one of them out",
                param="echo",
            )
        return TextRequest(
            self.model,
            prompt=self.prompt,
            **self.generation_fields(),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            top_logprobs=self.logprobs,
            echo=bool(self.echo),
        )
