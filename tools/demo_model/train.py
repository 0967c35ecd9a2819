"""Trains the demo model on conversations that are made up as it goes."""

import argparse
import random
import signal
import statistics
import time
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.func import functional_call

import sums
from conversations import Conversation, ask_sum, converse, look_up, look_up_in, system_text, talk
from export import export
from model import Llama, Shape
from optimizer import Muon
from rows import Batch, Encoder, batches, long_batches, pack
from tokenizer import train_tokenizer
from world import NAMES, triple_is_held_out

SEED = 1
CHECKPOINT = Path(__file__).parents[2] / "src" / "stillhouse" / "checkpoints" / "demo-r1"
WARM_UP, DECAY = 0.01, 0.35
LONG_EVERY = 16


class Clock:
    """Progress from 0 to 1 by time spent working; time spent stopped does not count."""

    def __init__(self, minutes: float) -> None:
        self.budget = minutes * 60
        self.spent = 0.0
        self.recent = [1e9]
        self.last = time.monotonic()
        signal.signal(signal.SIGUSR1, self.finish)

    def tick(self) -> None:
        now = time.monotonic()
        step, self.last = now - self.last, now
        self.spent += min(step, 20 * statistics.median(self.recent))
        self.recent = [*self.recent[-20:], step]

    def finish(self, *_: object) -> None:
        """SIGUSR1 goes straight to the decay of the learning rate."""
        self.spent = max(self.spent, (1 - DECAY) * self.budget)

    @property
    def progress(self) -> float:
        return self.spent / self.budget


def rate(progress: float) -> float:
    """The learning rate's factor: a warm-up, a plateau, a straight decay."""
    return min(1.0, progress / WARM_UP + 0.02, max(0.01, (1 - progress) / DECAY))


class Trainer:
    """The model, its optimizers and one step of training in bfloat16."""

    def __init__(self, shape: Shape, lr: float) -> None:
        self.model = Llama(shape)
        named = list(self.model.named_parameters())
        hidden = [w for name, w in named if w.ndim == 2 and "embed" not in name]
        rest = [w for name, w in named if w.ndim == 1 or "embed" in name]
        adamw = torch.optim.AdamW(rest, lr=lr * 0.15, betas=(0.9, 0.95), weight_decay=0.0)
        self.optimizers = [Muon(hidden, lr), adamw]
        self.rates = [lr, lr * 0.15]

    def hidden(self, batch: Batch) -> Tensor:
        weights = {k: v.bfloat16() for k, v in self.model.named_parameters()}
        given = (batch.tokens, batch.positions, batch.segments)
        return functional_call(self.model, weights, given)

    def step(self, batch: Batch, factor: float) -> float:
        loss = self.model.loss(self.hidden(batch), batch.targets)
        loss.backward()
        for optimizer, lr in zip(self.optimizers, self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad()
        return loss.item()

    @torch.no_grad()
    def exact(self, encoder: Encoder, talks: list[Conversation]) -> float:
        """The share of replies whose every token is the model's first choice."""
        right, samples = 0, [encoder.whole(talked) for talked in talks]
        total = len(samples)
        while samples:
            batch, taken = pack(samples, 16, 512)
            hidden = self.hidden(batch)
            graded = batch.targets != -100
            best = (hidden[graded] @ self.model.embed_tokens.weight.T.bfloat16()).argmax(-1)
            wrong = set(batch.segments[graded][best != batch.targets[graded]].tolist())
            right += taken - len(wrong)
            samples = samples[taken:]
        return right / total


@dataclass(frozen=True, slots=True)
class Probe:
    """Small fixed examinations that are taken during training."""

    talks: dict[str, list[Conversation]]

    @classmethod
    def make(cls, seed: int, size: int = 60) -> "Probe":
        rng = random.Random(seed)
        talks: dict[str, list[Conversation]] = {"mixed": [converse(rng) for _ in range(2 * size)]}
        talks["look"] = [look_up(rng, "plain") for _ in range(size)]
        talks["look_new"] = [cls._new_look_up(rng) for _ in range(size)]
        talks["talk"] = [talk(rng, rng.choice(("plain", "poet"))) for _ in range(size)]
        for held_out in (False, True):
            for count in (2, 3):
                name = f"sum{count}{'_new' if held_out else ''}"
                numbers = [sums.draw(rng, count, held_out) for _ in range(size)]
                talks[name] = [ask_sum(rng, "plain", drawn) for drawn in numbers]
        for sample in (t for kind in talks for t in talks[kind] if kind != "mixed"):
            sample.system = system_text(rng, sample.style)
        return cls(talks)

    @staticmethod
    def _new_look_up(rng: random.Random) -> Conversation:
        while True:
            names = tuple(rng.sample(NAMES, 3))
            if triple_is_held_out(names):
                return look_up_in(rng, "plain", names, rng.choice((1, 2, 3, -1)))

    def take(self, trainer: Trainer, encoder: Encoder) -> str:
        scores = {name: trainer.exact(encoder, talks) for name, talks in self.talks.items()}
        return " ".join(f"{name} {100 * score:.0f}" for name, score in scores.items())


def train(minutes: float, folder: Path, shape: Shape, lr: float) -> None:
    """One run of the given length; the checkpoint is written every few minutes."""
    torch.manual_seed(SEED)
    tokenizer = load_tokenizer(folder)
    encoder = Encoder(tokenizer, shape.max_position_embeddings)
    trainer, probe = Trainer(shape, lr), Probe.make(SEED + 1)
    share = [0.2]
    usual = batches(encoder, SEED + 2, 14, 256, share)
    lengthy = cycle((long_batches(encoder, SEED + 3, 3, 1024), long_batches(encoder, SEED + 4, 1, 2048)))
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    clock, steps, tokens, looked = Clock(minutes), 0, 0, 0.0
    while clock.progress < 1:
        share[0] = max(0.0, 0.2 - 4 * clock.progress)
        is_long = clock.progress > 0.15 and steps % LONG_EVERY == 0
        batch = next(next(lengthy) if is_long else usual)
        loss = trainer.step(batch, rate(clock.progress))
        steps, tokens = steps + 1, tokens + int((batch.segments >= 0).sum())
        clock.tick()
        if clock.spent - looked > min(240, clock.budget / 8) or clock.progress >= 1:
            looked = clock.spent
            speed = tokens / clock.spent
            taken = probe.take(trainer, encoder)
            print(f"{clock.progress:.3f} {clock.spent / 60:.1f}m {steps} {tokens / 1e6:.2f}Mtok "
                  f"{speed:.0f}/s loss {loss:.4f} | {taken}", flush=True)
            export(trainer.model, tokenizer, folder)
            clock.last = time.monotonic()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The checkpoint's tokenizer where there is one, so that the vocabulary stays; else a new one."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else train_tokenizer(SEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.02)
    given = parser.parse_args()
    torch.set_num_threads(2)
    shape = Shape(
        vocab_size=2048,
        hidden_size=given.hidden,
        num_hidden_layers=given.layers,
        num_attention_heads=given.hidden // 32,
        num_key_value_heads=max(1, given.hidden // 64),
        intermediate_size=given.hidden * 8 // 3 // 32 * 32,
    )
    train(given.minutes, given.out, shape, given.lr)


if __name__ == "__main__":
    main()
