import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer

from stillhouse.errors import InvalidRequestError
from stillhouse.text.families.tool_call_forms import DEEPSEEK_V31_CALLS, HERMES_CALLS, LLAMA3_CALLS
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, RegexFormat
from stillhouse.types.tool_call_form import MAX_CALLS, ToolCallForm
from tests.unit.text.grammar.grammars import grammar_of, tools_grammar

BYTES = LLTokenizer("byte")
FORMS = (DEEPSEEK_V31_CALLS, HERMES_CALLS, LLAMA3_CALLS)
TAGS = [tag for form in FORMS for tag in form.tags]


class TaggedBytes:
    """A vocabulary of all bytes, an end token and the tags of all forms, as llguidance asks."""

    eos_token_id = 256
    bos_token_id = None
    tokens = [bytes([byte]) for byte in range(256)] + [b"<end>"] + [m.encode() for m in TAGS]
    special_token_ids = list(range(256, 257 + len(TAGS)))  # noqa: RUF012 (llguidance reads it so)
    is_tokenizer_wrapper = True

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


TAGGED = LLTokenizer(TaggedBytes())  # type: ignore[arg-type]


def tag_id(text: str) -> int | None:
    return 257 + TAGS.index(text) if text in TAGS else None


def no_id(text: str) -> int | None:
    return None


def accepts(grammar: str, text: str) -> bool:
    """Whether the text, byte for byte, is a whole answer."""
    return accepts_tokens(grammar, list(text.encode()), BYTES)


def accepts_tokens(grammar: str, token_ids: list[int], tokenizer: LLTokenizer) -> bool:
    matcher = LLMatcher(tokenizer, grammar, log_level=0)
    assert "" == matcher.get_error()
    return matcher.try_consume_tokens(token_ids) == len(token_ids) and matcher.is_accepting()


def json_schema(schema: dict[str, Any]) -> str:
    return grammar_of(JsonSchemaFormat(schema))


class Example(NamedTuple):
    """A schema, a value that fits it, and one that does not."""

    schema: dict[str, Any]
    fitting: Any
    unfitting: Any


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=5)


@st.composite
def integers(draw: Any) -> Example:
    least, most = sorted((draw(st.integers(-1000, 1000)), draw(st.integers(-1000, 1000))))
    schema = {"type": "integer", "minimum": least, "maximum": most}
    wrong = st.sampled_from([least - 1, most + 1, 0.5, "1", None, True, []])
    return Example(schema, draw(st.integers(least, most)), draw(wrong))


@st.composite
def strings(draw: Any) -> Example:
    fitting = draw(TEXT)
    schema = {"type": "string", "minLength": max(len(fitting) - 1, 0), "maxLength": len(fitting)}
    return Example(schema, fitting, draw(st.sampled_from([fitting + "a", 1, None, {}])))


@st.composite
def enums(draw: Any) -> Example:
    values = draw(st.lists(TEXT | st.integers(-99, 99) | st.none(), min_size=1, max_size=4))
    return Example({"enum": values}, draw(st.sampled_from(values)), "longer than any other")


@st.composite
def arrays(draw: Any, items: st.SearchStrategy[Example]) -> Example:
    item = draw(items)
    num_items = draw(st.integers(0, 3))
    schema = {"type": "array", "items": item.schema, "minItems": num_items, "maxItems": 3}
    fitting = [item.fitting] * num_items
    wrong = st.sampled_from([[item.fitting] * 4, [*fitting[1:], item.unfitting], {}, None])
    return Example(schema, fitting, draw(wrong))


@st.composite
def objects(draw: Any, members: st.SearchStrategy[Example]) -> Example:
    examples = draw(st.dictionaries(TEXT, members, min_size=1, max_size=3))
    schema = {
        "type": "object",
        "properties": {name: member.schema for name, member in examples.items()},
        "required": list(examples),
        "additionalProperties": False,
    }
    fitting = {name: member.fitting for name, member in examples.items()}
    name = draw(st.sampled_from(sorted(examples)))
    without = {key: value for key, value in fitting.items() if key != name}
    wrong = [without, fitting | {name: examples[name].unfitting}, fitting | {"an other": 1}, []]
    return Example(schema, fitting, draw(st.sampled_from(wrong)))


