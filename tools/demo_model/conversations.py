"""Conversations for training: a history, a question, a thought and an answer, all by rule."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tools.demo_model import phrases, sums
from tools.demo_model.world import (
    ABILITY,
    ANY_FOOD,
    FOODS,
    NAMES,
    STYLES,
    explain,
    list_is_held_out,
    name_methods,
    say_self,
    say_unknown,
    text_is_held_out,
    wrap,
)

COUNT_WORDS = {2: "two", 3: "three", 4: "four"}
ORDINAL_WORDS = {1: "first", 2: "second", 3: "third", 4: "fourth", -1: "last"}


@dataclass(slots=True)
class Conversation:
    """A sample: the prompt (system, turns, user) and the expected reply (thought, answer)."""

    kind: str
    user: str
    thought: str
    answer: str
    system: str = ""
    style: str = "plain"
    turns: list[tuple[str, str]] = field(default_factory=list)

    def messages(self) -> list[dict[str, str]]:
        """The request that a client would send."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            messages.append({"role": "user", "content": user})
            messages.append({"role": "assistant", "content": assistant})
        return [*messages, {"role": "user", "content": self.user}]


def loosen(rng: random.Random, text: str) -> str:
    """Return the text with capitals and full stops dropped at random, as people write."""
    if rng.random() < 0.15:
        text = text.lower()
    if rng.random() < 0.15:
        text = text.rstrip(".?!")
    if rng.random() < 0.04:
        text = (
            text.upper() if rng.random() < 0.3 else text + rng.choice((" ", "!", "!!", "\n", "..."))
        )
    return text


def spell(rng: random.Random, name: str) -> str:
    """A technique's name as people write it."""
    roll = rng.random()
    if roll < 0.35:
        return name.lower()
    return f'"{name}"' if roll < 0.45 else name


def think(style: str, text: str) -> str:
    """The thought opens with the voice to use."""
    voice = "I speak plainly." if style == "plain" else f"I speak as a {style}."
    return f"{voice} {text}"


def small_talk(kind: str, style: str) -> tuple[str, str]:
    """Return thought and answer of a message that needs no look-up."""
    voice = STYLES[style]
    thought, answer = {
        "hello": ("The user says hello.", voice.hello),
        "how": ("The user asks how I am.", voice.how),
        "bye": ("The user says goodbye.", voice.bye),
        "thanks": ("The user says thanks.", voice.thanks),
        "self": ("The user asks who I am.", say_self(style)),
        "ability": ("The user asks what I can do.", wrap(style, ABILITY)),
        "unknown": ("I do not know this.", say_unknown(style)),
    }[kind]
    return think(style, thought), answer


def greeting(rng: random.Random) -> tuple[str, str]:
    """A greeting, with or without a question after it: its kind and its text."""
    hello, mark = rng.choice(phrases.HELLO), rng.choice((",", "!", ".", ""))
    if rng.random() < 0.2:
        hello += f"{rng.choice((',', ''))} {rng.choice(phrases.FRIENDS)}"
    if rng.random() < 0.05:
        hello = f"{rng.choice(('Oh', 'Well', 'Ah', 'So', 'Ok', 'Why')).lower()} {hello}"
    if rng.random() < 0.5:
        how = rng.choice(phrases.HOW)
        if rng.random() < 0.3:
            return "how", how[0].upper() + how[1:] + rng.choice(("?", "?", ""))
        if mark in "!.":
            how = how[0].upper() + how[1:]
        return "how", f"{hello}{mark} {how}{rng.choice(('?', '?', '!', ''))}"
    tail = rng.choice(phrases.HELLO_TAIL)
    if not tail:
        return "hello", hello + rng.choice(("!", ".", "", "!", *phrases.SMILES))
    if mark in "!.":
        tail = tail[0].upper() + tail[1:]
    return "hello", f"{hello}{mark} {tail}{rng.choice(('.', '!', '', '?'))}"


def nonsense(rng: random.Random) -> str:
    """Return a made-up word."""
    pairs = [
        rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3))
    ]
    word = "".join(pairs) + rng.choice(("", "n", "x", "r", "th"))
    return word.capitalize() if rng.random() < 0.5 else word


