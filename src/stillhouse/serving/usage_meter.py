"""Tokens counted as they come through, beside the engine's own word for them."""

from __future__ import annotations

from dataclasses import replace

import structlog

from stillhouse.billing.outcome import UsageSource
from stillhouse.engines.base import GenerateRequest, GenerateStep
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()


class UsageMeter:
    """
    What one completion has used so far.

    The engine counts, and the gateway counts after it. When they differ, the engine is wrong: no
    sound one is, ever. Then an alarm is logged, and what came through is what is charged.

    Attributes:
        usage: Never more tokens than came through, never fewer than none.
        source: Whose count `usage` is.

    """

    def __init__(self, request: GenerateRequest) -> None:
        self._request_id = request.request_id
        self.usage = TokenUsage(prompt_tokens=len(request.prompt_token_ids))
        self.source = UsageSource.ENGINE

    def record_step(self, step: GenerateStep) -> None:
        """Take an engine's next step into account."""
        num_tokens = self.usage.completion_tokens + len(step.token_ids)
        # How much was cached only the engine knows; it was known by the last step that was right.
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
        """Charge for *usage*, an earlier state, and not for what has come since."""
        self.usage = usage
        self.source = UsageSource.GATEWAY_COUNT


def _agree(reported: TokenUsage, counted: TokenUsage) -> bool:
    return (
        reported.completion_tokens == counted.completion_tokens
        and reported.prompt_tokens == counted.prompt_tokens
        and 0 <= reported.cached_tokens <= counted.prompt_tokens
    )
