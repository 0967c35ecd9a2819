"""Encodes the prompts of one model, constrains its answers and parses them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from stillhouse.checkpoints.checkpoint import Checkpoint
from stillhouse.clock import Clock
from stillhouse.errors import CheckpointError
from stillhouse.text.families import FAMILIES
from stillhouse.text.grammar.constraints import format_constraint, tool_call_constraint
from stillhouse.text.grammar.grammar import write_grammar
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.text.parsing.tool_calls.reader import ToolCallReader
from stillhouse.text.prompt.conversation import ConversationWriter, offered_tools
from stillhouse.text.prompt.encoder import Prompt, PromptEncoder
from stillhouse.text.prompt.limit import PromptLimit
from stillhouse.text.prompt.template import ChatTemplate
from stillhouse.text.special_tokens import bos, call_tags, stop_token_ids, tag_ids
from stillhouse.text.tokenizer import Tokenizer
from stillhouse.types.constraint import Constraint, PortableConstraint
from stillhouse.types.requests import ChatRequest, TextRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModelSettings:
    """
    Settings of a chat model that its checkpoint does not hold.

    Args:
        model_id: For messages.
        family: The name of an entry of `FAMILIES`.
        has_chat: Whether the model serves conversations, for which it needs a chat template;
            otherwise it serves raw prompts alone.
        context_length: The most tokens of prompt and answer together; None takes the checkpoint's.
        reasoning_in_content: Writes reasoning into the content, between its tags, as DeepInfra did
            before August 2025; otherwise it is separate.

    """

    model_id: str
    family: str
    has_chat: bool = True
    context_length: int | None = None
    reasoning_in_content: bool = False


class ChatModel:
    """
    Encodes the prompts of one model, constrains its answers and parses them.

    It holds no state of any request, so that one serves all requests, from any thread.
    """

    def __init__(
        self, checkpoint: Checkpoint, settings: ChatModelSettings, *, clock: Clock | None = None
    ) -> None:
        self.model_id = settings.model_id
        self.checkpoint_path = checkpoint.path
        self.context_length = min(
            checkpoint.context_length, settings.context_length or checkpoint.context_length
        )
        self._family = FAMILIES[settings.family]
        self._tokenizer = Tokenizer(checkpoint.tokenizer_json)
        self._tags = tag_ids(self._family, self._tokenizer, source=checkpoint.tokenizer_json.source)
        reasoning = self._family.reasoning
        self._inline_tags = reasoning.tags if reasoning and settings.reasoning_in_content else None
        self._call_tags = call_tags(self._family, self._tokenizer)
        # Without tools in a request, what looks like a call is content.
        self._shown_bytes = {
            **self._tokenizer.token_bytes,
            **{token_id: tag.encode() for token_id, tag in self._call_tags.items()},
        }
        self._added_bytes = {
            token.id: token.content.encode() for token in self._tokenizer.added_tokens.values()
        }
        self.stop_token_ids = stop_token_ids(checkpoint, self._tokenizer)
        conversations = (
            _conversation_writer(checkpoint, settings, clock) if settings.has_chat else None
        )
        self.supports_tools = conversations is not None and conversations.supports_tools
        self._prompts = PromptEncoder(
            self._tokenizer,
            conversations,
            PromptLimit(self._tokenizer, self.max_prompt_tokens),
            bos=bos(checkpoint, self._tokenizer),
        )

    @property
    def max_prompt_tokens(self) -> int:
        """The length of the longest prompt that leaves space for one token of an answer."""
        return self.context_length - 1

    def encode_prompt(self, request: ChatRequest | TextRequest) -> Prompt:
        """
        Encodes the prompt of a request; nothing is ever cut off silently.

        Takes some milliseconds per thousand tokens, mostly outside of the interpreter's lock.

        Raises:
            ContextLengthError: The prompt is longer than `max_prompt_tokens`.
            InvalidRequestError: The template refuses the conversation; or the prompt is empty, or
                holds invalid text or unknown tokens.
            UnsupportedFeatureError: The model does not support what the request asks for.
            WrongTaskError: A conversation is sent to a model for raw prompts alone.
            CheckpointError: The template fails.

        """
        return self._prompts.encode(request)

    def constraint(self, request: ChatRequest | TextRequest, prompt: Prompt) -> Constraint | None:
        """
        Returns the constraint that the request puts on its answers; None where there is none.

        Raises:
            InvalidRequestError: A schema or regular expression is beyond what is allowed.

        """
        portable = self._portable_constraint(request)
        if portable is None:
            return None
        return Constraint(
            portable,
            write_grammar(portable, self._tokenizer.id_of),
            after_token_id=self._tags.close if self._tags and prompt.opens_in_reasoning else None,
        )

    def _portable_constraint(self, request: ChatRequest | TextRequest) -> PortableConstraint | None:
        form, format_ = self._family.call_form, request.response_format
        if isinstance(request, ChatRequest) and form is not None:
            tools = offered_tools(request)
            calls = tool_call_constraint(tools, request.tool_choice, form, text_format=format_)
            if calls is not None:
                return calls
        return format_constraint(format_) if format_ is not None else None

    def output_parser(
        self,
        prompt: Prompt,
        request: ChatRequest | TextRequest,
        *,
        request_id: str,
        choice: int = 0,
    ) -> OutputParser:
        """
        Returns a parser for one answer to *prompt*.

        Args:
            request_id: Ids of tool calls are derived from it, so that a replay has the same ones.
            choice: Which of the request's answers, from 0.

        Raises:
            InvalidRequestError: Too many stop strings, an empty one, or one that is too long.

        """
        if isinstance(request, TextRequest):
            return self._raw_parser(prompt, request, choice)
        return OutputParser(
            self._shown_bytes,
            tags=self._tags,
            in_reasoning=prompt.opens_in_reasoning,
            is_continuation=prompt.is_continuation,
            stop=request.stop,
            stop_token_ids=request.stop_token_ids,
            choice=choice,
            added_bytes=self._added_bytes,
            reasoning_in_content=self._inline_tags,
            calls=self._call_reader(request, f"{request_id}/{choice}"),
        )

    def _raw_parser(self, prompt: Prompt, request: TextRequest, choice: int) -> OutputParser:
        return OutputParser(
            self._tokenizer.raw_token_bytes,
            tags=None,
            in_reasoning=False,
            stop=request.stop,
            stop_token_ids=request.stop_token_ids,
            choice=choice,
            added_bytes=self._added_bytes,
            echo=prompt.text if request.echo else "",
        )

    def _call_reader(self, request: ChatRequest, answer_id: str) -> ToolCallReader | None:
        form, tools = self._family.call_form, offered_tools(request)
        if form is None or not tools:
            return None
        return ToolCallReader(
            form,
            tags=self._call_tags,
            names=frozenset(tool.name for tool in tools),
            call_id=partial(_call_id, answer_id),
            max_calls=None if request.tool_choice.is_parallel else 1,
        )


def _call_id(answer_id: str, index: int) -> str:
    """Returns the same id for a replay, in OpenAI's shape of 24 letters and digits."""
    digest = hashlib.sha256(f"{answer_id}/{index}".encode()).hexdigest()
    return f"call_{digest[:24]}"


def _conversation_writer(
    checkpoint: Checkpoint, settings: ChatModelSettings, clock: Clock | None
) -> ConversationWriter:
    if checkpoint.chat_template is None:
        raise CheckpointError(
            f"{checkpoint.chat_template_source} is missing; right would be a template there or in "
            'chat_template.jinja, or task = "text" in the model\'s entry'
        )
    template = ChatTemplate(
        checkpoint.chat_template,
        name=checkpoint.chat_template_source,
        special_tokens=checkpoint.special_tokens,
        clock=clock,
    )
    return ConversationWriter(template, FAMILIES[settings.family], model_id=settings.model_id)
