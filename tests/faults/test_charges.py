"""Every endpoint charges generated tokens, streamed or whole, unless the fault is the server's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stillhouse.catalogue.demo_models import DEMO_MODEL
from tests.faults.bare_client import BareClient
from tests.faults.fault_server import (
    CHAT,
    FaultServer,
    Row,
    cost_picousd,
    last_row,
    rows,
    run_fault_server,
    witness_log,
)
from tests.faults.preloaded import Preloaded

NUM_TOKENS = 5
LONG = 1500  # tokens; takes 8 s


@dataclass(frozen=True)
class Endpoint:
    """The request and response fields of one API dialect."""

    name: str
    path: str
    limit: str
    prompt: str

    def prompt_of(self, text: str) -> Any:
        """*text*, as the prompt of a body."""
        is_chat = self.prompt == "messages"
        return [{"role": "user", "content": text}] if is_chat else text


NATIVE = f"/v1/inference/{DEMO_MODEL}"
ENDPOINTS = [
    Endpoint("chat", CHAT, "max_tokens", "messages"),
    Endpoint("text", "/v1/openai/completions", "max_tokens", "prompt"),
    Endpoint("responses", "/v1/responses", "max_output_tokens", "input"),
    Endpoint("anthropic", "/anthropic/v1/messages", "max_tokens", "messages"),
    Endpoint("native", NATIVE, "max_new_tokens", "input"),
]
on_every_endpoint = pytest.mark.parametrize(
    "endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name
)
streamed_or_whole = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@contextlib.contextmanager
def asking(
    server: FaultServer, endpoint: Endpoint, *, stream: bool, most: int, text: str = "Hello!"
) -> Iterator[BareClient]:
    body = {"model": DEMO_MODEL, "stream": stream, endpoint.limit: most}
    body[endpoint.prompt] = endpoint.prompt_of(text)
    with BareClient(server, path=endpoint.path, body=body) as client:
        yield client


def read_end(client: BareClient, *, stream: bool) -> Any:
    """The last thing that is said, as JSON."""
    if not stream:
        return client.body()
    events = [event for event in client.events() if event is not None]
    # Anthropic's last event says nothing of it.
    return [event for event in events if event.get("type") != "message_stop"][-1]


def shown_picousd(end: Any) -> int | None:
    """Return the cost that an answer shows, from its dialect's own field."""
    if "inference_status" in end:
        return round(float(end["inference_status"]["cost"]) * 10**12)
    holder = end.get("response") or end.get("error") or end
    cost: float | None = holder["usage"]["estimated_cost"] if "usage" in holder else None
    return None if cost is None else round(cost * 10**12)


def settled(server: FaultServer, num_before: int) -> Row:
    """The row of the one request that was made since."""
    server.wait_until(lambda: server.outstanding() == 0)
    assert num_before + 1 == len(rows(server.home))
    row = last_row(server.home)
    assert len(witness_log(server.home)[row.request_id].token_ids) >= (row.completion_tokens or 0)
    return row


def running(name: str, engine: str) -> Any:
    """A server for all tests of this file whose engine behaves like that."""

    def serve(
        tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded
    ) -> Iterator[FaultServer]:
        home = tmp_path_factory.mktemp(name) / "home"
        with run_fault_server(home, engine, preloaded=preloaded) as server:
            yield server

    return pytest.fixture(scope="module", name=name)(serve)


refusing = running("refusing", f'faults = [{{kind = "refuse", at_token = {NUM_TOKENS}}}]\n')
refusing_at_once = running("refusing_at_once", 'faults = [{kind = "refuse"}]\n')
slow = running("slow", "token_interval_s = 0.005\n")
crashing = running(
    "crashing",
    f'faults = [{{kind = "crash", at_token = {NUM_TOKENS}}}]\n[engine.supervision]\n'
    "first_restart_delay_s = 0\nstable_after_s = 0\n",
)


@on_every_endpoint
@streamed_or_whole
def test_a_fault_of_the_request_in_mid_answer_is_charged(refusing, endpoint, stream):
    """Tokens generated so far are charged to the pico-dollar, and the error shows the cost."""
    num_before = len(rows(refusing.home))
    with asking(refusing, endpoint, stream=stream, most=LONG) as client:
        end = read_end(client, stream=stream)
    row = settled(refusing, num_before)

    assert ("SETTLED", "request_fault", "engine", NUM_TOKENS) == (
        row.state,
        row.outcome,
        row.usage_source,
        row.completion_tokens,
    )
    assert row.prompt_tokens
    assert cost_picousd(row.prompt_tokens, NUM_TOKENS) == row.cost_picousd == shown_picousd(end)
    assert "asked to refuse" in str(end)
    assert NUM_TOKENS == len(witness_log(refusing.home)[row.request_id].token_ids)


