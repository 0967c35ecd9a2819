"""
Tests the prefix cache as a timing side channel between accounts.

    python -m benchmarks.tenant_probe

The real server runs the demo model. In each round account A sends a new long prompt; then account
B sends, in random order, the same prompt and an unrelated one, and measures the time to first
token of each. The AUC is the probability that A's prompt is faster than an unrelated one; 0.5 is
chance, and at most 0.55 is allowed. The usage must never report cached tokens to B. The control is
A itself, which must be able to distinguish its own repetition from an unrelated prompt.

The exit status is 1 if any of this does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray
from tests.e2e.running_server import RunningServer, run_server

from stillhouse.app.services import open_services
from stillhouse.catalogue.demo_models import DEMO_MODEL

CHAT = "/v1/openai/chat/completions"
MAX_AUC, MIN_CONTROL_AUC, MIN_SPEED_UP = 0.55, 0.95, 3.0
NUM_RESAMPLES = 2000
NUM_WARM_UP = 10

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """A client's observations of one request."""

    first_token_s: float
    cached_tokens: int
    prompt_tokens: int


class Account:
    """An account with a key and a connection of its own."""

    def __init__(self, server: RunningServer, name: str) -> None:
        key = asyncio.run(_create_key(server.home, name))
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=server.url, headers=headers, timeout=60)

    def ask(self, prompt: str) -> Answer:
        """Send a prompt, and measure the time to first token."""
        body = {
            "model": DEMO_MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 1,
            "stream": True,
        }
        start_s = time.perf_counter()
        first_token_s = None
        usage = None
        with self._client.stream("POST", CHAT, json=body) as response:
            response.raise_for_status()
            for line in response.iter_lines():
                if not line.startswith("data: {"):
                    continue
                if first_token_s is None:
                    first_token_s = time.perf_counter() - start_s
                usage = json.loads(line.removeprefix("data: ")).get("usage") or usage
        assert first_token_s is not None
        assert usage is not None
        cached_tokens = usage["prompt_tokens_details"]["cached_tokens"]
        return Answer(first_token_s, cached_tokens, usage["prompt_tokens"])


class Prompts:
    """Generates new prompts, all similar and of the same length."""

    def __init__(self, seed: int, num_words: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  (a measurement, to be repeated)
        self._num_words = num_words

    def new(self) -> str:
        """Return a new prompt."""
        return " ".join(str(self._random.randrange(1000, 10_000)) for _ in range(self._num_words))


def main() -> None:
    """Measure, print, and exit with the verdict."""
    arguments = _arguments()
    chance = random.Random(arguments.seed)  # noqa: S311  (a measurement, to be repeated)
    prompts = Prompts(arguments.seed, arguments.words)
    with tempfile.TemporaryDirectory() as folder, run_server(Path(folder) / "state") as server:
        owner, prober = Account(server, "owner"), Account(server, "prober")
        length = 0
        for _ in range(NUM_WARM_UP):
            owner.ask(prompts.new())
            length = prober.ask(prompts.new()).prompt_tokens
        print(f"{arguments.pairs} pairs, prompts of about {length} tokens, seed {arguments.seed}")
        others = _probe(owner, prober, prompts, chance, num_pairs=arguments.pairs)
        own = _probe(owner, owner, prompts, chance, num_pairs=arguments.control_pairs)
    sys.exit(0 if _holds(others, own) else 1)


@dataclass(frozen=True)
class Probed:
    """Answers to the owner's prompts and to unrelated ones, pair by pair."""

    same: list[Answer]
    unrelated: list[Answer]

    def times(self) -> tuple[Times, Times]:
        """Return both times to first token, in seconds."""
        same = np.array([answer.first_token_s for answer in self.same])
        return same, np.array([answer.first_token_s for answer in self.unrelated])


def _probe(
    owner: Account, prober: Account, prompts: Prompts, chance: random.Random, *, num_pairs: int
) -> Probed:
    probed = Probed([], [])
    for _ in range(num_pairs):
        prompt = prompts.new()
        owner.ask(prompt)
        questions = [(prompt, probed.same), (prompts.new(), probed.unrelated)]
        chance.shuffle(questions)
        for question, answers in questions:
            answers.append(prober.ask(question))
    return probed


def _holds(others: Probed, own: Probed) -> bool:
    same, unrelated = others.times()
    auc, (low, high) = _auc(same, unrelated), _interval(same, unrelated)
    num_told = sum(answer.cached_tokens > 0 for answer in (*others.same, *others.unrelated))
    print(
        f"another account: AUC {auc:.3f} (95 % {low:.3f} to {high:.3f}; at most {MAX_AUC}), "
        f"first token p50 {_ms(same)} ms for the same prompt, {_ms(unrelated)} for another; "
        f"told of cached tokens {num_told} times"
    )
    own_same, own_unrelated = own.times()
    control = _auc(own_same, own_unrelated)
    speed_up = float(np.median(own_unrelated) / np.median(own_same))
    print(
        f"the same account: AUC {control:.3f}, "
        f"first token p50 {_ms(own_same)} ms for the same prompt, {_ms(own_unrelated)} for another "
        f"({speed_up:.1f} times as fast; at least {MIN_SPEED_UP:g})"
    )
    can_see = control >= MIN_CONTROL_AUC and speed_up >= MIN_SPEED_UP
    return auc <= MAX_AUC and num_told == 0 and can_see


def _auc(same: Times, unrelated: Times) -> float:
    """Return the probability that the same prompt is faster: Mann-Whitney, ties count half."""
    sooner = np.mean(same[:, None] < unrelated[None, :])
    equal = np.mean(same[:, None] == unrelated[None, :])
    return float(sooner + equal / 2)


def _interval(same: Times, unrelated: Times) -> tuple[float, float]:
    """Return the AUC's 95 % bootstrap interval over pairs, which were measured together."""
    drawing = np.random.default_rng(0)
    draws = drawing.integers(0, len(same), size=(NUM_RESAMPLES, len(same)))
    aucs = [_auc(same[draw], unrelated[draw]) for draw in draws]
    low, high = np.quantile(aucs, (0.025, 0.975))
    return float(low), float(high)


def _ms(times: Times) -> str:
    return f"{1000 * np.median(times):.1f}"


async def _create_key(home: Path, name: str) -> str:
    async with open_services(home) as services:
        account = await services.accounts.create_account(name)
        return (await services.accounts.keys.mint(account.id, "key")).secret


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--control-pairs", type=int, default=50)
    parser.add_argument("--words", type=int, default=280, help="of each prompt")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
