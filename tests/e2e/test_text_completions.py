"""Text completions: a prompt that is continued as it stands."""

from __future__ import annotations

import json

import openai
import pytest

from stillhouse.catalogue.catalogue import Catalogue
from stillhouse.catalogue.chat_models import load_chat_model
from stillhouse.catalogue.demo_models import DEMO_MODEL
from stillhouse.text.chat_model import ChatModel
from stillhouse.types.requests import TextRequest
from tests.e2e.running_server import run_server

PATHS = ("/v1/openai/completions", "/v1/completions")
ASK = {"model": DEMO_MODEL, "prompt": "Hello", "temperature": 0, "max_tokens": 12}


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1/openai", api_key=server.key) as client:
        yield client


@pytest.fixture(scope="module")
def model() -> ChatModel:
    return load_chat_model(Catalogue.load().resolve(DEMO_MODEL, loaded=[DEMO_MODEL]))


def refusal(client, **fields):
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(**ASK | fields)
    return caught.value


@pytest.mark.parametrize("path", PATHS)
def test_both_paths(server, path):
    """The answer has its own object, a text, and what it cost to the last digit."""
    with server.client() as client:
        answer = client.post(path, json=ASK).json()

    assert "text_completion" == answer["object"]
    assert answer["id"].startswith("cmpl-")
    assert [{"index", "text", "logprobs", "finish_reason"}] == [*map(set, answer["choices"])]
    usage = answer["usage"]
    cost_picousd = 200_000 * usage["prompt_tokens"] + 600_000 * usage["completion_tokens"]
    assert cost_picousd == round(usage["estimated_cost"] * 10**12)


def test_stream_equals_whole_answer(client):
    """Greedy, the stream's pieces add up to the whole answer, with the same usage."""
    whole = client.completions.create(**ASK, logprobs=1)
    chunks = list(client.completions.create(**ASK, logprobs=1, stream=True))

    assert whole.choices[0].text
    assert whole.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens
    pieces = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
    assert whole.choices[0].logprobs.tokens == [token for p in pieces for token in p.tokens]
    assert whole.choices[0].logprobs.text_offset == [o for p in pieces for o in p.text_offset]


def test_usage_chunk_of_its_own(client):
    """With include_usage, usage comes OpenAI's way: last, on a chunk with no choices."""
    options = {"include_usage": True}
    chunks = list(client.completions.create(**ASK, stream=True, stream_options=options))

    assert ([], 12) == (chunks[-1].choices, chunks[-1].usage.completion_tokens)
    assert {None} == {chunk.usage for chunk in chunks[:-1]}


def test_token_ids_are_the_text_they_stand_for(client, model):
    """A prompt of token ids, or the same text: the same answer, and an echo of what was given."""
    echoed = client.completions.create(**ASK, echo=True)
    token_ids = model.encode_prompt(TextRequest(DEMO_MODEL, prompt="Hello")).token_ids
    of_ids = client.completions.create(**ASK | {"prompt": token_ids}, echo=True)

    assert echoed.choices[0].text.startswith("Hello")
    # Of the ids, the first one is the token that a text need not begin with.
    assert f"<｜begin▁of▁sentence｜>{echoed.choices[0].text}" == of_ids.choices[0].text
    assert echoed.usage == of_ids.usage


def test_echo_of_a_prompt_alone(client):
    """Nothing is generated, and the answer is the prompt."""
    answer = client.completions.create(**ASK | {"max_tokens": 0}, echo=True)

    assert ("Hello", "length") == (answer.choices[0].text, answer.choices[0].finish_reason)
    assert 0 == answer.usage.completion_tokens


def test_logprobs_are_of_the_text(client):
    """The tokens are the text, each at its offset and never likelier than the likeliest."""
    choice = client.completions.create(**ASK, logprobs=3).choices[0]
    told = choice.logprobs

    assert choice.text == "".join(told.tokens)
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert choice.text[offset:].startswith(token)
    for token, logprob, top in zip(
        told.tokens, told.token_logprobs, told.top_logprobs, strict=True
    ):
        assert 3 == len(top)
        assert top[token] == logprob == max(top.values()) < 0


