import pytest

from stillhouse.models.dialects import DIALECTS
from stillhouse.models.dialects.base import MarkIds, opens_in_reasoning

MARKS = MarkIds(open=1, close=2)


@pytest.mark.parametrize(
    ("prompt_token_ids", "expected"),
    [([], False), ([5, 6], False), ([5, 1, 6], True), ([1, 5, 2], False), ([2, 5, 1], True)],
)
def test_last_mark_of_the_prompt_decides_where_the_answer_starts(prompt_token_ids, expected):
    """An answer starts in reasoning exactly where the prompt's last mark opens one."""
    assert expected == opens_in_reasoning(prompt_token_ids, MARKS)


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        ("deepseek_r1", "z"),
        ("deepseek_v31", "y</think>z"),
        ("plain", "<think>x</think>y</think>z"),
    ],
)
def test_history_keeps_what_the_models_own_template_keeps(dialect, expected):
    """R1 cuts at the last `</think>`, V3.1 at the first, others not at all."""
    assert expected == DIALECTS[dialect].history("<think>x</think>y</think>z")


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_history_without_reasoning_is_kept_whole(name):
    """An answer without reasoning goes into the next prompt as it was."""
    assert "\nSous vide." == DIALECTS[name].history("\nSous vide.")
