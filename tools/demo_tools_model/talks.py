"""Conversations for training: tools, turns, and what the model must say in each, all by rule."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tools.demo_tools_model import toolbox
from tools.demo_tools_model.toolbox import Call, Question, Tool, Value
from tools.demo_tools_model.world import GREETINGS_BY_HAND, WORLD, draw, is_held_out

TALK = WORLD["talk"]
JSON = WORLD["json"]
VALUES_OF = {"item": "thing", "venue": "city"}


@dataclass(slots=True)
class Exchange:
    """A user's turn, and what the model thinks, says or calls, and makes of results."""

    user: str
    thought: str
    said: str = ""
    calls: list[Call] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    summary: str = ""


@dataclass(slots=True)
class Conversation:
    """A conversation; all of the model's own turns enter the loss."""

    system: str
    tools: list[Tool]
    exchanges: list[Exchange]
    is_thinking: bool = False


def called(calls: list[Call]) -> Exchange:
    """The thought of an answer that is calls."""
    return Exchange("", f"I call {' and '.join(map(_named, calls))}.", calls=calls)


def _named(call: Call) -> str:
    values = ", ".join(map(str, call.arguments.values()))
    return f"{call.tool.name} for {values}" if values else call.tool.name


def sentence(fields: dict[str, Value]) -> str:
    """An object told as a sentence."""
    parts = [f"the {key} is {value}" for key, value in fields.items()]
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def summarise(calls: list[Call], outputs: list[dict[str, Value]]) -> str:
    """Return the model's summary of results."""
    if len(outputs) == 1:
        text = sentence(outputs[0])
        return f"{text[0].upper()}{text[1:]}."
    told = [
        f"For {next(iter(call.arguments.values()), call.tool.name)}: {sentence(fields)}."
        for call, fields in zip(calls, outputs, strict=True)
    ]
    return " ".join(told)


def loosen(rng: random.Random, text: str) -> str:
    """People drop capitals at the start and marks at the end, and are polite at times."""
    if rng.random() < 0.1 and text[:1].isalpha() and not text.split(maxsplit=1)[0][1:].isupper():
        text = text[0].lower() + text[1:]
    if rng.random() < 0.15:
        text = text.rstrip(".?!")
    if rng.random() < 0.1:
        text = (
            f"{rng.choice(('Hi!', 'Hello!', 'Please:', 'Hey,', 'Ok.', 'Now:', 'And now:'))} {text}"
        )
    if rng.random() < 0.06:
        text = f"{text} {rng.choice(('Thanks!', 'Thank you.', 'Please.', 'Quickly!'))}"
    return text


def _question(rng: random.Random, tools: list[Tool]) -> Question:
    roll = rng.random()
    tool = rng.choice(tools)
    if roll < 0.14 and len(tools) > 1:
        return toolbox.ask_both(rng, *rng.sample(tools, 2))
    if roll < 0.42 and tool.pairs:
        return toolbox.ask_pair(rng, tool)
    return toolbox.ask(rng, tool)


def use_tool(rng: random.Random, tools: list[Tool]) -> Exchange:
    """A question for the tools, often with their results."""
    question = _question(rng, tools)
    exchange = called(question.calls)
    exchange.user = loosen(rng, question.text)
    return exchange


def add_results(rng: random.Random, exchange: Exchange) -> None:
    """The tools' results, and what the model makes of them."""
    if rng.random() < 0.12 and len(exchange.calls) == 1:
        words = [
            str(draw(rng, rng.choice(("number", "word", "condition", "city")))) for _ in range(2)
        ]
        text = rng.choice((" ", " and ", ", ")).join(words)
        exchange.outputs, exchange.summary = [text], f"The result is {text}."
        return
    fields = [toolbox.result(rng, call) for call in exchange.calls]
    exchange.outputs = [json.dumps(f, ensure_ascii=False) for f in fields]
    if rng.random() < 0.2:
        exchange.outputs = [json.dumps(f, separators=(",", ":")) for f in fields]
    exchange.summary = summarise(exchange.calls, fields)


def _greeting(rng: random.Random) -> str:
    """A greeting from the list, or put together from parts."""
    if rng.random() < 0.2:
        return rng.choice(TALK["hello"])
    text = rng.choice(TALK["greet"])
    if rng.random() < 0.3:
        text += f"{rng.choice((',', ''))} {rng.choice(TALK['friends'])}"
    if rng.random() < 0.6:
        mark, tail = rng.choice((",", "!", ".")), rng.choice(TALK["tails"])
        text += f"{mark} {tail if mark == ',' else tail[0].upper() + tail[1:]}"
    text += rng.choice(("", "!", ".", "?", "!!"))
    return text.lower() if rng.random() < 0.25 else text


def small_talk(rng: random.Random, *, held_out: bool = False) -> Exchange:
    """Greetings and the like, which call for nothing."""
    while True:
        kind = rng.choices(("hello", "thanks", "bye", "self"), weights=(6, 2, 1, 2))[0]
        text = _greeting(rng) if kind == "hello" else rng.choice(TALK[kind])
        if is_held_out(text) == held_out and text.lower() not in GREETINGS_BY_HAND:
            break
    thoughts = {
        "hello": "The user greets me.",
        "thanks": "The user thanks me.",
        "bye": "The user says goodbye.",
        "self": "The user asks about me.",
    }
    return Exchange(text, thoughts[kind], TALK[f"{kind}_reply"])