EXAMPLES = st.recursive(
    integers() | strings() | enums(),
    lambda inner: arrays(inner) | objects(inner),
    max_leaves=6,
)


@settings(deadline=None)
@given(EXAMPLES, st.sampled_from([(",", ":"), (", ", ": "), (", ", ":")]))
def test_a_schema_accepts_what_fits_it_and_nothing_else(example, separators):
    """With one space or none after commas and colons."""
    grammar = json_schema(example.schema)

    def written(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False, separators=separators)

    assert accepts(grammar, written(example.fitting))
    assert not accepts(grammar, written(example.unfitting))


PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Person",
    "description": "Someone.",
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "Full name.", "examples": ["Ann"]},
        "born": {"type": "string", "format": "date"},
        "parents": {"type": "array", "items": {"$ref": "#"}, "maxItems": 2},
        "kind": {"oneOf": [{"const": "friend"}, {"const": "other"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "fitting", "unfitting"),
    [
        (PERSON, '{"name": "Ann", "kind": "friend"}', '{"name": "Ann", "kind": "foe"}'),
        (PERSON, '{"name":"A","parents":[{"name":"B"}]}', '{"name":"A","parents":[{}]}'),
        (PERSON, '{"name":"A","born":"2020-02-29"}', '{"name":"A","born":"yesterday"}'),
        (PERSON, '{"name":"A"}', '{"kind":"other","name":"A"}'),
        ({"type": "string", "pattern": "^[a-z]+$"}, '"abc"', '"aBc"'),
        ({"type": "string", "pattern": "b"}, '"abc"', '"ac"'),
        ({"type": "number", "multipleOf": 0.5}, "1.5", "1.25"),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, "4", "3"),
        ({"type": "integer", "exclusiveMaximum": 3}, "2", "3"),
        ({"type": ["string", "null"]}, "null", "1"),
        ({"allOf": [{"type": "integer"}, {"maximum": 3}]}, "3", "4"),
        ({"$ref": "#/$defs/n", "maximum": 3, "$defs": {"n": {"type": "integer"}}}, "3", "4"),
        (
            {"type": "array", "items": [{"type": "integer"}], "additionalItems": False},
            "[1]",
            "[1,2]",
        ),
        ({"prefixItems": [{"type": "integer"}], "items": False, "type": "array"}, "[1]", "[1,2]"),
        (
            {"prefixItems": [{"const": 1}], "additionalItems": False, "type": "array"},
            "[1,2]",
            "[2]",
        ),
        (
            {"type": "object", "patternProperties": {"^a": {"type": "null"}}},
            '{"ab":null}',
            '{"ab":1}',
        ),
        ({"type": "object", "minProperties": 2}, '{"a":1,"b":1}', '{"a":1}'),
        ({}, '[1,{"a":null}]', "[1,"),
    ],
)
def test_keywords_do_what_they_say(schema, fitting, unfitting):
    """Each with JSON that fits and JSON that does not."""
    grammar = json_schema(schema)

    assert accepts(grammar, fitting)
    assert not accepts(grammar, unfitting)


def test_a_schema_cannot_choose_how_it_is_compiled():
    """``x-guidance`` would let it drop keywords, and allow white space without end."""
    grammar = json_schema({"type": "object", "x-guidance": {"whitespace_flexible": True}})

    assert not accepts(grammar, '{ "a":1}')


@pytest.mark.parametrize(
    ("text", "is_accepted"),
    [
        ("{}", True),
        ('{"a": 1, "b": [true, null, -1.5e3]}', True),
        ('{"ä": "\\n\\u0001"}', True),
        ('{"a":  1}', False),
        ('{"a": 1,\n"b": 2}', False),
        ("{ }", False),
        ("[]", False),
        ("1", False),
        ("", False),
        ('{"a": 1', False),
        ('{"a": NaN}', False),
        ('{"a": 01}', False),
        ("{} ", False),
    ],
)
def test_json_object_is_any_object(text, is_accepted):
    """And no white space without end."""
    assert is_accepted == accepts(grammar_of(JsonObjectFormat()), text)


