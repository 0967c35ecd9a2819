import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, processors

from stillhouse.checkpoints.tokenizer_json import TokenizerJson
from stillhouse.errors import CheckpointError
from stillhouse.text.tokenizer import Segment, Tokenizer
from tests.effort import examples
from tests.unit.text.checkpoints import ADDED_TOKENS, BOS, EOS, THINK, trained_tokenizer


@pytest.fixture(scope="module")
def ours(tokenizer):
    """The same tokenizer as stillhouse reads it."""
    return Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json"))


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(st.sampled_from(ADDED_TOKENS) | st.text(max_size=8)).map("".join))
def test_template_text_is_tokenised_as_the_library_does(ours, tokenizer, text):
    """Where added tokens are recognised, the result is the library's own."""
    expected = tokenizer.encode(text, add_special_tokens=False).ids

    assert expected == ours.encode([Segment(text, is_template=True)])


@settings(max_examples=examples(80), deadline=None)
@given(st.lists(st.sampled_from(ADDED_TOKENS) | st.text(max_size=8)).map("".join))
def test_request_text_comes_back_letter_by_letter(ours, text):
    """Request text gives no control token, and its tokens' bytes are the text's bytes."""
    token_ids = ours.encode([Segment(text, is_template=False)])

    assert set() == ours.control_ids & set(token_ids)
    assert text.encode() == b"".join(ours.token_bytes[token_id] for token_id in token_ids)


def test_control_tokens_are_hidden_whatever_their_flag(ours, tokenizer):
    """R1 flags `<think>` as not special, yet it never shows in text."""
    assert {tokenizer.token_to_id(token) for token in ADDED_TOKENS} == ours.control_ids
    assert b"" == ours.token_bytes[tokenizer.token_to_id(THINK)]


def test_raw_text_shows_what_is_not_flagged_as_special(ours, tokenizer):
    """Where an answer is not split into parts, `<think>` is text, and bos, eos and pad are not."""
    shown = {
        token: ours.raw_token_bytes[tokenizer.token_to_id(token)].decode() for token in ADDED_TOKENS
    }

    hidden = dict.fromkeys(ADDED_TOKENS[:3], "")
    assert {token: token for token in ADDED_TOKENS} | hidden == shown
    words = ours.token_bytes.keys() - {tokenizer.token_to_id(token) for token in ADDED_TOKENS}
    assert all(ours.token_bytes[word] == ours.raw_token_bytes[word] for word in words)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.sampled_from(ADDED_TOKENS) | st.text(max_size=8)).map("".join))
def test_ids_read_as_the_text_that_they_stand_for(ours, text):
    """Added tokens are spelled out, so that a prompt of ids can be echoed."""
    assert text == ours.text_of(ours.encode([Segment(text, is_template=True)]))


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (None, ()),
        (processors.ByteLevel(), ()),
        (processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, 1)]), (BOS,)),
        (processors.TemplateProcessing(single=f"$A {EOS}", special_tokens=[(EOS, 2)]), ()),
        (
            processors.Sequence(
                [
                    processors.ByteLevel(),
                    processors.TemplateProcessing(
                        single=f"{BOS} $A {EOS}", special_tokens=[(BOS, 1), (EOS, 2)]
                    ),
                ]
            ),
            (BOS,),
        ),
    ],
    ids=["none", "bytes", "begin", "end", "sequence"],
)
def test_prefix_is_what_the_post_processor_puts_before_a_text(processor, expected):
    """As in Llama 3's tokenizer.json, whose configuration does not say add_bos_token."""
    tokenizer = trained_tokenizer()
    document = json.loads(tokenizer.to_str())
    if processor is None:
        document["post_processor"] = None
    else:
        tokenizer.post_processor = processor
        document = json.loads(tokenizer.to_str())

    assert (
        expected == Tokenizer(TokenizerJson(json.dumps(document), source="tokenizer.json")).prefix
    )


def test_added_words_stay_words():
    """An ordinary word that was added to a vocabulary shows in answers."""
    tokenizer = trained_tokenizer()
    tokenizer.add_tokens([AddedToken("stillhouse", normalized=False)])
    ours = Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json"))

    assert b"stillhouse" in ours.token_bytes.values()


def test_longest_added_token_wins():
    """Of two added tokens that start alike, the longer is matched, as in the library."""
    tokenizer = trained_tokenizer()
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in ("<a>", "<a>b")])
    ours = Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json"))

    for text in ("<a>b", "<a>c", "<<a>b<a>"):
        expected = tokenizer.encode(text, add_special_tokens=False).ids
        assert expected == ours.encode([Segment(text, is_template=True)])


@pytest.mark.parametrize("flags", [{"lstrip": True}, {"rstrip": True}])
def test_tokens_that_strip_white_space_do_so(flags):
    """An added token with lstrip or rstrip takes the white space beside it, as in the library."""
    tokenizer = trained_tokenizer()
    tokenizer.add_special_tokens([AddedToken("<|user|>", normalized=False, **flags)])
    ours = Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json"))
    text = "the \n<|user|> \n lamb"

    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert expected == ours.encode([Segment(text, is_template=True)])


def test_word_of_the_vocabulary_that_is_a_control_token_cannot_be_written():
    """With ignore_merges (Llama 3), a control token that reads like a word stays out of reach."""
    document = json.loads(trained_tokenizer().to_str())
    document["model"]["ignore_merges"] = True
    document["model"]["vocab"]["PAD"] = 900
    document["added_tokens"].append(
        {"id": 900, "content": "PAD", "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    )
    ours = Tokenizer(TokenizerJson(json.dumps(document), source="tokenizer.json"))

    assert [900] == ours.encode([Segment("PAD", is_template=True)])
    assert 900 not in ours.encode([Segment("PAD", is_template=False)])


def test_truncation_of_the_file_is_not_applied():
    """A tokenizer.json that was saved with truncation on cuts nothing off here."""
    tokenizer = trained_tokenizer()
    tokenizer.enable_truncation(max_length=2)
    ours = Tokenizer(TokenizerJson(tokenizer.to_str(), source="tokenizer.json"))

    assert 9 == len(ours.encode([Segment("!" * 9, is_template=False)]))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"decoder": {"type": "Metaspace"}}, "reads byte-level BPE"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "reads byte-level BPE"),
        ({"model": {"type": "BPE", "vocab": [], "merges": []}}, "reads byte-level BPE"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "has no token for byte 0x00"),
        ({"model": None}, "is not a tokenizer"),
        ({"pre_tokenizer": {"type": "Nonsense"}}, "cannot be loaded"),
        ({"added_tokens": [{"content": "<x>", "single_word": True, "id": 1}]}, "single_word"),
    ],
)
def test_tokenizers_that_would_lose_text_are_refused(tokenizer, change, fault):
    """What cannot be read exactly is refused with the file's name."""
    document = json.loads(tokenizer.to_str()) | change

    with pytest.raises(CheckpointError) as caught:
        Tokenizer(TokenizerJson(json.dumps(document), source="tokenizer.json"))

    assert caught.value.message.startswith("tokenizer.json: ")
    assert fault in caught.value.message


def test_text_that_is_not_json_is_refused():
    """A broken file is named, not a parser's position alone."""
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: is not a tokenizer"):
        TokenizerJson("{", source="tokenizer.json")


def test_ids_are_found_by_content(ours, tokenizer):
    """Only added tokens have a name to be found by."""
    assert [tokenizer.token_to_id(BOS), tokenizer.token_to_id(EOS), None] == [
        ours.id_of(content) for content in (BOS, EOS, "the")
    ]
