"""Examines the exported checkpoint by real generation and writes scores.json beside this file."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from tools.demo_model.reference import Reference
from tools.demo_tools_model.exam import Case, questions
from tools.demo_tools_model.vocabulary import THOUGHT

CHECKPOINT = Path(__file__).parents[2] / "src/stillhouse/checkpoints/packaged" / "demo-tools"
SCORES = Path(__file__).with_name("scores.json")
SEED = 7
LIMIT = 120
SAMPLING = {"greedy": (0.0, 1.0), "t0.6 p0.95": (0.6, 0.95)}


def replies(
    model: Reference, cases: list[Case], temperature: float, top_p: float
) -> Iterator[tuple[str, bool]]:
    """For each case its reply without the thought, and whether it stopped by itself."""
    prompts = [
        model.prompt(case.messages, tools=case.tools, thinking=case.is_thinking) for case in cases
    ]
    order = sorted(range(len(cases)), key=lambda i: len(prompts[i]))
    done: dict[int, list[int]] = {}
    for start in range(0, len(order), 25):
        part = order[start : start + 25]
        given = [prompts[i] for i in part]
        found = model.generate(given, temperature, top_p, LIMIT, seed=SEED + start)
        done |= dict(zip(part, found, strict=True))
    for i, case in enumerate(cases):
        text = model.tokenizer.decode(done[i], skip_special_tokens=True)
        reply = text.partition(THOUGHT)[2] if case.is_thinking else text
        yield reply, done[i][-1] == model.config["eos_token_id"]


def examine(model: Reference, shown: int, only: str) -> dict[str, dict[str, float]]:
    """The share of right replies, to the letter, in every set of questions and way of sampling."""
    table: dict[str, dict[str, float]] = {}
    stopped: dict[str, list[bool]] = {name: [] for name in SAMPLING}
    print(f"{'':40}{'n':>5}" + "".join(f"{name:>12}" for name in SAMPLING))
    for name, cases in questions(SEED).items():
        if only not in name:
            continue
        row: dict[str, float] = {}
        wrong = []
        for way, (temperature, top_p) in SAMPLING.items():
            results = list(replies(model, cases, temperature, top_p))
            stopped[way] += [stop for _, stop in results]
            right = [case.accepts(reply) for (reply, _), case in zip(results, cases, strict=True)]
            row[way] = sum(right) / len(cases)
            if way == "greedy":
                wrong = [(c, r) for c, r, ok in zip(cases, results, right, strict=True) if not ok]
        print(f"{name:40}{len(cases):5}" + "".join(f"{100 * v:11.1f}%" for v in row.values()))
        for case, (reply, _) in wrong[:shown]:
            asked = case.messages[-1]["content"]
            print(f"    {asked!r}\n      right {case.right}\n      found {reply}")
        table[name] = {"questions": len(cases), **row}
    ended = {way: sum(stops) / len(stops) for way, stops in stopped.items()}
    print(f"{'stops by itself':45}" + "".join(f"{100 * v:11.1f}%" for v in ended.values()))
    table["stops by itself"] = ended
    return table


def main() -> None:
    """Reads the command line, prints the table and writes the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--show-wrong", type=int, default=0)
    parser.add_argument("--only", default="", help="sets whose name contains this")
    given = parser.parse_args()
    torch.set_num_threads(1)
    scores = examine(Reference(given.checkpoint), given.show_wrong, given.only)
    if not given.only:
        given.scores.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