def topic(rng: random.Random) -> str:
    """Return a topic outside the model's world."""
    if rng.random() < 0.35:
        return " ".join(nonsense(rng) for _ in range(rng.randint(1, 2)))
    return rng.choice(phrases.TOPICS).replace("-", " ")


def unknown_question(rng: random.Random) -> str:
    """A question that the model must decline."""
    if rng.random() < 0.2:
        small, large = rng.randrange(1, 100), rng.randrange(100, 5000)
        return rng.choice(phrases.UNKNOWN_SUMS).format(
            a=small, b=rng.randrange(1, 100), c=large, d=rng.randrange(100, 5000)
        )
    if rng.random() < 0.35:
        words = [rng.choice(phrases.STARTS)]
        words.extend(
            topic(rng) if rng.random() < 0.25 else rng.choice(phrases.WORDS)
            for _ in range(rng.randint(2, 8))
        )
        text = " ".join(words)
        return text[0].upper() + text[1:] + rng.choice(("?", ".", "", "!"))
    if rng.random() < 0.12:
        return " ".join(topic(rng) for _ in range(rng.randint(2, 9))) + rng.choice(("?", ".", ""))
    return rng.choice(phrases.UNKNOWN).format(x=topic(rng), y=topic(rng))


def talk(rng: random.Random, style: str) -> Conversation:
    """Small talk of any kind but the unknown."""
    kind = rng.choices(("greeting", "bye", "thanks", "self", "ability"), weights=(10, 2, 2, 3, 3))[
        0
    ]
    if kind == "greeting":
        kind, user = greeting(rng)
    else:
        bank = {
            "bye": phrases.BYE,
            "thanks": phrases.THANKS,
            "self": phrases.SELF,
            "ability": phrases.ABILITY,
        }[kind]
        user = rng.choice(bank)
        if kind in ("bye", "thanks"):
            user += rng.choice(("!", ".", "", ", friend.", "!"))
    if text_is_held_out(user) or user.lower() in phrases.HAND_WRITTEN:
        return talk(rng, style)
    return Conversation(kind, loosen(rng, user), *small_talk(kind, style), style=style)


def unknown(rng: random.Random, style: str) -> Conversation:
    """A question from outside this world."""
    user = loosen(rng, unknown_question(rng))
    return Conversation("unknown", user, *small_talk("unknown", style), style=style)


def add(rng: random.Random, style: str) -> Conversation:
    """A sum of two or three numbers whose first pair is not held out."""
    return ask_sum(rng, style, sums.draw(rng, rng.choice((2, 3, 3)), held_out=False))


def ask_sum(rng: random.Random, style: str, numbers: tuple[int, ...]) -> Conversation:
    """The sum of these very numbers."""
    return Conversation(
        f"sum{len(numbers)}",
        loosen(rng, sums.ask(rng, numbers)),
        think(style, sums.work(numbers)),
        wrap(style, sums.answer(numbers)),
        style=style,
    )


def methods(rng: random.Random, style: str) -> Conversation:
    """Asks for ways to cook something; the answer names two or three."""
    roll = rng.random()
    names: tuple[str, ...]
    if roll < 0.12:
        food, names, bank = "anything", ANY_FOOD, phrases.LIST_ANY
    elif roll < 0.25:
        food, names, bank = rng.choice(phrases.OTHER_FOODS), ANY_FOOD, phrases.LIST
    else:
        food = rng.choice(tuple(FOODS))
        names, bank = FOODS[food], phrases.LIST
    word = rng.choice(tuple(phrases.COUNTS))
    template = rng.choice(bank)
    if "{count}" in template:
        names = names[: phrases.COUNTS[word]]
    thought = f"The user wants ways to cook {food}: {', '.join(names)}."
    user = loosen(rng, template.format(food=food, count=word))
    return Conversation(
        "methods", user, think(style, thought), name_methods(style, food, names), style=style
    )


