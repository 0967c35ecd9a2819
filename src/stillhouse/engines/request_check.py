"""Checks a request's features and values before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.engines.capabilities import Capabilities
from stillhouse.errors import (
    InvalidRequestError,
    RequestTooLargeForEngineError,
    UnsupportedFeatureError,
)
from stillhouse.types.constraint import ConstraintKind
from stillhouse.types.sampling import SamplingParams

MAX_TOP_LOGPROBS = 20
MAX_ABS_PENALTY = 2.0
REPETITION_PENALTIES = (0.01, 5.0)
_NEUTRAL = SamplingParams()
_CONSTRAINT_NAMES = {
    ConstraintKind.JSON_SCHEMA: "JSON schemas",
    ConstraintKind.REGEX: "regular expressions",
    ConstraintKind.TOOL_CALLS: "required and strict tool calls",
}


def check_request(
    request: GenerateRequest, capabilities: Capabilities, *, vocab_size: int, context_length: int
) -> None:
    """
    Checks that an engine can honour every value of *request*.

    Raises:
        UnsupportedFeatureError: The request uses a feature that the engine does not declare.
        InvalidRequestError: A value is out of its range.
        RequestTooLargeForEngineError: Prompt and completion exceed *context_length*.

    """
    check_capabilities(request, capabilities)
    prompt = request.prompt_token_ids
    if not prompt:
        raise InvalidRequestError("The prompt is empty.", param="messages")
    if not _are_tokens(prompt, vocab_size):
        raise InvalidRequestError(
            f"The prompt's token ids must be 0 to {vocab_size - 1}.", param="messages"
        )
    if not 0 <= request.num_public_tokens <= len(prompt):
        raise InvalidRequestError(
            f"num_public_tokens is {request.num_public_tokens}; "
            f"it must be from 0 to the prompt's {len(prompt)} tokens."
        )
    if request.max_tokens < 0:
        raise InvalidRequestError("max_tokens must not be negative.", param="max_tokens")
    _check_draws(request.sampling)
    _check_penalties(request.sampling)
    _check_logit_bias(request.sampling.logit_bias, vocab_size)
    _check_top_logprobs_range(request.top_logprobs)
    if request.grammar is not None:
        _check_grammar(request.grammar, request.stop_token_ids, vocab_size)
    if len(prompt) + request.max_tokens > context_length:
        raise RequestTooLargeForEngineError(
            f"{len(prompt)} prompt tokens and {request.max_tokens} new ones exceed the "
            f"{context_length} tokens that one sequence can have."
        )


def _check_draws(sampling: SamplingParams) -> None:
    if not (math.isfinite(sampling.temperature) and sampling.temperature >= 0):
        raise InvalidRequestError(
            f"temperature is {sampling.temperature}; it must be a number from 0.",
            param="temperature",
        )
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequestError(
            f"top_p is {sampling.top_p}; it must be above 0 and at most 1.", param="top_p"
        )
    if not 0 <= sampling.min_p <= 1:
        raise InvalidRequestError(
            f"min_p is {sampling.min_p}; it must be from 0 to 1.", param="min_p"
        )
    if sampling.top_k < 0:
        raise InvalidRequestError(
            f"top_k is {sampling.top_k}; it must not be negative, 0 is off.", param="top_k"
        )


def _check_penalties(sampling: SamplingParams) -> None:
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(sampling, name)
        if not -MAX_ABS_PENALTY <= value <= MAX_ABS_PENALTY:
            raise InvalidRequestError(f"{name} is {value}; it must be from -2 to 2.", param=name)
    lowest, highest = REPETITION_PENALTIES
    if not lowest <= sampling.repetition_penalty <= highest:
        raise InvalidRequestError(
            f"repetition_penalty is {sampling.repetition_penalty}; "
            f"it must be from {lowest:g} to {highest:g}.",
            param="repetition_penalty",
        )


def _check_logit_bias(logit_bias: tuple[tuple[int, float], ...], vocab_size: int) -> None:
    if not logit_bias:
        return
    token_ids = [token_id for token_id, _ in logit_bias]
    if not _are_tokens(token_ids, vocab_size):
        raise InvalidRequestError(
            f"logit_bias names the tokens {min(token_ids)} to {max(token_ids)}; "
            f"they must be 0 to {vocab_size - 1}.",
            param="logit_bias",
        )
    if len(set(token_ids)) < len(token_ids):
        raise InvalidRequestError(
            "logit_bias names a token twice; it must name each once.", param="logit_bias"
        )
    if not all(math.isfinite(bias) for _, bias in logit_bias):
        raise InvalidRequestError("logit_bias must be finite numbers.", param="logit_bias")


def _check_top_logprobs_range(top_logprobs: int | None) -> None:
    if top_logprobs is not None and not 0 <= top_logprobs <= MAX_TOP_LOGPROBS:
        raise InvalidRequestError(
            f"top_logprobs is {top_logprobs}; it must be from 0 to {MAX_TOP_LOGPROBS}.",
            param="top_logprobs",
        )


def _check_grammar(grammar: Grammar, stop_token_ids: tuple[int, ...], vocab_size: int) -> None:
    begin = grammar.after_token_id
    if begin is not None and not 0 <= begin < vocab_size:
        raise InvalidRequestError(
            f"A grammar begins after token {begin}; it must be 0 to {vocab_size - 1}."
        )
    if not any(0 <= token_id < vocab_size for token_id in stop_token_ids):
        raise InvalidRequestError("A grammar needs a stop token to end with; there is none.")


def _are_tokens(token_ids: Sequence[int], vocab_size: int) -> bool:
    return min(token_ids) >= 0 and max(token_ids) < vocab_size


def check_capabilities(request: GenerateRequest, capabilities: Capabilities) -> None:
    """
    Checks that the engine supports every feature of *request*.

    Raises:
        UnsupportedFeatureError: The request uses a feature that the engine does not declare.

    """
    sampling = request.sampling
    if sampling.seed is not None and not capabilities.seed:
        raise _unsupported("seeds", "seed")
    if not capabilities.penalties:
        for name in ("presence_penalty", "frequency_penalty", "repetition_penalty"):
            if getattr(sampling, name) != getattr(_NEUTRAL, name):
                raise _unsupported("penalties", name)
    if sampling.logit_bias and not capabilities.logit_bias:
        raise _unsupported("logit biases", "logit_bias")
    if request.top_logprobs is not None:
        _check_top_logprobs(request.top_logprobs, capabilities.max_top_logprobs)
    _check_constraint(request, capabilities)


def _check_top_logprobs(top_logprobs: int, max_top_logprobs: int | None) -> None:
    if max_top_logprobs is None:
        raise _unsupported("log probabilities", "logprobs")
    if top_logprobs > max_top_logprobs:
        raise UnsupportedFeatureError(
            f"top_logprobs is {top_logprobs}; this model's engine reports at most "
            f"{max_top_logprobs}",
            param="top_logprobs",
        )


def _check_constraint(request: GenerateRequest, capabilities: Capabilities) -> None:
    constraint = request.constraint
    if constraint is not None:
        if constraint.kind not in capabilities.constraints:
            raise _unsupported(
                _CONSTRAINT_NAMES[constraint.kind],
                "tools" if constraint.kind is ConstraintKind.TOOL_CALLS else "response_format",
            )
    elif request.grammar is not None and not capabilities.constraints:
        raise _unsupported("grammars", "response_format")


def _unsupported(feature: str, param: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        f"{param} cannot be honoured: this model's engine has no {feature}; right would be a "
        "request without it, or another model",
        param=param,
    )
