import json

import pytest

from stillhouse.clock import Clock, FrozenClock
from stillhouse.errors import CheckpointError, InvalidRequestError, UnsupportedFeatureError
from stillhouse.text.prompt.template import ChatTemplate
from stillhouse.text.tokenizer import Segment
from stillhouse.types.messages import Message, Tool
from tests.unit.text.checkpoints import assistant, called, system, tool_result, user
from tests.unit.text.templates import R1

DOUBLING = "{{% set n = namespace(s='xx', l=[0]) %}}{{% for i in range(64) %}}{}{{% endfor %}}"
ECHO = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def _template(source: str, clock: Clock | None = None) -> ChatTemplate:
    return ChatTemplate(source, name="t.jinja", special_tokens={"bos_token": "<s>"}, clock=clock)


def _text(template: ChatTemplate, *messages: Message) -> str:
    return "".join(segment.text for segment in template.render(messages))


def test_request_text_stays_apart_from_the_templates_own():
    """Template text and request text alternate, white space around a text counting as template."""
    segments = _template(ECHO).render([system("<s>"), user(" a b\n")])

    assert [
        Segment("[system]", is_template=True),
        Segment("<s>", is_template=False),
        Segment("[user] ", is_template=True),
        Segment("a b", is_template=False),
        Segment("\n", is_template=True),
    ] == segments


@pytest.mark.parametrize(
    "text", ["", " \n", "\x02", "\x03", "{{ 7 * 6 }}", "{% raw %}", "\x020\x03"]
)
def test_text_is_never_taken_for_anything_else(text):
    """Jinja syntax, delimiters and emptiness in a request are text like any other."""
    assert f"[user]{text}[user]x" == _text(_template(ECHO), user(text), user("x"))


def test_variables_of_transformers_are_there():
    """Special tokens, the generation flag and absent tools are what templates expect."""
    source = (
        "{{ bos_token }}{{ add_generation_prompt }}{{ tools is none }}{{ documents is none }}"
        "{{ messages[0].content }}"
    )

    assert "<s>TrueTrueTruex" == _text(_template(source), user("x"))


def test_blocks_are_trimmed_as_in_transformers():
    """Lines that hold only a block leave no line behind."""
    source = "  {% if true %}\n{{ messages[0].content }}\n  {% endif %}\n-"

    assert "x\n-" == _text(_template(source), user("x"))


def test_loop_controls_and_json_work():
    """Loops can be left early, and tojson writes plain characters without HTML escapes."""
    source = (
        "{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}"
        "{{ {'é': '<'} | tojson }}{{ messages[0].content }}"
    )

    assert '01{"é": "<"}x' == _text(_template(source), user("x"))


def test_date_comes_from_the_clock():
    """strftime_now reads the clock that was passed, in UTC."""
    template = _template("{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}", FrozenClock(0))

    assert "01 Jan 1970x" == _text(template, user("x"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].content[:9] }}",
        "{{ messages[0].content[1:] }}",
        "{{ messages[0].content | upper }}",
        "{{ messages[0].content | tojson | upper }}",
        "{{ (messages[0].content | tojson)[1:] }}",
        "{{ messages[0].content | reverse }}",
        "{{ messages[0].content }}{{ messages[0].content[:4] }}",
        "{{ messages[0].content | replace('\\x03', '') }}",
        "{{ messages[0].content.split(':')[0] }}",
        "{{ messages[0].content }}{{ messages[0].content.split(':')[0] ~ ':9\x03' }}",
        "{{ messages[0].content ~ '\x02x:0\x03' }}",
        "{{ messages | length }}",
    ],
)
def test_templates_that_change_text_are_refused(source):
    """Anything but writing each text whole is found when the template is loaded."""
    with pytest.raises(CheckpointError, match=r"^t\.jinja: "):
        _template(source)


def test_text_that_has_no_place_is_refused_by_name():
    """A message that the template leaves out is named, instead of being dropped silently."""
    template = _template("{{ messages[-1].content }}")

    with pytest.raises(InvalidRequestError, match=r"messages\[0\] \(role assistant\)"):
        template.render([assistant("a"), user("b")])


def test_refusal_of_a_template_reaches_the_caller():
    """raise_exception is the template's way to say what a conversation must look like."""
    template = _template(
        "{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}"
        "{{ messages[0].content }}"
    )

    with pytest.raises(InvalidRequestError, match="refuses this conversation: one only"):
        template.render([user("a"), user("b")])


