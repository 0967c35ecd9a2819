from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillhouse_loadgen.client.load_key import KeyRing, LoadKey
from stillhouse_loadgen.errors import ArgumentError
from stillhouse_loadgen.workload.mooncake import BLOCK_TOKENS, TraceReplay, TraceRequest, read_trace
from stillhouse_loadgen.workload.workload import TextScale

# The first lines of Mooncake's own conversation trace have this shape.
ONE_TO_ONE = TextScale()
LINES = """
{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, 3]}
{"timestamp": 3000, "input_length": 1100, "output_length": 7, "hash_ids": [0, 1, 9]}

{"timestamp": 1500, "input_length": 30, "output_length": 1}
"""


def trace_of(tmp_path, text):
    path = tmp_path / "trace.jsonl"
    path.write_text(text)
    return read_trace(path)


def replayed(trace, *, speed=1.0, scale=ONE_TO_ONE):
    replay = TraceReplay(trace, scale, KeyRing([LoadKey("a", "x")]), speed, (0,))
    return list(replay.conversations())


def words_of(conversation):
    (turn,) = conversation.turns
    return turn.prompt.split()


def test_requests_come_in_their_order(tmp_path):
    """Lines are read, empty ones passed over, and sorted by time."""
    trace = trace_of(tmp_path, LINES)

    assert [0, 1500, 3000] == [request.timestamp for request in trace]
    assert [500, 1, 7] == [request.output_length for request in trace]


def test_time_is_replayed_at_a_speed(tmp_path):
    """At speed 2, three seconds take one and a half; the first request is due at once."""
    trace = trace_of(tmp_path, LINES.replace('"timestamp": 0', '"timestamp": 500'))
    starts = [conversation.start_s for conversation in replayed(trace, speed=2)]

    assert [0.0, 0.5, 1.25] == starts


def test_lengths_are_the_traces(tmp_path):
    """Prompts have as many tokens and answers may have as many as the trace says."""
    conversations = replayed(trace_of(tmp_path, LINES))

    assert [6758, 30, 1100] == [len(words_of(c)) for c in conversations]
    assert [500, 1, 7] == [c.turns[0].max_tokens for c in conversations]


def test_equal_ids_are_equal_blocks(tmp_path):
    """Two prompts share their text as far as they share their ids, and no further."""
    first, _, second = map(words_of, replayed(trace_of(tmp_path, LINES)))
    shared = 2 * BLOCK_TOKENS

    assert first[:shared] == second[:shared]
    assert first[shared:][:76] != second[shared:]


blocks = st.lists(st.integers(0, 5), max_size=4)


@given(blocks, blocks, st.floats(0.3, 4))
def test_shared_prefix_of_ids_is_shared_prefix_of_text(left, right, tokens_per_word):
    """Whatever a word is worth, texts part exactly where the ids part."""
    scale = TextScale(tokens_per_word)
    trace = [TraceRequest(0, len(ids) * BLOCK_TOKENS + 1, 1, tuple(ids)) for ids in (left, right)]
    texts = [words_of(conversation) for conversation in replayed(trace, scale=scale)]
    num_shared = 0
    while num_shared < min(len(left), len(right)) and left[num_shared] == right[num_shared]:
        num_shared += 1
    words_per_block = round(BLOCK_TOKENS / tokens_per_word)
    for place in range(min(len(left), len(right))):
        part = slice(place * words_per_block, (place + 1) * words_per_block)
        assert (left[place] == right[place]) == (texts[0][part] == texts[1][part])
    assert texts[0][: num_shared * words_per_block] == texts[1][: num_shared * words_per_block]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "line 2: "),
        ("[]", "line 2: .*object"),
        ('{"timestamp": 1, "input_length": 3}', "line 2: .*output_length"),
        ('{"timestamp": -1, "input_length": 3, "output_length": 1}', r"line 2: .*\$.timestamp"),
        ('{"timestamp": 1, "input_length": 0, "output_length": 1}', r"line 2: .*\$.input_length"),
        ('{"timestamp": 1, "input_length": "9", "output_length": 1}', "line 2: .*input_length"),
        (
            '{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": [-4]}',
            "line 2: .*hash_ids",
        ),
        (
            '{"timestamp": 1, "input_length": 513, "output_length": 1, "hash_ids": [1, 2, 3]}',
            "line 2: 3 hash_ids are more than 513 tokens",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, line, complaint):
    """A line that is not a request is refused by its number and what is wrong with it."""
    good = json.dumps({"timestamp": 0, "input_length": 3, "output_length": 1})
    with pytest.raises(ArgumentError, match=complaint):
        trace_of(tmp_path, f"{good}\n{line}\n")


def test_empty_and_missing_traces(tmp_path):
    """There must be a file, and a request in it."""
    with pytest.raises(ArgumentError, match="has no requests"):
        trace_of(tmp_path, "\n")
    with pytest.raises(ArgumentError, match="cannot be read"):
        read_trace(tmp_path / "none.jsonl")
