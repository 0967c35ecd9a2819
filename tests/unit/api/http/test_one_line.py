from __future__ import annotations

import json
import sys

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.http.one_line import one_line

LINE_ENDS = [
    char for char in map(chr, range(sys.maxunicode + 1)) if len(f"a{char}b".splitlines()) > 1
]


def test_json_is_one_line():
    """Of all characters at which Python ends a line, none is left."""
    line = one_line(json.dumps(LINE_ENDS, ensure_ascii=False).encode()).decode()

    assert 10 == len(LINE_ENDS)
    assert [line] == line.splitlines()
    assert LINE_ENDS == json.loads(line)


@given(st.text())
def test_it_is_the_same_value(text):
    """Whatever the text, it comes back."""
    assert text == json.loads(one_line(json.dumps(text, ensure_ascii=False).encode()))
