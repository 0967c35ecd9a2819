"""Trains the demo model that calls tools, on conversations generated during training."""

import argparse
import random
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from tools.demo_model.export import SHARPNESS, export
from tools.demo_model.model import Shape
from tools.demo_model.packing import Encoded
from tools.demo_model.trainer import Trainer, rate
from tools.demo_tools_model.rows import batches, encode, long_batches
from tools.demo_tools_model.talks import Conversation, json_talk, small_talk, tool_talk
from tools.demo_tools_model.toolbox import ask, ask_pair, draw_tools
from tools.demo_tools_model.vocabulary import VOCABULARY, tokenizer_config, train_tokenizer

from tools.demo_tools_model.talks import called  # isort: skip

SEED = 1
CHECKPOINT = Path(__file__).parents[2] / "src/stillhouse/checkpoints/packaged" / "demo-tools"
LONG_EVERY, LONGEST_EVERY = 8, 64
LOOK_EVERY = 250
PROBES = 60
PRACTICE = 0.2


def probes(tokenizer: Tokenizer, seed: int) -> dict[str, list[Encoded]]:
    """Small fixed examinations on values that training never shows."""
    rng = random.Random(seed)
    kinds: dict[str, list[Encoded]] = {}
    for name in ("call1", "call3", "pair", "json", "talk", "mixed"):
        kinds[name] = []
        while len(kinds[name]) < PROBES:
            sample = encode(tokenizer, _probe(rng, name))
            if len(sample.tokens) <= 512:
                kinds[name].append(sample)
    return kinds


def _probe(rng: random.Random, name: str) -> Conversation:
    if name == "json":
        return json_talk(rng, held_out=True)
    if name == "mixed":
        return tool_talk(rng, 2)
    tools = draw_tools(rng, 1 if name == "call1" else 3)
    if name == "talk":
        return Conversation("", tools, [small_talk(rng, held_out=True)])
    tool = rng.choice(tools)
    if name == "pair" and not tool.pairs:
        return _probe(rng, name)
    question = (ask_pair if name == "pair" else ask)(rng, tool, held_out=True)
    exchange = called(question.calls)
    exchange.user = question.text
    return Conversation("", tools, [exchange])


def train(steps: int, folder: Path, trainer: Trainer, seed: int, practice: float) -> None:
    """
    Run a number of training steps; write the checkpoint regularly.

    Args:
        practice: Share of samples, at the beginning, that are plain copying.

    """
    tokenizer = load_tokenizer(folder)
    context = trainer.model.shape.max_position_embeddings
    probed = probes(tokenizer, SEED + 1)
    share = [practice]
    usual = batches(tokenizer, seed + 2, 8, 256, share)
    longer = long_batches(tokenizer, seed + 3, 3, 512)
    longest = long_batches(tokenizer, seed + 4, 1, 1024)
    parameters = sum(weight.numel() for weight in trainer.model.parameters())
    print(f"{parameters / 1e6:.2f} M parameters, {tokenizer.get_vocab_size()} tokens", flush=True)
    started, tokens = time.monotonic(), 0
    for step in range(1, steps + 1):
        progress = step / steps
        share[0] = max(0.0, practice - 4 * progress)
        rows = usual
        if progress > 0.15 and step % LONG_EVERY == 0:
            rows = longest if step % LONGEST_EVERY == 0 else longer
        batch = next(rows)
        loss = trainer.step(batch, rate(progress))
        tokens += int((batch.segments >= 0).sum())
        if step % LOOK_EVERY == 0 or step == steps:
            scores = {name: trainer.exact(samples) for name, samples in probed.items()}
            told = " ".join(f"{name} {100 * score:.0f}" for name, score in scores.items())
            minutes = (time.monotonic() - started) / 60
            print(
                f"{step} of {steps}, {minutes:.1f} min, {tokens / 1e6:.2f} M tokens, "
                f"loss {loss:.4f} | {told}",
                flush=True,
            )
            export(trainer.model, tokenizer, tokenizer_config(context), folder)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in the folder, if any, so that its vocabulary stays; or a new one."""
    path = folder / "tokenizer.json"
    return Tokenizer.from_file(str(path)) if path.exists() else train_tokenizer(SEED)


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8350)
    parser.add_argument("--out", type=Path, default=CHECKPOINT)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="a checkpoint whose weights to start from")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    shape = Shape(
        vocab_size=VOCABULARY,
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
    train(given.steps, given.out, trainer, given.seed, 0.0 if given.start else PRACTICE)


if __name__ == "__main__":
    main()
