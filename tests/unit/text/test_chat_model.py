from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
    UnsupportedFeatureError,
)
from stillhouse.text.chat_model import ChatModel
from stillhouse.text.prompt import limit
from stillhouse.text.tokenizer import Tokenizer as OurTokenizer
from stillhouse.types.constraint import Constraint
from stillhouse.types.messages import Message, Role, Tool, ToolChoice, ToolMode
from stillhouse.types.requests import TextRequest
from stillhouse.types.response_format import JsonObjectFormat
from tests.effort import examples
from tests.unit.text.checkpoints import (
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    EOS,
    THINK,
    USER,
    WEATHER,
    added_ids,
    assistant,
    called,
    chat,
    load,
    qwen_tokenizer,
    spec,
    system,
    tariff,
    tool_result,
    trained_tokenizer,
    user,
    write_checkpoint,
)
from tests.unit.text.templates import LLAMA3, QWEN25, V31

HARMLESS = st.text(st.characters(codec="utf-8", exclude_characters="<>｜"), min_size=1, max_size=30)


def test_llama3_refuses_roles_that_do_not_alternate(tmp_path, tokenizer):
    """What a template says with `raise_exception` reaches the caller as an invalid request."""
    model = load(write_checkpoint(tmp_path, tokenizer, template=LLAMA3), family="plain")

    with pytest.raises(InvalidRequestError, match="roles must alternate") as caught:
        model.encode_prompt(chat(user("a"), user("b")))

    assert "messages" == caught.value.param


@pytest.mark.parametrize("tag", [THINK, CLOSE_THINK, USER, EOS])
def test_text_next_to_the_templates_own_text_makes_no_token(tmp_path, tokenizer, tag):
    """A template that writes one half of a token cannot be completed by a request."""
    template = f"{{{{ bos_token }}}}{tag[:2]}{{{{ messages[0].content }}}}"
    model = load(write_checkpoint(tmp_path, tokenizer, template=template))

    prompt = model.encode_prompt(chat(user(tag[2:])))

    assert [tokenizer.token_to_id(BOS)] == added_ids(model, prompt)
    assert BOS + tag == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)


@settings(max_examples=examples(60), deadline=None)
@given(texts=st.lists(HARMLESS, min_size=3, max_size=3))
def test_harmless_text_is_tokenised_as_in_one_piece(r1_model, tokenizer, texts):
    """Without added tokens in it, a conversation gives what the whole tokenizer gives."""
    first, answer, second = texts
    prompt = r1_model.encode_prompt(
        chat(system(first), user(second), assistant(answer), user(first))
    )

    whole = f"{BOS}{first}{USER}{second}{ASSISTANT}{answer}{EOS}{USER}{first}{ASSISTANT}{THINK}\n"
    assert tokenizer.encode(whole, add_special_tokens=False).ids == prompt.token_ids


def test_text_joins_with_the_templates_plain_text(tmp_path, tokenizer):
    """Template text and request text without an added token between them merge into tokens."""
    template = "{{ bos_token }}The la{{ messages[0].content }}sts"
    model = load(write_checkpoint(tmp_path, tokenizer, template=template))

    prompt = model.encode_prompt(chat(user("mb re")))

    whole = f"{BOS}The lamb rests"
    assert tokenizer.encode(whole, add_special_tokens=False).ids == prompt.token_ids


def test_over_long_prompt_names_both_numbers(tmp_path, tokenizer):
    """A prompt that leaves no room for an answer is refused with its length and the limit."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)
    longest = model.encode_prompt(chat(user("!" * 14)))

    with pytest.raises(ContextLengthError) as caught:
        model.encode_prompt(chat(user("!" * 15)))

    assert model.max_prompt_tokens == len(longest.token_ids)
    assert (20, 19) == (caught.value.prompt_tokens, caught.value.max_prompt_tokens)


@pytest.fixture(scope="module")
def short_model(tmp_path_factory, tokenizer):
    """A context of 200 tokens, in which a token may be as long as it likes."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("short"), tokenizer)
    model = load(checkpoint, context_length=200)
    lengths = model._prompts._limit
    lengths._longest_token_bytes = lengths._longest_raw_token = 1000
    return model