@pytest.mark.parametrize(
    "source",
    [
        "{% for %}",
        "{{ 'x' | center(9) }}",
        "{% include 'x' %}",
        "{{ messages[0].nothing.more }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ 1 / 0 }}",
        "{{ strftime_now('%Y') }}",
        "{{ raise_exception('no') }}",
        "{{ lipsum() }}",
        "{{ " + "(" * 5000 + ")" * 5000 + " }}",
        "x" * 200_000,
    ],
)
def test_broken_templates_are_found_when_loaded(source):
    """A template that cannot render the simplest conversation never serves one."""
    with pytest.raises(CheckpointError, match=r"^t\.jinja: "):
        _template(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(4096) %}{% for j in range(4096) %}{% endfor %}{% endfor %}",
        "{% for i in range(4096) %}{% for j in range(4096) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% for i in range(5000) %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ 'x'.ljust(1000000000) }}",
        "{{ (5).to_bytes(1000000000, 'big') | length }}",
        "{{ {} | tojson(indent=1000000000) }}",
        DOUBLING.format("{% set n.s = n.s + n.s %}"),
        DOUBLING.format("{% set n.s = n.s ~ n.s %}"),
        DOUBLING.format("{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}"),
        DOUBLING.format("{% set n.s = n.s | replace('x', n.s) %}"),
        DOUBLING.format("{% set n.s = [n.s, n.s] | join %}"),
        DOUBLING.format("{% set n.s = [n.s, n.s] | map('string') | join(n.s) %}"),
        DOUBLING.format("{% set n.l = n.l + n.l %}"),
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{{ n.l }}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{% set s = n.l | string %}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{% set s = '' ~ n.l %}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{% set s = n.l | join %}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{% set s = n.l | tojson %}",
        DOUBLING.format("{% set n.l = {'a': n.l, 'b': n.l} %}") + "{% set s = n.l | trim %}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{% set s = n.l | replace('x', 'y') %}",
        DOUBLING.format("{% set n.l = [n.l, n.l] %}") + "{{ n }}",
        "{% for i in range(4000) %}" + "x" * 99 + "{% endfor %}",
    ],
)
def test_work_of_templates_is_bounded(source):
    """Endless loops and exploding texts are cut off in milliseconds, with little memory."""
    with pytest.raises(CheckpointError, match=r"^t\.jinja: "):
        _template(source + "{{ messages[0].content }}")


def test_long_conversations_are_within_the_bounds():
    """The bounds grow with the conversation: five thousand messages render."""
    turns = [message for n in range(2500) for message in (user(f"q{n}"), assistant(f"a{n}"))]

    segments = _template(R1).render([system("s"), *turns, user("last")])

    assert 5002 == sum(not segment.is_template for segment in segments)


TOOL = Tool("f", "d \x02", {"type": "object", "properties": {"é <s>": {"enum": ["<s>", 1, None]}}})
TOOL_JSON = (
    '{"type": "function", "function": {"name": "f", "description": "d \\u0002", "parameters": '
    '{"type": "object", "properties": {"é <s>": {"enum": ["<s>", 1, null]}}}}}'
)
PIECE_BY_PIECE = """\
{%- set f = tools[0].function %}{{ f.name }}|{{ f['description'] | trim }}|{{ f.parameters.type }}
{%- for key, value in f.parameters.properties.items() %}
  {{- '|' + key }}
  {%- for one in value.enum if one is string %}{{ '|' + one }}{% endfor %}
{%- endfor %}
{{- '|' ~ (f.parameters.properties | length) }}"""
CALLS = (
    user("a"),
    called(("f", '{"b": 1}'), ("g", "not JSON")),
    tool_result("c"),
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ tools | tojson }}", f"[{TOOL_JSON}]"),
        ("{% for t in tools %}{{ t | tojson }}{% endfor %}", TOOL_JSON),
        ("{{ {'tool': tools[0]} | tojson }}", f'{{"tool": {TOOL_JSON}}}'),
        (
            "{{ tools | tojson(indent=2) }}",
            json.dumps([json.loads(TOOL_JSON)], indent=2, ensure_ascii=False),
        ),
        (
            "{{ tools | tojson(separators=(',', ':')) }}",
            f"[{TOOL_JSON}]".replace(", ", ",").replace(": ", ":"),
        ),
        ("{{ tools | tojson(ensure_ascii=true) }}", f"[{TOOL_JSON}]".replace("é", "\\u00e9")),
        (
            "{{ tools | tojson(sort_keys=true) }}",
            json.dumps([json.loads(TOOL_JSON)], sort_keys=True, ensure_ascii=False),
        ),
        (
            PIECE_BY_PIECE,
            "f|d \x02|object|é <s>|<s>|1",
        ),
    ],
)
def test_tools_can_be_written_as_json_and_piece_by_piece(source, expected):
    """Templates see tools in OpenAI's shape; all JSON of it is that of the request's own words."""
    template = _template("{% if tools %}" + source + "{% endif %}{{ messages[0].content }}")

    segments = template.render([user("x")], tools=[TOOL])

    assert f"{expected}x" == "".join(segment.text for segment in segments)
    assert not any("<s>" in segment.text for segment in segments if segment.is_template)


def test_arguments_are_written_as_text_or_as_json():
    """Some families take a call's arguments as text and others as an object, to one effect."""
    source = (
        "{{ messages[0].content }}{% for call in messages[1].tool_calls %}"
        "|{{ call.function.name + ' ' + call['function']['arguments'] }}"
        "|{{ call.function.arguments | tojson }}|{{ call.function | tojson }}{% endfor %}"
        "{{ messages[2].content }}"
    )

    assert (
        'a|f {"b": 1}|{"b": 1}|{"name": "f", "arguments": {"b": 1}}'
        '|g not JSON|not JSON|{"name": "g", "arguments": "not JSON"}c'
    ) == _text(
        _template(
            "{% if messages|length > 1 %}" + source + "{% else %}"
            "{{ messages[0].content }}{% endif %}"
        ),
        *CALLS,
    )


