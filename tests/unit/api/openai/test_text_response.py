from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.openai.generation_request import StreamOptions
from stillhouse.api.openai.text_logprobs import TextLogprobs
from stillhouse.api.openai.text_response import TextChunkEncoder, text_completion_out
from stillhouse.types.events import ChoiceAnswer, ChoiceEnd, Finish, FinishReason, TextDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage

META = ResponseMeta("cmpl-x", 7, "a/b", ServiceTier.FLEX, n=2)
FINISH = Finish(FinishReason.LENGTH, TokenUsage(48, 16, 189), 92_400_000)


@dataclass
class SoFar:
    """A completion in the middle."""

    usage: TokenUsage = field(default_factory=lambda: TokenUsage(48, 16, 3))
    cost_so_far_picousd: int = 5_000_000
    reasoning_tokens: int = 0


def token(token_bytes, logprob=-0.5, *, token_id=1, top=()):
    return TokenLogprobs(Logprob(token_id, token_bytes, logprob), top)


def tokens_of(text, *, num_bytes):
    """*text* as tokens of so many bytes each, wherever characters end."""
    raw = text.encode()
    return tuple(token(raw[i : i + num_bytes]) for i in range(0, len(raw), num_bytes))


def encoded(event, *, logprobs=None, service_tier=None, **options):
    encoder = TextChunkEncoder(META, StreamOptions(**options), logprobs, service_tier=service_tier)
    chunks = encoder.event(event, SoFar()).split(b"\n\n")[:-1]
    return [json.loads(chunk.removeprefix(b"data: ")) for chunk in chunks]


def test_a_whole_answer():
    """Each answer has its text and reason; usage has DeepInfra's exact cost."""
    choices = (
        ChoiceAnswer("one", "", (), (), FinishReason.STOP),
        ChoiceAnswer("two", "", (), (), FinishReason.LENGTH),
    )
    answer = text_completion_out(META, choices, FINISH, None, service_tier="flex")

    assert ("cmpl-x", "text_completion", 7, "a/b") == tuple(answer.values())[:4]
    assert [
        {"index": 0, "text": "one", "logprobs": None, "finish_reason": "stop"},
        {"index": 1, "text": "two", "logprobs": None, "finish_reason": "length"},
    ] == answer["choices"]
    assert answer["usage"]
    assert 9.24e-05 == answer["usage"]["estimated_cost"]
    assert "flex" == answer["service_tier"]


def test_chunks():
    """A chunk has the new text alone; the last one has the reason, and usage beside it."""
    (chunk,) = encoded(TextDelta("new", choice=1))
    assert [{"index": 1, "text": "new", "logprobs": None, "finish_reason": None}] == chunk[
        "choices"
    ]
    assert chunk["usage"] is None
    (end,) = encoded(FINISH)
    assert [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}] == end["choices"]
    assert 189 == end["usage"]["completion_tokens"]
    (first_end,) = encoded(ChoiceEnd(FinishReason.STOP, 1))
    assert ("stop", None) == (first_end["choices"][0]["finish_reason"], first_end["usage"])


def test_a_stream_begins_with_text():
    """There is no role to be told first."""
    assert b"" == TextChunkEncoder(META, StreamOptions(), None).opening()


def test_usage_on_a_chunk_of_its_own():
    """As OpenAI has it, for those who ask for it in OpenAI's words; or on none; or on each."""
    end, usage = encoded(FINISH, include_usage=True)
    assert ([], None) == (usage["choices"], end["usage"])
    assert [None] == [chunk["usage"] for chunk in encoded(FINISH, include_usage=False)]
    (chunk,) = encoded(TextDelta("new"), continuous_usage_stats=True)
    assert (3, 5e-06) == (chunk["usage"]["completion_tokens"], chunk["usage"]["estimated_cost"])


def test_the_tier_is_on_every_chunk():
    """For those who asked for one."""
    assert "flex" == encoded(TextDelta("new"), service_tier="flex")[0]["service_tier"]
    assert "service_tier" not in encoded(TextDelta("new"))[0]


@given(st.text())
def test_any_text_is_one_line_and_comes_back(text):
    """However a client looks for the end of a line, an event has one, and it parses back."""
    encoder = TextChunkEncoder(META, StreamOptions(), None)
    line, *rest = encoder.event(TextDelta(text), SoFar()).decode().splitlines()

    assert [""] == rest
    assert text == json.loads(line.removeprefix("data: "))["choices"][0]["text"]


def test_logprobs_are_four_lists():
    """The likeliest tokens of each place, and the drawn one among them even where it was not."""
    top = (Logprob(1, b" a", -0.1), Logprob(2, b" b", -2.5))
    logprobs = TextLogprobs().push(
        (token(b" a", -0.1, top=top), token(b" c", -4.0, token_id=3, top=top))
    )

    assert {
        "tokens": [" a", " c"],
        "token_logprobs": [-0.1, -4.0],
        "top_logprobs": [{" a": -0.1, " b": -2.5}, {" a": -0.1, " b": -2.5, " c": -4.0}],
        "text_offset": [0, 2],
    } == logprobs


def test_parts_of_characters_are_told_as_bytes():
    """Two tokens may share a character: both begin where it does, and say which bytes they are."""
    logprobs = TextLogprobs().push(tokens_of("a€b", num_bytes=2))

    assert ["bytes:\\x61\\xe2", "bytes:\\x82\\xac", "b"] == logprobs["tokens"]
    assert [0, 1, 2] == logprobs["text_offset"]


def test_tokens_as_ids():
    """As vLLM spells them, for those who want to know exactly which token it was."""
    top = (Logprob(9, b"x", -1.0),)
    logprobs = TextLogprobs(names_ids=True).push((token(b"y", -2.0, token_id=8, top=top),))

    assert (["token_id:8"], [{"token_id:9": -1.0, "token_id:8": -2.0}]) == (
        logprobs["tokens"],
        logprobs["top_logprobs"],
    )


@given(st.text(), st.integers(1, 5), st.data())
def test_offsets_are_the_same_however_a_text_comes(text, num_bytes, data):
    """In a stream as in a whole answer, a token's offset leads to its first character."""
    tokens = tokens_of(text, num_bytes=num_bytes)
    cut = data.draw(st.integers(0, len(tokens)))
    whole = TextLogprobs().push(tokens)["text_offset"]
    in_pieces = TextLogprobs()

    assert whole == [
        offset
        for piece in (tokens[:cut], tokens[cut:])
        for offset in in_pieces.push(piece)["text_offset"]
    ]
    starts = [
        len(text.encode()[: i * num_bytes].decode(errors="ignore")) for i in range(len(tokens))
    ]
    assert starts == whole


def test_each_answer_has_its_own_offsets():
    """Tokens of several answers come by turns; each answer's are counted by themselves."""
    encoder = TextChunkEncoder(META, StreamOptions(), [TextLogprobs(), TextLogprobs()])
    offsets = []
    for choice in (0, 1, 0, 1):
        delta = TextDelta("ab", logprobs=(token(b"ab"),), choice=choice)
        chunk = json.loads(encoder.event(delta, SoFar()).removeprefix(b"data: "))
        offsets += chunk["choices"][0]["logprobs"]["text_offset"]

    assert [0, 0, 2, 2] == offsets
