import pytest

from stillhouse.errors import InvalidRequestError
from stillhouse.types.messages import Tool
from stillhouse.types.requests import Effort
from tests.unit.text.checkpoints import (
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    EOS,
    THINK,
    USER,
    WEATHER,
    assistant,
    called,
    chat,
    deepseek_tokenizer,
    load,
    read,
    system,
    tool_result,
    user,
    write_checkpoint,
)
from tests.unit.text.templates import V31_TOOLS

CARD = (
    system("You are a helpful assistant"),
    user("Who are you?"),
    assistant("<think>Hmm</think>I am DeepSeek"),
    user("1+1=?"),
)
TOOLS_TEXT = """

## Tools
You have access to the following tools:

### get_weather
Description: Weather of a city.

Parameters: {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}

IMPORTANT: ALWAYS adhere to this exact format for tool use:
<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments\
<｜tool▁call▁end｜>{{additional_tool_calls}}<｜tool▁calls▁end｜>

Where:

- `tool_call_name` must be an exact match to one of the available tools
- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema
- For multiple tool calls, chain them directly without separators or spaces
"""


@pytest.fixture(scope="module")
def tools_model(tmp_path_factory):
    """A model whose template describes tools itself, as that of vLLM's examples."""
    path = tmp_path_factory.mktemp("v31-tools")
    write_checkpoint(path, deepseek_tokenizer(), template=V31_TOOLS)
    return load(path, family="deepseek_v31")


@pytest.mark.parametrize(
    ("effort", "tag"),
    [
        (None, CLOSE_THINK),
        (Effort.NONE, CLOSE_THINK),
        (Effort.MINIMAL, THINK),
        (Effort.LOW, THINK),
        (Effort.HIGH, THINK),
        (Effort.MAX, THINK),
    ],
)
def test_conversation_reads_as_its_model_card_says(v31_model, effort, tag):
    """V3.1's golden example: earlier thoughts are cut, and any effort but none opens new ones."""
    prompt = v31_model.encode_prompt(chat(*CARD, effort=effort))

    assert (
        f"{BOS}You are a helpful assistant{USER}Who are you?{ASSISTANT}{CLOSE_THINK}"
        f"I am DeepSeek{EOS}{USER}1+1=?{ASSISTANT}{tag}"
    ) == read(v31_model, prompt)
    assert (tag == THINK) == prompt.opens_in_reasoning


def test_what_follows_the_first_close_tag_is_kept(v31_model):
    """A second `</think>` in an earlier answer is plain text, cut by nobody."""
    prompt = v31_model.encode_prompt(chat(user("a"), assistant("x</think>y</think>z"), user("b")))

    assert (
        f"{BOS}{USER}a{ASSISTANT}{CLOSE_THINK}y</think>z{EOS}{USER}b{ASSISTANT}{CLOSE_THINK}"
    ) == read(v31_model, prompt)
    assert 2 == prompt.token_ids.count(deepseek_tokenizer().token_to_id(CLOSE_THINK))


@pytest.mark.parametrize("model", ["v31_model", "tools_model"])
@pytest.mark.parametrize("before", [(), (system("Be brief."),)], ids=["alone", "system"])
def test_tools_stand_behind_the_system_text(request, model, before):
    """The model card's text about tools, whether the template writes it or leaves it to us."""
    model = request.getfixturevalue(model)
    prompt = model.encode_prompt(chat(*before, user("How is Oslo?"), tools=(WEATHER,)))

    text = before[0].content if before else ""
    assert f"{BOS}{text}{TOOLS_TEXT}{USER}How is Oslo?{ASSISTANT}{CLOSE_THINK}" == read(
        model, prompt
    )


@pytest.mark.parametrize("model", ["v31_model", "tools_model"])
def test_calls_and_what_came_of_them(request, model):
    """Calls are chained in one pair of tags, results follow, and the answer comes right after."""
    model = request.getfixturevalue(model)
    prompt = model.encode_prompt(
        chat(
            user("Oslo and Rome?"),
            called(
                ("get_weather", '{"city": "Oslo"}'),
                ("get_weather", '{"city":"Rome"}'),
                content="Let me see.",
            ),
            tool_result('{"t": 7}'),
            tool_result("sunny", "call_2"),
            tools=(WEATHER,),
        )
    )

    assert (
        f"{BOS}{TOOLS_TEXT}{USER}Oslo and Rome?{ASSISTANT}{CLOSE_THINK}Let me see."
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Oslo"}'
        '<｜tool▁call▁end｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city":"Rome"}'
        f"<｜tool▁call▁end｜><｜tool▁calls▁end｜>{EOS}"
        '<｜tool▁output▁begin｜>{"t": 7}<｜tool▁output▁end｜>'
        "<｜tool▁output▁begin｜>sunny<｜tool▁output▁end｜>"
    ) == read(model, prompt)


@pytest.mark.parametrize("model", ["v31_model", "tools_model"])
def test_a_tool_may_say_little_about_itself(request, model):
    """A tool without description or parameters takes none, and is described so."""
    model = request.getfixturevalue(model)
    text = read(model, model.encode_prompt(chat(user("a"), tools=(WEATHER, Tool("now")))))

    assert (
        '\n### now\nDescription: \n\nParameters: {"type": "object", "properties": {}}\n\nIMPORTANT'
    ) in text


@pytest.mark.parametrize("effort", [Effort.MINIMAL, Effort.HIGH])
def test_it_does_not_think_and_call_tools_at_once(v31_model, effort):
    """Upstream has tools without thoughts alone: asking for both is refused, not half done."""
    with pytest.raises(InvalidRequestError, match="only without reasoning") as caught:
        v31_model.encode_prompt(chat(user("a"), tools=(WEATHER,), effort=effort))

    assert "reasoning_effort" == caught.value.param


def test_system_texts_are_joined(v31_model):
    """Several system messages become one text, wherever they stand."""
    prompt = v31_model.encode_prompt(chat(system("one"), user("a"), system("two")))

    assert f"{BOS}one\n\ntwo{USER}a{ASSISTANT}{CLOSE_THINK}" == read(v31_model, prompt)
