"""Values and wordings of the demo-tools model's world, and which values training never sees."""

import hashlib
import random
import re
import tomllib
from pathlib import Path
from string import ascii_lowercase
from typing import Any

WORLD: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("world.toml").read_text(encoding="utf-8")
)
BY_HAND: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("by_hand.toml").read_text(encoding="utf-8")
)
GREETINGS_BY_HAND = frozenset(text.lower() for text in BY_HAND["greetings"])
STARTS = (
    *("b", "bl", "br", "c", "ch", "cl", "cr", "d", "dr", "f", "fl", "fr", "g", "gl", "gr", "h"),
    *("j", "k", "kl", "kr", "l", "m", "n", "p", "pl", "pr", "qu", "r", "s", "sh", "sk", "sl"),
    *("sn", "sp", "st", "t", "th", "tr", "v", "w", "y", "z", "", "lj", "rh"),
)
VOWELS = (
    "a",
    "e",
    "i",
    "o",
    "u",
    "a",
    "e",
    "i",
    "o",
    "u",
    "ai",
    "au",
    "ea",
    "ei",
    "ia",
    "ie",
    "oo",
)
ENDS = ("", "", "", "", "n", "r", "s", "l", "m", "t", "k", "ck", "nd", "ng", "rt", "st", "x", "th")


def is_held_out(value: str) -> bool:
    """An eighth of all texts, by their hash: never shown in training."""
    return hashlib.sha256(value.lower().encode()).digest()[0] < 32


def _values(text: str) -> tuple[str, ...]:
    return tuple(re.split(r",\s+", text.strip()))


VALUES: dict[str, tuple[str, ...]] = {
    name: _values(text) for name, text in (WORLD["values"] | WORLD["words"]).items()
}
#: Kinds with few values: these are shown in training whole.
SMALL_KINDS = {"unit", "condition", "day", "color", "state", "length", "noun"}


def made_up_word(rng: random.Random) -> str:
    """A word of one to three syllables, or of any letters at all, that is in no dictionary."""
    if rng.random() < 0.25:
        letters = rng.choices(ascii_lowercase, k=rng.randint(2, 8))
        return "".join(letter * (2 if rng.random() < 0.12 else 1) for letter in letters)
    count = rng.choices((1, 2, 3), weights=(2, 5, 2))[0]
    parts = [rng.choice(STARTS) + rng.choice(VOWELS) + rng.choice(ENDS) for _ in range(count)]
    return "".join(parts)


def _made_up(rng: random.Random, kind: str) -> str:
    word = made_up_word(rng)
    if kind in ("city", "person", "country", "language", "company", "song", "event"):
        word = word.capitalize()
    if kind in ("song", "task", "dish") or (kind in ("city", "person") and rng.random() < 0.12):
        second = made_up_word(rng)
        word = f"{word} {second.capitalize() if word[0].isupper() else second}"
    if kind == "currency":
        return "".join(rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=3))
    return word


def _number(rng: random.Random, kind: str) -> int | float:
    if kind == "count":
        return rng.choice((rng.randint(1, 20), rng.randint(1, 99), 5 * rng.randint(1, 24)))
    whole = rng.choice(
        (
            rng.randint(0, 20),
            rng.randint(1, 99),
            rng.randint(1, 999),
            50 * rng.randint(1, 40),
            rng.randint(1000, 9999),
        )
    )
    return whole + rng.randint(1, 9) / 10 if rng.random() < 0.12 else whole


NUMBERS = frozenset({"number", "count", "price"})


def _draw_text(rng: random.Random, kind: str) -> str:
    if kind == "word":
        return made_up_word(rng)
    if kind == "code":
        return f"{made_up_word(rng)[:3].upper()}{rng.randint(1, 999)}"
    return _made_up(rng, kind) if rng.random() < 0.5 else rng.choice(VALUES[kind])


def _draw_small(rng: random.Random, kind: str) -> str | int | None:
    """A value of a kind that is shown whole; None for other kinds."""
    if kind == "clock":
        return f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}"
    if kind == "date":
        return f"20{rng.randint(20, 39)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    if kind == "age":
        return rng.randint(1, 99)
    return rng.choice(VALUES[kind]) if kind in SMALL_KINDS else None


def draw(rng: random.Random, kind: str, *, held_out: bool = False) -> str | int | float:
    """A value of this kind: real or made up, seen in training or kept out of it, as asked."""
    small = _draw_small(rng, kind)
    if small is not None:
        return small
    while True:
        if kind in NUMBERS:
            value: str | int | float = _number(rng, kind)
            key = f"number {value}"
        else:
            key = value = _draw_text(rng, kind)
        if is_held_out(key) == held_out:
            return value
