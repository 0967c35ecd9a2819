import pytest

from stillhouse.errors import InvalidRequestError
from stillhouse.types.requests import Effort
from tests.unit.text.checkpoints import (
    LLAMA_BOS,
    WEATHER,
    assistant,
    called,
    chat,
    llama_tokenizer,
    load,
    read,
    system,
    tool_result,
    user,
    write_checkpoint,
)
from tests.unit.text.templates import LLAMA3

DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
TOOL_JSON = """\
{
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {
                    "type": "string"
                }
            },
            "required": [
                "city"
            ]
        }
    }
}"""


def _turn(role: str, text: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{text}<|eot_id|>"


ANSWER = "<|start_header_id|>assistant<|end_header_id|>\n\n"


@pytest.mark.parametrize("effort", [None, Effort.NONE, Effort.HIGH])
def test_conversation_reads_as_its_model_card_says(llama_model, effort):
    """Each turn behind its header, texts trimmed, dates in the system text; effort is ignored."""
    prompt = llama_model.encode_prompt(
        chat(
            system(" You are a pirate. "),
            user(" Hello!\t\n"),
            assistant("Ahoy!"),
            user("And?"),
            effort=effort,
        )
    )

    assert (
        LLAMA_BOS
        + _turn("system", f"{DATES}You are a pirate.")
        + _turn("user", "Hello!")
        + _turn("assistant", "Ahoy!")
        + _turn("user", "And?")
        + ANSWER
    ) == read(llama_model, prompt)
    assert not prompt.opens_in_reasoning


def test_tools_stand_before_the_first_question(llama_model):
    """A tool, its call and its result as the template of the checkpoint writes them."""
    prompt = llama_model.encode_prompt(
        chat(
            user("How is Oslo?"),
            called(("get_weather", '{"city": "Oslo"}')),
            tool_result('It "rains".'),
            tools=(WEATHER,),
        )
    )

    assert (
        LLAMA_BOS
        + _turn("system", f"Environment: ipython\n{DATES}")
        + _turn(
            "user",
            "Given the following functions, please respond with a JSON for a function call with "
            "its proper arguments that best answers the given prompt.\n\nRespond in the format "
            '{"name": function name, "parameters": dictionary of argument name and its value}.'
            f"Do not use variables.\n\n{TOOL_JSON}\n\nHow is Oslo?",
        )
        + _turn("assistant", '{"name": "get_weather", "parameters": {"city": "Oslo"}}')
        + _turn("ipython", '"It \\"rains\\"."')
        + ANSWER
    ) == read(llama_model, prompt)


def test_several_calls_at_once_are_refused_by_the_template(llama_model):
    """What the checkpoint was never taught reaches the caller as an invalid request."""
    calls = called(("get_weather", "{}"), ("get_weather", "{}"))

    with pytest.raises(InvalidRequestError, match="only supports single tool-calls"):
        llama_model.encode_prompt(chat(user("a"), calls, tool_result("b"), tools=(WEATHER,)))


def test_the_first_llama3_knows_no_tools(tmp_path):
    """Llama 3's first template has no place for tools, and trims texts all the same."""
    write_checkpoint(tmp_path, llama_tokenizer(), template=LLAMA3, bos=LLAMA_BOS, eos="<|eot_id|>")
    model = load(tmp_path, family="llama3")

    prompt = model.encode_prompt(chat(user(" \n Hello!\t\n")))

    assert LLAMA_BOS + _turn("user", "Hello!") + ANSWER == read(model, prompt)
    assert not model.supports_tools
