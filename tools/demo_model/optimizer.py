"""Muon for the hidden matrices; AdamW, from torch, does the rest."""

import torch
from torch import Tensor


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest orthogonal matrix, roughly, by Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon:
    """Momentum whose update is made orthogonal (Keller Jordan, 2024)."""

    MOMENTUM = 0.95
    DECAY = 0.01

    def __init__(self, matrices: list[Tensor]) -> None:
        self.matrices = matrices
        self.velocities = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """One update of every matrix, whose gradients are then dropped."""
        for matrix, velocity in zip(self.matrices, self.velocities, strict=True):
            velocity.lerp_(matrix.grad, 1 - self.MOMENTUM)
            update = orthogonalise(matrix.grad.lerp(velocity, self.MOMENTUM))
            scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
            matrix.mul_(1 - lr * self.DECAY)
            matrix.add_(update, alpha=-lr * scale)
            matrix.grad = None
