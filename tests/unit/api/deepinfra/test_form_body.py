from __future__ import annotations

from urllib.parse import urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.deepinfra.form_body import MAX_FIELDS, read_form
from stillhouse.errors import InvalidRequestError

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=XX"
PART = b'--XX\r\nContent-Disposition: form-data; name="input"\r\n\r\nOnce\r\n'


def refusal(body, content_type):
    with pytest.raises(InvalidRequestError) as caught:
        read_form(body, content_type)
    return caught.value.message


@given(st.lists(st.tuples(st.sampled_from(["input", "stop"]), st.text()), max_size=5))
def test_what_httpx_sends_comes_back(fields):
    """Whatever the texts: both kinds of form give the fields back, in their order."""
    files = [(name, (None, text.encode())) for name, text in fields]
    if files:
        request = httpx.Request("POST", "http://x", files=files)
        assert fields == read_form(request.read(), request.headers["content-type"])
    assert fields == read_form(urlencode(fields).encode(), URLENCODED)


def test_a_file_is_its_text():
    """A prompt may be sent as a file."""
    request = httpx.Request("POST", "http://x", files={"input": ("prompt.txt", b"Once")})

    assert [("input", "Once")] == read_form(request.read(), request.headers["content-type"])


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain", ";;;"])
def test_other_bodies_are_no_form(content_type):
    """What is no form is left to others."""
    assert read_form(b"{}", content_type) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "ends before its last boundary"),
        (PART, "ends before its last boundary"),
        (b"--YY--", "Expected boundary character"),
        (b"--XX\r\nX: y\r\n\r\nOnce\r\n--XX--", "no Content-Disposition"),
        (PART.replace(b"Once", b"\xff") + b"--XX--", "not UTF-8"),
        (PART.replace(b"input", b"\xff") + b"--XX--", "not UTF-8"),
        (PART * (MAX_FIELDS + 1) + b"--XX--", "more than 64 fields"),
    ],
)
def test_broken_multipart_is_refused(body, reason):
    """The message says what is wrong."""
    assert reason in refusal(body, MULTIPART)


def test_multipart_without_a_boundary_is_refused():
    """Nobody can say where its parts end."""
    assert "no boundary" in refusal(PART, "multipart/form-data")


@pytest.mark.parametrize(
    "body", [b"input=%ff", b"\xff", "&".join(["a=1"] * (MAX_FIELDS + 1)).encode()]
)
def test_broken_urlencoded_is_refused(body):
    """Neither half characters nor fields without end."""
    assert "not a valid form" in refusal(body, URLENCODED)
