from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer

from stillhouse.chat import Message, Role
from stillhouse.errors import (
    CheckpointError,
    ConfigError,
    ContextLengthError,
    InvalidRequestError,
)
from stillhouse.models.chat_model import ChatModel, Prompt
from stillhouse.models.model_spec import ModelSpec
from tests.unit.models.checkpoints import (
    ADDED_TOKENS,
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    EOS,
    THINK,
    USER,
    assistant,
    load,
    spec,
    system,
    tariff,
    trained_tokenizer,
    user,
    write_checkpoint,
)
from tests.unit.models.templates import LLAMA3, QWEN25, V31

HARMLESS = st.text(st.characters(codec="utf-8", exclude_characters="<>｜"), min_size=1, max_size=30)


def test_r1_conversation_reads_as_the_reference_says(r1_model, tokenizer):
    """R1: begin, system text, each turn behind its mark, ends after answers, `<think>` opened."""
    prompt = r1_model.encode(
        [
            system("Be brief."),
            user("Name two methods."),
            assistant("<think>\nLet me think.\n</think>\n\nSous vide, grill."),
            user("Tell me about the second."),
        ]
    )

    assert (
        f"{BOS}Be brief.{USER}Name two methods.{ASSISTANT}\n\nSous vide, grill.{EOS}"
        f"{USER}Tell me about the second.{ASSISTANT}{THINK}\n"
    ) == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
    assert prompt.opens_in_reasoning


def test_v31_conversation_reads_as_its_model_card_says(tmp_path, tokenizer):
    """V3.1's golden example, non-thinking: earlier reasoning is cut, `</think>` ends the prompt."""
    model = load(write_checkpoint(tmp_path, tokenizer, template=V31), dialect="deepseek_v31")

    prompt = model.encode(
        [
            system("You are a helpful assistant"),
            user("Who are you?"),
            assistant("<think>Hmm</think>I am DeepSeek"),
            user("1+1=?"),
        ]
    )

    assert (
        f"{BOS}You are a helpful assistant{USER}Who are you?{ASSISTANT}{CLOSE_THINK}"
        f"I am DeepSeek{EOS}{USER}1+1=?{ASSISTANT}{CLOSE_THINK}"
    ) == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
    assert not prompt.opens_in_reasoning


def test_v31_keeps_what_follows_the_first_close_mark(tmp_path, tokenizer):
    """A second `</think>` in an earlier answer is plain text, cut by nobody."""
    model = load(write_checkpoint(tmp_path, tokenizer, template=V31), dialect="deepseek_v31")

    prompt = model.encode([user("a"), assistant("x</think>y</think>z"), user("b")])

    assert (
        f"{BOS}{USER}a{ASSISTANT}{CLOSE_THINK}y</think>z{EOS}{USER}b{ASSISTANT}{CLOSE_THINK}"
    ) == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
    assert 2 == prompt.token_ids.count(tokenizer.token_to_id(CLOSE_THINK))


def test_llama3_trims_the_text_of_messages(tmp_path):
    """`| trim` in a template takes the white space around a request's text away."""
    tokenizer = trained_tokenizer()
    marks = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in marks])
    write_checkpoint(
        tmp_path, tokenizer, template=LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>"
    )

    prompt = load(tmp_path, dialect="plain").encode([user(" \n Hello!\t\n")])

    assert (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello!<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ) == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)


def test_llama3_refuses_roles_that_do_not_alternate(tmp_path, tokenizer):
    """What a template says with `raise_exception` reaches the caller as an invalid request."""
    model = load(write_checkpoint(tmp_path, tokenizer, template=LLAMA3), dialect="plain")

    with pytest.raises(InvalidRequestError, match="roles must alternate") as caught:
        model.encode([user("a"), user("b")])

    assert "messages" == caught.value.param


