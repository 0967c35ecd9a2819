"""
Times encoding and decoding: ``python -m benchmarks.text [CHECKPOINT]``.

Prints microseconds per token of `OutputParser.push` (token by token, as an engine delivers them)
and milliseconds per thousand tokens of `ChatModel.encode`; medians of repeated runs on one core.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.text.chat_model import ChatModel
from stillhouse.text.prompt.encoder import Prompt
from stillhouse.types.messages import Message, Role
from stillhouse.types.requests import ChatRequest
from stillhouse.types.tariff import Tariff

ANSWER = (
    "I would sear the lamb first, then let it rest for ten minutes before carving it. "
    "Très bien! The second method is slower: sous vide at 57 °C, for 24 hours.\n\n"
) * 6
NUM_RUNS = 30


def main() -> None:
    """Measure the demo model, or the checkpoint given."""
    checkpoint = sys.argv[1] if len(sys.argv) > 1 else "demo-r1"
    price = Tariff(input_picousd=200_000, cached_input_picousd=200_000, output_picousd=600_000)
    spec = ModelSpec(id="bench/model", family="deepseek_r1", price=price, checkpoint=checkpoint)
    model = load_chat_model(spec)
    print(f"load: {_median_s(lambda: load_chat_model(spec)) * 1e3:.1f} ms")
    _measure_encode(model, "one short message", [Message(Role.USER, "Hello!")])
    _measure_encode(model, "one long message", [Message(Role.USER, ANSWER)])
    turns = [
        Message(role, line) for line in ANSWER.split(". ") for role in (Role.USER, Role.ASSISTANT)
    ]
    _measure_encode(model, f"{len(turns) + 1} messages", [*turns, Message(Role.USER, "And now?")])
    _measure_push(model, "no stop strings", ())
    _measure_push(model, "4 stop strings", ("\n\nUser:", "###", "Observation", "END"))


def _measure_encode(model: ChatModel, name: str, messages: list[Message]) -> None:
    request = ChatRequest("bench/model", tuple(messages))
    num_tokens = len(model.encode_prompt(request).token_ids)
    median_s = _median_s(lambda: model.encode_prompt(request))
    per_thousand_ms = median_s * 1e6 / num_tokens
    print(
        f"encode, {name}: {num_tokens} tokens in {median_s * 1e3:.2f} ms, "
        f"{per_thousand_ms:.2f} ms per 1000 tokens"
    )


def _measure_push(model: ChatModel, name: str, stop: tuple[str, ...]) -> None:
    request = ChatRequest("bench/model", (Message(Role.USER, ANSWER),), stop=stop)
    token_ids = model.encode_prompt(request).token_ids[2:-3]
    prompt = Prompt([], opens_in_reasoning=False)

    def push_all() -> None:
        parser = model.output_parser(prompt, request, request_id="bench")
        for token_id in token_ids:
            parser.push((token_id,))
        parser.finish()

    print(f"push, {name}: {_median_s(push_all) * 1e6 / len(token_ids):.2f} us per token")


def _median_s(work: Callable[[], object]) -> float:
    times = []
    for _ in range(NUM_RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


if __name__ == "__main__":
    main()
