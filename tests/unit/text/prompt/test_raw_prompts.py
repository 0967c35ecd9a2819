import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.errors import ContextLengthError, InvalidRequestError
from stillhouse.types.requests import TextRequest
from stillhouse.types.sampling import SamplingOverrides
from tests.effort import examples
from tests.unit.text.checkpoints import (
    ADDED_TOKENS,
    ASSISTANT,
    BOS,
    CLOSE_THINK,
    EOS,
    THINK,
    USER,
    load,
    read,
    trained_tokenizer,
    write_checkpoint,
)


def _text(prompt: str | tuple[int, ...], **fields) -> TextRequest:
    return TextRequest("test/model", prompt, **fields)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.sampled_from(ADDED_TOKENS) | st.text(max_size=8), min_size=1).map("".join))
def test_text_is_tokenised_as_the_library_does(r1_model, tokenizer, text):
    """The caller writes special tokens itself; the begin token is added where it is missing."""
    expected = tokenizer.encode(text, add_special_tokens=not text.startswith(BOS)).ids

    assert expected == r1_model.encode_prompt(_text(text)).token_ids


@pytest.mark.parametrize(
    ("adds_bos", "has_processor", "expected"),
    [
        (None, True, True),
        (None, False, False),
        (True, False, True),
        (True, True, True),
        (False, True, False),
    ],
)
def test_the_tokenizers_configuration_says_whether_a_begin_token_is_added(
    tmp_path, adds_bos, has_processor, expected
):
    """add_bos_token goes before the post-processor's template."""
    path = write_checkpoint(tmp_path, trained_tokenizer())
    _change(path / "tokenizer_config.json", {"add_bos_token": adds_bos})
    if not has_processor:
        _change(path / "tokenizer.json", {"post_processor": None})
    model = load(path)

    assert ("" if not expected else BOS) + "Hello" == read(
        model, model.encode_prompt(_text("Hello"))
    )


def test_token_ids_are_taken_as_they_are(r1_model, tokenizer):
    """Ids go to the engine unchanged, without a begin token; they read as they were written."""
    ids = tuple(tokenizer.encode(f"{USER}Hello{ASSISTANT}", add_special_tokens=False).ids)

    prompt = r1_model.encode_prompt(_text(ids))

    assert (list(ids), f"{USER}Hello{ASSISTANT}") == (prompt.token_ids, prompt.text)


def test_ids_that_break_a_character_are_read_with_a_replacement(r1_model, tokenizer):
    """Half of a character in token ids is no error; the text shows that something is missing."""
    ids = tuple(tokenizer.encode("🦀", add_special_tokens=False).ids)
    assert len(ids) > 1

    assert "�" == r1_model.encode_prompt(_text(ids[:-1])).text


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ((), "prompt is empty"),
        ((5, -1), r"prompt names the token -1; right would be token ids of the model, from 0 to "),
        ((10**9,), r"prompt names the token 1000000000; right would be"),
        ("a\ud83d", "prompt holds half of a surrogate pair at character 1"),
    ],
)
def test_what_is_no_prompt_is_refused(r1_model, prompt, fault):
    """Unknown ids and broken text are the caller's fault, by name."""
    with pytest.raises(InvalidRequestError, match=fault) as caught:
        r1_model.encode_prompt(_text(prompt))

    assert "prompt" == caught.value.param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"sampling": SamplingOverrides(logit_bias=((5, 1.0), (10**9, 1.0)))}, "logit_bias"),
        ({"stop_token_ids": (10**9,)}, "stop_token_ids"),
    ],
)
def test_tokens_that_are_not_there_are_refused(r1_model, fields, param):
    """Wherever a request names tokens, they are the model's own."""
    with pytest.raises(InvalidRequestError, match="1000000000") as caught:
        r1_model.encode_prompt(TextRequest("a/b", "x", **fields))

    assert param == caught.value.param


def test_no_text_at_all_is_refused_where_nothing_is_added(qwen25_model):
    """A model without a begin token cannot begin with nothing."""
    with pytest.raises(InvalidRequestError, match="prompt is empty"):
        qwen25_model.encode_prompt(_text(""))


@pytest.mark.parametrize("prompt", ["!" * 40, "x" * 100_000, (5,) * 40, BOS * 40])
def test_too_long_prompts_name_both_numbers(tmp_path, tokenizer, prompt):
    """The field that is too long is named as well."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)

    with pytest.raises(ContextLengthError, match="exceeds maximum input length 19") as caught:
        model.encode_prompt(_text(prompt))

    assert "prompt" == caught.value.param


def test_long_special_tokens_count_as_one_each(tmp_path, tokenizer):
    """A prompt of many letters and few tokens is not refused for its letters."""
    model = load(write_checkpoint(tmp_path, tokenizer), context_length=20)

    assert 19 == len(model.encode_prompt(_text(BOS * 19)).token_ids)


def test_answers_to_raw_prompts_are_not_split(r1_model, tokenizer):
    """Tags that are not flagged as special show in a raw answer; special tokens do not."""
    request = _text(f"{USER}Hello{ASSISTANT}{THINK}", stop=("friend",))
    prompt = r1_model.encode_prompt(request)
    parser = r1_model.output_parser(prompt, request, request_id="r")
    text = f"Let me think.{CLOSE_THINK}Hello! {THINK}{EOS}my friend"

    delta = parser.push(tokenizer.encode(text, add_special_tokens=False).ids)

    assert ("", f"Let me think.{CLOSE_THINK}Hello! {THINK}my ") == (delta.reasoning, delta.content)
    assert parser.stopped
    assert prompt.is_raw


@pytest.mark.parametrize("as_ids", [False, True])
def test_echo_begins_with_the_prompt(r1_model, tokenizer, as_ids):
    """What was asked comes back before what was generated, also where it came as token ids."""
    text = f"{USER}Hello{ASSISTANT}"
    ids = tuple(tokenizer.encode(text, add_special_tokens=False).ids)
    request = _text(ids if as_ids else text, echo=True)
    parser = r1_model.output_parser(r1_model.encode_prompt(request), request, request_id="r")

    told = [parser.opening(), parser.push(tokenizer.encode("Hi", add_special_tokens=False).ids)]

    assert f"{text}Hi" == "".join(delta.content for delta in [*told, parser.finish()])


def _change(path, changes) -> None:
    document = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(document), encoding="utf-8")
