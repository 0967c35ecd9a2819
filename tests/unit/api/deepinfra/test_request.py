from __future__ import annotations

import json

import pytest

from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.deepinfra.request import read_inference_body
from stillhouse.errors import InvalidRequestError
from stillhouse.types.response_format import JsonObjectFormat

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def read(body, content_type=JSON, *, name="a/b", version=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = RequestHead(model_name=name, version=version, content_type=content_type)
    return read_inference_body(raw, head)


def request(**fields):
    return read({"input": "Once"} | fields).to_request()


def refusal(body, content_type=JSON):
    with pytest.raises(InvalidRequestError) as caught:
        read(body, content_type).to_request()
    return caught.value


def test_the_least():
    """A prompt is enough; DeepInfra's 512 tokens are the most where nothing is said."""
    parsed = request()

    assert ("a/b", "Once", 512, 1, None) == (
        parsed.model,
        parsed.prompt,
        parsed.max_tokens,
        parsed.n,
        parsed.top_logprobs,
    )
    assert 512 == request(max_new_tokens=None).max_tokens


def test_deepinfras_names_arrive():
    """Each field has its place in the request."""
    parsed = request(
        max_new_tokens=7,
        num_responses=4,
        stop=["a", "b"],
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.5,
        presence_penalty=1,
        frequency_penalty=-1,
        seed=5,
        response_format={"type": "json_object"},
    )

    assert (7, 4, ("a", "b"), JsonObjectFormat()) == (
        parsed.max_tokens,
        parsed.n,
        parsed.stop,
        parsed.response_format,
    )
    sampling = parsed.sampling
    assert (0.5, 0.9, 3, 0.1) == (
        sampling.temperature,
        sampling.top_p,
        sampling.top_k,
        sampling.min_p,
    )
    assert (1.5, 1, -1, 5) == (
        sampling.repetition_penalty,
        sampling.presence_penalty,
        sampling.frequency_penalty,
        sampling.seed,
    )
    assert ("a",) == request(stop="a").stop


def test_a_stream_asks_for_log_probabilities():
    """Its events tell each token's."""
    assert 0 == request(stream=True).top_logprobs


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("input", {"input": None}),
        ("input", {"input": ["Once"]}),
        ("max_new_tokens", {"max_new_tokens": 0}),
        ("num_responses", {"num_responses": 5}),
        ("webhook", {"webhook": "https://example.com"}),
        ("num_responses", {"num_responses": 2, "stream": True}),
    ],
)
def test_what_cannot_be_honoured_is_refused(param, fields):
    """The field is named as DeepInfra names it."""
    assert param == refusal({"input": "Once"} | fields).param


def test_a_body_that_is_no_object_is_refused():
    """Neither a list nor nothing."""
    assert "not a JSON object" in refusal([]).message
    assert "not valid JSON" in refusal(b"").message


@pytest.mark.parametrize(
    ("name", "version", "model"),
    [
        ("a/b", "1", "a/b:1"),
        ("a/b:1", None, "a/b:1"),
        ("a/b", "", "a/b"),
        ("deploy/abc", None, "deploy_id:abc"),
    ],
)
def test_the_path_names_the_model(name, version, model):
    """The path has the version or a deployment's id, and the body has no model."""
    assert model == read({"input": "Once", "model": "c/d"}, name=name, version=version).model


def test_form_fields_are_json_but_for_texts():
    """Numbers, switches and objects are read as JSON; a prompt that looks like one is text."""
    parsed = read(
        b"input=5&max_new_tokens=7&temperature=0.5&response_format={%22type%22:%22json_object%22}"
        b"&stream=True",
        FORM,
    )

    assert ("5", 7, 0.5, True) == (
        parsed.input,
        parsed.max_tokens,
        parsed.temperature,
        parsed.stream,
    )
    assert JsonObjectFormat() == parsed.to_request().response_format


@pytest.mark.parametrize(
    ("body", "stop"),
    [
        (b"input=x&stop=a&stop=5", ("a", "5")),
        (b"input=x&stop=a", ("a",)),
        (b"input=x&stop=5", ("5",)),
        (b"input=x&stop=[", ("[",)),
        (b'input=x&stop=["a","b"]', ("a", "b")),
    ],
)
def test_stop_strings_of_a_form(body, stop):
    """One field for each, or one with a JSON list of them."""
    assert stop == read(body, FORM).to_request().stop


def test_what_a_form_says_wrongly_is_refused_like_json():
    """The field's own check speaks, with what was given."""
    error = refusal(b"input=x&temperature=warm", FORM)

    assert "temperature" == error.param
    assert 'got "warm"' in error.message
    assert "seed" == refusal(b"input=x&seed=1&seed=2", FORM).param


def test_json_that_says_it_is_a_form_is_json():
    """What curl's -d sends without a Content-Type."""
    assert "Once" == read({"input": "Once"}, FORM).input
    assert "Once" == read({"input": "Once"}, "").input