@pytest.mark.parametrize(
    ("regex", "text", "is_accepted"),
    [
        ("a|bc", "bc", True),
        ("a|bc", "abc", False),
        ("^(a|bc)$", "bc", True),
        ("a/b//c", "a/b//c", True),
        ("/", "/", True),
        ('"\\d{3}"', '"123"', True),
        ('"\\d{3}"', '"12"', False),
        ("(?i)yes|no", "YES", True),
        ("[^\n]*\n", "ä\n", True),
        ("a.b", "a\nb", False),
    ],
)
def test_a_regex_matches_the_whole_answer(regex, text, is_accepted):
    """In the syntax of Rust's regex crate."""
    assert is_accepted == accepts(grammar_of(RegexFormat(regex)), text)


@pytest.mark.parametrize(
    ("regex", "fault"),
    [
        ("a" * 4097, "The regular expression has 4097 characters"),
        ("(?=a)", "looks around"),
        ("\ud800", "half of a surrogate pair at character 0"),
    ],
)
def test_a_regex_out_of_bounds_is_refused(regex, fault):
    """Before anything compiles it."""
    with pytest.raises(InvalidRequestError, match=fault) as caught:
        grammar_of(RegexFormat(regex))

    assert "response_format" == caught.value.param


def test_a_schema_is_refused_on_behalf_of_its_field():
    """`response_format` where it is the answer's, `tools` where it is a tool's."""
    with pytest.raises(InvalidRequestError, match=r"^The JSON Schema uses 'not'") as caught:
        json_schema({"not": {}})
    assert "response_format" == caught.value.param

    with pytest.raises(
        InvalidRequestError, match="The parameters of tool 'f' uses 'not'"
    ) as caught:
        required([Tool("f", parameters={"not": {}}, is_strict=True)], HERMES_CALLS)
    assert "tools" == caught.value.param


def test_grammars_are_bounded():
    """A schema of long names is refused, however few they are."""
    with pytest.raises(InvalidRequestError, match="right would be at most 262144"):
        json_schema({"enum": ["a" * 300_000]})


# Tools.

NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOLS = [
    Tool("get", parameters=NUMBER, is_strict=True),
    Tool("get_weather", parameters={"properties": {"city": {"type": "string"}}}),
    Tool("no_arguments"),
    Tool("any", parameters={}),
]
RIGHT = [
    ("get", '{"a": 1}'),
    ("get_weather", '{"city": "Rome", "unit": "K"}'),
    ("no_arguments", "{}"),
    ("any", '{"x": [1]}'),
]
WRONG = [
    ("get", '{"a": "1"}'),
    ("get", "{}"),
    ("get_weather", '{"city": 1}'),
    ("get_weather", '"Rome"'),
    ("no_arguments", '{"a": 1}'),
    ("any", "[]"),
    ("other", "{}"),
    ("ge", '{"a": 1}'),
]

with_and_without_ids = pytest.mark.parametrize("token_id", [tag_id, no_id])
every_form = pytest.mark.parametrize("form", FORMS)


def written(form: ToolCallForm, *calls: tuple[str, str]) -> str:
    return (
        form.begin
        + form.separator.join(
            form.call_begin + name + form.before_arguments + arguments + form.call_end
            for name, arguments in calls
        )
        + form.end
    )


def calls_accepted(
    grammar: str | None, form: ToolCallForm, text: str, token_id: Callable[[str], int | None]
) -> bool:
    """Whether the answer is accepted, its tags as tokens where they have ids."""
    assert grammar is not None
    token_ids: list[int] = []
    for piece, _ in form.pieces(text):
        tag = token_id(piece)
        token_ids += list(piece.encode()) if tag is None else [tag]
    return accepts_tokens(grammar, token_ids, TAGGED)