@given(
    st.lists(
        st.text(st.characters(codec="utf-8"), max_size=60)
        | st.builds(
            str.__mul__, st.sampled_from(["a", " ", "lamb ", "é", "!?", "\n"]), st.integers(0, 900)
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_fits_is_never_refused_for_its_pieces(short_model, texts):
    """A long text is looked at in pieces first: that refuses nothing that would fit."""
    messages = [user(text) for text in texts]
    model = short_model
    with patch.object(limit.PromptLimit, "check_in_pieces"):
        try:
            expected = model.encode_prompt(chat(*messages))
        except ContextLengthError as error:
            expected = error.max_prompt_tokens
    with patch.multiple(limit, _PIECE_CHARS=100, _USUAL_CHARS_PER_TOKEN=0):
        try:
            actual = model.encode_prompt(chat(*messages))
        except ContextLengthError as error:
            actual = error.max_prompt_tokens

    assert expected == actual


@given(st.lists(st.sampled_from(["", "a", "Hi", "!"]), min_size=50, max_size=120))
def test_short_messages_count_with_the_tags_around_them(short_model, texts):
    """Many messages of a word each are not taken for too long by the letters of their tags."""
    test_what_fits_is_never_refused_for_its_pieces.hypothesis.inner_test(short_model, texts)


@pytest.mark.parametrize("is_chat", [True, False])
def test_of_what_is_far_too_long_a_part_is_tokenised(short_model, is_chat):
    """Not the rest, which would take seconds and most of a gigabyte."""
    text = "Mary had a little lamb. " * 20_000
    request = chat(user(text)) if is_chat else TextRequest(short_model.model_id, prompt=text)
    tokenised = []
    encode = OurTokenizer.encode

    def counted(tokenizer, segments):
        tokenised.extend(segment.text for segment in segments)
        return encode(tokenizer, segments)

    with (
        patch.object(OurTokenizer, "encode", counted),
        pytest.raises(ContextLengthError, match=r"at least \d+ exceeds maximum") as caught,
    ):
        short_model.encode_prompt(request)

    assert caught.value.param == ("messages" if is_chat else "prompt")
    assert sum(map(len, tokenised)) <= 1 << 16


@pytest.mark.parametrize(
    "messages",
    [[Message(Role.USER, "x" * 100_000)], [Message(Role.USER, "")] * 21],
    ids=["characters", "messages"],
)
def test_far_too_much_is_refused_before_tokenising(tmp_path, tokenizer, messages):
    """Text or messages that cannot fit are refused unread, so the cost of a refusal is bounded."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)

    with pytest.raises(ContextLengthError, match=r"at least \d+ exceeds maximum input length 19"):
        model.encode_prompt(chat(*messages))


def test_context_length_is_the_smaller_of_entry_and_checkpoint(tmp_path, tokenizer):
    """A catalogue entry can narrow the checkpoint's context, never widen it."""
    write_checkpoint(tmp_path, tokenizer, context_length=100)

    assert [100, 50, 100] == [
        load(tmp_path, context_length=length).context_length for length in (None, 50, 200)
    ]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "messages is empty"),
        ([assistant("b")], "continuing it needs one before it"),
        ([user("a"), called(("f", "{}"))], "holds tool_calls; right would be their results"),
        ([Message(Role.USER, "a\ud83d")], "messages\\[0\\].*surrogate pair at character 1"),
    ],
)
def test_conversations_that_cannot_be_continued_are_refused(r1_model, messages, fault):
    """The message says what is wrong with the conversation."""
    with pytest.raises(InvalidRequestError, match=fault):
        r1_model.encode_prompt(chat(*messages))


def test_system_text_that_the_template_would_drop_is_refused(r1_model):
    """R1's template has room for one system text; a second is refused, not silently left out."""
    with pytest.raises(InvalidRequestError, match=r"no place for messages\[0\] \(role system\)"):
        r1_model.encode_prompt(chat(system("one"), system("two"), user("Hello!")))


def test_end_tokens_come_from_the_checkpoint(r1_model, tokenizer):
    """The engine is told to stop at the checkpoint's end token."""
    assert (tokenizer.token_to_id(EOS),) == r1_model.stop_token_ids


def test_end_token_of_the_tokenizer_serves_where_no_config_names_one(tmp_path, tokenizer):
    """tokenizer_config.json's eos_token is the last resort."""
    write_checkpoint(tmp_path, tokenizer)
    (tmp_path / "generation_config.json").unlink()

    assert (tokenizer.token_to_id(EOS),) == load(tmp_path).stop_token_ids


def test_checkpoint_without_any_end_token_is_refused(tmp_path, tokenizer):
    """A model that could never stop is found when it is loaded."""
    write_checkpoint(tmp_path, tokenizer, eos="never heard of")

    with pytest.raises(CheckpointError, match="no file names an end token"):
        load(tmp_path)


def test_reasoning_family_needs_its_tags(tmp_path):
    """A checkpoint without `<think>` cannot be served in R1's family."""
    plain = Tokenizer.from_str(trained_tokenizer().to_str().replace(THINK, "<other>"))
    write_checkpoint(tmp_path, plain)

    with pytest.raises(CheckpointError, match="needs the added tokens <think> and </think>"):
        load(tmp_path)


