"""Tools as a client would define them, questions that call for them, and what they return."""

import random
import re
from dataclasses import dataclass, field
from typing import Any

from tools.demo_tools_model.world import VALUES, WORLD, draw, is_held_out, made_up_word

Value = str | int | float
HOLE = re.compile(r"\{(\w+?)([23]?)\}")
SCHEMA_ORDERS = (("type", "required", "properties"), ("properties", "required", "type"))
JSON_TYPES = {"number": "number", "count": "integer", "age": "integer"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter: its place in questions, its key in the schema, and what its values are."""

    hole: str
    key: str
    kind: str
    is_optional: bool
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as it is offered, with the questions that call for it."""

    concept: str
    name: str
    definition: dict[str, Any]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]
    pairs: tuple[str, ...]
    results: tuple[tuple[str, ...], ...]
    noun: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that answers a question."""

    tool: Tool
    arguments: dict[str, Value]


@dataclass(slots=True)
class Question:
    """What a user asks, and the calls that answer it."""

    text: str
    calls: list[Call] = field(default_factory=list)


def _schema(rng: random.Random, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    required = [p.key for p in parameters if not p.is_optional]
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {p.key: p.schema for p in parameters},
        "required": required,
    }
    roll = rng.random()
    if roll < 0.1:
        del schema["required"]
    elif roll < 0.25:
        schema["additionalProperties"] = False
    elif roll < 0.4:  # as clients in other languages write it
        return {key: schema[key] for key in rng.choice(SCHEMA_ORDERS)}
    return schema


def _property_schema(
    rng: random.Random, kind: str, descriptions: tuple[str, ...], *, has_enum: bool
) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": JSON_TYPES.get(kind, "string")}
    if schema["type"] != "string" and rng.random() < 0.15:
        schema["type"] = rng.choice(("number", "integer"))
    if has_enum and rng.random() < 0.7:
        schema["enum"] = list(VALUES[kind])
    if rng.random() < 0.4:
        schema["description"] = rng.choice(descriptions)
    if rng.random() < 0.1:
        schema = dict(reversed(schema.items()))
    return schema


def _offer(
    rng: random.Random, name: str, description: str, parameters: tuple[Parameter, ...]
) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": ""
            if name in description.lower() and rng.random() < 0.3
            else description,
            "parameters": _schema(rng, parameters),
        },
    }


def _odd_name(rng: random.Random, name: str) -> str:
    """Now and then a name that says nothing, so that descriptions and keys are read as well."""
    if rng.random() < 0.12:
        return rng.choice((f"{made_up_word(rng)}_{made_up_word(rng)}", f"tool_{made_up_word(rng)}"))
    return name


def known_tool(rng: random.Random, concept: str) -> Tool:
    """A tool of this concept under one of many names and schemas."""
    entry = WORLD["tools"][concept]
    parameters: list[Parameter] = []
    for hole, about in entry["params"].items():
        is_optional = about.get("optional", False)
        if is_optional and rng.random() < 0.6:
            continue
        taken = {p.key for p in parameters}
        key = rng.choice([key for key in about["keys"] if key not in taken])
        kind = about["values"]
        schema = _property_schema(rng, kind, tuple(about["descriptions"]), has_enum=is_optional)
        parameters.append(Parameter(hole, key, kind, is_optional, schema))
    if rng.random() < 0.1:
        rng.shuffle(parameters)
    name = _odd_name(rng, rng.choice(entry["names"]))
    given = tuple(parameters)
    definition = _offer(rng, name, rng.choice(entry["descriptions"]), given)
    holes = {p.hole for p in parameters}
    asks = [t for t in entry["asks"] if {hole for hole, _ in HOLE.findall(t)} <= holes]
    results = tuple(tuple(result) for result in entry["results"])
    return Tool(
        concept, name, definition, given, tuple(asks), tuple(entry.get("pairs", ())), results
    )


def property_tool(rng: random.Random) -> Tool:
    """A tool that looks up one property of something, often one that nobody has heard of."""
    entry = WORLD["property"]
    while True:
        noun = made_up_word(rng) if rng.random() < 0.4 else rng.choice(VALUES["noun"])
        if not is_held_out(noun):
            break
    return tool_for_noun(rng, noun, entry)


def tool_for_noun(rng: random.Random, noun: str, entry: dict[str, Any]) -> Tool:
    """The tool that looks up this property."""
    kind = rng.choice(entry["subjects"])
    schema = _property_schema(rng, kind, tuple(entry["key_descriptions"]), has_enum=False)
    key = rng.choice([key for key in entry["keys"] if key != noun])
    parameter = Parameter("subject", key, kind, is_optional=False, schema=schema)
    name = _odd_name(rng, rng.choice(entry["names"]).format(noun=noun))
    description = rng.choice(entry["descriptions"]).format(noun=noun)
    definition = _offer(rng, name, description, (parameter,))
    subjects = ("subject", "subject2", "subject3")
    fill = {"noun": noun, **{subject: f"{{{subject}}}" for subject in subjects}}
    asks = tuple(t.format(**fill) for t in entry["asks"])
    pairs = tuple(t.format(**fill) for t in entry["pairs"])
    results = ((f"{noun}:number",), (f"{noun}:word",), (f"{key}:same", f"{noun}:number"))
    return Tool(f"property {noun}", name, definition, (parameter,), asks, pairs, results, noun)


CONCEPTS = tuple(WORLD["tools"])
WEIGHTS = (*(WORLD["tools"][c]["weight"] for c in CONCEPTS), WORLD["property"]["weight"])


def draw_tool(rng: random.Random) -> Tool:
    """Any tool."""
    concept = rng.choices((*CONCEPTS, "property"), weights=WEIGHTS)[0]
    return property_tool(rng) if concept == "property" else known_tool(rng, concept)


def draw_tools(rng: random.Random, count: int) -> list[Tool]:
    """Tools of different concepts and names."""
    tools: list[Tool] = []
    while len(tools) < count:
        tool = draw_tool(rng)
        if all(tool.concept != t.concept and tool.name != t.name for t in tools):
            tools.append(tool)
    return tools


def _fill(
    rng: random.Random, tool: Tool, template: str, *, held_out: bool
) -> tuple[str, list[dict[str, Value]]]:
    """The template with values in its holes, and the arguments of each call it asks for."""
    kinds = {p.hole: p.kind for p in tool.parameters}
    found = HOLE.findall(template)
    filled: dict[str, Value] = {}
    for hole, second in found:
        value = draw(rng, kinds[hole], held_out=held_out)
        while value in filled.values():
            value = draw(rng, kinds[hole], held_out=held_out)
        filled[hole + second] = value
    suffixes = sorted({second for _, second in found}) or [""]
    arguments = [
        {p.key: filled[p.hole + suffix] for p in tool.parameters if p.hole + suffix in filled}
        for suffix in suffixes
    ]
    return template.format(**filled), arguments


def ask(rng: random.Random, tool: Tool, *, held_out: bool = False) -> Question:
    """A question for one call of this tool."""
    text, arguments = _fill(rng, tool, rng.choice(tool.asks), held_out=held_out)
    return Question(text, [Call(tool, arguments[0])])


def ask_pair(rng: random.Random, tool: Tool, *, held_out: bool = False) -> Question:
    """A question for two or three calls of this tool."""
    text, arguments = _fill(rng, tool, rng.choice(tool.pairs), held_out=held_out)
    return Question(text, [Call(tool, given) for given in arguments])


def ask_both(rng: random.Random, first: Tool, second: Tool, *, held_out: bool = False) -> Question:
    """A question for a call of each of two tools."""
    questions = [ask(rng, tool, held_out=held_out) for tool in (first, second)]
    texts = [question.text.rstrip(".?") for question in questions]
    joint = rng.choice((" and ", ", and ", "? ", ". ", "; "))
    if joint in (" and ", ", and ", "; "):
        texts[1] = texts[1][0].lower() + texts[1][1:] if texts[1][:1].isalpha() else texts[1]
    calls = [call for question in questions for call in question.calls]
    if any(str(v) not in texts[1] for v in calls[1].arguments.values()):
        return ask_both(rng, first, second, held_out=held_out)
    return Question(joint.join(texts) + rng.choice(("?", ".", "")), calls)


def result(rng: random.Random, call: Call) -> dict[str, Value]:
    """What the tool returns: a small object."""
    fields: dict[str, Value] = {}
    for text in rng.choice(call.tool.results):
        key, _, kind = text.partition(":")
        if kind == "same":
            key, value = next(iter(call.arguments.items()))
        else:
            value = draw(rng, kind)
        fields[key] = value
    if rng.random() < 0.25:
        key = made_up_word(rng) if rng.random() < 0.5 else rng.choice(VALUES["noun"])
        fields[key] = draw(rng, rng.choice(("number", "word", "city")))
    return fields