def test_a_stop_token_ends_the_text_unshown(client, server):
    """The answer ends before the token, which is counted."""
    whole = client.completions.create(
        **ASK, logprobs=0, extra_body={"return_tokens_as_token_ids": True}
    )
    names = whole.choices[0].logprobs.tokens
    stop_id = int(names[2].removeprefix("token_id:"))
    cut = client.completions.create(**ASK, logprobs=0, extra_body={"stop_token_ids": [stop_id]})

    end = whole.choices[0].logprobs.text_offset[names.index(names[2])]
    assert (whole.choices[0].text[:end], "stop") == (
        cut.choices[0].text,
        cut.choices[0].finish_reason,
    )
    assert names.index(names[2]) == len(cut.choices[0].logprobs.tokens)
    assert names.index(names[2]) + 1 == cut.usage.completion_tokens


def test_a_stop_string_ends_the_text(client):
    """Text after the stop string is not sent, neither are its tokens."""
    whole = client.completions.create(**ASK, logprobs=0).choices[0]
    stop = whole.text[5:8]
    cut = client.completions.create(**ASK, stop=stop, logprobs=0).choices[0]

    assert whole.text[: whole.text.index(stop)] == cut.text
    assert "".join(cut.logprobs.tokens).startswith(cut.text)
    assert "stop" == cut.finish_reason


def test_several_answers(client):
    """Each has its index; seeded, the first one is what one alone would be."""
    ask = ASK | {"temperature": 1, "seed": 7}
    one = client.completions.create(**ask)
    three = client.completions.create(**ask, n=3)

    assert [0, 1, 2] == [choice.index for choice in three.choices]
    assert one.choices[0].text == three.choices[0].text
    assert one.usage.prompt_tokens == three.usage.prompt_tokens


def test_response_format_binds_a_text(client):
    """A raw text can be bound as well as a chat."""
    answer = client.completions.create(
        **ASK, extra_body={"response_format": {"type": "regex", "regex": "[a-c]{5}"}}
    )

    assert 5 == len(answer.choices[0].text)
    assert set(answer.choices[0].text) <= set("abc")


@pytest.mark.parametrize(
    ("status", "param", "fields"),
    [
        (422, "prompt", {"prompt": ["Hello", "Goodbye"]}),
        (422, "prompt", {"prompt": []}),
        (422, "prompt", {"prompt": [10**6]}),
        (422, "echo", {"echo": True, "logprobs": 0}),
        (422, "logprobs", {"logprobs": 21}),
        (405, "data", {"extra_body": {"data": {"image": ["data:image/png;base64,"]}}}),
        (400, "prompt", {"prompt": "Hello " * 3000}),
        (404, None, {"model": "a/b"}),
    ],
)
def test_what_cannot_be_is_refused(client, status, param, fields):
    """The status says whose fault it is, and the field is named."""
    error = refusal(client, **fields)

    assert (status, param) == (error.status_code, error.body["param"])


def test_what_is_streamed_is_one_line_for_every_client(client):
    """A line separator within a text does not end a line of the stream."""
    prompt = "Hello\u2028you\u0085there"
    with client.completions.with_streaming_response.create(
        **ASK | {"prompt": prompt}, echo=True, stream=True
    ) as response:
        lines = [line for line in response.iter_lines() if line]

    assert prompt == json.loads(lines[0].removeprefix("data: "))["choices"][0]["text"]
    assert "data: [DONE]" == lines[-1]


def test_a_text_model_serves_raw_prompts_alone(tmp_path):
    """A model whose task is text completes; every API dialect of chat refuses it by name."""
    config = tmp_path / "stillhouse.toml"
    config.write_text(f'[models."{DEMO_MODEL}"]\ntask = "text"\n')
    with (
        run_server(tmp_path / "home", "--config", str(config)) as server,
        server.client() as client,
    ):
        assert client.post(PATHS[0], json=ASK).is_success
        message = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "Hello"}]}
        chat = client.post("/v1/openai/chat/completions", json=message)
        messages = client.post("/anthropic/v1/messages", json=message | {"max_tokens": 8})
        responses = client.post("/v1/responses", json={"model": DEMO_MODEL, "input": "Hello"})
        listed = client.get("/v1/openai/models").json()["data"][0]

    assert [400, 400, 400] == [r.status_code for r in (chat, messages, responses)]
    assert ("wrong_task", "model") == tuple(chat.json()["error"][k] for k in ("code", "param"))
    assert "text" in listed["metadata"]["tags"]
