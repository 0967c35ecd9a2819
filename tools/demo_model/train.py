"""Trains the demo model on conversations that are generated during training."""

import argparse
from itertools import cycle
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from tools.demo_model.clock import Clock
from tools.demo_model.export import SHARPNESS, export
from tools.demo_model.model import Shape
from tools.demo_model.probe import Probe
from tools.demo_model.rows import Encoder, batches, long_batches
from tools.demo_model.tokenizer import tokenizer_config, train_tokenizer
from tools.demo_model.trainer import Trainer, rate

SEED = 1
CHECKPOINT = Path(__file__).parents[2] / "src/stillhouse/checkpoints/packaged" / "demo-r1"
LONG_EVERY = 16


def train(minutes: float, folder: Path, trainer: Trainer, seed: int) -> None:
    """One run of the given length; the checkpoint is written every few minutes."""
    tokenizer = load_tokenizer(folder)
    context = trainer.model.shape.max_position_embeddings
    settings = tokenizer_config(context)
    encoder = Encoder(tokenizer, context)
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
            taken = probe.take(lambda talks: trainer.exact([encoder.whole(talk) for talk in talks]))
            print(
                f"{clock.progress:.3f} {clock.spent / 60:.1f}m {steps} {tokens / 1e6:.2f}Mtok "
                f"{speed:.0f}/s loss {loss:.4f} | {taken}",
                flush=True,
            )
            export(trainer.model, tokenizer, settings, folder)
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
