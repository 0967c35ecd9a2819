"""Counts the tokens of a sequence, and checks the engine's own count."""

from __future__ import annotations

from dataclasses import replace

import structlog

from stillhouse.billing.outcome import UsageSource
from stillhouse.engines.base import GenerateRequest, GenerateStep
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()


class UsageMeter:
    """
    Measures what one sequence has used so far.

    The engine reports its count with every step, and the meter counts the tokens that it received.
    If they differ, the engine is wrong: the meter logs an alarm, and charges what it received.

    Attributes:
        usage: The tokens to charge; never more than were received.
        source: Whose count `usage` is.

    """

    def __init__(self, request: GenerateRequest) -> None:
        self._request_id = request.request_id
        self.usage = TokenUsage(prompt_tokens=len(request.prompt_token_ids))
        self.source = UsageSource.ENGINE

    def record_step(self, step: GenerateStep) -> None:
        """Counts the tokens of an engine's step."""
        num_tokens = self.usage.completion_tokens + len(step.token_ids)
        # Only the engine knows how much was cached: the last step that agreed has reported it.
        counted = replace(self.usage, completion_tokens=num_tokens)
        if self.source is UsageSource.ENGINE:
            if _agree(step.usage, counted):
                self.usage = step.usage
                return
            log.error(
                "engine_miscounts",
                request_id=self._request_id,
                reported=str(step.usage),
                counted=str(counted),
            )
            self.source = UsageSource.GATEWAY_COUNT
        self.usage = counted

    def roll_back_to(self, usage: TokenUsage) -> None:
        """Goes back to *usage*, an earlier state, and drops the tokens since."""
        self.usage = usage
        self.source = UsageSource.GATEWAY_COUNT


def _agree(reported: TokenUsage, counted: TokenUsage) -> bool:
    return (
        reported.completion_tokens == counted.completion_tokens
        and reported.prompt_tokens == counted.prompt_tokens
        and 0 <= reported.cached_tokens <= counted.prompt_tokens
    )
