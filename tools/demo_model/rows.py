"""Token rows for training: conversations encoded, shortened, spread out and packed."""

import random
from collections.abc import Iterator
from functools import lru_cache

from tokenizers import Tokenizer

from tools.demo_model.conversations import Conversation, converse
from tools.demo_model.packing import Batch, Encoded, pack
from tools.demo_model.tokenizer import ASSISTANT, BOS, EOS, THINK, THOUGHT, USER, token_id


class Encoder:
    """Turns conversations into tokens exactly as the chat template renders them."""

    def __init__(self, tokenizer: Tokenizer, context: int) -> None:
        self.tokenizer = tokenizer
        self.context = context
        self.control = {
            t: token_id(tokenizer, t) for t in (BOS, EOS, USER, ASSISTANT, THINK, THOUGHT)
        }
        self.text = lru_cache(maxsize=100_000)(self._text)

    def _text(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def prompt(self, talked: Conversation) -> list[int]:
        """Everything up to the generation prompt."""
        control = self.control
        ids = [control[BOS], *self.text(talked.system)]
        for user, assistant in talked.turns:
            ids += [control[USER], *self.text(user)]
            ids += [control[ASSISTANT], *self.text(assistant), control[EOS]]
        ids += [control[USER], *self.text(talked.user)]
        return [*ids, control[ASSISTANT], control[THINK], *self.text("\n")]

    def reply(self, talked: Conversation) -> list[int]:
        """The thought and the answer, up to the end of the sentence."""
        thought, answer = self.text(f"{talked.thought}\n"), self.text(f"\n\n{talked.answer}")
        return [*thought, self.control[THOUGHT], *answer, self.control[EOS]]

    def whole(self, talked: Conversation) -> Encoded:
        """One sample with nothing left out and positions counted from zero."""
        prompt = self.prompt(talked)
        tokens = prompt + self.reply(talked)
        return Encoded(tokens, list(range(len(tokens))), [(len(prompt), len(tokens))])

    def varied(self, rng: random.Random, talked: Conversation) -> Encoded:
        """One sample, often without the recited end of its answer, at times with a far-off past."""
        sample = self.whole(talked)
        tokens, positions = sample.tokens, sample.positions
        graded_from = sample.graded[0][0]
        recited = talked.kind in ("lookup", "technique", "methods")
        if recited and rng.random() < 0.6:
            keep = tokens.index(self.control[THOUGHT], graded_from) + rng.randint(5, 14)
            tokens, positions = tokens[:keep], positions[:keep]
        if rng.random() < 0.25 and len(tokens) < self.context:
            cut = rng.randrange(1, graded_from)
            gap = int((self.context - len(tokens)) * rng.random() ** 2)
            positions = positions[:cut] + [place + gap for place in positions[cut:]]
        return Encoded(tokens, positions, [(graded_from, len(tokens))])


def practice(rng: random.Random, vocabulary: int) -> Encoded:
    """Random tokens said twice: the shortest lesson in copying."""
    once = [rng.randrange(vocabulary) for _ in range(rng.randint(6, 30))]
    tokens = once * 2
    return Encoded(tokens, list(range(len(tokens))), [(len(once) + 1, len(tokens))])


def batches(
    encoder: Encoder, seed: int, rows: int, length: int, share: list[float]
) -> Iterator[Batch]:
    """Endless packed rows; `share[0]` is the share of practice, which the trainer lowers."""
    rng = random.Random(seed)
    vocabulary = encoder.tokenizer.get_vocab_size()
    waiting: list[Encoded] = []
    while True:
        while sum(len(sample.tokens) for sample in waiting) < 1.2 * rows * length:
            if rng.random() < share[0]:
                waiting.append(practice(rng, vocabulary))
                continue
            sample = encoder.varied(rng, converse(rng))
            if len(sample.tokens) <= length:
                waiting.append(sample)
        batch, taken = pack(waiting, rows, length)
        waiting = waiting[taken:]
        yield batch


def long_batches(encoder: Encoder, seed: int, rows: int, length: int) -> Iterator[Batch]:
    """Endless rows of one long conversation each."""
    rng = random.Random(seed)
    while True:
        samples: list[Encoded] = []
        while len(samples) < rows:
            sample = encoder.varied(rng, converse(rng, past=rng.randint(5, length // 60)))
            if length // 2 <= len(sample.tokens) <= length:
                samples.append(sample)
        yield pack(samples, rows, length)[0]
