from __future__ import annotations

import json

import pytest

from stillhouse.api.openai.generation_request import parse_body
from stillhouse.api.openai.text_request import TextCompletionIn
from stillhouse.errors import InvalidRequestError, UnsupportedFeatureError
from stillhouse.types.response_format import JsonObjectFormat
from stillhouse.types.service_tier import ServiceTier


def read(**fields):
    body = {"model": "a/b", "prompt": "Once"} | fields
    return parse_body(json.dumps(body).encode(), TextCompletionIn).to_request()


def refusal(error=InvalidRequestError, **fields):
    with pytest.raises(error) as caught:
        read(**fields)
    return caught.value


def test_the_least():
    """A prompt is enough; what is not said is left to the model."""
    request = read()

    assert ("a/b", "Once", False) == (request.model, request.prompt, request.echo)
    assert (1, None, (), ()) == (
        request.n,
        request.top_logprobs,
        request.stop,
        request.stop_token_ids,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Once", "Once"),
        ("", ""),
        (["Once"], "Once"),
        ([5], (5,)),
        ([0, 2**31 - 1], (0, 2**31 - 1)),
        ([[5, 6]], (5, 6)),
        ([], ()),
    ],
)
def test_a_prompt_is_text_or_token_ids(given, expected):
    """A text, token ids, or a list with exactly one of either."""
    assert expected == read(prompt=given).prompt


@pytest.mark.parametrize("given", [["Once", "Twice"], [[5], [6]], ["Once", [5]]])
def test_several_prompts_are_refused(given):
    """One request has one prompt; the message says how many there were, and what to do."""
    error = refusal(prompt=given)

    assert "prompt" == error.param
    assert "2 prompts" in error.message
    assert "a request for each" in error.message


@pytest.mark.parametrize(
    "given", [None, 5, {"text": "Once"}, [1.5], [-1], [2**31], [True], [5, "Once"], [[["Once"]]]]
)
def test_what_is_no_prompt_is_refused(given):
    """Anything else is refused by name, with what would be right."""
    error = refusal(prompt=given)

    assert "prompt" == error.param
    assert "a text, or a list of token ids" in error.message


def test_fields_of_text_completions_arrive():
    """What chat has not, and what both have."""
    request = read(
        logprobs=0,
        stop_token_ids=[7, 8],
        n=2,
        max_tokens=5,
        stop="\n",
        service_tier="flex",
        response_format={"type": "json_object"},
    )

    assert (0, (7, 8), 2, 5) == (
        request.top_logprobs,
        request.stop_token_ids,
        request.n,
        request.max_tokens,
    )
    assert (("\n",), ServiceTier.FLEX) == (request.stop, request.tier)
    assert JsonObjectFormat() == request.response_format
    assert read(echo=True).echo


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("logprobs", -1),
        ("logprobs", 21),
        ("logprobs", True),
        ("stop_token_ids.0", [-1]),
        ("stop_token_ids", [1] * 65),
        ("echo", "yes"),
        ("best_of", 3),
        ("suffix", " end."),
        ("n", 5),
    ],
)
def test_what_cannot_be_honoured_is_refused(param, value):
    """The field is named."""
    assert param == refusal(**{param.partition(".")[0]: value}).param


@pytest.mark.parametrize("logprobs", [0, 1])
def test_echo_with_logprobs_is_refused(logprobs):
    """The prompt's own tokens have no log probabilities, so that the lists would have holes."""
    error = refusal(echo=True, logprobs=logprobs)

    assert "echo" == error.param
    assert "leave one of them out" in error.message


def test_images_are_refused_in_deepinfras_words():
    """A model of text says so as DeepInfra does, which is a 405."""
    error = refusal(UnsupportedFeatureError, data={"image": ["data:image/png;base64,"]})

    assert "Multimodal is not supported for model: a/b" == error.message
    assert "Once" == read(data={"image": []}).prompt