def test_a_call_without_arguments_has_an_empty_object():
    """Some clients send no text at all where there are no arguments."""
    source = (
        "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}"
        "{{ m.tool_calls[0].function.name ~ m.tool_calls[0].function.arguments }}"
        "{% endif %}{% endfor %}"
    )

    assert "af{}" == _text(_template(source), user("a"), called(("f", "")))


@pytest.mark.parametrize(
    ("source", "left_out"),
    [
        (
            "{{ tools[0].function.name }}{{ tools[0].function.parameters | tojson }}",
            "function.description",
        ),
        ("{{ tools[0].function.name ~ tools[0].function.description }}", "function.parameters"),
        (
            "{{ tools[0].function.description }}{{ tools[0].function.parameters | tojson }}",
            "function.name",
        ),
    ],
)
def test_part_of_a_tool_that_has_no_place_is_refused(source, left_out):
    """A tool that the model would not be told of in full is refused by the part's name."""
    template = _template("{% if tools %}" + source + "{% endif %}{{ messages[0].content }}")

    with pytest.raises(UnsupportedFeatureError, match=rf"part of tools\[0\]\.{left_out}") as caught:
        template.render([user("x")], tools=[TOOL])

    assert "tools" == caught.value.param


@pytest.mark.parametrize(
    ("source", "left_out"),
    [
        (
            "{{ m.content }}{{ m.tool_calls[0].function.name if m.tool_calls }}",
            r"tool_calls\[0\]\.function\.arguments",
        ),
        (
            "{{ m.content }}{{ m.tool_calls[0].function.arguments if m.tool_calls }}",
            r"tool_calls\[0\]\.function\.name",
        ),
        (
            "{{ m.content }}{{ m.tool_calls[0].function | tojson if m.tool_calls }}",
            r"tool_calls\[1\]\.function\.name",
        ),
        (
            "{{ m.content if not m.tool_call_id }}{{ m.tool_calls | tojson if m.tool_calls }}",
            r"messages\[2\] \(role tool\)",
        ),
    ],
)
def test_part_of_a_call_that_has_no_place_is_refused(source, left_out):
    """A call or a result that the model would not see again is refused by its name."""
    template = _template("{% for m in messages %}" + source + "{% endfor %}")

    with pytest.raises(InvalidRequestError, match=left_out) as caught:
        template.render(CALLS)

    assert "messages" == caught.value.param


def test_reasoning_and_ids_need_no_place():
    """What most templates drop by design is no reason to refuse a conversation."""
    text = _text(_template(ECHO), user("a"), assistant("b", reasoning="hm"), user("c"))

    assert "[user]a[assistant]b[user]c" == text


def test_variables_reach_the_template():
    """A family can tell the template more, such as whether to think."""
    template = _template("{{ messages[0].content }}{{ thinking is defined and thinking }}")

    segments = template.render([user("x")], variables={"thinking": True, "messages": "mine"})

    assert "xTrue" == "".join(segment.text for segment in segments)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ((user("a"),), "[system][system]<b>T[user]a"),
        ((user("a"), system("s")), "[user]a[system]s[system]<b>T"),
        ((system("s"), user("a")), "[system]s[system]<b>T[user]a"),
    ],
)
def test_a_preface_is_a_further_system_text(messages, expected):
    """It stands behind the request's own system texts, its tags the template's."""
    preface = [Segment("<b>", is_template=True), Segment("T", is_template=False)]
    segments = _template(ECHO).render(messages, preface=preface)

    assert expected == "".join(segment.text for segment in segments)
    assert {"T"} <= {segment.text for segment in segments if not segment.is_template}


def test_template_that_fails_on_a_conversation_refuses_it():
    """Roles that a template was not made for are the conversation's fault, not the server's."""
    template = _template("{{ messages[0].content }}{{ 1 / 0 if messages[1] }}")

    with pytest.raises(InvalidRequestError, match="fails on this conversation with ZeroDivision"):
        template.render([user("a"), user("b")])


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(4000) %}{% set _ = tools | tojson %}{% endfor %}",
        DOUBLING.format("{% set n.l = [n.l, n.l, tools] %}") + "{% set _ = n.l | tojson %}",
        "{{ tools | tojson(indent=9) }}",
        "{{ tools | tojson(separators=('x' * 9, ':')) }}",
    ],
)
def test_json_that_templates_write_is_bounded(source):
    """However often a template writes the tools, it is cut off after some megabytes."""
    template = _template("{{ messages[0].content }}{% if tools %}" + source + "{% endif %}")
    tools = [Tool("f", "d" * 10_000)] * 10

    with pytest.raises((InvalidRequestError, CheckpointError)):
        template.render([user("x")], tools=tools)
    assert not template.writes_tools or "4000" in source
