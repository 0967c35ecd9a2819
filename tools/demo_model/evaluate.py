"""Examines the exported checkpoint by real generation and writes scores.json beside this file."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from tools.demo_model.exam import Case, questions, seed_requests
from tools.demo_model.reference import Reference

CHECKPOINT = Path(__file__).parents[2] / "src/stillhouse/checkpoints/packaged" / "demo-r1"
SCORES = Path(__file__).with_name("scores.json")
SEED = 7
LIMIT = 220
SAMPLING = {"greedy": (0.0, 1.0), "t0.6 p0.95": (0.6, 0.95), "t1.0": (1.0, 1.0)}


def replies(
    model: Reference, cases: list[Case], temperature: float, top_p: float
) -> Iterator[tuple[str, str, bool]]:
    """For each case its thought, its answer, and whether it stopped by itself."""
    prompts = [model.prompt(case.messages) for case in cases]
    order = sorted(range(len(cases)), key=lambda i: len(prompts[i]))
    done: dict[int, list[int]] = {}
    for start in range(0, len(order), 30):
        part = order[start : start + 30]
        given = [prompts[i] for i in part]
        found = model.generate(given, temperature, top_p, LIMIT, seed=SEED + start)
        done |= dict(zip(part, found, strict=True))
    for i in range(len(cases)):
        text = model.tokenizer.decode(done[i], skip_special_tokens=True)
        thought, _, answer = text.partition("</think>")
        yield thought.strip(), answer.strip(), done[i][-1] == model.config["eos_token_id"]


def examine(model: Reference, shown: int) -> dict[str, dict[str, float]]:
    """The share of right answers, word for word, in every set of questions and way of sampling."""
    table: dict[str, dict[str, float]] = {}
    stopped: dict[str, list[bool]] = {name: [] for name in SAMPLING}
    print(f"{'':44}{'n':>5}" + "".join(f"{name:>12}" for name in SAMPLING))
    for name, cases in questions(SEED).items():
        row: dict[str, float] = {}
        wrong = []
        for way, (temperature, top_p) in SAMPLING.items():
            results = list(replies(model, cases, temperature, top_p))
            stopped[way] += [stop for _, _, stop in results]
            right = [result[1] in case.right for result, case in zip(results, cases, strict=True)]
            row[way] = sum(right) / len(cases)
            if way == "greedy":
                wrong = [(c, r) for c, r, ok in zip(cases, results, right, strict=True) if not ok]
        print(f"{name:44}{len(cases):5}" + "".join(f"{100 * v:11.1f}%" for v in row.values()))
        for case, result in wrong[:shown]:
            print("   ", [m["content"] for m in case.messages][-3:], "->", result)
        table[name] = {"questions": len(cases), **row}
    ended = {way: sum(stops) / len(stops) for way, stops in stopped.items()}
    print(f"{'stops by itself':49}" + "".join(f"{100 * v:11.1f}%" for v in ended.values()))
    table["stops by itself"] = ended
    return table


def main() -> None:
    """Reads the command line, prints the table and writes the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--show-wrong", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(2)
    model = Reference(given.checkpoint)
    answers = []
    asked = [Case(messages, frozenset()) for messages in seed_requests()]
    for case, (thought, answer, _) in zip(asked, replies(model, asked, 0.0, 1.0), strict=True):
        print(f"> {case.messages[-1]['content']}\n  ({thought})\n  {answer}\n")
        answers.append(
            {"asked": case.messages[-1]["content"], "thought": thought, "answer": answer}
        )
    scores = {"sets": examine(model, given.show_wrong), "seed": answers}
    given.scores.write_text(json.dumps(scores, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
