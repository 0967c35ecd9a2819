import pytest

from stillhouse.types.requests import Effort
from tests.unit.text.checkpoints import (
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    EOS,
    THINK,
    USER,
    assistant,
    chat,
    load,
    read,
    system,
    user,
    write_checkpoint,
)
from tests.unit.text.templates import R1


def test_conversation_reads_as_the_reference_says(r1_model):
    """R1: begin, system text, each turn behind its tag, ends after answers, `<think>` opened."""
    prompt = r1_model.encode_prompt(
        chat(
            system("Be brief."),
            user("Name two methods."),
            assistant("<think>\nLet me think.\n</think>\n\nSous vide, grill."),
            user("Tell me about the second."),
        )
    )

    assert (
        f"{BOS}Be brief.{USER}Name two methods.{ASSISTANT}\n\nSous vide, grill.{EOS}"
        f"{USER}Tell me about the second.{ASSISTANT}{THINK}\n"
    ) == read(r1_model, prompt)
    assert prompt.opens_in_reasoning


@pytest.mark.parametrize("effort", [None, *Effort])
def test_it_always_thinks_unless_told_not_to(r1_model, effort):
    """R1 has one way to think; effort none goes on behind an empty thought."""
    prompt = r1_model.encode_prompt(chat(user("Hello!"), effort=effort))
    thinks = effort is not Effort.NONE

    end = "" if thinks else f"\n{CLOSE_THINK}\n\n"
    assert f"{BOS}{USER}Hello!{ASSISTANT}{THINK}\n{end}" == read(r1_model, prompt)
    assert thinks == prompt.opens_in_reasoning


def test_template_without_think_gets_an_empty_thought_where_none_is_wanted(tmp_path, tokenizer):
    """R1-0528's template leaves `<think>` to the model; effort none writes the whole pair."""
    template = R1.replace("<think>\\n'}}", "'}}")
    model = load(write_checkpoint(tmp_path, tokenizer, template=template))

    thinking = model.encode_prompt(chat(user("Hello!")))
    hasty = model.encode_prompt(chat(user("Hello!"), effort=Effort.NONE))

    assert f"{BOS}{USER}Hello!{ASSISTANT}" == read(model, thinking)
    assert f"{BOS}{USER}Hello!{ASSISTANT}{THINK}\n\n{CLOSE_THINK}\n\n" == read(model, hasty)