def required(
    tools: list[Tool],
    form: ToolCallForm,
    token_id: Callable[[str], int | None] = tag_id,
    *,
    name: str | None = None,
    is_parallel: bool = True,
) -> str | None:
    choice = ToolChoice(ToolMode.REQUIRED, name=name, is_parallel=is_parallel)
    return tools_grammar(tools, choice, form, token_id)


@with_and_without_ids
@every_form
def test_a_required_call_is_one_of_the_tools_with_its_arguments(form, token_id):
    """And there is nothing before it or after it."""
    grammar = required(TOOLS, form, token_id)

    for call in RIGHT:
        assert calls_accepted(grammar, form, written(form, call), token_id)
    for call in WRONG:
        assert not calls_accepted(grammar, form, written(form, call), token_id)
    for text in ("", "Hello.", "Hello." + written(form, RIGHT[0]), written(form, RIGHT[0]) + "."):
        assert not calls_accepted(grammar, form, text, token_id)


@with_and_without_ids
@every_form
def test_a_named_tool_is_the_only_one(form, token_id):
    """The other tools are not called."""
    grammar = required(TOOLS, form, token_id, name="get")

    assert calls_accepted(grammar, form, written(form, RIGHT[0]), token_id)
    assert not calls_accepted(grammar, form, written(form, RIGHT[1]), token_id)


@with_and_without_ids
@pytest.mark.parametrize("form", [DEEPSEEK_V31_CALLS, HERMES_CALLS])
def test_calls_are_as_many_as_are_allowed(form, token_id):
    """One where they are not parallel, else up to sixteen."""
    several = required(TOOLS, form, token_id)
    single = required(TOOLS, form, token_id, is_parallel=False)

    assert calls_accepted(several, form, written(form, *RIGHT), token_id)
    assert calls_accepted(several, form, written(form, *[RIGHT[0]] * MAX_CALLS), token_id)
    assert not calls_accepted(several, form, written(form, *[RIGHT[0]] * (MAX_CALLS + 1)), token_id)
    assert not calls_accepted(several, form, written(form, RIGHT[0], WRONG[0]), token_id)
    assert calls_accepted(single, form, written(form, RIGHT[0]), token_id)
    assert not calls_accepted(single, form, written(form, *RIGHT[:2]), token_id)


def test_a_form_may_have_one_call_only():
    """Llama's, as several are not told apart."""
    grammar = required(TOOLS, LLAMA3_CALLS)

    assert not calls_accepted(grammar, LLAMA3_CALLS, written(LLAMA3_CALLS, *RIGHT[:2]), tag_id)


@with_and_without_ids
@every_form
def test_with_a_strict_tool_the_model_may_choose_and_its_calls_fit(form, token_id):
    """Any text, and right calls; wrong ones never."""
    grammar = tools_grammar(TOOLS, ToolChoice(ToolMode.AUTO), form, token_id)

    for text in ("", "Hello.\n\nHow are you? {}", *(written(form, call) for call in RIGHT)):
        assert calls_accepted(grammar, form, text, token_id)
    for call in WRONG:
        assert not calls_accepted(grammar, form, written(form, call), token_id)
    assert not calls_accepted(grammar, form, written(form, RIGHT[0]) + ".", token_id)


@with_and_without_ids
@pytest.mark.parametrize("form", [DEEPSEEK_V31_CALLS, HERMES_CALLS])
def test_text_may_stand_before_calls(form, token_id):
    """Where tags tell where it ends."""
    grammar = tools_grammar(TOOLS, ToolChoice(ToolMode.AUTO), form, token_id)

    assert calls_accepted(grammar, form, "I look.\n" + written(form, *RIGHT[:2]), token_id)
    assert not calls_accepted(grammar, form, "I look.\n" + written(form, WRONG[0]), token_id)


def test_without_tags_no_call_hides_behind_spaces():
    """What begins as a call is one."""
    grammar = tools_grammar(TOOLS, ToolChoice(ToolMode.AUTO), LLAMA3_CALLS, tag_id)

    for text in ("\n" + written(LLAMA3_CALLS, WRONG[0]), '{"name": "other"}', "{}"):
        assert not calls_accepted(grammar, LLAMA3_CALLS, text, tag_id)


