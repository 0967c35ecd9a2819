"""Defines what an engine declares that it can honour."""

from __future__ import annotations

from dataclasses import dataclass

from stillhouse.types.constraint import ConstraintKind

ALL_CONSTRAINTS = frozenset(ConstraintKind)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """
    Declares what an engine can honour beyond what every engine does.

    Every engine honours temperature, top_p, top_k, min_p, stop tokens and max_tokens. What an
    engine does not declare is refused at admission, hints excepted: priority and public prefixes
    change the time that an answer takes, and nothing else.

    Args:
        salted_prefix_cache: Requests share cached prefixes within their salt alone.
        public_prefixes: Public tokens at the start of a prompt are shared across salts; a hint.
        priority: Requests with a lower `priority` go first; a hint.
        usage_at_abort: A cancelled sequence ends with its exact usage.
        seed: The same seed gives the same tokens.
        penalties: Presence, frequency and repetition penalties.
        logit_bias: Biases on the logits of single tokens.
        max_top_logprobs: Most of the likeliest tokens that are reported at each position; None
            reports no log probabilities.
        constraints: The kinds of constraints that completions can be bound to.
        adapters: LoRA adapters, chosen by request.

    """

    salted_prefix_cache: bool = False
    public_prefixes: bool = False
    priority: bool = False
    usage_at_abort: bool = False
    seed: bool = False
    penalties: bool = False
    logit_bias: bool = False
    max_top_logprobs: int | None = None
    constraints: frozenset[ConstraintKind] = frozenset()
    adapters: bool = False
