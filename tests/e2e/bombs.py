"""Malicious bodies, each of which must be refused at once without affecting other clients."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

HELLO: dict[str, Any] = {
    "model": "stillhouse/demo-r1",
    "messages": [{"role": "user", "content": "Hello!"}],
}
_MIB = 1 << 20


def _with(**fields: Any) -> bytes:
    return json.dumps(HELLO | fields).encode()


def _raw(name: str, value: bytes) -> bytes:
    """Return a chat body with a raw value of one field that no JSON library would write."""
    return _with()[:-1] + b', "' + name.encode() + b'": ' + value + b"}"


def _nested_schema(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def _format_of(schema: object) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def _exploding_refs(width: int) -> dict[str, Any]:
    """Return a schema whose references expand to two to the power of *width* definitions."""
    defs = {
        f"d{n}": {
            "type": "object",
            "properties": {name: {"$ref": f"#/$defs/d{n + 1}"} for name in "ab"},
        }
        for n in range(width)
    }
    return {"$defs": {**defs, f"d{width}": {"type": "string"}}, "$ref": "#/$defs/d0"}


#: The bodies by name, created on demand, as some are large.
BOMBS: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "a hundred thousand brackets": lambda: b"[" * 100_000,
    "nested objects": lambda: b'{"a":' * 100_000,
    "deep in an unknown field": lambda: _raw("x", b"[" * 50_000 + b"]" * 50_000),
    "deep content": lambda: _raw("messages", b"[" * 900 + b"]" * 900),
    "a number beyond all floats": lambda: _raw("temperature", b"1e400"),
    "an integer of five thousand digits": lambda: _raw("seed", b"9" * 5000),
    "an integer of a million digits": lambda: _raw("max_tokens", b"1" * 1_000_000),
    "a fraction of a million digits": lambda: _raw("max_tokens", b"1." + b"1" * 1_000_000),
    "NaN": lambda: _raw("temperature", b"NaN"),
    "infinity": lambda: _raw("top_p", b"-Infinity"),
    "the same key twice": lambda: _raw("model", b'"stillhouse/demo-r1"'),
    "half a surrogate pair": lambda: _raw("user", b'"\\ud800"'),
    "half a surrogate pair in a message": lambda: _with(
        messages=[{"role": "user", "content": "\ud800"}]
    ),
    "not UTF-8": lambda: _raw("user", b'"\xff\xfe"'),
    "UTF-16": lambda: _with().decode().encode("utf-16"),
    "a million keys": lambda: b"{" + b",".join(b'"%d":1' % n for n in range(700_000)) + b"}",
    "a million keys with blanks": lambda: (
        b"{" + b",".join(b'"%d" : 1' % n for n in range(500_000)) + b"}"
    ),
    "a thousand stop strings": lambda: _with(stop=["x"] * 1000),
    "a stop string of a megabyte": lambda: _with(stop="x" * _MIB),
    "a hundred thousand messages": lambda: _with(messages=HELLO["messages"] * 100_000),
    "a hundred thousand parts": lambda: _with(
        messages=[{"role": "user", "content": [{"type": "text", "text": ""}] * 100_000}]
    ),
    "a prompt of seven megabytes": lambda: _with(
        messages=[{"role": "user", "content": "lamb " * (7 * _MIB // 5)}]
    ),
    "more answers than there may be": lambda: _with(n=2**31),
    "all the tokens in the world": lambda: _with(max_tokens=2**63),
    "a bias for every token": lambda: _with(logit_bias={str(n): 1 for n in range(100_000)}),
    "a bias for a token that is not there": lambda: _with(logit_bias={"2000000000": 1}),
    "a thousand tools": lambda: _with(
        tools=[{"type": "function", "function": {"name": f"f{n}"}} for n in range(1000)]
    ),
    "a template": lambda: _with(chat_template="{% for a in range(10**9) %}{% endfor %}"),
    "template variables": lambda: _with(chat_template_kwargs={"messages": []}),
    "a schema of depth 100": lambda: _with(response_format=_format_of(_nested_schema(100))),
    "a schema of ten thousand properties": lambda: _with(
        response_format=_format_of(
            {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(10_000)}}
        )
    ),
    "a schema that doubles": lambda: _with(response_format=_format_of(_exploding_refs(30))),
    "a schema from elsewhere": lambda: _with(
        response_format=_format_of({"$ref": "http://127.0.0.1:1/schema.json"})
    ),
    "a million repetitions": lambda: _with(
        response_format={"type": "regex", "regex": "(a{1,1000000}b){1,1000}"}
    ),
    "a regex of a megabyte": lambda: _with(
        response_format={"type": "regex", "regex": "(a|b)?" * (_MIB // 6)}
    ),
    "a regex that looks back": lambda: _with(
        response_format={"type": "regex", "regex": r"(a+)+\1$"}
    ),
    "an unclosed regex": lambda: _with(response_format={"type": "regex", "regex": "(((("}),
    "more than may be sent": lambda: b" " * (9 * _MIB),
}

#: The bodies that are sent as gzip.
PACKED_BOMBS: dict[str, Callable[[], bytes]] = {
    "a gigabyte of blanks": lambda: gzip.compress(bytes(64 * _MIB)) * 16,
    "nine megabytes of blanks": lambda: gzip.compress(b" " * (9 * _MIB)),
    "not gzip": _with,
    "half of it": lambda: gzip.compress(_with())[:-10],
    "packed twice": lambda: gzip.compress(gzip.compress(_with())),
}