@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        (TOOLS, ToolChoice(ToolMode.NONE)),
        (TOOLS[1:], ToolChoice(ToolMode.AUTO)),
        ([], ToolChoice(ToolMode.AUTO)),
    ],
)
def test_otherwise_any_answer_will_do(tools, choice):
    """No tool may be called, or none is strict and none has to be."""
    assert tools_grammar(tools, choice, HERMES_CALLS, tag_id) is None


def test_a_tool_that_is_not_strict_may_have_keywords_that_cannot_be_enforced():
    """The rest of its parameters is enforced."""
    parameters = NUMBER | {"not": {"required": ["b"]}, "oneOf": [{"required": ["a"]}, {}]}
    grammar = required([Tool("f", parameters=parameters)], HERMES_CALLS)

    assert calls_accepted(grammar, HERMES_CALLS, written(HERMES_CALLS, ("f", '{"a": 1}')), tag_id)
    assert not calls_accepted(grammar, HERMES_CALLS, written(HERMES_CALLS, ("f", "{}")), tag_id)


def test_a_strict_tools_alternatives_have_to_exclude_each_other():
    """What llguidance cannot tell apart it refuses, as ``oneOf`` would not be kept."""
    parameters = {"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    grammar = required([Tool("f", parameters=parameters, is_strict=True)], HERMES_CALLS)

    assert "oneOf" in LLMatcher(TAGGED, grammar or "", log_level=0).get_error()


@pytest.mark.parametrize(
    ("tools", "name", "param", "fault"),
    [
        (TOOLS, "other", "tool_choice", "tool_choice requires 'other', and tools has 'get', 'get_"),
        ([], None, "tool_choice", "tools has none"),
        ([Tool('a"b')], None, "tools", "tools has the name 'a\"b'; right would be letters"),
        (
            [Tool("f", parameters={"type": "string"})],
            None,
            "tools",
            "The parameters of tool 'f' are of type 'string'; right would be 'object'",
        ),
    ],
)
def test_tools_that_cannot_be_called_are_refused(tools, name, param, fault):
    """With the field that is wrong."""
    with pytest.raises(InvalidRequestError) as caught:
        required(tools, HERMES_CALLS, name=name)

    assert fault in str(caught.value)
    assert param == caught.value.param


PRICE = JsonSchemaFormat(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "price": {"type": "integer"}},
        "required": ["price"],
        "additionalProperties": False,
    }
)


@with_and_without_ids
@every_form
def test_where_text_has_a_form_the_answer_is_such_text_or_calls(form, token_id):
    """Also where both are JSON that begins alike; strict or not."""
    choice = ToolChoice(ToolMode.AUTO)
    grammar = tools_grammar(TOOLS[1:], choice, form, token_id, text_format=PRICE)

    for text in ('{"price": 1}', '{"name": "get", "price": 1}', '{"name":"any","price":1}'):
        assert calls_accepted(grammar, form, text, token_id)
    for call in RIGHT[1:]:
        assert calls_accepted(grammar, form, written(form, call), token_id)
    for text in ("", "Hello.", '{"price": "1"}', '{"price": 1}' + written(form, RIGHT[1])):
        assert not calls_accepted(grammar, form, text, token_id)
    for call in (RIGHT[0], *WRONG):  # the first tool is not offered
        assert not calls_accepted(grammar, form, written(form, call), token_id)


def test_a_forms_texts_are_cut_at_its_tags():
    """Into pieces that are one token each, and ordinary text."""
    assert [("<tool_call>", True), ('\n{"name": "', False)] == HERMES_CALLS.pieces(
        HERMES_CALLS.opening
    )
    assert [("<｜tool▁calls▁begin｜>", True), ("<｜tool▁call▁begin｜>", True)] == (
        DEEPSEEK_V31_CALLS.pieces(DEEPSEEK_V31_CALLS.opening)
    )
    assert [("}", False)] == LLAMA3_CALLS.pieces("}")
    assert [] == LLAMA3_CALLS.pieces("") == HERMES_CALLS.pieces("")