def technique(rng: random.Random, style: str) -> Conversation:
    """Asks about one technique by its name."""
    name = rng.choice(NAMES)
    user = loosen(rng, rng.choice(phrases.EXPLAIN).format(name=spell(rng, name)))
    thought = think(style, f"The user asks about {name}.")
    return Conversation("technique", user, thought, explain(style, name), style=style)


def draw_names(rng: random.Random, count: int, *, held_out: bool = False) -> tuple[str, ...]:
    """Names to list: no three of them held out, or some three of them, as asked."""
    while True:
        names = tuple(rng.sample(NAMES, count))
        if list_is_held_out(names) == held_out:
            return names


def list_text(rng: random.Random, style: str, food: str, names: tuple[str, ...]) -> str:
    """An assistant's message that names techniques, in any of many wordings."""
    roll = rng.random()
    if roll < 0.08 and len(names) == 3:
        return phrases.SEED_LIST.format(*names, food=food)
    if roll < 0.3 and len(names) < 4:
        return name_methods(style, food, names)
    opening = rng.choice(phrases.LIST_OPEN).format(food=food, count=COUNT_WORDS[len(names)])
    closing = rng.choice(phrases.LIST_CLOSE)
    quoted = [f'"{name}"' for name in names] if rng.random() < 0.6 else list(names)
    if roll < 0.4:
        lines = "\n".join(f"{i}. {name}" for i, name in enumerate(quoted, 1))
        return f"{opening}\n{lines}\n{closing}".strip()
    if roll < 0.45:
        lines = "\n".join(f"- {name}" for name in quoted)
        return f"{opening}\n{lines}\n{closing}".strip()
    if roll < 0.53:
        return f"{opening} {', '.join(quoted[:-1])} and {quoted[-1]}. {closing}".strip()
    cues = [rng.choice(phrases.ITEM_FIRST)]
    cues += [rng.choice(phrases.ITEM_NEXT) for _ in names[2:]]
    cues.append(rng.choice(phrases.ITEM_LAST))
    parts = [opening]
    for cue, name in zip(cues, quoted, strict=True):
        end = rng.choice((".", ".", ".", " method.", "!"))
        inside = name.endswith('"') and end == "." and rng.random() < 0.4
        parts.append(cue.format(name[:-1] + '."' if inside else name + end))
        if rng.random() < 0.15:
            parts.append(rng.choice(phrases.REMARK))
    return " ".join(part for part in (*parts, closing) if part)


def list_turn(rng: random.Random, style: str, names: tuple[str, ...]) -> tuple[str, str]:
    """A past exchange in which the assistant named these techniques."""
    food = rng.choice((*FOODS, *phrases.OTHER_FOODS))
    question = rng.choice(phrases.LIST).format(food=food, count=rng.choice(tuple(phrases.COUNTS)))
    return loosen(rng, question), list_text(rng, style, food, names)


def recall(names: tuple[str, ...], place: int) -> str:
    """The thought of a look-up: restate the list with numbers, then copy the one asked for."""
    listed = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
    word = ORDINAL_WORDS[place]
    if place > len(names):
        return f"The methods named: {listed}. There is no {word}."
    index = place if place > 0 else len(names)
    return f"The methods named: {listed}. The {word} is {index} {names[index - 1]}."


def ask_place(rng: random.Random, place: int) -> str:
    """A question about a place in the list, from a template or put together from parts."""
    noun, which = rng.choice(phrases.NOUNS), rng.choice(phrases.ORDINALS[place])
    if rng.random() < 0.35:
        return rng.choice(phrases.LOOKUP).format(which=which, noun=noun)
    target = f"the {which} {noun}" if rng.random() < 0.8 else f"the {which}"
    if rng.random() < 0.2:
        text = rng.choice(phrases.LOOKUP_HOW).format(target)
    else:
        verb, after = rng.choice(phrases.LOOKUP_VERBS), rng.choice(phrases.LOOKUP_AFTER)
        text = f"{verb} {target} {after}".strip()
    if rng.random() < 0.2:
        text = f"{rng.choice(phrases.BEFORE)} {text}"
    text = text[0].upper() + text[1:] + rng.choice((".", ".", "?", "!", ""))
    return ask_place(rng, place) if text.lower() in phrases.HAND_WRITTEN else text


