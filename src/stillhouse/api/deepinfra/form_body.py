"""Parses forms: ``multipart/form-data`` (RFC 7578) and ``x-www-form-urlencoded``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:  # it exists only for type checkers
    from python_multipart.multipart import MultipartCallbacks

# Its warnings repeat the refusal.
logging.getLogger("python_multipart").setLevel(logging.ERROR)

MULTIPART = b"multipart/form-data"
URLENCODED = b"application/x-www-form-urlencoded"
MAX_FIELDS = 64

Field = tuple[str, str]


def read_form(body: bytes, content_type: str) -> list[Field] | None:
    """
    Parses the fields of a form, in order; None if *content_type* is not that of a form.

    The value of a file is its text.

    Raises:
        InvalidRequestError: It does not match *content_type*, has more than `MAX_FIELDS` fields,
            or is not UTF-8.

    """
    kind, options = parse_options_header(content_type)
    if kind == URLENCODED:
        return _read_urlencoded(body)
    if kind == MULTIPART:
        return _read_multipart(body, options.get(b"boundary", b""))
    return None


def _read_urlencoded(body: bytes) -> list[Field]:
    try:
        return parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"
        )
    except ValueError as error:
        raise _invalid(str(error)) from error


def _read_multipart(body: bytes, boundary: bytes) -> list[Field]:
    if not boundary:
        raise _invalid("its Content-Type names no boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _invalid(str(error)) from error
    if not parts.has_ended:
        raise _invalid("it ends before its last boundary")
    return parts.fields


class _Parts:
    """Collects the parts of a multipart body."""

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.has_ended = False
        self._header = bytearray()
        self._header_value = bytearray()
        self._name: str | None = None
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._push_header,
            "on_header_value": self._push_header_value,
            "on_header_end": self._end_header,
            "on_part_data": self._push_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        if len(self.fields) == MAX_FIELDS:
            raise _invalid(f"it has more than {MAX_FIELDS} fields")
        self._name = None
        self._data.clear()

    def _push_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _push_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._header_value))
            self._name = _text(options.get(b"name", b""))
        self._header.clear()
        self._header_value.clear()

    def _push_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _end_part(self) -> None:
        if self._name is None:
            raise _invalid("a part has no Content-Disposition, and so no name")
        self.fields.append((self._name, _text(self._data)))

    def _end(self) -> None:
        self.has_ended = True


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"a field is not UTF-8: {error.reason} at byte {error.start}") from error


def _invalid(reason: str) -> InvalidRequestError:
    return InvalidRequestError(f"The request body is not a valid form: {reason}")
