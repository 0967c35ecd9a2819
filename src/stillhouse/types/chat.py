"""The words of a completion: what is asked, what comes back, and what it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from enum import StrEnum
from typing import Any, TypeVar

Number = TypeVar("Number", int, float)

#: A JSON object from outside, parsed; its size and depth are bounded where it came in.
JsonObject = Mapping[str, Any]


class Role(StrEnum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    #: The result of a tool call.
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """
    A call that an assistant has made.

    Args:
        arguments: JSON text, as the model wrote it.

    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """
    One turn of a conversation.

    Args:
        reasoning: What an assistant thought before its answer.
        tool_calls: What an assistant called after its content.
        tool_call_id: The call that a tool's message is the result of.

    """

    role: Role
    content: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """
    A function that the model may call.

    Args:
        parameters: JSON Schema of its arguments; None takes none.
        is_strict: Arguments are sampled under the schema, so that they cannot but fit it.

    """

    name: str
    description: str = ""
    parameters: JsonObject | None = None
    is_strict: bool = False


class ToolMode(StrEnum):
    """Whether an answer calls tools."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """
    Which tools an answer calls.

    Args:
        name: With `ToolMode.REQUIRED`: the only one.
        is_parallel: Whether it may call more than one.

    """

    mode: ToolMode = ToolMode.AUTO
    name: str | None = None
    is_parallel: bool = True


@dataclass(frozen=True, slots=True)
class JsonObjectFormat:
    """The answer is any JSON object."""


@dataclass(frozen=True, slots=True)
class JsonSchemaFormat:
    """The answer is JSON that fits a JSON Schema."""

    schema: JsonObject


@dataclass(frozen=True, slots=True)
class RegexFormat:
    """The whole answer matches a regular expression."""

    regex: str


ResponseFormat = JsonObjectFormat | JsonSchemaFormat | RegexFormat


class Effort(StrEnum):
    """How much a model shall think before it answers."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """
    How the next token is drawn.

    Args:
        temperature: 0 takes the likeliest token; otherwise logits are divided by it.
        top_p: Draw from the smallest set of likeliest tokens whose mass reaches it; 1 is off.
        top_k: Draw from the `top_k` likeliest tokens; 0 is off.
        min_p: Leave out tokens less likely than `min_p` times the likeliest; 0 is off.
        seed: Same seed, same draws, whatever else runs in the batch; None draws afresh.
        presence_penalty: Taken from the logit of each token that was generated; 0 is off.
        frequency_penalty: The same, times how often it was generated.
        repetition_penalty: Logits of all tokens in prompt and completion are divided by it where
            they are positive, else multiplied; 1 is off (CTRL, arXiv 1909.05858).
        logit_bias: Token ids, and what is added to their logits.

    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingOverrides:
    """What a request says of sampling; None leaves the choice to the model's recommendation."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()

    def over(self, recommended: SamplingParams) -> SamplingParams:
        """The overrides, with *recommended* wherever nothing was said."""
        return SamplingParams(
            temperature=_first(self.temperature, recommended.temperature),
            top_p=_first(self.top_p, recommended.top_p),
            top_k=_first(self.top_k, recommended.top_k),
            min_p=_first(self.min_p, recommended.min_p),
            seed=self.seed,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
        )


def _first(override: Number | None, recommended: Number) -> Number:
    return recommended if override is None else override


class ServiceTier(StrEnum):
    """How soon a request's turn comes, and by how much that changes its price."""

    DEFAULT = "default"
    #: Goes first.
    PRIORITY = "priority"
    #: Waits until there is room.
    FLEX = "flex"


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """
    What every request for a completion says, whichever door it came through.

    Args:
        max_tokens: Most tokens to generate; None takes what the context leaves, up to 16384.
        stop: The answer ends before any of these texts.
        stop_token_ids: Any of these tokens ends the answer, beside the model's own.
        n: How many answers to give.
        top_logprobs: How many of the likeliest tokens to report at each place, with their log
            probabilities, beside the one that was drawn; None reports nothing.
        fail_fast: Refuse at once what could not start at once.

    """

    model: str
    _: KW_ONLY
    sampling: SamplingOverrides = SamplingOverrides()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    n: int = 1
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    tier: ServiceTier = ServiceTier.DEFAULT
    fail_fast: bool = False


@dataclass(frozen=True, slots=True)
class ChatRequest(GenerationRequest):
    """
    A conversation to be continued by the assistant.

    Args:
        messages: Where the last one is the assistant's, it is continued.
        effort: How much to think; None leaves it to the model.

    """

    messages: tuple[Message, ...]
    _: KW_ONLY
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    effort: Effort | None = None


@dataclass(frozen=True, slots=True)
class TextRequest(GenerationRequest):
    """
    A text to be continued as it stands: the caller is its own chat template.

    Args:
        prompt: Text, in which special tokens are special, or token ids.
        echo: The answer begins with the prompt.

    """

    prompt: str | tuple[int, ...]
    _: KW_ONLY
    echo: bool = False


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """
    Tokens as the engine counted them.

    Args:
        prompt_tokens: All tokens of the prompt, the cached ones among them.
        cached_tokens: Prompt tokens whose KV blocks were found in the prefix cache.
        completion_tokens: Tokens generated, reasoning and the end token among them.

    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class FinishReason(StrEnum):
    """Why an answer ended, as the client is told."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class StepLogprobs:
    """
    How likely one new token was, by the model alone: before penalties, temperature and grammar.

    Args:
        logprob: Natural logarithm of its probability.
        top: The likeliest token ids with their log probabilities, likeliest first.

    """

    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Logprob:
    """
    How likely a token was.

    Args:
        token_bytes: What it stands for; part of a character, sometimes.
        logprob: Natural logarithm of its probability, before temperature and penalties.

    """

    token_id: int
    token_bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A token of an answer's content, and the likeliest ones at its place, likeliest first."""

    sampled: Logprob
    top: tuple[Logprob, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """
    A tool call, or the next piece of its arguments.

    Args:
        index: Which call of the answer, from 0.
        id: Empty but in the call's first delta, as is `name`.

    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """
    What is new in an answer; any part may be empty.

    Args:
        choice: Which of the request's answers, from 0.

    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    choice: int = 0

    def __bool__(self) -> bool:
        return bool(self.content or self.reasoning or self.tool_calls or self.logprobs)


@dataclass(frozen=True, slots=True)
class ChoiceEnd:
    """
    One of several answers has ended, and others go on.

    Args:
        stop_string: The one that ended it, where one did.

    """

    reason: FinishReason
    choice: int = 0
    stop_string: str | None = None


@dataclass(frozen=True, slots=True)
class Finish:
    """
    The last event of a completion: its last answer has ended.

    Args:
        cost_picousd: What was charged, in pico-dollars, durable by now. None where the ledger is
            down: it is charged when it is back, and nobody is told a cost before.
        reasoning_tokens: How many of the completion's tokens were reasoning.
        choice: Which answer was the last to end.
        stop_string: The one that ended it, where one did.
        runtime_ms: From admission to the last token; 0 where an earlier answer is told again.

    """

    reason: FinishReason
    usage: TokenUsage
    cost_picousd: int | None
    reasoning_tokens: int = 0
    choice: int = 0
    stop_string: str | None = None
    runtime_ms: int = 0


ChatEvent = TextDelta | ChoiceEnd | Finish


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """One whole answer, as its deltas told it."""

    content: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    logprobs: tuple[TokenLogprobs, ...]
    reason: FinishReason
    stop_string: str | None = None
