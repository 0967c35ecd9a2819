import pytest

from stillhouse.types.messages import ToolChoice, ToolMode
from stillhouse.types.requests import Effort
from stillhouse.types.response_format import JsonObjectFormat
from tests.unit.text.checkpoints import (
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    THINK,
    USER,
    WEATHER,
    assistant,
    called,
    chat,
    qwen_tokenizer,
    read,
    tool_result,
    user,
)

QWEN = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
DEEPSEEK = f"{BOS}{USER}a{ASSISTANT}"
BEGINNINGS = [
    # model, effort, the assistant's message, how the prompt ends, and whether in reasoning
    ("qwen25_model", None, assistant("The answer is "), f"{QWEN}The answer is ", False),
    ("qwen25_model", None, assistant("R\n"), f"{QWEN}R\n", False),
    ("qwen25_model", None, assistant(""), QWEN, False),
    ("qwen25_model", None, assistant("<think>a"), f"{QWEN}<think>a", False),
    ("qwen25_model", Effort.HIGH, assistant("a"), f"{QWEN}a", False),
    ("r1_model", None, assistant("So "), f"{DEEPSEEK}<think>\n\n</think>\n\nSo ", False),
    ("r1_model", Effort.NONE, assistant("So "), f"{DEEPSEEK}<think>\n\n</think>\n\nSo ", False),
    ("r1_model", None, assistant(""), f"{DEEPSEEK}<think>\n", True),
    (
        "r1_model",
        None,
        assistant("<think>\n\n</think>\n\nHello"),
        f"{DEEPSEEK}<think>\n\n</think>\n\nHello",
        False,
    ),
    (
        "r1_model",
        None,
        assistant("<think>\n\n</think>\n\n"),
        f"{DEEPSEEK}<think>\n\n</think>\n\n",
        False,
    ),
    ("r1_model", None, assistant("<think>\nHm, "), f"{DEEPSEEK}<think>\nHm, ", True),
    ("r1_model", None, assistant("", reasoning="Hm, "), f"{DEEPSEEK}<think>\nHm, ", True),
    (
        "r1_model",
        None,
        assistant("So ", reasoning="Hm.\n"),
        f"{DEEPSEEK}<think>\nHm.\n</think>\n\nSo ",
        False,
    ),
    (
        "r1_model",
        Effort.NONE,
        assistant("So ", reasoning="Hm."),
        f"{DEEPSEEK}<think>\n\n</think>\n\nSo ",
        False,
    ),
    ("v31_model", None, assistant("So "), f"{DEEPSEEK}</think>So ", False),
    ("v31_model", Effort.LOW, assistant("So "), f"{DEEPSEEK}<think></think>So ", False),
    (
        "v31_model",
        None,
        assistant("So ", reasoning="Hm"),
        f"{DEEPSEEK}<think>Hm</think>So ",
        False,
    ),
    ("v31_model", None, assistant("<think>Hm"), f"{DEEPSEEK}<think>Hm", True),
    ("v31_model", Effort.NONE, assistant("<think>Hm</think>So"), f"{DEEPSEEK}</think>So", False),
    ("qwen3_model", None, assistant("So "), f"{QWEN}<think>\n\n</think>\n\nSo ", False),
    ("qwen3_model", Effort.NONE, assistant("So "), f"{QWEN}<think>\n\n</think>\n\nSo ", False),
    ("qwen3_model", None, assistant(""), QWEN, False),
    ("qwen3_model", None, assistant("", reasoning="Hm"), f"{QWEN}<think>\nHm", True),
    (
        "qwen3_model",
        None,
        assistant("So ", reasoning="Hm"),
        f"{QWEN}<think>\nHm\n</think>\n\nSo ",
        False,
    ),
]


@pytest.mark.parametrize("case", BEGINNINGS, ids=lambda case: f"{case[0]}-{case[1]}")
def test_last_message_of_the_assistant_is_continued(request, case):
    """The prompt goes on with its thoughts and content, nothing stripped, and no end token."""
    name, effort, last, expected, in_reasoning = case
    model = request.getfixturevalue(name)

    prompt = model.encode_prompt(chat(user("a"), last, effort=effort))

    text = read(model, prompt)
    assert expected == text.removeprefix(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. "
        "You are a helpful assistant.<|im_end|>\n"
    )
    assert in_reasoning == prompt.opens_in_reasoning


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([user("a")], False),
        ([user("a"), assistant("")], False),
        ([user("a"), assistant("<think>\n\n</think>\n\n")], False),
        ([user("a"), assistant("So")], True),
        ([user("a"), assistant("", reasoning="Hm")], True),
    ],
)
def test_prompt_says_whether_it_ends_in_the_assistants_words(r1_model, messages, expected):
    """Only words are gone on with; tags around empty thoughts are none."""
    assert expected == r1_model.encode_prompt(chat(*messages)).is_continuation


def test_tags_in_a_beginning_are_the_templates(r1_model, tokenizer):
    """The tags around given thoughts are tokens; the same letters further on are letters."""
    prompt = r1_model.encode_prompt(chat(user("a"), assistant("<think>x</think>y</think>z")))

    ids = [tokenizer.token_to_id(tag) for tag in (THINK, CLOSE_THINK)]
    assert [1, 1] == [prompt.token_ids.count(token_id) for token_id in ids]
    assert read(r1_model, prompt).endswith("<think>\nx\n</think>\n\ny</think>z")


@pytest.mark.parametrize(
    ("last", "in_reasoning"),
    [(assistant("So"), False), (assistant("", reasoning="Hm"), True), (assistant(""), True)],
)
def test_bound_answers_wait_for_the_reasoning_that_is_open(qwen3_model, last, in_reasoning):
    """What binds an answer waits for the closing tag exactly where it is still to come."""
    request = chat(
        user("a"),
        last,
        tools=(WEATHER,),
        tool_choice=ToolChoice(ToolMode.REQUIRED),
    )
    prompt = qwen3_model.encode_prompt(request)
    constraint = qwen3_model.constraint(request, prompt)

    assert in_reasoning == prompt.opens_in_reasoning
    assert constraint
    assert in_reasoning == (constraint.after_token_id is not None)


def test_an_empty_beginning_does_not_hinder_a_form(r1_model):
    """A last message of the assistant's without content is the whole answer still to come."""
    request = chat(user("a"), assistant(""), response_format=JsonObjectFormat())

    assert r1_model.encode_prompt(request).opens_in_reasoning


def test_no_reasoning_is_opened_after_results_of_tools(v31_model):
    """Behind a tool's result V3.1 goes on without a turn of its own, and without thoughts."""
    prompt = v31_model.encode_prompt(
        chat(user("a"), called(("f", "{}")), tool_result("b"), effort=Effort.HIGH)
    )

    assert read(v31_model, prompt).endswith("b<｜tool▁output▁end｜>")
    assert not prompt.opens_in_reasoning


def test_answers_that_go_on_keep_their_newlines(qwen3_model):
    """What follows half an answer is told as it stands, from the first newline on."""
    request = chat(user("a"), assistant("Line 1"))
    parser = qwen3_model.output_parser(qwen3_model.encode_prompt(request), request, request_id="r")

    delta = parser.push(qwen_tokenizer().encode("\nLine 2").ids)

    assert "\nLine 2" == delta.content + parser.finish().content
