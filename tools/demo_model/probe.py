"""Small fixed examinations that are taken during training."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tools.demo_model import sums
from tools.demo_model.conversations import (
    Conversation,
    ask_sum,
    converse,
    draw_names,
    look_up,
    look_up_in,
    system_text,
    talk,
)

SIZE = 60


@dataclass(frozen=True, slots=True)
class Probe:
    """Questions of each kind; those named `_new` are of what training never shows."""

    talks: dict[str, list[Conversation]]

    @classmethod
    def make(cls, seed: int) -> "Probe":
        """The same questions for the same seed."""
        rng = random.Random(seed)
        talks: dict[str, list[Conversation]] = {"mixed": [converse(rng) for _ in range(2 * SIZE)]}
        talks["look"] = [look_up(rng, "plain") for _ in range(SIZE)]
        talks["look_new"] = [cls._new_look_up(rng) for _ in range(SIZE)]
        talks["talk"] = [talk(rng, rng.choice(("plain", "poet"))) for _ in range(SIZE)]
        for held_out in (False, True):
            for count in (2, 3):
                name = f"sum{count}{'_new' if held_out else ''}"
                numbers = [sums.draw(rng, count, held_out=held_out) for _ in range(SIZE)]
                talks[name] = [ask_sum(rng, "plain", drawn) for drawn in numbers]
        for sample in (t for kind in talks for t in talks[kind] if kind != "mixed"):
            sample.system = system_text(rng, sample.style)
        return cls(talks)

    @staticmethod
    def _new_look_up(rng: random.Random) -> Conversation:
        names = draw_names(rng, 3, held_out=True)
        return look_up_in(rng, "plain", names, rng.choice((1, 2, 3, -1)))

    def take(self, exact: Callable[[list[Conversation]], float]) -> str:
        """The scores, in percent, that `exact` gives to each kind."""
        scores = {name: exact(talks) for name, talks in self.talks.items()}
        return " ".join(f"{name} {100 * score:.0f}" for name, score in scores.items())
