"""
Measures the gain and cost of speculative decoding.

    python -m benchmarks.speculation [--new-tokens N]

Random weights do not repeat themselves as text does, so each answer is prepared, and its tokens are
forced through the logits: every step computes, samples and verifies as usual, and only the choice
of the token is not the model's. The same answers are generated without and with draft tokens, at 1,
4 and 8 streams, after their prompts were computed:

* an edit: source code copied from the prompt, with every 25th token changed;
* a quotation: a passage of the prompt's prose amid twice as much new prose;
* prose: the continuation of a text, with the repetitions that prose has;
* noise: tokens by Zipf's law, whose pairs repeat all the time with other continuations.

The text is this repository's own, split into words, spaces and signs.
"""

from __future__ import annotations

import argparse
import itertools
import re
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.checkpoints.random_weights import SHAPES, make_checkpoint
from stillhouse.engines.base import GREEDY, GenerateRequest
from stillhouse.engines.openvino.loading import load_runner
from stillhouse.engines.openvino.runner import Runner
from stillhouse.engines.openvino.sampling.logit_rules import LogitRules
from stillhouse.engines.openvino.settings import EngineSettings, WeightFormat
from stillhouse.errors import InvalidRequestError

PROMPT_TOKENS = 120
EDIT_EVERY = 25
MAX_DRAFT_TOKENS = 8
FORCED_LOGIT = 1e30
ROOT = Path(__file__).parent.parent
CODE = ROOT / "src/stillhouse/engines/openvino/scheduling/scheduler.py"
PROSE = ROOT / "docs/api.md"


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and its forced answer."""

    prompt: list[int]
    answer: list[int]


class Script(LogitRules):
    """Logit rules that force the next token of a text."""

    def __init__(self, request: GenerateRequest, answer: list[int]) -> None:
        super().__init__(request, None)
        self._answer = answer
        self._num_said = 0

    def apply(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return *logits* in which the next token of the text is the highest."""
        ruled = super().apply(logits)
        ruled[self._answer[self._num_said]] = FORCED_LOGIT
        return ruled

    def advance(self, token_id: int) -> None:
        """Advance by a token."""
        super().advance(token_id)
        self._num_said += 1


class Words:
    """Assigns token ids to words, spaces and signs, in order of appearance."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def tokens(self, path: Path) -> list[int]:
        """Return the tokens of a file."""
        pieces = re.findall(r" ?\w+|\n +|\s|[^\w\s]", path.read_text())
        return [self._ids.setdefault(piece, len(self._ids) % 3000) for piece in pieces]


class Texts:
    """The texts of each kind, with another text for every stream."""

    def __init__(self, new_tokens: int) -> None:
        words = Words()
        self._new_tokens = new_tokens
        self._code, self._prose = words.tokens(CODE), words.tokens(PROSE)
        self._rng = np.random.default_rng(0)

    def edit(self, stream: int) -> Text:
        """Return a copy with some tokens changed."""
        prompt = self._cut(self._code, stream)
        answer = list(itertools.islice(itertools.cycle(prompt), self._new_tokens))
        for place in range(EDIT_EVERY // 2, self._new_tokens, EDIT_EVERY):
            answer[place] = 3000 + place % 1000
        return Text(prompt, answer)

    def quotation(self, stream: int) -> Text:
        """Return new prose, a quotation of a third of the answer, and new prose."""
        prompt = self._cut(self._prose, stream)
        third = self._new_tokens // 3
        fresh = self._cut(self._prose, stream + 16, self._new_tokens)
        quoted = prompt[20 : 20 + third]
        return Text(prompt, fresh[:third] + quoted + fresh[third : self._new_tokens - len(quoted)])

    def prose(self, stream: int) -> Text:
        """Return a text and its continuation."""
        text = self._cut(self._prose, stream, PROMPT_TOKENS + self._new_tokens)
        return Text(text[:PROMPT_TOKENS], text[PROMPT_TOKENS:])

    def noise(self, _stream: int) -> Text:
        """Return tokens by Zipf's law."""
        drawn = self._rng.zipf(1.5, PROMPT_TOKENS + self._new_tokens) % 1000
        text = (drawn + 3000).tolist()
        return Text(text[:PROMPT_TOKENS], text[PROMPT_TOKENS:])

    def _cut(self, text: list[int], stream: int, size: int = PROMPT_TOKENS) -> list[int]:
        begin = stream * PROMPT_TOKENS % max(1, len(text) - size)
        return text[begin : begin + size]