def other(rng: random.Random, tools: list[Tool]) -> Exchange:
    """A question that no tool on offer answers."""
    if rng.random() < 0.6:
        offered = {tool.concept for tool in tools}
        while (tool := toolbox.draw_tool(rng)).concept in offered:
            pass
        user = loosen(rng, toolbox.ask(rng, tool).text)
    else:
        template = rng.choice(TALK["other"])
        holes = {
            hole + second: str(draw(rng, hole)) for hole, second in toolbox.HOLE.findall(template)
        }
        user = loosen(rng, template.format(**holes))
    if tools:
        return Exchange(user, "No tool fits.", TALK["no_tool_reply"])
    return Exchange(user, "I do not know this.", TALK["other_reply"])


def _spelled(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} and {keys[-1]}"


def facts(rng: random.Random, group: int, *, held_out: bool = False) -> tuple[str, dict[str, Any]]:
    """A sentence with facts, and the facts by their kind."""
    text = rng.choice(JSON["sentences"][group]["texts"])
    values: dict[str, Any] = {}
    told: dict[str, str] = {}
    for kind, _ in toolbox.HOLE.findall(text):
        if kind == "people":
            people = [str(draw(rng, "person", held_out=held_out)) for _ in range(rng.randint(2, 3))]
            values[kind], told[kind] = people, f"{', '.join(people[:-1])} and {people[-1]}"
        else:
            drawn = draw(rng, VALUES_OF.get(kind, kind), held_out=held_out)
            values[kind], told[kind] = drawn, str(drawn)
    return text.format(**told), values


def json_talk(rng: random.Random, *, held_out: bool = False) -> Conversation:
    """Facts to be given back as JSON, with or without being told under which keys."""
    group = rng.randrange(len(JSON["sentences"]))
    kinds = list(facts(rng, group)[1])
    keys: dict[str, str] = {}
    for kind in kinds:
        keys[kind] = rng.choice([key for key in JSON["keys_of"][kind] if key not in keys.values()])
    wanted = list(kinds)
    if rng.random() < 0.55:
        rng.shuffle(wanted)
    if rng.random() < 0.3:
        wanted = wanted[: rng.randint(1, len(wanted))]
    bank = JSON["one_key"] if len(wanted) == 1 else JSON["instructions"]
    instruction = rng.choice(bank).format(keys=_spelled([keys[kind] for kind in wanted]))
    if rng.random() < 0.15:
        instruction = rng.choice(JSON["vague"])
    in_system = rng.random() < 0.5
    exchanges = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        while (drawn := facts(rng, group, held_out=held_out))[1].keys() != set(kinds):
            pass
        text, values = drawn
        said = json.dumps({keys[kind]: values[kind] for kind in wanted}, ensure_ascii=False)
        if not in_system:
            text = rng.choice(
                (
                    f"{instruction} {text}",
                    f"{text} {instruction}",
                    f"{instruction}\n{text}",
                    f"{text}\n{instruction}",
                )
            )
        exchanges.append(Exchange(text, f"I fill in {_spelled([keys[k] for k in wanted])}.", said))
    system = rng.choice(TALK["system"]) if rng.random() < 0.3 else ""
    if in_system:
        system = f"{system} {instruction}".strip() if rng.random() < 0.3 else instruction
    return Conversation(system, [], exchanges)


def tool_talk(rng: random.Random, exchanges: int) -> Conversation:
    """A conversation with tools on offer."""
    tools = toolbox.draw_tools(rng, rng.choices((1, 2, 3), weights=(3, 4, 3))[0])
    rng.shuffle(tools)
    makers: tuple[Callable[[], Exchange], ...] = (
        lambda: use_tool(rng, tools),
        lambda: small_talk(rng),
        lambda: other(rng, tools),
    )
    made = []
    for number in range(exchanges):
        exchange = rng.choices(makers, weights=(75, 10, 15))[0]()
        if exchange.calls and (number + 1 < exchanges or rng.random() < 0.6):
            add_results(rng, exchange)
        made.append(exchange)
    system = rng.choice(TALK["system"]) if rng.random() < 0.4 else ""
    return Conversation(system, tools, made)


def plain_talk(rng: random.Random) -> Conversation:
    """A conversation without tools."""
    makers: tuple[Callable[[], Exchange], ...] = (lambda: small_talk(rng), lambda: other(rng, []))
    made = [rng.choices(makers, weights=(1, 1))[0]() for _ in range(rng.choice((1, 1, 2)))]
    return Conversation(rng.choice(TALK["system"]) if rng.random() < 0.4 else "", [], made)


def converse(rng: random.Random) -> Conversation:
    """One whole sample of any kind."""
    roll = rng.random()
    if roll < 0.08:
        talked = plain_talk(rng)
    elif roll < 0.36:
        talked = json_talk(rng)
    else:
        talked = tool_talk(rng, rng.choices((1, 2, 3, 4, 5), weights=(3, 3, 2, 1, 1))[0])
    # DeepSeek-V3.1 calls tools only where it does not think.
    talked.is_thinking = not talked.tools and rng.random() < 0.15
    return talked
