"""DeepInfra's native endpoint: a raw prompt, in JSON or a form, answered whole or streamed."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL

PATH = f"/v1/inference/{DEMO_MODEL}"
ASK = {"input": "Hello", "temperature": 0, "max_new_tokens": 12}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def client(server):
    with server.client() as client:
        yield client


def texts(answer):
    return [result["generated_text"] for result in answer.json()["results"]]


def events_of(response):
    lines = [line for line in response.text.splitlines() if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def error_of(response):
    error = response.json()["error"]
    assert ["message", "type", "param", "code"] == list(error)
    return error


def test_a_whole_answer(client):
    """A whole answer has DeepInfra's shape, and costs exactly what its tokens cost."""
    answer = client.post(PATH, json=ASK).json()

    assert ["request_id", "inference_status", "results", "num_tokens", "num_input_tokens"] == list(
        answer
    )
    status = answer["inference_status"]
    assert answer["request_id"].startswith("R")
    assert ("succeeded", 12, 12) == (
        status["status"],
        status["tokens_generated"],
        answer["num_tokens"],
    )
    assert 0 < status["runtime_ms"]
    cost_picousd = 200_000 * answer["num_input_tokens"] + 600_000 * answer["num_tokens"]
    assert cost_picousd == round(status["cost"] * 10**12)
    assert len(repr(status["cost"])) < 12


def test_it_says_what_a_text_completion_says(client):
    """The same prompt gives the same text through both endpoints."""
    body = {"model": DEMO_MODEL, "prompt": "Hello", "temperature": 0, "max_tokens": 12}
    completion = client.post("/v1/openai/completions", json=body).json()

    assert [completion["choices"][0]["text"]] == texts(client.post(PATH, json=ASK))


def test_an_event_for_each_token(client):
    """Tokens in turn, with ids and log probabilities; the last event has the whole and its cost."""
    whole = client.post(PATH, json=ASK).json()
    *tokens, last = events_of(client.post(PATH, json=ASK | {"stream": True}))

    text = whole["results"][0]["generated_text"]
    assert text == "".join(event["token"]["text"] for event in tokens) == last["generated_text"]
    assert 12 == len(tokens)
    assert all(event["token"]["logprob"] < 0 <= event["token"]["id"] for event in tokens)
    assert {None} == {event[key] for event in tokens for key in ("generated_text", "details")}
    assert {"finish_reason": "length", "generated_tokens": 12, "input_tokens": 2} == last["details"]
    assert whole["inference_status"]["cost"] == last["inference_status"]["cost"]


def test_forms_say_what_json_says(client):
    """All kinds of body are the same request."""
    fields = {name: str(value) for name, value in ASK.items()}
    said = texts(client.post(PATH, json=ASK))

    assert said == texts(client.post(PATH, files={k: (None, v) for k, v in fields.items()}))
    assert said == texts(client.post(PATH, data=fields))
    assert said == texts(client.post(PATH, content=json.dumps(ASK), headers=FORM))


def test_a_form_can_stream(client):
    """Its switches are words."""
    body = urlencode([*ASK.items(), ("stream", True), ("stop", "."), ("stop", "!")])
    *_, last = events_of(client.post(PATH, content=body, headers=FORM))

    assert "stop_sequence" == last["details"]["finish_reason"]
    assert not set(".!") & set(last["generated_text"])


def test_several_responses(client):
    """Each has its result; the counts are of all together."""
    answer = client.post(PATH, json=ASK | {"num_responses": 3})

    assert 3 == len(texts(answer))
    assert 36 == answer.json()["num_tokens"]


def test_an_answer_told_again(client):
    """A repetition under the same name costs nothing, and its stream has the same tokens."""
    name = {"Idempotency-Key": "told again"}
    first, again = (client.post(PATH, json=ASK | {"stream": True}, headers=name) for _ in range(2))

    assert [e["token"] for e in events_of(first)] == [e["token"] for e in events_of(again)]
    assert 0 == events_of(again)[-1]["inference_status"]["runtime_ms"]


def test_versions(client):
    """The version that is served, and no other."""
    assert 200 == client.post(PATH, params={"version": "1"}, json=ASK).status_code
    refused = client.post(PATH, params={"version": "2"}, json=ASK)
    assert (404, "model_not_found") == (refused.status_code, error_of(refused)["code"])
    assert "has version '1' here, not '2'" in error_of(refused)["message"]


@pytest.mark.parametrize("name", ["a/b", "deploy/abc", "x" * 200])
def test_what_is_not_served(client, name):
    """An unknown model or deployment is a 404 that says what is loaded."""
    refused = client.post(f"/v1/inference/{name}", json=ASK)

    assert (404, "model_not_found") == (refused.status_code, error_of(refused)["code"])
    assert f"Models here: {DEMO_MODEL}, " in error_of(refused)["message"]


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("input", {"input": None}),
        ("webhook", {"webhook": "https://example.com/"}),
        ("num_responses", {"num_responses": 2, "stream": True}),
        ("temperature", {"temperature": "warm"}),
    ],
)
def test_what_cannot_be_is_refused(client, param, fields):
    """The field is named."""
    refused = client.post(PATH, json=ASK | fields)

    assert (422, param) == (refused.status_code, error_of(refused)["param"])


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data; boundary=XX", "multipart/form-data", *FORM.values(), ""]
)
@pytest.mark.parametrize("body", [b"", b"\xff", b"--XX\r\n", b"--XX--", b"[]", b"output"])
def test_a_body_that_is_nothing_is_refused(client, body, content_type):
    """An empty body is refused, with any content type."""
    refused = client.post(PATH, content=body, headers={"content-type": content_type})

    assert 422 == refused.status_code
    assert error_of(refused)["message"]
