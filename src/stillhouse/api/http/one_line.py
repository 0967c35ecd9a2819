"""JSON in one line, wherever a client thinks that lines end."""

from __future__ import annotations

_LINE_ENDS = (("\u0085", b"\\u0085"), ("\u2028", b"\\u2028"), ("\u2029", b"\\u2029"))
_ESCAPES = tuple((char.encode(), escape) for char, escape in _LINE_ENDS)


def one_line(json: bytes) -> bytes:
    """
    The same JSON, with the characters escaped that end a line for some.

    Source:
        WHATWG HTML, section 9.2: a line ends at CR or LF alone; but clients that read a response
        with `httpx.Response.iter_lines` also end one wherever `str.splitlines` does. The others of
        these characters JSON escapes itself.
    """
    for char, escape in _ESCAPES:
        json = json.replace(char, escape)
    return json
