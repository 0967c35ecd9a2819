"""OpenAI's responses through the official client."""

from __future__ import annotations

import openai
import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL

ASK = {"model": DEMO_MODEL, "input": "Hello!", "temperature": 0}


@pytest.fixture(params=["/v1", "/v1/openai"])
def client(server, request):
    with openai.OpenAI(
        base_url=server.url + request.param, api_key=server.key, max_retries=0
    ) as client:
        yield client


def test_response(client):
    """A response parses into the client's types, with reasoning, text, usage and cost."""
    response = client.responses.create(**ASK)

    assert ("completed", "resp_") == (response.status, response.id[:5])
    assert ["reasoning", "message"] == [item.type for item in response.output]
    assert "hello" in response.output_text.lower()
    assert 0 < response.usage.output_tokens_details.reasoning_tokens
    assert response.usage.total_tokens == (
        response.usage.input_tokens + response.usage.output_tokens
    )
    assert 0 < response.usage.estimated_cost


def test_stream_helper_assembles_the_response(client):
    """The client's own accumulator takes every event and ends with the whole response."""
    whole = client.responses.create(**ASK)
    with client.responses.stream(**ASK) as stream:
        events = list(stream)
        response = stream.get_final_response()

    assert list(range(len(events))) == [event.sequence_number for event in events]
    deltas = [event for event in events if event.type == "response.output_text.delta"]
    assert whole.output_text == response.output_text == "".join(event.delta for event in deltas)
    assert whole.output_text == deltas[-1].snapshot
    assert whole.usage.output_tokens == response.usage.output_tokens
    assert ["reasoning", "message"] == [item.type for item in response.output]


def test_raw_stream_ends_by_itself(client):
    """Without a [DONE] the stream ends after the completed response."""
    events = list(client.responses.create(**ASK, stream=True))

    assert "response.created" == events[0].type
    assert "response.completed" == events[-1].type


def test_an_answer_that_was_cut_off(client):
    """Too few tokens make an incomplete response, and the last event says so."""
    response = client.responses.create(**ASK, max_output_tokens=3)
    *_, last = client.responses.create(**ASK, max_output_tokens=3, stream=True)

    assert ("incomplete", "max_output_tokens") == (
        response.status,
        response.incomplete_details.reason,
    )
    assert ("response.incomplete", response.output) == (
        last.type,
        [
            item.model_copy(update={"id": first.id})
            for item, first in zip(last.response.output, response.output, strict=True)
        ],
    )


def test_a_conversation_goes_on_with_what_was_answered(client):
    """Everything that was put out may be put in again, reasoning included."""
    first = client.responses.create(**ASK)
    conversation = [
        {"role": "user", "content": "Hello!"},
        *first.output,
        {"role": "user", "content": "Hello!"},
    ]
    second = client.responses.create(**ASK | {"input": conversation})
    chat = client.chat.completions.create(
        model=DEMO_MODEL,
        temperature=0,
        messages=[
            {"role": "user", "content": "Hello!"},
            {
                "role": "assistant",
                "content": first.output_text,
                "reasoning_content": first.output[0].content[0].text,
            },
            {"role": "user", "content": "Hello!"},
        ],
    )

    assert chat.choices[0].message.content == second.output_text
    assert chat.usage.prompt_tokens == second.usage.input_tokens


def test_input_tokens_are_counted(client):
    """A prompt is counted exactly as it will be charged."""
    counted = client.responses.input_tokens.count(model=DEMO_MODEL, input="Hello!")

    assert client.responses.create(**ASK).usage.input_tokens == counted.input_tokens


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
    ],
)
def test_what_needs_a_memory_is_refused(client, fields, param):
    """Responses are not stored, and a request that refers to one is refused."""
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.responses.create(**ASK, **fields)

    assert param == caught.value.param


def test_nothing_can_be_retrieved(client):
    """A response is never there afterwards."""
    response = client.responses.create(**ASK)

    assert response.store is False
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
