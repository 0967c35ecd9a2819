"""One model at training: its optimizers, its steps, and how often it is right."""

import torch
from torch import Tensor
from torch.func import functional_call

from tools.demo_model.model import Llama, Shape
from tools.demo_model.optimizer import Muon
from tools.demo_model.packing import Batch, Encoded, pack

WARM_UP = 0.01
ADAMW_SHARE = 0.15  # of the learning rate of Muon


def rate(progress: float) -> float:
    """The learning rate's factor: a short warm-up, then a straight decay to nothing."""
    return min(progress / WARM_UP + 0.02, 1 - progress, 1.0)


class Trainer:
    """The model, its optimizers and one step of training in bfloat16."""

    def __init__(self, shape: Shape, lr: float) -> None:
        self.model = Llama(shape)
        named = list(self.model.named_parameters())
        hidden = [w for name, w in named if w.ndim == 2 and "embed" not in name]
        rest = [w for name, w in named if w.ndim == 1 or "embed" in name]
        self.lr = lr
        self.muon = Muon(hidden)
        self.adamw = torch.optim.AdamW(rest, betas=(0.9, 0.95), weight_decay=0.0)

    def hidden(self, batch: Batch) -> Tensor:
        """The last hidden states, computed in bfloat16."""
        weights = {k: v.bfloat16() for k, v in self.model.named_parameters()}
        given = (batch.tokens, batch.positions, batch.segments)
        return functional_call(self.model, weights, given)

    def step(self, batch: Batch, factor: float) -> float:
        """One update at this share of the full learning rate; its loss."""
        loss = self.model.loss(self.hidden(batch), batch.targets)
        loss.backward()
        self.muon.step(self.lr * factor)
        self.adamw.param_groups[0]["lr"] = self.lr * factor * ADAMW_SHARE
        self.adamw.step()
        self.adamw.zero_grad()
        return loss.item()

    @torch.no_grad()
    def exact(self, samples: list[Encoded]) -> float:
        """The share of samples whose every graded token is the model's first choice."""
        right, total = 0, len(samples)
        while samples:
            batch, taken = pack(samples, 16, 512)
            hidden = self.hidden(batch)
            graded = batch.targets != -100
            best = (hidden[graded] @ self.model.embed_tokens.weight.T.bfloat16()).argmax(-1)
            wrong = set(batch.segments[graded][best != batch.targets[graded]].tolist())
            right += taken - len(wrong)
            samples = samples[taken:]
        return right / total
