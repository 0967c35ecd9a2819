"""Samples packed into rows of tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor

IGNORED = -100


@dataclass(frozen=True, slots=True)
class Encoded:
    """Tokens of one sample, their positions, and the spans that enter the loss."""

    tokens: list[int]
    positions: list[int]
    graded: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of packed samples; a segment number tells samples of a row apart."""

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    targets: Tensor


def pack(samples: list[Encoded], rows: int, length: int) -> tuple[Batch, int]:
    """Pack as many samples, in order, as fit; return the batch and their number."""
    shape = (rows, length)
    tokens, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    segments = torch.full(shape, -1, dtype=torch.long)
    targets = torch.full(shape, IGNORED, dtype=torch.long)
    used = [0] * rows
    for taken, sample in enumerate(samples):
        size = len(sample.tokens)
        row = next((r for r in range(rows) if used[r] + size <= length), None)
        if row is None:
            return Batch(tokens, positions, segments, targets), taken
        start, end = used[row], used[row] + size
        ids = torch.tensor(sample.tokens)
        tokens[row, start:end] = ids
        positions[row, start:end] = torch.tensor(sample.positions)
        segments[row, start:end] = taken
        for first, last in sample.graded:
            targets[row, start + first - 1 : start + last - 1] = ids[first:last]
        used[row] = end
    return Batch(tokens, positions, segments, targets), len(samples)
