from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.deepinfra.inference import InferenceWriter
from stillhouse.errors import EngineCrashedError
from stillhouse.types.events import ChoiceAnswer, ChoiceEnd, Finish, FinishReason, TextDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.service_tier import ServiceTier
from stillhouse.types.usage import TokenUsage

META = ResponseMeta("Rx", 7, "a/b", ServiceTier.DEFAULT, n=1)
FINISH = Finish(FinishReason.STOP, TokenUsage(48, 16, 189), 92_400_000, runtime_ms=228)
STATUS = {
    "status": "succeeded",
    "runtime_ms": 228,
    "cost": 9.24e-05,
    "tokens_generated": 189,
    "tokens_input": 48,
}


def token(token_bytes, *, token_id=5):
    return TokenLogprobs(Logprob(token_id, token_bytes, -0.5))


def streamed(*events):
    encoder = InferenceWriter(is_stream=True).event_encoder(META)
    assert b"" == encoder.opening() + encoder.closing()
    raw = b"".join(encoder.event(event, None) for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in raw.decode().splitlines()[::2]]


def test_a_whole_answer():
    """A result for each response; the cost has no noise behind its last digit."""
    choices = tuple(ChoiceAnswer(text, "", (), (), FinishReason.STOP) for text in ("one", "two"))
    raw = InferenceWriter(is_stream=False).whole_body(META, choices, FINISH)

    assert {
        "request_id": "Rx",
        "inference_status": STATUS,
        "results": [{"generated_text": "one"}, {"generated_text": "two"}],
        "num_tokens": 189,
        "num_input_tokens": 48,
    } == json.loads(raw)
    assert b'"cost":0.0000924,' in raw


def test_a_cost_that_is_not_charged_yet_is_null():
    """Nobody is told a cost before the ledger has it."""
    finish = Finish(FinishReason.STOP, TokenUsage(1, 0, 1), None)
    raw = InferenceWriter(is_stream=False).whole_body(META, (), finish)

    assert json.loads(raw)["inference_status"]["cost"] is None


def test_an_event_for_each_token():
    """Each token has its id, text and log probability; the last event has the whole text."""
    first, second, last = streamed(
        TextDelta(" where ever", logprobs=(token(b" where", token_id=988), token(b" ever"))), FINISH
    )

    assert {
        "token": {"id": 988, "text": " where", "logprob": -0.5, "special": False},
        "generated_text": None,
        "details": None,
    } == first
    assert " ever" == second["token"]["text"]
    assert {
        "token": {"id": None, "text": "", "logprob": None, "special": True},
        "generated_text": " where ever",
        "details": {"finish_reason": "eos_token", "generated_tokens": 189, "input_tokens": 48},
        "request_id": "Rx",
        "inference_status": STATUS,
        "num_tokens": 189,
        "num_input_tokens": 48,
    } == last


def test_finish_reasons_are_text_generation_inferences():
    """The end token, a stop string or the limit."""
    usage = TokenUsage(1, 0, 1)
    ends = (
        Finish(FinishReason.STOP, usage, 1),
        Finish(FinishReason.STOP, usage, 1, stop_string="\n"),
        Finish(FinishReason.LENGTH, usage, 1),
    )

    assert ["eos_token", "stop_sequence", "length"] == [
        streamed(end)[0]["details"]["finish_reason"] for end in ends
    ]


@given(st.text(), st.integers(1, 5), st.data())
def test_texts_of_tokens_are_the_text(text, num_bytes, data):
    """However tokens split characters and steps split tokens, together they say the text."""
    raw = text.encode()
    tokens = [token(raw[i : i + num_bytes]) for i in range(0, len(raw), num_bytes)]
    cut = data.draw(st.integers(0, len(tokens)))
    # What a step makes certain is told with its tokens; half a character waits for the other.
    certain = raw[: cut * num_bytes].decode(errors="ignore")
    *events, last = streamed(
        TextDelta(certain, logprobs=tuple(tokens[:cut])),
        TextDelta(text[len(certain) :], logprobs=tuple(tokens[cut:])),
        FINISH,
    )

    assert text == last["generated_text"]
    assert text == "".join(event["token"]["text"] for event in (*events, last))
    assert len(tokens) == len(events)


def test_a_token_that_a_stop_string_cuts():
    """Its text is what is left of it."""
    event, last = streamed(TextDelta("wor", logprobs=(token(b"world"),)), FINISH)

    assert ("wor", "wor") == (event["token"]["text"], last["generated_text"])


def test_text_without_a_token_comes_with_the_last_event():
    """Nothing is lost, whatever came without one."""
    (last,) = streamed(TextDelta("rest"), ChoiceEnd(FinishReason.STOP), FINISH)

    assert ("rest", False, "rest") == (
        last["token"]["text"],
        last["token"]["special"],
        last["generated_text"],
    )


def test_an_error_in_mid_stream():
    """It is in the envelope of every error."""
    event = InferenceWriter(is_stream=True).event_encoder(META).error(EngineCrashedError("gone"))

    assert "gone" == json.loads(event.removeprefix(b"data: "))["error"]["message"]
