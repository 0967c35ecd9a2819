"""Trains the demo model on conversations that are made up as it goes."""

import argparse
from functools import partial
from itertools import cycle
from pathlib import Path

import torch
from clock import Clock
from conversations import Conversation
from export import SHARPNESS, export
from model import Llama, Shape
from optimizer import Muon
from probe import Probe
from rows import Batch, Encoder, batches, long_batches, pack
from safetensors.torch import load_file
from tokenizer import train_tokenizer
from tokenizers import Tokenizer
from torch import Tensor
from torch.func import functional_call

SEED = 1
CHECKPOINT = Path(__file__).parents[2] / "src" / "stillhouse" / "checkpoints" / "demo-r1"
WARM_UP = 0.01
ADAMW_SHARE = 0.15  # of the learning rate of Muon
LONG_EVERY = 16


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


def train(minutes: float, folder: Path, trainer: Trainer, seed: int) -> None:
    """One run of the given length; the checkpoint is written every few minutes."""
    tokenizer = load_tokenizer(folder)
    encoder = Encoder(tokenizer, trainer.model.shape.max_position_embeddings)
    probe = Probe.make(SEED + 1)
    share = [0.2]
    usual = batches(encoder, seed + 2, 14, 256, share)
    lengthy = cycle(
        (long_batches(encoder, seed + 3, 3, 1024), long_batches(encoder, seed + 4, 1, 2048))
    )
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
            taken = probe.take(partial(trainer.exact, encoder))
            print(
                f"{clock.progress:.3f} {clock.spent / 60:.1f}m {steps} {tokens / 1e6:.2f}Mtok "
                f"{speed:.0f}/s loss {loss:.4f} | {taken}",
                flush=True,
            )
            export(trainer.model, tokenizer, folder)
            clock.resume()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in the folder, if any, so that its vocabulary stays; or a new one."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else train_tokenizer(SEED)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to start from")
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
    torch.manual_seed(given.seed)
    trainer = Trainer(shape, given.lr)
    if given.start:
        saved = load_file(given.start / "model.safetensors")
        weights = {name.removeprefix("model."): weight for name, weight in saved.items()}
        weights["norm.weight"] = weights["norm.weight"] / SHARPNESS
        trainer.model.load_state_dict(weights)
    train(given.minutes, given.out, trainer, given.seed)


if __name__ == "__main__":
    main()