def test_entry_without_a_checkpoint_is_refused():
    """A catalogue entry that only names a model cannot be loaded, and says what is missing."""
    entry = ModelSpec(
        id="a/b",
        family="plain",
        price=tariff(1, 1, 1),
    )

    with pytest.raises(ConfigError, match=r'models\."a/b"\.checkpoint is missing'):
        load_chat_model(entry)


def test_relative_checkpoint_starts_at_the_given_folder(tmp_path, tokenizer):
    """A configuration file can name checkpoints relative to itself."""
    write_checkpoint(tmp_path / "here", tokenizer)
    entry = replace(spec(tmp_path), checkpoint="here")

    model = load_chat_model(entry, base_dir=tmp_path)

    assert (tmp_path / "here").resolve() == model.checkpoint_path


def test_reply_starts_where_the_prompt_ends(r1_model, tokenizer):
    """R1's prompt has opened the reasoning, so the parser's first tokens are reasoning."""
    request = chat(user("Hello!"), stop=("friend",))
    prompt = r1_model.encode_prompt(request)
    parser = r1_model.output_parser(prompt, request, request_id="r")

    ids = tokenizer.encode(
        f"Let me think.{CLOSE_THINK}\n\nHello! my friend", add_special_tokens=False
    )
    delta = parser.push(ids.ids)

    assert ("Let me think.", "Hello! my ") == (delta.reasoning, delta.content)
    assert parser.stopped


def test_reasoning_can_be_told_in_the_content(tmp_path, tokenizer):
    """A catalogue entry can ask for DeepInfra's older way, with the tags in the content."""
    entry = replace(spec(write_checkpoint(tmp_path, tokenizer)), reasoning_in_content=True)
    model = load_chat_model(entry)
    request = chat(user("Hello!"))
    parser = model.output_parser(model.encode_prompt(request), request, request_id="r")
    ids = tokenizer.encode(f"Let me think.{CLOSE_THINK}Hello!", add_special_tokens=False).ids

    deltas = [parser.opening(), parser.push(ids), parser.finish()]

    assert "" == "".join(delta.reasoning for delta in deltas)
    text = "".join(delta.content for delta in deltas)
    assert (THINK, f"{CLOSE_THINK}\n\nHello!") == (text[:7], text[-16:])


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": (user("a"),), "tools": (WEATHER,)}, "tools"),
        ({"messages": (user("a"), called(("f", "{}")), tool_result("b"))}, "messages"),
        ({"messages": (user("a"), tool_result("b"))}, "messages"),
    ],
    ids=["tools", "calls", "results"],
)
def test_models_without_tools_say_so(r1_model, fields, param):
    """A family without calls of its own refuses them, as DeepInfra words it."""
    request = replace(chat(user("x")), **fields)

    with pytest.raises(UnsupportedFeatureError) as caught:
        r1_model.encode_prompt(request)

    assert (param, "Tool calling is not supported for model: test/model") == (
        caught.value.param,
        caught.value.message,
    )


@pytest.mark.parametrize(
    ("family", "template", "expected"),
    [
        ("qwen25", QWEN25, True),
        ("qwen25", LLAMA3, False),
        ("qwen25", QWEN25.replace("tool | tojson", "tool.function.name"), False),
        ("qwen25", QWEN25.replace("tool_call.arguments | tojson", "'{}'"), False),
        ("plain", QWEN25, False),
        ("deepseek_v31", V31, True),
        ("deepseek_v31", QWEN25, True),
        ("deepseek_r1", V31, False),
    ],
)
def test_tools_need_a_family_and_a_template_that_know_them(tmp_path, family, template, expected):
    """Whether tools can be offered is found out when a model is loaded, by trying its template."""
    tokenizer = qwen_tokenizer()
    write_checkpoint(tmp_path, tokenizer, template=template, bos="", eos="<|im_end|>")

    assert expected == load(tmp_path, family=family).supports_tools


def test_models_that_shall_not_call_tools_are_told_of_none(qwen25_model, r1_model):
    """With tool_choice none the prompt is that of a request without tools, on any model."""
    for model in (qwen25_model, r1_model):
        unasked = model.encode_prompt(chat(user("a")))
        forbidden = chat(user("a"), tools=(WEATHER,), tool_choice=ToolChoice(ToolMode.NONE))

        assert unasked == model.encode_prompt(forbidden)


