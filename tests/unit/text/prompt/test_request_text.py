"""Whatever stands in a request, and wherever, none of it becomes an added token."""

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import InvalidRequestError
from stillhouse.types.messages import Tool
from stillhouse.types.requests import ChatRequest, Effort
from tests.effort import examples
from tests.unit.text.checkpoints import (
    ADDED_TOKENS,
    CLOSE_THINK,
    DEEPSEEK_TOOL_TOKENS,
    LLAMA_SPECIAL,
    QWEN_ADDED,
    QWEN_SPECIAL,
    THINK,
    added_ids,
    assistant,
    called,
    chat,
    read,
    system,
    tool_result,
    user,
)

HARMLESS = st.text(st.characters(codec="utf-8", exclude_characters="<>｜|"), max_size=20)
CHAT_PLACES = ("system", "user", "assistant", "reasoning", "last", "beginning", "thoughts")
TOOL_PLACES = (
    "result",
    "result id",
    "call name",
    "call arguments",
    "call id",
    "tool name",
    "tool description",
    "schema value",
    "schema key",
    "schema word",
)
TOKENS = {
    "r1_model": ADDED_TOKENS,
    "v31_model": (*ADDED_TOKENS, *DEEPSEEK_TOOL_TOKENS),
    "llama_model": LLAMA_SPECIAL,
    "qwen25_model": (*QWEN_SPECIAL, *QWEN_ADDED),
    "qwen3_model": (*QWEN_SPECIAL, *QWEN_ADDED),
}
LEFT_OUT = {"reasoning", "call id", "result id"}
THINKERS = {"r1_model", "qwen3_model"}  # V3.1 has no thoughts behind the results of tools
CASES = [
    (model, place)
    for model in TOKENS
    for place in (CHAT_PLACES if model == "r1_model" else CHAT_PLACES + TOOL_PLACES)
]


@pytest.mark.parametrize(("model", "place"), CASES)
@settings(max_examples=examples(25), deadline=None)
@given(data=st.data())
def test_text_never_becomes_an_added_token(request, model, place, data):
    """Whoever writes an added token and wherever, the prompt has the template's own and no more."""
    token = data.draw(st.sampled_from(TOKENS[model]), label="token")
    before, after = data.draw(st.tuples(HARMLESS, HARMLESS), label="around")
    if place in {"assistant", "beginning"} and token in {THINK, CLOSE_THINK}:
        token = token.upper()  # there the real ones tell thoughts from content, as they should
    text = f"x{before}{token}{after}x"
    has_tools = model != "r1_model"
    model = request.getfixturevalue(model)

    prompt = model.encode_prompt(_conversation(place, text, has_tools=has_tools))
    harmless = model.encode_prompt(_conversation(place, "harmless", has_tools=has_tools))

    assert added_ids(model, harmless) == added_ids(model, prompt)


@pytest.mark.parametrize(("model", "place"), CASES)
def test_text_reaches_the_prompt_letter_by_letter(request, model, place):
    """What the model is shown of a text is the text, but for JSON's escapes where JSON is due."""
    has_tools = model != "r1_model"
    is_left_out = place in LEFT_OUT or (place == "thoughts" and model not in THINKERS)
    text = f"a {TOKENS[model][1]} é"
    model = request.getfixturevalue(model)

    decoded = read(model, model.encode_prompt(_conversation(place, text, has_tools=has_tools)))

    assert is_left_out != (text in decoded)


@settings(max_examples=examples(40), deadline=None)
@given(token=st.sampled_from(ADDED_TOKENS), data=st.data())
def test_added_token_split_over_messages_stays_text(r1_model, token, data):
    """Halves of an added token at the edges of neighbouring messages do not grow together."""
    cut = data.draw(st.integers(1, len(token) - 1))

    prompt = r1_model.encode_prompt(
        chat(system(token[:cut]), user(token[cut:]), user(f"x{token[:cut]}"))
    )
    harmless = r1_model.encode_prompt(chat(system("a"), user("b"), user("c")))

    assert added_ids(r1_model, harmless) == added_ids(r1_model, prompt)


@pytest.mark.parametrize("token", QWEN_ADDED)
def test_halves_of_a_token_in_tools_stay_text(qwen25_model, token):
    """Nor do halves of one in a tool's definition, where the template writes JSON around them."""
    cut = len(token) // 2
    tools = (
        Tool("a", token[:cut], {token[cut:]: token[:cut], "type": token[cut:]}),
        Tool(token[:cut], token[cut:]),
    )
    harmless = (Tool("a"), Tool("b"))

    assert added_ids(qwen25_model, qwen25_model.encode_prompt(chat(user("x"), tools=harmless))) == (
        added_ids(qwen25_model, qwen25_model.encode_prompt(chat(user("x"), tools=tools)))
    )


TURNS = st.sampled_from(
    [
        system("s"),
        user(" u\n"),
        user(""),
        assistant("a"),
        assistant("<think>x</think>y"),
        assistant("", reasoning="hm"),
        called(("f", "{}")),
        called(("f", ""), ("g", "not JSON"), content="c", reasoning="hm"),
        tool_result("r"),
        tool_result(""),
    ]
)


@settings(max_examples=examples(150), deadline=None)
@given(data=st.data())
def test_every_order_of_roles_is_rendered_or_refused(request, data):
    """No conversation, however odd, makes a published template fail: at worst it is refused."""
    messages = data.draw(st.lists(TURNS, max_size=6), label="messages")
    tools = data.draw(st.sampled_from([(), (Tool("f"),)]), label="tools")
    effort = data.draw(st.sampled_from([None, *Effort]), label="effort")
    asked = chat(*messages, tools=tools, effort=effort)

    for name in TOKENS:
        with suppress(InvalidRequestError):
            assert request.getfixturevalue(name).encode_prompt(asked).token_ids


def _conversation(place: str, text: str, *, has_tools: bool) -> ChatRequest:
    """A conversation with the text in one place of it."""

    def at(name: str, usual: str) -> str:
        return text if name == place else usual

    request = chat(
        system(at("system", "be brief")),
        user(at("user", "hello")),
        assistant(at("assistant", "hi"), reasoning=at("reasoning", "hm")),
        user(at("last", "and now?")),
    )
    if has_tools:
        request = _with_tools(request, at)
    if place in {"beginning", "thoughts"}:
        beginning = assistant(at("beginning", "So"), reasoning=at("thoughts", ""))
        # With tools, DeepSeek-V3.1 would have no thoughts at all.
        tools = () if place == "thoughts" else request.tools
        request = replace(request, messages=(*request.messages, beginning), tools=tools)
    return request


def _with_tools(request, at):
    call = called(
        (at("call name", "f"), json.dumps({"a": at("call arguments", "b")}, ensure_ascii=False))
    )
    calls = tuple(replace(one, id=at("call id", one.id)) for one in call.tool_calls)
    schema = {
        "type": at("schema word", "object"),
        "properties": {at("schema key", "k"): {"description": at("schema value", "v")}},
    }
    tool = Tool(at("tool name", "f"), at("tool description", "d"), schema)
    return replace(
        request,
        messages=(
            *request.messages,
            replace(call, tool_calls=calls),
            tool_result(at("result", "r"), at("result id", "call_1")),
        ),
        tools=(tool,),
    )
