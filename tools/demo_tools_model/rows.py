"""Token rows for training: conversations encoded as the chat template renders them, and packed."""

import json
import random
from collections.abc import Iterator

from tokenizers import Tokenizer

from tools.demo_model.packing import Batch, Encoded, pack
from tools.demo_tools_model.talks import Conversation, Exchange, converse, tool_talk
from tools.demo_tools_model.toolbox import Call
from tools.demo_tools_model.vocabulary import (
    ASSISTANT,
    BOS,
    CALL,
    CALL_END,
    CALLS,
    CALLS_END,
    EOS,
    OUTPUT,
    OUTPUT_END,
    SEPARATOR,
    THINK,
    THOUGHT,
    TOOLS_CLOSING,
    TOOLS_OPENING,
    USER,
)

Part = tuple[str, bool]  # a span between special tokens, and whether it enters the loss


def preamble(talked: Conversation) -> str:
    """Return the tokens before the first turn."""
    text = BOS + talked.system
    if not talked.tools:
        return text
    told = []
    for tool in talked.tools:
        function = tool.definition["function"]
        parameters = json.dumps(function["parameters"], ensure_ascii=False)
        told.append(
            f"\n### {function['name']}\nDescription: {function['description']}"
            f"\n\nParameters: {parameters}\n"
        )
    return text + TOOLS_OPENING + "".join(told) + TOOLS_CLOSING


def calls_text(calls: list[Call]) -> str:
    """Calls as the model writes them."""
    told = (
        f"{CALL}{c.tool.name}{SEPARATOR}{json.dumps(c.arguments, ensure_ascii=False)}{CALL_END}"
        for c in calls
    )
    return f"{CALLS}{''.join(told)}{CALLS_END}"


def exchange_parts(exchange: Exchange, *, is_thinking: bool) -> Iterator[Part]:
    """Return the spans of one exchange."""
    yield f"{USER}{exchange.user}{ASSISTANT}{THINK if is_thinking else THOUGHT}", False
    said = calls_text(exchange.calls) if exchange.calls else exchange.said
    yield (
        f"{exchange.thought}{THOUGHT if is_thinking else ''}"[: None if is_thinking else 0]
        + said
        + EOS,
        True,
    )
    if exchange.outputs:
        yield "".join(f"{OUTPUT}{output}{OUTPUT_END}" for output in exchange.outputs), False
        yield f"{exchange.summary}{EOS}", True


def parts(talked: Conversation) -> Iterator[Part]:
    """Return the spans of a conversation; only the model's last turn may think."""
    yield preamble(talked), False
    last = len(talked.exchanges) - 1
    for number, exchange in enumerate(talked.exchanges):
        yield from exchange_parts(exchange, is_thinking=talked.is_thinking and number == last)


def encode(tokenizer: Tokenizer, talked: Conversation) -> Encoded:
    """One sample with positions counted from zero."""
    tokens: list[int] = []
    graded: list[tuple[int, int]] = []
    for text, is_graded in parts(talked):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if is_graded:
            graded.append((len(tokens), len(tokens) + len(ids)))
        tokens += ids
    return Encoded(tokens, list(range(len(tokens))), graded)


def spread(rng: random.Random, sample: Encoded, context: int) -> Encoded:
    """At times the sample begins later or leaves places out, as if more had been said."""
    if rng.random() > 0.3 or len(sample.tokens) >= context:
        return sample
    cut = rng.randrange(sample.graded[0][0])
    gap = int((context - len(sample.tokens)) * rng.random() ** 2)
    positions = sample.positions[:cut] + [place + gap for place in sample.positions[cut:]]
    return Encoded(sample.tokens, positions, sample.graded)


def practice(rng: random.Random, vocabulary: int) -> Encoded:
    """Random tokens said twice: the shortest lesson in copying."""
    once = [rng.randrange(vocabulary) for _ in range(rng.randint(6, 40))]
    tokens = once * 2
    return Encoded(tokens, list(range(len(tokens))), [(len(once) + 1, len(tokens))])


def batches(
    tokenizer: Tokenizer, seed: int, rows: int, length: int, share: list[float]
) -> Iterator[Batch]:
    """Endless packed rows; `share[0]` is the share of practice, which the trainer lowers."""
    rng = random.Random(seed)
    vocabulary = tokenizer.get_vocab_size()
    waiting: list[Encoded] = []
    while True:
        while sum(len(sample.tokens) for sample in waiting) < 1.2 * rows * length:
            if rng.random() < share[0]:
                waiting.append(practice(rng, vocabulary))
                continue
            sample = encode(tokenizer, converse(rng))
            if len(sample.tokens) <= length:
                waiting.append(spread(rng, sample, 2048))
        batch, taken = pack(waiting, rows, length)
        waiting = waiting[taken:]
        yield batch


def long_batches(tokenizer: Tokenizer, seed: int, rows: int, length: int) -> Iterator[Batch]:
    """Endless rows of one long conversation each."""
    rng = random.Random(seed)
    while True:
        samples: list[Encoded] = []
        while len(samples) < rows:
            sample = encode(tokenizer, tool_talk(rng, rng.randint(4, length // 40)))
            if length // 2 <= len(sample.tokens) <= length:
                samples.append(sample)
        yield pack(samples, rows, length)[0]
