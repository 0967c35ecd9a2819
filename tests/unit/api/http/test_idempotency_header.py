from __future__ import annotations

import pytest

from stillhouse.api.http.idempotency_header import read_idempotency_key
from stillhouse.errors import InvalidRequestError

PATH = "/v1/openai/chat/completions"
BODY = b'{"model": "demo/a", "max_tokens": 5, "x": {"a": 1, "b": [1, 2]}}'


def fingerprint(body: bytes, *, path: str = PATH, token: str | None = None) -> bytes:
    idempotency_key = read_idempotency_key("order-7", path=path, body=body, token=token)
    assert idempotency_key
    return idempotency_key.fingerprint


def test_without_the_header_there_is_no_idempotency_key():
    """Only those who give their request a name have it remembered."""
    assert read_idempotency_key(None, path=PATH, body=BODY) is None


@pytest.mark.parametrize("key", ["x", "x" * 255, "8e03978e-40d5-43e8-bc93-6894a57f9324", '"a b"'])
def test_a_key_is_kept_as_it_is(key):
    """Up to 255 printable characters are a name."""
    idempotency_key = read_idempotency_key(key, path=PATH, body=BODY)

    assert key == (idempotency_key and idempotency_key.value)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "Zoë", "\x7f"])
def test_other_keys_are_refused(key):
    """An empty, endless or unprintable name is the client's mistake."""
    with pytest.raises(InvalidRequestError, match="1 to 255 printable") as refusal:
        read_idempotency_key(key, path=PATH, body=BODY)

    assert "Idempotency-Key" == refusal.value.param


@pytest.mark.parametrize(
    "body",
    [
        b'{"max_tokens":5,"x":{"b":[1,2],"a":1},"model":"demo\\/a"}',
        b'\n {"x": {"a": 1,\t"b": [1, 2]}, "model": "demo/a", "max_tokens": 5}\n',
    ],
)
def test_space_and_order_make_no_difference(body):
    """The same JSON is the same request."""
    assert fingerprint(BODY) == fingerprint(body)


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b"5", b"6"),
        BODY.replace(b"5", b'"5"'),
        BODY.replace(b"[1, 2]", b"[2, 1]"),
        BODY.replace(b'"a": 1, ', b""),
        b'{"a": NaN}',
        b'{"a": "\\ud800"}',
        b"\xff",
        b"[" * 10_000,
    ],
)
def test_anything_else_does(body):
    """Another value, type or order of a list is another request; so is what is no JSON."""
    assert fingerprint(BODY) != fingerprint(body)
    assert fingerprint(body) == fingerprint(body)


def test_path_and_scope_do_too():
    """Another endpoint's request is another one, and one token's answer is not another's."""
    kinds = [fingerprint(BODY), fingerprint(BODY, path="/v1/x"), fingerprint(BODY, token="ab")]

    assert 3 == len(set(kinds))