def test_qwen_keeps_white_space_and_adds_its_system_text(tmp_path):
    """ChatML as Qwen2.5 writes it, white space of the request kept as it is."""
    tokenizer = trained_tokenizer()
    tokenizer.add_special_tokens(
        [AddedToken(mark, normalized=False) for mark in ("<|im_start|>", "<|im_end|>")]
    )
    write_checkpoint(tmp_path, tokenizer, template=QWEN25, eos="<|im_end|>")

    prompt = load(tmp_path, dialect="plain").encode([user("  Hello!\n"), assistant("Hi"), user("")])

    assert (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n  Hello!\n<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n"
        "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
    ) == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)


@settings(max_examples=60, deadline=None)
@given(
    token=st.sampled_from(ADDED_TOKENS),
    role=st.sampled_from(Role),
    around=st.tuples(HARMLESS | st.just(""), HARMLESS | st.just("")),
)
def test_text_never_becomes_an_added_token(r1_model, tokenizer, token, role, around):
    """Whoever writes an added token and wherever, the prompt has the template's own and no more."""
    before, after = around
    prompt = r1_model.encode(_conversation(role, f"{before}{token}{after}"))
    harmless = r1_model.encode(_conversation(role, "harmless"))

    assert _added_ids(harmless, tokenizer) == _added_ids(prompt, tokenizer)
    if (role, token) != (Role.ASSISTANT, CLOSE_THINK):  # that one cuts the history, as it should
        decoded = tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
        assert f"{before}{token}{after}" in decoded


@settings(max_examples=40, deadline=None)
@given(token=st.sampled_from(ADDED_TOKENS), data=st.data())
def test_added_token_split_over_messages_stays_text(r1_model, tokenizer, token, data):
    """Halves of an added token at the edges of neighbouring messages do not grow together."""
    cut = data.draw(st.integers(1, len(token) - 1))

    prompt = r1_model.encode([system(token[:cut]), user(token[cut:]), user(f"x{token[:cut]}")])
    harmless = r1_model.encode([system("a"), user("b"), user("c")])

    assert _added_ids(harmless, tokenizer) == _added_ids(prompt, tokenizer)


@pytest.mark.parametrize("mark", [THINK, CLOSE_THINK, USER, EOS])
def test_text_next_to_the_templates_own_text_makes_no_token(tmp_path, tokenizer, mark):
    """A template that writes one half of a token cannot be completed by a request."""
    template = f"{{{{ bos_token }}}}{mark[:2]}{{{{ messages[0].content }}}}"
    model = load(write_checkpoint(tmp_path, tokenizer, template=template))

    prompt = model.encode([user(mark[2:])])

    assert [tokenizer.token_to_id(BOS)] == _added_ids(prompt, tokenizer)
    assert BOS + mark == tokenizer.decode(prompt.token_ids, skip_special_tokens=False)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(HARMLESS, min_size=3, max_size=3))
def test_harmless_text_is_tokenised_as_in_one_piece(r1_model, tokenizer, texts):
    """Without added tokens in it, a conversation gives what the whole tokenizer gives."""
    first, answer, second = texts
    prompt = r1_model.encode([system(first), user(second), assistant(answer), user(first)])

    whole = f"{BOS}{first}{USER}{second}{ASSISTANT}{answer}{EOS}{USER}{first}{ASSISTANT}{THINK}\n"
    assert tokenizer.encode(whole, add_special_tokens=False).ids == prompt.token_ids


def test_text_joins_with_the_templates_plain_text(tmp_path, tokenizer):
    """Template text and request text without an added token between them merge into tokens."""
    template = "{{ bos_token }}The la{{ messages[0].content }}sts"
    model = load(write_checkpoint(tmp_path, tokenizer, template=template))

    prompt = model.encode([user("mb re")])

    whole = f"{BOS}The lamb rests"
    assert tokenizer.encode(whole, add_special_tokens=False).ids == prompt.token_ids


