"""Schemas that are harmless at first and fail late: free text from the engine that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from stillhouse.config import DEMO_MODEL
from tests.faults.fault_server import CHAT, HELLO, WAIT_S, rows

MESSAGES = HELLO["messages"]


def late(pattern: str) -> dict[str, Any]:
    """An object whose last property is the one that hurts."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["answer", "z"],
        "properties": {
            "answer": {"type": "string", "maxLength": 60},
            "z": {"type": "string", "pattern": pattern},
        },
    }


SCHEMAS = {
    "harmless": late("^a{3}$"),
    "nested": late("^((((a{1000}){1000}){1000}){1000})$"),
    "nested twice": late("^((a{1000}){1000})$"),
    "side by side": late("^" + "(b{1000}|c{999})" * 60 + "$"),
    "ambiguous": late("^(a|b)*a(a|b){900}$"),
}


@dataclass(frozen=True)
class Asked:
    """How one API asks for an answer of a schema."""

    path: str
    fields: dict[str, Any]


def asked(dialect: str, schema: dict[str, Any]) -> Asked:
    response_format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    text_format = {"type": "json_schema", "name": "x", "schema": schema}
    return {
        "chat": Asked(
            CHAT, {"messages": MESSAGES, "max_tokens": 80, "response_format": response_format}
        ),
        "responses": Asked(
            "/v1/responses",
            {"input": "Hello!", "max_output_tokens": 80, "text": {"format": text_format}},
        ),
        "messages": Asked(
            "/anthropic/v1/messages",
            {
                "messages": MESSAGES,
                "max_tokens": 80,
                "output_config": {"format": {"type": "json_schema", "schema": schema}},
            },
        ),
        "native": Asked(
            f"/v1/inference/{DEMO_MODEL}",
            {"input": "Hello!", "max_new_tokens": 80, "response_format": response_format},
        ),
    }[dialect]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("dialect", ["chat", "responses", "messages", "native"])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_text_is_paid_for_whatever_the_schema(demo, schema, dialect, stream):
    """A late schema is refused before anything is made, or what was made is charged."""
    num_before = len(rows(demo.home))
    ask = asked(dialect, SCHEMAS[schema])
    body = {"model": DEMO_MODEL, "stream": stream, "temperature": 0} | ask.fields
    response = httpx.post(demo.url + ask.path, json=body, headers=demo.headers, timeout=WAIT_S)
    demo.wait_until(lambda: demo.outstanding() == 0)
    new = list(rows(demo.home).values())[num_before:]

    if schema != "harmless" and response.status_code in {400, 422}:
        assert [] == [row for row in new if row.completion_tokens]
        return
    (row,) = new
    assert ("SETTLED", True) == (row.state, (row.cost_picousd or 0) > 0), (row, response.text)
