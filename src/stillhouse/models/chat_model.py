"""A loaded model's words: conversations to tokens, and tokens back to words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stillhouse.chat import ChatRequest, Message, Role, TextRequest
from stillhouse.clock import Clock
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    UnsupportedFeatureError,
)
from stillhouse.models.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from stillhouse.models.dialects import DIALECTS
from stillhouse.models.dialects.base import Dialect, MarkIds, opens_in_reasoning
from stillhouse.models.model_spec import ModelSpec
from stillhouse.models.reply import Reply
from stillhouse.models.template import ChatTemplate
from stillhouse.models.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Prompt:
    """
    A conversation as the engine takes it.

    Args:
        opens_in_reasoning: The answer starts inside the reasoning that the prompt has opened.

    """

    token_ids: list[int]
    opens_in_reasoning: bool


@dataclass(frozen=True, slots=True)
class Constraint:
    """
    What the answer must be, to the letter.

    Args:
        grammar: As llguidance reads it; not compiled yet.
        after_token_id: It binds what follows the first such token; None: the whole answer.
        param: The request's field that asks for it.

    """

    grammar: str
    after_token_id: int | None
    param: str


class ChatModel:
    """
    A loaded model's words: conversations to tokens, and tokens back to words.

    Holds no state of any request, so that one serves all, from any thread.
    """

    def __init__(self, spec: ModelSpec, checkpoint: Checkpoint, clock: Clock | None) -> None:
        self.spec = spec
        self.checkpoint_path = checkpoint.path
        self.context_length = min(
            checkpoint.context_length, spec.context_length or checkpoint.context_length
        )
        self._dialect = DIALECTS[spec.dialect]
        source = str(checkpoint.path / "tokenizer.json")
        self._tokenizer = Tokenizer(checkpoint.tokenizer_json, source=source)
        self._longest_token_bytes = max(map(len, self._tokenizer.token_bytes.values()))
        self._marks = _mark_ids(self._dialect, self._tokenizer, source=source)
        self.stop_token_ids = _stop_token_ids(checkpoint, self._tokenizer)
        self._template = ChatTemplate(
            checkpoint.chat_template,
            name=checkpoint.chat_template_source,
            special_tokens=checkpoint.special_tokens,
            clock=clock,
        )

    @classmethod
    def load(
        cls, spec: ModelSpec, *, clock: Clock | None = None, base_dir: Path | None = None
    ) -> ChatModel:
        """
        Read what turns words into tokens and back; the weights are the engine's business.

        Args:
            clock: For templates that write the date; None refuses those.
            base_dir: Where a relative checkpoint path starts; None: the working directory.

        Raises:
            ConfigError: The catalogue entry names no checkpoint.
            CheckpointError: Files are missing or not what they should be.

        """
        if spec.checkpoint is None:
            raise ConfigError(
                f'models."{spec.id}".checkpoint is missing; right would be the folder of its files'
            )
        path = find_checkpoint(spec.checkpoint, base_dir=base_dir)
        return cls(spec, read_checkpoint(path), clock)

    @property
    def max_prompt_tokens(self) -> int:
        """Longest prompt that leaves room for one token of an answer."""
        return self.context_length - 1

    def encode(self, request: ChatRequest | TextRequest) -> Prompt:
        """
        The prompt that asks for the next answer; nothing is ever cut off silently.

        Takes some milliseconds per thousand tokens, mostly outside of the interpreter's lock.

        Raises:
            ContextLengthError: The prompt is longer than `max_prompt_tokens`.
            InvalidRequestError: The template refuses the conversation; or it is empty.
            UnsupportedFeatureError: The model has no words for what is asked.
            CheckpointError: The template fails.

        """
        if isinstance(request, TextRequest):
            raise UnsupportedFeatureError("Raw prompts are not supported yet", param="prompt")
        messages = request.messages
        self._check(messages)
        segments = self._template.render([self._as_history(message) for message in messages])
        token_ids = self._tokenizer.encode(segments)
        if len(token_ids) > self.max_prompt_tokens:
            raise ContextLengthError(
                prompt_tokens=len(token_ids), max_prompt_tokens=self.max_prompt_tokens
            )
        in_reasoning = self._marks is not None and opens_in_reasoning(token_ids, self._marks)
        return Prompt(token_ids, opens_in_reasoning=in_reasoning)

    def constraint(
        self, request: ChatRequest | TextRequest, prompt: Prompt
    ) -> Constraint | None:
        """
        What the answer's form is bound to; None where it is free.

        Raises:
            InvalidRequestError: A schema or regular expression is beyond what is allowed.
            UnsupportedFeatureError: The model cannot be bound so.

        """
        if request.response_format is None:
            return None
        raise UnsupportedFeatureError("Not supported yet", param="response_format")

    def reply(
        self,
        prompt: Prompt,
        request: ChatRequest | TextRequest,
        *,
        request_id: str,
        choice: int = 0,
    ) -> Reply:
        """
        A decoder for one answer to *prompt*.

        Args:
            request_id: Ids of tool calls are derived from it, so that a replay has the same ones.
            choice: Which of the request's answers, from 0.

        Raises:
            InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

        """
        return Reply(
            self._tokenizer.token_bytes,
            marks=self._marks,
            in_reasoning=prompt.opens_in_reasoning,
            stop=request.stop,
            choice=choice,
        )

    def _as_history(self, message: Message) -> Message:
        if message.role is not Role.ASSISTANT:
            return message
        return replace(message, content=self._dialect.history(message.content))

    def _check(self, messages: Sequence[Message]) -> None:
        if not messages:
            raise InvalidRequestError(
                "messages is empty; it needs at least one message", param="messages"
            )
        if messages[-1].role is Role.ASSISTANT:
            raise InvalidRequestError(
                "The last message is the assistant's, and continuing it is not supported yet; "
                "end with a message of the user",
                param="messages",
            )
        # What cannot fit even if every token were the longest there is, is refused untokenised.
        num_chars = sum(len(message.content) for message in messages)
        least_tokens = max(num_chars // self._longest_token_bytes, len(messages))
        if least_tokens > self.max_prompt_tokens:
            raise ContextLengthError(
                prompt_tokens=least_tokens,
                max_prompt_tokens=self.max_prompt_tokens,
                is_lower_bound=True,
            )
        for index, message in enumerate(messages):
            _check_encodable(message.content, index)


def _check_encodable(text: str, index: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"messages[{index}].content holds half of a surrogate pair at character "
            f"{error.start}; right would be whole characters",
            param="messages",
        ) from error


def _mark_ids(dialect: Dialect, tokenizer: Tokenizer, *, source: str) -> MarkIds | None:
    if dialect.reasoning is None:
        return None
    open_id = tokenizer.id_of(dialect.reasoning.open)
    close_id = tokenizer.id_of(dialect.reasoning.close)
    if open_id is None or close_id is None:
        raise CheckpointError(
            f"{source}: dialect {dialect.name} needs the added tokens {dialect.reasoning.open} "
            f"and {dialect.reasoning.close}"
        )
    return MarkIds(open=open_id, close=close_id)


def _stop_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer) -> tuple[int, ...]:
    if checkpoint.end_token_ids:
        return checkpoint.end_token_ids
    end_id = tokenizer.id_of(checkpoint.special_tokens.get("eos_token", ""))
    if end_id is None:
        raise CheckpointError(
            f"{checkpoint.path}: no file names an end token; right would be eos_token_id in "
            "generation_config.json"
        )
    return (end_id,)
