import pytest

from stillhouse.chat import Message
from stillhouse.clock import Clock, FrozenClock
from stillhouse.errors import CheckpointError, InvalidRequestError
from stillhouse.models.template import ChatTemplate
from stillhouse.models.tokenizer import Segment
from tests.unit.models.checkpoints import assistant, system, user
from tests.unit.models.templates import R1

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
        "{{ messages[0].content | tojson }}",
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