class Bench:
    """One engine, with or without speculation."""

    def __init__(self, settings: EngineSettings) -> None:
        self._runner: Runner = load_runner(settings, lambda _: None)
        self._num_requests = 0
        self.num_rows = 0

    def warm(self, texts: list[Text]) -> None:
        """Compute the prompts, so that measurements find them cached."""
        for text in texts:
            self._add(text, 0)
        while self._runner.has_work:
            self._runner.step(lambda: None)

    def measure(self, texts: list[Text], *, max_draft_tokens: int) -> tuple[float, float]:
        """Return tokens per second of all together, and tokens per step of each."""
        self._runner._speculation.max_draft_tokens = max_draft_tokens  # noqa: SLF001 (to compare)
        for text in texts:
            self._add(text, len(text.answer))
        said: dict[int, list[int]] = {}
        num_steps = 0
        self._take_step(said)
        num_before = sum(len(token_ids) for token_ids in said.values())
        start_s = time.perf_counter()
        while self._runner.has_work:
            num_steps += self._take_step(said)
        duration_s = time.perf_counter() - start_s
        if [said[number] for number in sorted(said)] != [text.answer for text in texts]:
            raise RuntimeError("The engine did not say what it was forced to.")
        num_tokens = sum(len(token_ids) for token_ids in said.values()) - num_before
        return num_tokens / duration_s, num_tokens / num_steps

    def _take_step(self, said: dict[int, list[int]]) -> int:
        """Run a step and return the number of sequences that it advanced."""
        steps = self._runner.step(lambda: None)
        for number, step in steps:
            if isinstance(step, InvalidRequestError):
                raise step
            said.setdefault(number, []).extend(step.token_ids)
        return len(steps)

    def _add(self, text: Text, max_tokens: int) -> None:
        self._num_requests += 1
        request = GenerateRequest(str(self._num_requests), text.prompt, max_tokens, GREEDY)
        self._runner.add(self._num_requests, request)
        sequence = self._runner._sequences[self._num_requests]  # noqa: SLF001 (to force its tokens)
        sequence.logit_rules = Script(request, text.answer)


def main() -> None:
    """Measure every kind of text at every number of streams, and print a Markdown table."""
    arguments = parse_arguments()
    place = arguments.directory / arguments.shape
    make_checkpoint(place, arguments.shape)
    bench = Bench(
        EngineSettings(
            checkpoint_dir=place,
            cache_dir=place / "cache",
            weights=arguments.weights,
            context_length=2048,
            max_sequences=16,
            max_draft_tokens=MAX_DRAFT_TOKENS,
            num_threads=arguments.threads,
        )
    )
    texts = Texts(arguments.new_tokens)
    print("| text | streams | tokens/s | guessing | ratio | tokens per step |", flush=True)
    print("|---|---:|---:|---:|---:|---:|")
    for name in arguments.kinds:
        for num_streams in arguments.streams:
            chosen = [getattr(texts, name)(stream) for stream in range(num_streams)]
            bench.warm(chosen)
            print_row(bench, name, chosen, arguments.rounds)


def print_row(bench: Bench, name: str, texts: list[Text], num_rounds: int) -> None:
    """Measure without and with speculation, alternately."""
    plain, guessing, per_step = [], [], []
    for _ in range(num_rounds):
        plain.append(bench.measure(texts, max_draft_tokens=0)[0])
        speed, tokens_per_step = bench.measure(texts, max_draft_tokens=MAX_DRAFT_TOKENS)
        guessing.append(speed)
        per_step.append(tokens_per_step)
    ratio = statistics.median(g / p for g, p in zip(guessing, plain, strict=True))
    print(
        f"| {name} | {len(texts)} | {statistics.median(plain):.1f} "
        f"| {statistics.median(guessing):.1f} | {ratio:.2f} | {statistics.median(per_step):.2f} |",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="What guessing ahead gains and costs.")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--kinds", nargs="+", default=["noise", "prose", "quotation", "edit"])
    parser.add_argument("--shape", choices=SHAPES, default="1b")
    parser.add_argument("--weights", type=WeightFormat, default=WeightFormat.INT8)
    parser.add_argument("--threads", type=int, help="default: every physical core")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()) / "stillhouse-benchmark",
        help="keeps the checkpoint (2.5 GB) and packed weights (1.3 GB) for next time",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
