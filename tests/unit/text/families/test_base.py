import pytest

from stillhouse.text.families import FAMILIES
from stillhouse.text.families.base import ReasoningTags, opens_in_reasoning
from stillhouse.text.tokenizer import Segment
from tests.unit.text.checkpoints import assistant

ANSWER = "<think>x</think>y</think>z"


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], False),
        (["a"], False),
        (["<think>a"], True),
        (["<think>a", "b"], True),
        (["<think>a</think>"], False),
        (["</think>", "<think>"], True),
        (["<think>", "b</think>"], False),
    ],
)
def test_last_tag_of_the_prompt_decides_where_the_answer_starts(parts, expected):
    """An answer starts in reasoning exactly where the template's last tag opens one."""
    rendered = [
        segment
        for part in parts
        for segment in (
            Segment(part, is_template=True),
            Segment("</think> <think>", is_template=False),
        )
    ]

    assert expected == opens_in_reasoning(rendered, ReasoningTags())


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("deepseek_r1", assistant("z")),
        ("deepseek_v31", assistant("y</think>z")),
        ("qwen3", assistant("z", reasoning="x")),
        ("qwen25", assistant(ANSWER)),
        ("llama3", assistant(ANSWER)),
        ("plain", assistant(ANSWER)),
    ],
)
def test_history_keeps_what_the_models_own_template_keeps(family, expected):
    """R1 cuts at the last `</think>`, V3.1 at the first, Qwen3 splits, others leave it."""
    assert expected == FAMILIES[family].history(assistant(ANSWER))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_history_without_reasoning_is_kept_whole(name):
    """An answer without reasoning goes into the next prompt as it was."""
    answer = assistant("\nSous vide.")

    assert answer == FAMILIES[name].history(answer)


@pytest.mark.parametrize("name", ["deepseek_r1", "deepseek_v31"])
def test_deepseek_forgets_reasoning_that_came_apart(name):
    """Reasoning that a client gives back in a field of its own is no part of the next prompt."""
    answer = assistant("Hi!", reasoning="Hm.")

    assert assistant("Hi!") == FAMILIES[name].history(answer)
