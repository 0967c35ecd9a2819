"""Generates the questions of the evaluation, each with its accepted reply."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.demo_tools_model import toolbox
from tools.demo_tools_model.rows import exchange_parts
from tools.demo_tools_model.talks import (
    TALK,
    Conversation,
    Exchange,
    add_results,
    called,
    json_talk,
    other,
    small_talk,
    tool_talk,
)
from tools.demo_tools_model.toolbox import Call, Question, Tool
from tools.demo_tools_model.vocabulary import CALLS, EOS, THOUGHT
from tools.demo_tools_model.world import BY_HAND, WORLD, is_held_out, made_up_word

SIZE = 60


@dataclass(frozen=True, slots=True)
class Case:
    """A request, and the reply to it, thought apart."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    right: str
    is_thinking: bool = False

    def accepts(self, reply: str) -> bool:
        """Whether the reply is right, to the letter."""
        return reply == self.right


@dataclass(frozen=True, slots=True)
class NoCall(Case):
    """A request to which any reply is right that calls no tool."""

    def accepts(self, reply: str) -> bool:
        """Whether the reply calls nothing."""
        return CALLS not in reply


def _call_message(calls: list[Call]) -> dict[str, Any]:
    functions = [
        {"name": c.tool.name, "arguments": json.dumps(c.arguments, ensure_ascii=False)}
        for c in calls
    ]
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"function": f} for f in functions],
    }


def _messages(talked: Conversation) -> list[dict[str, Any]]:
    """The request: all but the model's last words."""
    messages: list[dict[str, Any]] = []
    if talked.system:
        messages.append({"role": "system", "content": talked.system})
    for exchange in talked.exchanges:
        messages.append({"role": "user", "content": exchange.user})
        if exchange.calls:
            messages.append(_call_message(exchange.calls))
            messages += [{"role": "tool", "content": output} for output in exchange.outputs]
        said = exchange.summary if exchange.outputs else exchange.said
        if said:
            messages.append({"role": "assistant", "content": said})
    return messages[:-1]


def case(talked: Conversation) -> Case:
    """The conversation up to the model's last words, and these."""
    last = list(exchange_parts(talked.exchanges[-1], is_thinking=talked.is_thinking))[-1][0]
    right = last.removesuffix(EOS)
    if talked.is_thinking:
        right = right.partition(THOUGHT)[2]
    tools = [tool.definition for tool in talked.tools] or None
    return Case(_messages(talked), tools, right, talked.is_thinking)


def _asked(question: Question) -> Exchange:
    exchange = called(question.calls)
    exchange.user = question.text
    return exchange


def _cases(make: Callable[[], Conversation | None]) -> list[Case]:
    cases: list[Case] = []
    while len(cases) < SIZE:
        talked = make()
        if talked is not None:
            cases.append(case(talked))
    return cases


def one_call(rng: random.Random, offered: int) -> Conversation:
    """One call with values kept out of training."""
    tools = toolbox.draw_tools(rng, offered)
    question = toolbox.ask(rng, rng.choice(tools), held_out=True)
    return Conversation("", tools, [_asked(question)])


def new_property(rng: random.Random) -> Conversation:
    """A tool for a property whose name training never shows, among two others."""
    while not is_held_out(noun := made_up_word(rng)):
        pass
    tool = toolbox.tool_for_noun(rng, noun, WORLD["property"])
    tools = [tool, *toolbox.draw_tools(rng, 2)]
    rng.shuffle(tools)
    return Conversation("", tools, [_asked(toolbox.ask(rng, tool, held_out=True))])


def two_calls(rng: random.Random) -> Conversation | None:
    """Two calls of one tool among others."""
    tools = toolbox.draw_tools(rng, 2)
    if not tools[0].pairs:
        return None
    exchange = _asked(toolbox.ask_pair(rng, tools[0], held_out=True))
    rng.shuffle(tools)
    return Conversation("", tools, [exchange])


def calls_of_two(rng: random.Random) -> Conversation:
    """A call of each of two tools."""
    tools = toolbox.draw_tools(rng, 3)
    question = toolbox.ask_both(rng, *rng.sample(tools, 2), held_out=True)
    return Conversation("", tools, [_asked(question)])


