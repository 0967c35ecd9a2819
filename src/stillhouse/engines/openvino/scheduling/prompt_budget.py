"""Bounds the prompt tokens of a step, so that decoding sequences do not wait too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillhouse.engines.openvino.scheduling.step_times import StepTimes

#: A cancel or an arrival waits for the running step to end, also where nothing decodes.
LONGEST_STEP_S = 1.0
#: Tile size of OpenVINO 2026.4's matrix products: 65 tokens take half as long again as 64.
TILE_TOKENS = 64


class PromptBudget:
    """
    Chooses the prompt tokens of a step from the measured durations of earlier steps.

    While something decodes, a step is to end within the target for the pause between two tokens;
    otherwise within a second, in which prompts are computed as fast as in longer steps. A block of
    prompt is always allowed, so that prompts advance: a machine that takes longer than the target
    for that, or for the decoding alone, gives longer pauses, each by one block of prompt.

    Args:
        target_pause_s: Longest wait of decoding sequences for their next token.
        block_size: Tokens per block of the KV cache.

    """

    def __init__(self, times: StepTimes, *, target_pause_s: float, block_size: int) -> None:
        self._times = times
        self._target_pause_s = target_pause_s
        self._longest_step_s = max(LONGEST_STEP_S, target_pause_s)
        self._block_size = block_size

    def __call__(self, num_decoded: int, most: int) -> int:
        """
        Returns how many prompt tokens the next step may hold.

        Args:
            num_decoded: Tokens of the step that belong to decoding sequences.
            most: Upper bound of the result.

        """
        limit_s = self._target_pause_s if num_decoded else self._longest_step_s
        num_tokens = self._times.most_tokens_within(limit_s, num_decoded + most) or 0
        if num_tokens > TILE_TOKENS:
            num_tokens -= num_tokens % TILE_TOKENS
        return min(most, max(self._block_size, num_tokens - num_decoded))


def unbounded(num_decoded: int, most: int) -> int:  # noqa: ARG001 (the budget's own signature)
    """Returns *most*, so that steps hold the same tokens on every machine."""
    return most
