"""Messages between gateway and worker, byte for byte."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.engines.base import (
    EngineFinish,
    EngineHealth,
    GenerateRequest,
    GenerateStep,
    Grammar,
)
from stillhouse.engines.worker.frames import (
    MAX_FRAME_BYTES,
    Cancel,
    Generate,
    LoadFailed,
    LoadFailure,
    Loading,
    Ping,
    Pong,
    Ready,
    RefusalCode,
    Refused,
    Steps,
    decode_to_gateway,
    decode_to_worker,
    encode,
)
from stillhouse.types.logprobs import StepLogprobs
from stillhouse.types.sampling import SamplingParams
from stillhouse.types.usage import TokenUsage
from stillhouse.workers.framing import LENGTH_BYTES, FrameError, body_length
from tests.effort import examples

REQUEST = GenerateRequest(
    request_id="r",
    prompt_token_ids=[1, 2, 3],
    max_tokens=9,
    sampling=SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        seed=2**64 - 1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        repetition_penalty=1.5,
        logit_bias=((1, 100.0), (2, -0.5)),
    ),
    stop_token_ids=(7, 8),
    cache_salt="salt",
    priority=-1,
    top_logprobs=3,
    grammar=Grammar("{}", after_token_id=7),
)
LAST_STEP = GenerateStep(
    (4, 5),
    TokenUsage(3, 0, 2),
    EngineFinish.CANCELLED,
    (StepLogprobs(-0.5, ((4, -0.5), (9, -1.5))), StepLogprobs(-9999.0)),
)


@pytest.mark.parametrize("message", [Generate(1, REQUEST), Cancel(1), Ping(2)])
def test_a_worker_reads_what_a_gateway_sends(message):
    """Every message to the worker arrives as it left."""
    frame = encode(message)
    assert len(frame) == LENGTH_BYTES + body_length(frame[:LENGTH_BYTES])
    assert message == decode_to_worker(frame[LENGTH_BYTES:])


@pytest.mark.parametrize(
    "message",
    [
        Loading("quantising", 1, 2),
        Ready(512, 10, 32, 64),
        LoadFailed(LoadFailure.CONFIG, "why"),
        Steps([(1, LAST_STEP), (2, GenerateStep((), TokenUsage()))]),
        Refused(1, RefusalCode.TOO_LARGE, "why"),
        Pong(1, EngineHealth(1, 2, 3, 4, 5)),
    ],
)
def test_a_gateway_reads_what_a_worker_sends(message):
    """Every message to the gateway arrives as it left."""
    assert message == decode_to_gateway(encode(message)[LENGTH_BYTES:])


def test_directions_are_not_mixed():
    """A message that went the wrong way is none."""
    with pytest.raises(FrameError):
        decode_to_worker(encode(Ready(1))[LENGTH_BYTES:])
    with pytest.raises(FrameError):
        decode_to_gateway(encode(Ping(1))[LENGTH_BYTES:])


@settings(max_examples=examples(300), derandomize=True)
@given(st.binary(max_size=64))
def test_noise_is_no_message(noise):
    """Whatever bytes come, they are a message or a FrameError, nothing else."""
    try:
        message = decode_to_worker(noise)
    except FrameError:
        return
    assert message == decode_to_worker(msgspec.msgpack.encode(message))


def test_a_frame_has_a_largest_size():
    """Neither side makes or expects a frame beyond the limit."""
    huge = Refused(1, RefusalCode.INVALID, "x" * MAX_FRAME_BYTES)
    with pytest.raises(FrameError, match="exceeds"):
        encode(huge)
    with pytest.raises(FrameError, match="exceeds"):
        body_length((MAX_FRAME_BYTES + 1).to_bytes(LENGTH_BYTES, "big"), max_bytes=MAX_FRAME_BYTES)
    prefix = MAX_FRAME_BYTES.to_bytes(LENGTH_BYTES, "big")
    assert MAX_FRAME_BYTES == body_length(prefix, max_bytes=MAX_FRAME_BYTES)


def test_an_integer_beyond_64_bits_cannot_be_framed():
    """Such a number is refused where it is sent, with a reason."""
    with pytest.raises(FrameError, match="cannot be sent"):
        encode(Cancel(2**64))
