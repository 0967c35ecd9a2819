from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from stillhouse.api.one_line import one_line


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\u0085\u2028\u2029\n\r\x0b\x0c\x1c")))
def test_json_is_one_line_and_the_same_value(text):
    """Wherever Python ends a line, none ends within JSON; and it still says the same."""
    line = one_line(json.dumps(text, ensure_ascii=False).encode())

    assert [line.decode()] == line.decode().splitlines()
    assert text == json.loads(line)