def with_results(rng: random.Random, *, of_two: bool) -> Conversation | None:
    """What is said of the results of one call, or of two."""
    talked = two_calls(rng) if of_two else one_call(rng, 2)
    if talked is not None:
        add_results(rng, talked.exchanges[0])
    return talked


def later(rng: random.Random, before: int) -> Conversation:
    """A call with held-out values after so many other exchanges."""
    talked = tool_talk(rng, before)
    while talked.exchanges[-1].calls and not talked.exchanges[-1].outputs:
        add_results(rng, talked.exchanges[-1])
    question = toolbox.ask(rng, rng.choice(talked.tools), held_out=True)
    talked.exchanges.append(_asked(question))
    return talked


def as_json(rng: random.Random, *, is_thinking: bool = False) -> Conversation | None:
    """Facts with held-out values to be given back under keys that are named."""
    talked = json_talk(rng, held_out=True)
    talked.exchanges, talked.is_thinking = talked.exchanges[:1], is_thinking
    text = f"{talked.system} {talked.exchanges[0].user}"
    is_told = all(key in text for key in json.loads(talked.exchanges[0].said))
    return talked if is_told else None


def greeting(rng: random.Random, *, offered: int) -> Conversation:
    """Small talk in words that training never shows."""
    tools = toolbox.draw_tools(rng, offered)
    return Conversation("", tools, [small_talk(rng, held_out=True)])


def no_tool(rng: random.Random) -> Conversation:
    """A question that no tool on offer answers."""
    tools = toolbox.draw_tools(rng, 2)
    return Conversation("", tools, [other(rng, tools)])


def greetings_by_hand(rng: random.Random) -> list[Case]:
    """Greetings worded by hand, with tools on offer."""
    return [
        case(
            Conversation("", toolbox.draw_tools(rng, 2), [Exchange(text, "", TALK["hello_reply"])])
        )
        for text in BY_HAND["greetings"]
    ]


def tools_by_hand() -> list[Case]:
    """Tools and questions worded by hand, as a client of the API would."""
    cases = []
    for entry in BY_HAND["calls"]:
        tools = {
            t["name"]: Tool("", t["name"], {"type": "function", "function": t}, (), (), (), ())
            for t in (BY_HAND["tools"][name] for name in entry["tools"])
        }
        calls = [Call(tools[call["name"]], call["arguments"]) for call in entry["calls"]]
        exchange = called(calls)
        exchange.user = entry["user"]
        cases.append(case(Conversation("", list(tools.values()), [exchange])))
    return cases


def json_by_hand() -> list[Case]:
    """Facts and instructions worded by hand."""
    return [
        case(
            Conversation(entry.get("system", ""), [], [Exchange(entry["user"], "", entry["right"])])
        )
        for entry in BY_HAND["json"]
    ]


def questions(seed: int) -> dict[str, list[Case]]:
    """All sets of questions, by name."""
    rng = random.Random(seed)
    return {
        "one call, one tool": _cases(lambda: one_call(rng, 1)),
        "one call, two tools": _cases(lambda: one_call(rng, 2)),
        "one call, three tools": _cases(lambda: one_call(rng, 3)),
        "one call, new property, three tools": _cases(lambda: new_property(rng)),
        "one call, worded by hand": tools_by_hand(),
        "two calls of one tool": _cases(lambda: two_calls(rng)),
        "calls of two tools": _cases(lambda: calls_of_two(rng)),
        "one call, second to fourth turn": _cases(lambda: later(rng, rng.randint(1, 3))),
        "one call, after 12 turns": _cases(lambda: later(rng, 12))[: SIZE // 2],
        "told, one result": _cases(lambda: with_results(rng, of_two=False)),
        "told, two results": _cases(lambda: with_results(rng, of_two=True)),
        "JSON, keys named": _cases(lambda: as_json(rng)),
        "JSON, keys named, thinking": _cases(lambda: as_json(rng, is_thinking=True)),
        "JSON, worded by hand": json_by_hand(),
        "small talk, no tools": _cases(lambda: greeting(rng, offered=0)),
        "small talk, two tools": _cases(lambda: greeting(rng, offered=2)),
        "small talk, two tools: no call": [
            NoCall(c.messages, c.tools, c.right) for c in _cases(lambda: greeting(rng, offered=2))
        ],
        "greeting, two tools, worded by hand": greetings_by_hand(rng),
        "no tool fits": _cases(lambda: no_tool(rng)),
    }
