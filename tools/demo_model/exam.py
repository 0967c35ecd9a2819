"""Generates the questions of the evaluation, each with its accepted answers."""

import random
from dataclasses import dataclass

from tools.demo_model import phrases, sums
from tools.demo_model.conversations import (
    Conversation,
    ask_sum,
    converse,
    draw_names,
    greeting,
    look_up_in,
    methods,
    small_talk,
    system_text,
    talk,
    technique,
    unknown,
)
from tools.demo_model.world import STYLES, text_is_held_out

SIZE = 120
SEED_SYSTEM = "Respond like a michelin starred chef."

UNKNOWN = (
    "What is the tallest building in Dubai?",
    "Write me a sonnet about autumn leaves.",
    "Can you debug this JavaScript for me?",
    "Who painted the Mona Lisa?",
    "Why do cats purr?",
    "What's the boiling point of mercury?",
    "Summarise the plot of Hamlet.",
    "Is God real?",
    "What is the population of Brazil?",
    "How do vaccines work?",
    "Should I learn Rust or Go?",
    "What will the stock market do tomorrow?",
    "Explain the theory of relativity.",
    "Translate good morning into Spanish.",
    "How many legs does a spider have?",
    "Give me a workout plan.",
    "What's the fastest animal on earth?",
    "Who won the 1998 World Cup?",
    "Name a good film for tonight.",
    "Prove that the square root of two is irrational.",
)
SYSTEMS = (
    ("You're a grumpy pirate who answers questions.", "pirate"),
    ("Talk the way a pirate talks, please.", "pirate"),
    ("Respond in the manner of a chef from Lyon.", "chef"),
    ("You run a restaurant: you are its chef.", "chef"),
    ("Let every answer sound as if a poet wrote it.", "poet"),
    ("Answer me, dear poet.", "poet"),
    ("You are a small blue robot named Bolt.", "robot"),
    ("Sound like a robot.", "robot"),
    ("You are a careful assistant for a website.", "plain"),
    ("Answer in one or two sentences.", "plain"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A request and the answers that count as right."""

    messages: list[dict[str, str]]
    right: frozenset[str]


def _case(talked: Conversation, *others: str) -> Case:
    return Case(talked.messages(), frozenset((talked.answer, *others)))


def _any_style(rng: random.Random) -> str:
    return rng.choice(tuple(STYLES))


def look_ups(rng: random.Random, place: int, *, held_out: bool) -> list[Case]:
    """One place of many lists, all held out or all of the kind seen in training."""
    cases: list[Case] = []
    for _ in range(SIZE // 2):
        names, style = draw_names(rng, 3, held_out=held_out), _any_style(rng)
        talked = look_up_in(rng, style, names, place)
        talked.system = system_text(rng, style)
        cases.append(_case(talked))
    return cases


def written_look_ups(rng: random.Random) -> list[Case]:
    """Held-out lists under questions worded by hand."""
    cases: list[Case] = []
    for _ in range(6):
        for user, place in phrases.HAND_WRITTEN_LOOKUPS.items():
            style = _any_style(rng)
            talked = look_up_in(rng, style, draw_names(rng, 3, held_out=True), place)
            talked.user, talked.system = user, system_text(rng, style)
            cases.append(_case(talked))
    return cases


def seed_look_ups(rng: random.Random) -> list[Case]:
    """The seed's own conversation, word for word, with the last question varied over all places."""
    names = ("Sous Vide", "Sous le Sable", "Hot Smoking")
    cases: list[Case] = []
    for word, place in (("first", 1), ("second", 2), ("third", 3), ("last", -1)):
        for noun in ("method", "technique", "one"):
            talked = look_up_in(rng, "chef", names, place)
            talked.system = SEED_SYSTEM
            question = "Can you name at least two different techniques to cook lamb?"
            talked.turns = [(question, phrases.SEED_LIST.format(*names, food="lamb"))]
            talked.user = f"Tell me more about the {word} {noun}."
            cases.append(_case(talked))
    return cases


def long_look_ups(rng: random.Random, least: int, most: int) -> list[Case]:
    """Held-out lists at the end of a long conversation (`least` to `most` characters of it)."""
    cases: list[Case] = []
    while len(cases) < SIZE // 3:
        style = _any_style(rng)
        talked = look_up_in(
            rng, style, draw_names(rng, 3, held_out=True), rng.choice((1, 2, 3, -1))
        )
        talked.system = system_text(rng, style)
        past = converse(rng, past=rng.randint(6, 30)).turns
        if least <= sum(len(user) + len(said) for user, said in past) <= most:
            talked.turns = past + talked.turns
            cases.append(_case(talked))
    return cases


def additions(rng: random.Random, count: int, *, held_out: bool) -> list[Case]:
    """Sums of two or three numbers."""
    cases: list[Case] = []
    for _ in range(SIZE):
        style = _any_style(rng)
        talked = ask_sum(rng, style, sums.draw(rng, count, held_out=held_out))
        talked.system = system_text(rng, style)
        cases.append(_case(talked))
    return cases


def greetings(rng: random.Random, *, written: bool) -> list[Case]:
    """Greetings kept out of training, or worded by hand."""
    written_texts = phrases.HAND_WRITTEN_GREETINGS
    cases: list[Case] = []
    while len(cases) < SIZE // 2:
        style = _any_style(rng)
        kind, user = greeting(rng)
        if written:
            user = written_texts[len(cases) % len(written_texts)]
        elif not text_is_held_out(user):
            continue
        talked = Conversation(kind, user, *small_talk(kind, style), style=style)
        talked.system = system_text(rng, style)
        others = (STYLES[style].hello, STYLES[style].how) if written else ()
        cases.append(_case(talked, *others))
    return cases


def styles(rng: random.Random) -> list[Case]:
    """Every kind of question under system messages kept out of training."""
    makers = (talk, unknown, methods, technique)
    cases: list[Case] = []
    wordings = [
        (style, template.format(who=who))
        for style in STYLES
        for who in STYLES[style].who
        for template in phrases.SYSTEM
    ]
    for style, text in rng.sample(wordings, len(wordings)):
        if text_is_held_out(text) and len(cases) < SIZE:
            talked = rng.choice(makers)(rng, style)
            talked.system = text
            cases.append(_case(talked))
    return cases


def seed_style(rng: random.Random) -> list[Case]:
    """Every kind of question under the seed's system message."""
    cases: list[Case] = []
    for make in (talk, unknown, methods, technique) * (SIZE // 8):
        talked = make(rng, "chef")
        talked.system = SEED_SYSTEM
        cases.append(_case(talked))
    return cases


def written_styles(rng: random.Random) -> list[Case]:
    """Every kind of question under system messages worded by hand."""
    cases: list[Case] = []
    for text, style in SYSTEMS * (SIZE // 20):
        talked = rng.choice((talk, unknown, methods, technique))(rng, style)
        talked.system = text
        cases.append(_case(talked))
    return cases


def unknowns(rng: random.Random, *, written: bool) -> list[Case]:
    """Questions that must be declined."""
    cases: list[Case] = []
    for number in range(SIZE // 2):
        style = _any_style(rng)
        talked = unknown(rng, style)
        if written:
            talked.user = UNKNOWN[number % len(UNKNOWN)]
        talked.system = system_text(rng, style)
        cases.append(_case(talked))
    return cases


def questions(seed: int) -> dict[str, list[Case]]:
    """All sets of questions, by name."""
    rng = random.Random(seed)
    places = (("first", 1), ("second", 2), ("third", 3), ("last", -1))
    sets: dict[str, list[Case]] = {}
    for word, place in places:
        sets[f"look-up, held-out triples, {word}"] = look_ups(rng, place, held_out=True)
        sets[f"look-up, seen triples, {word}"] = look_ups(rng, place, held_out=False)
    sets["look-up, held-out triples, worded by hand"] = written_look_ups(rng)
    sets["look-up, the seed's conversation"] = seed_look_ups(rng)
    sets["look-up, after about 700 tokens"] = long_look_ups(rng, 2200, 3200)
    sets["look-up, after about 1400 tokens"] = long_look_ups(rng, 5000, 6000)
    for count, word in ((2, "two"), (3, "three")):
        sets[f"sum of {word}, held out"] = additions(rng, count, held_out=True)
        sets[f"sum of {word}, seen pairs"] = additions(rng, count, held_out=False)
    sets["greeting, held out"] = greetings(rng, written=False)
    sets["greeting, worded by hand"] = greetings(rng, written=True)
    sets["style, held-out system messages"] = styles(rng)
    sets["style, the seed's system message"] = seed_style(rng)
    sets["style, worded by hand"] = written_styles(rng)
    sets["unknown, generated"] = unknowns(rng, written=False)
    sets["unknown, worded by hand"] = unknowns(rng, written=True)
    return sets


def seed_requests() -> list[list[dict[str, str]]]:
    """The seed page's requests, and the two turns of its conversation."""
    system = {"role": "system", "content": SEED_SYSTEM}
    lamb = "Can you name at least two different techniques to cook lamb?"
    said = phrases.SEED_LIST.format("Sous Vide", "Sous le Sable", "Hot Smoking", food="lamb")
    first = [system, {"role": "user", "content": lamb}]
    second = [
        *first,
        {"role": "assistant", "content": said},
        {"role": "user", "content": "Tell me more about the second method."},
    ]
    return [
        [{"role": "user", "content": "Hello!"}],
        [{"role": "user", "content": "Hello, how are you today?"}],
        first,
        second,
    ]