def test_over_long_prompt_names_both_numbers(tmp_path, tokenizer):
    """A prompt that leaves no room for an answer is refused with its length and the limit."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)
    longest = model.encode([user("!" * 14)])

    with pytest.raises(ContextLengthError) as caught:
        model.encode([user("!" * 15)])

    assert model.max_prompt_tokens == len(longest.token_ids)
    assert (20, 19) == (caught.value.prompt_tokens, caught.value.max_prompt_tokens)


@pytest.mark.parametrize(
    "messages",
    [[Message(Role.USER, "x" * 100_000)], [Message(Role.USER, "")] * 21],
    ids=["characters", "messages"],
)
def test_far_too_much_is_refused_before_tokenising(tmp_path, tokenizer, messages):
    """Text or messages that cannot fit are refused unread, so the cost of a refusal is bounded."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)

    with pytest.raises(ContextLengthError, match=r"at least \d+ exceeds maximum input length 19"):
        model.encode(messages)


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
        ([Message(Role.USER, "a"), Message(Role.ASSISTANT, "b")], "continuing it is not supported"),
        ([Message(Role.USER, "a\ud83d")], "messages\\[0\\].*surrogate pair at character 1"),
    ],
)
def test_conversations_that_cannot_be_continued_are_refused(r1_model, messages, fault):
    """The message says what is wrong with the conversation."""
    with pytest.raises(InvalidRequestError, match=fault):
        r1_model.encode(messages)


def test_system_text_that_the_template_would_drop_is_refused(r1_model):
    """R1's template has room for one system text; a second is refused, not silently left out."""
    with pytest.raises(InvalidRequestError, match=r"no place for messages\[0\] \(role system\)"):
        r1_model.encode([system("one"), system("two"), user("Hello!")])


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


def test_reasoning_dialect_needs_its_marks(tmp_path):
    """A checkpoint without `<think>` cannot be served in R1's dialect."""
    plain = Tokenizer.from_str(trained_tokenizer().to_str().replace(THINK, "<other>"))
    write_checkpoint(tmp_path, plain)

    with pytest.raises(CheckpointError, match="needs the added tokens <think> and </think>"):
        load(tmp_path)


def test_entry_without_a_checkpoint_is_refused():
    """A catalogue entry that only names a model cannot be loaded, and says what is missing."""
    entry = ModelSpec(
        id="a/b",
        dialect="plain",
        price=tariff(1, 1, 1),
    )

    with pytest.raises(ConfigError, match=r'models\."a/b"\.checkpoint is missing'):
        ChatModel.load(entry)


def test_relative_checkpoint_starts_at_the_given_folder(tmp_path, tokenizer):
    """A configuration file can name checkpoints relative to itself."""
    write_checkpoint(tmp_path / "here", tokenizer)
    entry = replace(spec(tmp_path), checkpoint="here")

    model = ChatModel.load(entry, base_dir=tmp_path)

    assert (tmp_path / "here").resolve() == model.checkpoint_path


def test_reply_starts_where_the_prompt_ends(r1_model, tokenizer):
    """R1's prompt has opened the reasoning, so the reply's first tokens are reasoning."""
    prompt = r1_model.encode([user("Hello!")])
    reply = r1_model.reply(prompt, stop=["friend"])

    ids = tokenizer.encode(
        f"Let me think.{CLOSE_THINK}\n\nHello! my friend", add_special_tokens=False
    )
    delta = reply.push(ids.ids)

    assert ("Let me think.", "Hello! my ") == (delta.reasoning, delta.content)
    assert reply.stopped


def _conversation(role: Role, text: str) -> list[Message]:
    return [
        Message(Role.SYSTEM, text if role is Role.SYSTEM else "be brief"),
        Message(Role.USER, text if role is Role.USER else "hello"),
        Message(Role.ASSISTANT, text if role is Role.ASSISTANT else "hi"),
        Message(Role.USER, "and now?"),
    ]


def _added_ids(prompt: Prompt, tokenizer: Tokenizer) -> list[int]:
    added = {tokenizer.token_to_id(token) for token in ADDED_TOKENS}
    return [token_id for token_id in prompt.token_ids if token_id in added]