@pytest.mark.parametrize(
    ("model", "fields", "expected"),
    [
        ("r1_model", {}, None),
        ("r1_model", {"response_format": JsonObjectFormat()}, ("response_format", CLOSE_THINK)),
        ("llama_model", {"response_format": JsonObjectFormat()}, ("response_format", None)),
        ("qwen25_model", {"tools": (WEATHER,)}, None),
        ("qwen25_model", {"tools": (replace(WEATHER, is_strict=True),)}, ("tools", None)),
        (
            "qwen25_model",
            {"tools": (WEATHER,), "response_format": JsonObjectFormat()},
            ("tools", None),
        ),
        (
            "qwen3_model",
            {
                "tools": (WEATHER,),
                "tool_choice": ToolChoice(ToolMode.NONE),
                "response_format": JsonObjectFormat(),
            },
            ("response_format", CLOSE_THINK),
        ),
        (
            "qwen3_model",
            {"tools": (WEATHER,), "tool_choice": ToolChoice(ToolMode.REQUIRED)},
            ("tools", CLOSE_THINK),
        ),
        (
            "llama_model",
            {
                "tools": (WEATHER,),
                "tool_choice": ToolChoice(ToolMode.REQUIRED),
                "response_format": JsonObjectFormat(),
            },
            ("tools", None),
        ),
    ],
)
def test_answers_are_bound_after_their_reasoning(request, model, fields, expected):
    """What binds an answer, and whether it waits for the tag that closes the reasoning."""
    model = request.getfixturevalue(model)
    asked = chat(user("a"), **fields)

    constraint = model.constraint(asked, model.encode_prompt(asked))

    assert expected == (constraint and (constraint.param, _token(model, constraint)))


def test_text_that_is_continued_can_be_bound(llama_model):
    """A raw prompt's answer may be held to a form as well."""
    asked = TextRequest("m", "Once", response_format=JsonObjectFormat())

    constraint = llama_model.constraint(asked, llama_model.encode_prompt(asked))

    assert constraint
    assert ("response_format", None) == (constraint.param, constraint.after_token_id)


def test_forms_of_half_an_answer_are_refused(qwen25_model):
    """The form is that of the whole answer, whose beginning is given already."""
    request = chat(user("a"), assistant("{"), response_format=JsonObjectFormat())

    with pytest.raises(InvalidRequestError, match="is for whole answers") as caught:
        qwen25_model.encode_prompt(request)

    assert "response_format" == caught.value.param


def test_calls_have_ids_that_a_replay_repeats(qwen25_model):
    """Ids of calls come from the request's id and the answer's number, and from nothing else."""
    request = chat(user("a"), tools=(WEATHER,))
    prompt = qwen25_model.encode_prompt(request)
    ids = [
        _first_call(qwen25_model, prompt, request, request_id, choice).id
        for request_id, choice in (("r", 0), ("r", 0), ("r", 1), ("s", 0))
    ]

    assert ids[0] == ids[1]
    assert 3 == len(set(ids))
    assert all(call_id.startswith("call_") and 29 == len(call_id) for call_id in ids)


def test_calls_are_content_where_no_tools_are_offered(qwen25_model):
    """Without tools in the request, an answer that looks like a call is shown as it stands."""
    request = chat(user("a"))
    parser = qwen25_model.output_parser(
        qwen25_model.encode_prompt(request), request, request_id="r"
    )
    token_ids = Tokenizer.from_str(qwen_tokenizer().to_str()).encode(CALL).ids

    text = parser.push(token_ids).content + parser.finish().content

    assert CALL == text


CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def _first_call(model, prompt, request, request_id, choice):
    parser = model.output_parser(prompt, request, request_id=request_id, choice=choice)
    delta = parser.push(qwen_tokenizer().encode(CALL).ids)
    assert ("get_weather", '{"city": "Oslo"}') == (
        delta.tool_calls[0].name,
        "".join(call.arguments for call in delta.tool_calls),
    )
    return delta.tool_calls[0]


def _token(model: ChatModel, constraint: Constraint) -> str | None:
    """The token that the constraint waits for."""
    if constraint.after_token_id is None:
        return None
    path = str(model.checkpoint_path / "tokenizer.json")
    return Tokenizer.from_file(path).id_to_token(constraint.after_token_id)


def test_long_lists_of_tools_are_rendered(llama_model, qwen25_model, v31_model):
    """128 tools of half a kilobyte each are within every bound of templates."""
    parameters = {
        "type": "object",
        "properties": {
            f"field_{n}": {"type": "string", "description": "what it is " * 4} for n in range(5)
        },
    }
    tools = tuple(Tool(f"tool_{n}", "does things " * 5, parameters) for n in range(128))
    request = chat(user("a"), tools=tools)

    for model in (llama_model, qwen25_model, v31_model):
        with pytest.raises(ContextLengthError) as caught:
            model.encode_prompt(request)  # the test's vocabulary makes long prompts
        assert caught.value.prompt_tokens > 4096