def test_several_answers_share_the_fault(refusing):
    """One that fails by its request's fault ends the others, and all that was made is charged."""
    num_before = len(rows(refusing.home))
    with BareClient(refusing, n=3) as client:
        end = read_end(client, stream=True)
    row = settled(refusing, num_before)

    made = len(witness_log(refusing.home)[row.request_id].token_ids)
    assert ("SETTLED", made) == (row.state, row.completion_tokens)
    assert row.cost_picousd == shown_picousd(end)
    assert made >= NUM_TOKENS


@on_every_endpoint
@streamed_or_whole
def test_a_refusal_before_the_first_token_costs_nothing(refusing_at_once, endpoint, stream):
    """The refusal has a status, no cost, and a row with its reason."""
    num_before = len(rows(refusing_at_once.home))
    with asking(refusing_at_once, endpoint, stream=stream, most=LONG) as client:
        end = client.body()
    row = settled(refusing_at_once, num_before)

    assert ("VOIDED", "request_fault", 0, 0) == (
        row.state,
        row.outcome,
        row.completion_tokens,
        row.cost_picousd,
    )
    assert b" 422 " in client.head
    assert "asked to refuse" in end["error"]["message"]
    assert "usage" not in end["error"]


@on_every_endpoint
@streamed_or_whole
def test_a_fault_of_ours_is_not_charged(crashing, endpoint, stream):
    """Tokens of a crashed engine are recorded, and free."""
    crashing.wait_until(crashing.is_ready)
    num_before = len(rows(crashing.home))
    text = (
        f"{endpoint.name} {stream}"  # another one each time, as what crashes twice is quarantined
    )
    with asking(crashing, endpoint, stream=stream, most=LONG, text=text) as client:
        end = read_end(client, stream=stream)
    row = settled(crashing, num_before)

    assert ("VOIDED", "engine_error", NUM_TOKENS, 0) == (
        row.state,
        row.outcome,
        row.completion_tokens,
        row.cost_picousd,
    )
    assert "died" in str(end)


def test_what_a_drain_cuts_off_is_an_error_on_every_endpoint(tmp_path, preloaded):
    """Every endpoint returns an error, streamed or whole, which is charged as drained."""
    home = tmp_path / "home"
    engine = "token_interval_s = 0.005\n[server]\nshutdown_grace_s = 0\n"
    with (
        run_fault_server(home, engine, preloaded=preloaded) as server,
        contextlib.ExitStack() as clients,
    ):
        asked = [
            (clients.enter_context(asking(server, endpoint, stream=stream, most=LONG)), stream)
            for endpoint in ENDPOINTS
            for stream in (True, False)
        ]
        for client, stream in asked:
            if stream:
                client.read(3)
        server.wait_until(lambda: len(rows(home)) == len(asked))
        server.stop()
        ends = [read_end(client, stream=stream) for client, stream in asked]
        heads = [client.head for client, stream in asked if not stream]

    charged = sorted(row.cost_picousd or 0 for row in rows(home).values())
    assert {("SETTLED", "drained")} == {(row.state, row.outcome) for row in rows(home).values()}
    assert charged == sorted(shown_picousd(end) or 0 for end in ends)
    assert all("shut down before the answer's end" in str(end) for end in ends)
    assert all(b" 503 " in head and b"retry-after: 1" in head.lower() for head in heads)
    assert len(ENDPOINTS) == len(heads)


@on_every_endpoint
@streamed_or_whole
def test_an_answer_costs_what_its_engine_made(slow, endpoint, stream):
    """The row, what the client is shown and the engine's own log agree to the pico-dollar."""
    num_before = len(rows(slow.home))
    with asking(slow, endpoint, stream=stream, most=NUM_TOKENS) as client:
        end = read_end(client, stream=stream)
    row = settled(slow, num_before)

    assert ("SETTLED", "length", NUM_TOKENS) == (row.state, row.outcome, row.completion_tokens)
    assert NUM_TOKENS == len(witness_log(slow.home)[row.request_id].token_ids)
    assert cost_picousd(row.prompt_tokens, NUM_TOKENS) == row.cost_picousd == shown_picousd(end)


@on_every_endpoint
@streamed_or_whole
def test_a_client_that_leaves_pays_for_what_was_made(slow, endpoint, stream):
    """Every endpoint charges the generated tokens, whether or not a byte was sent."""
    num_before = len(rows(slow.home))
    with asking(slow, endpoint, stream=stream, most=LONG) as client:
        slow.wait_until(lambda: len(rows(slow.home)) == num_before + 1)
        if stream:
            client.read(3)
            client.leave_by_fin()
        else:
            client.leave_by_rst()
    row = settled(slow, num_before)

    assert ("SETTLED", "client_disconnect") == (row.state, row.outcome)
    made = len(witness_log(slow.home)[row.request_id].token_ids)
    assert made == row.completion_tokens
    assert row.prompt_tokens
    assert cost_picousd(row.prompt_tokens, made) == row.cost_picousd
