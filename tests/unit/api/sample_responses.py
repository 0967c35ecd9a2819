"""Answers in all the ways that they can be told piece by piece."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import strategies as st

from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.types.events import ChoiceAnswer, Finish, FinishReason, TextDelta, ToolCallDelta
from stillhouse.types.logprobs import Logprob, TokenLogprobs
from stillhouse.types.usage import TokenUsage

USAGE = TokenUsage(prompt_tokens=48, cached_tokens=16, completion_tokens=189)


@dataclass(frozen=True)
class SoFar:
    """A completion in the middle."""

    usage: TokenUsage = field(default=TokenUsage(48, 16, 3))
    cost_so_far_picousd: int = 5_000_000
    reasoning_tokens: int = 2


def finish(reason=FinishReason.STOP, *, stop_string=None, cost_picousd=92_400_000):
    return Finish(reason, USAGE, cost_picousd, reasoning_tokens=5, stop_string=stop_string)


def whole(deltas, end) -> ChoiceAnswer:
    """The answer that the events tell."""
    transcript = ResponseAccumulator(1)
    for event in [*deltas, end]:
        transcript.add(event)
    return transcript.close()[0]


def told(encoder, deltas, end):
    """The server-sent events of a whole stream, parsed."""
    stream = encoder.opening()
    stream += b"".join(encoder.event(event, SoFar()) for event in [*deltas, end])
    return parsed(stream + encoder.closing())


def parsed(stream):
    """Each event's data, whose type is the event's name, as the most careless client reads it."""
    *blocks, rest = stream.decode().split("\n\n")
    assert "" == rest
    events = []
    for block in blocks:
        name, data = block.splitlines()
        events.append(json.loads(data.removeprefix("data: ")))
        assert f"event: {events[-1]['type']}" == name
    return events


_TEXTS = st.lists(st.text(min_size=1), max_size=4)
_LOGPROBS = st.builds(
    lambda token: (TokenLogprobs(Logprob(1, token, -0.5), (Logprob(2, b"b", -1.5),)),),
    st.binary(min_size=1, max_size=3),
)


@st.composite
def tellings(draw, *, has_logprobs=False):
    """The deltas of one answer: reasoning, text and calls, cut and put together anywhere."""
    pieces = [TextDelta(reasoning=text) for text in draw(_TEXTS)]
    contents = st.lists(st.text(), max_size=4) if has_logprobs else _TEXTS
    for text in draw(contents):
        logprobs = draw(_LOGPROBS) if has_logprobs else ()
        pieces.append(TextDelta(text, logprobs=logprobs))
    for index in range(draw(st.integers(0, 3))):
        arguments = draw(st.lists(st.text(), max_size=3))
        calls = [ToolCallDelta(index, f"call_{index}", f"tool_{index}", draw(st.text(max_size=3)))]
        calls += [ToolCallDelta(index, arguments=text) for text in arguments]
        pieces += [TextDelta(tool_calls=(call,)) for call in calls]
    deltas = []
    for piece in pieces:
        if deltas and draw(st.booleans()):
            deltas[-1] = _together(deltas[-1], piece)
        else:
            deltas.append(piece)
    return deltas


def _together(first, second):
    return TextDelta(
        first.content + second.content,
        first.reasoning + second.reasoning,
        first.tool_calls + second.tool_calls,
        first.logprobs + second.logprobs,
    )