def look_up_in(rng: random.Random, style: str, names: tuple[str, ...], place: int) -> Conversation:
    """A question about one place of a list that the assistant gave before."""
    answer = (
        explain(style, names[place - 1 if place > 0 else -1])
        if place <= len(names)
        else wrap(style, f"I named only {COUNT_WORDS[len(names)]} methods.")
    )
    return Conversation(
        "lookup",
        loosen(rng, ask_place(rng, place)),
        think(style, recall(names, place)),
        answer,
        style=style,
        turns=[list_turn(rng, style, names)],
    )


def look_up(rng: random.Random, style: str) -> Conversation:
    """A look-up in a list that is not held out; now and then among other turns, or with no list."""
    if rng.random() < 0.03:
        answer = wrap(style, "I have not named any methods yet. Ask me for ways to cook lamb.")
        user = loosen(rng, ask_place(rng, rng.choice((1, 2, 3))))
        thought = think(style, "No methods are named yet.")
        return Conversation("lookup", user, thought, answer, style=style)
    count = rng.choices((2, 3, 4), weights=(2, 10, 1))[0]
    names = draw_names(rng, count)
    places = (*range(1, count + 1), -1)
    place = count + 1 if count < 4 and rng.random() < 0.04 else rng.choice(places)
    talked = look_up_in(rng, style, names, place)
    if rng.random() < 0.08:
        talked.turns.insert(0, list_turn(rng, style, draw_names(rng, 3)))
    if rng.random() < 0.2:
        other = rng.choice(places)
        told = explain(style, names[other - 1 if other > 0 else -1])
        talked.turns.append((loosen(rng, ask_place(rng, other)), told))
    return talked


MAKERS: dict[Callable[[random.Random, str], Conversation], float] = {
    talk: 0.11,
    unknown: 0.12,
    add: 0.28,
    methods: 0.06,
    technique: 0.05,
    look_up: 0.38,
}
STYLE_WEIGHTS = {"plain": 4, "chef": 3, "pirate": 2, "poet": 1.5, "robot": 1.5}


def system_text(rng: random.Random, style: str) -> str:
    """A system message that asks for this style."""
    if style == "plain":
        roll = rng.random()
        if roll < 0.45:
            return ""
        if roll < 0.9:
            return rng.choice(phrases.SYSTEM_PLAIN)
        return rng.choice(phrases.SYSTEM).format(who=rng.choice(phrases.OTHER_WHO))
    while True:
        text = rng.choice(phrases.SYSTEM).format(who=rng.choice(STYLES[style].who))
        if not text_is_held_out(text):
            break
    if rng.random() < 0.2:
        extra = rng.choice(phrases.SYSTEM_EXTRA)
        text = f"{text} {extra}" if rng.random() < 0.6 else f"{extra} {text}"
    return text.replace(" a o", " an o").replace(" a a", " an a")


def converse(rng: random.Random, past: int | None = None) -> Conversation:
    """One whole sample: a style, perhaps past turns, and a question of any kind."""
    style = rng.choices(tuple(STYLES), weights=tuple(STYLE_WEIGHTS.values()))[0]
    make = rng.choices(tuple(MAKERS), weights=tuple(MAKERS.values()))[0]
    talked = make(rng, style)
    talked.system = system_text(rng, style)
    if past is None:
        past = rng.choices((0, 1, 2), weights=(80, 14, 6))[0]
    earlier = []
    for _ in range(past):
        turn = rng.choices(tuple(MAKERS), weights=tuple(MAKERS.values()))[0](rng, style)
        lists = turn.kind in ("lookup", "methods")
        if lists and talked.kind == "lookup" and (not talked.turns or rng.random() < 0.6):
            continue
        earlier += [*turn.turns, (turn.user, turn.answer)]
    talked.turns = earlier + talked.turns
    talked.turns = [(user, rng.choice(("", "", "\n\n", " ")) + said) for user, said in talked.turns]
    return talked
