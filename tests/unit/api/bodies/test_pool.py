from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillhouse.api import completion_routes as endpoints
from stillhouse.api.bodies.frames import Done, Work, read_result, write_result
from stillhouse.api.bodies.pool import BodyPool, PoolRules
from stillhouse.api.bodies.request_head import RequestHead
from stillhouse.api.completions.parsed_request import parse_request
from stillhouse.clock import SystemClock
from stillhouse.errors import (
    BodyTooLargeError,
    ContextLengthError,
    EngineUnavailableError,
    StillhouseError,
)
from tests.e2e.bombs import BOMBS, HELLO, PACKED_BOMBS

MAX_BYTES = 8 << 20
#: As `eval` reads them, in a process that knows nothing of tests.
SLEEP = b"__import__('time').sleep(60)"
OPEN_FILES = (
    b"[os.readlink(f'/proc/self/fd/{name}') for os in [__import__('os')] "
    b"for name in os.listdir('/proc/self/fd') if os.path.lexists(f'/proc/self/fd/{name}')]"
)
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "f", "description": "It does.", "parameters": SCHEMA}
CHAT_TOOL = {"type": "function", "function": FUNCTION | {"strict": True}}
#: By a path of each spec.
RICH = {
    "/v1/openai/chat/completions": HELLO
    | {
        "tools": [CHAT_TOOL],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "service_tier": "priority",
        "logit_bias": {"5": 1},
        "stop": ["x"],
        "reasoning_effort": "high",
    },
    "/v1/openai/completions": {
        "model": "m",
        "prompt": [1, 2, 3],
        "logprobs": 2,
        "stop_token_ids": [7],
        "response_format": {"type": "regex", "regex": "a+"},
    },
    "/v1/inference/{model_name:path}": {"input": "Once", "num_responses": 2, "stop": ["x"]},
    "/anthropic/v1/messages": HELLO
    | {
        "max_tokens": 5,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [{"name": "f", "description": "It does.", "input_schema": SCHEMA}],
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "metadata": {"user_id": "u"},
    },
    "/v1/openai/responses": {
        "model": "m",
        "input": [
            {"role": "user", "content": "Where?"},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "Paris"},
        ],
        "tools": [{"type": "function", **FUNCTION}],
        "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}},
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low"},
    },
}
READS = [spec.read for spec in endpoints.ENDPOINTS]
_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
_PIECES = {
    "messages": HELLO["messages"],
    "prompt": "Once",
    "input": "Once",
    "max_tokens": 10,
    "temperature": 0.5,
    "stream": True,
    "logprobs": True,
    "service_tier": "priority",
    "metadata": {"a": "b"},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "response_format": {"type": "json_object"},
    "instructions": "Be brief.",
}
_BODIES = st.builds(
    lambda pieces, odd, is_ascii: json.dumps(
        {"model": "m"} | {name: _PIECES[name] for name in pieces} | odd, ensure_ascii=is_ascii
    ),
    st.sets(st.sampled_from(sorted(_PIECES))),
    st.dictionaries(st.sampled_from([*_PIECES, "x"]), _ODD, max_size=2),
    st.booleans(),
).map(lambda text: text.encode("utf-8", "surrogatepass"))


def all_of(read, head=None):
    """What an endpoint makes of a body."""
    return partial(parse_request, read, head or RequestHead())


def here(read, body):
    """What comes of a body in this process: a value, or what an error has to say."""
    try:
        return read(body)
    except StillhouseError as error:
        return told(error)


def told(error):
    return type(error), str(error), vars(error)


async def there(pool, read, body, *, is_packed=False):
    """The same in a process of the pool."""
    try:
        return await pool.read(1, Work(read, is_packed=is_packed, max_bytes=MAX_BYTES), body)
    except StillhouseError as error:
        return told(error)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool():
    pool = BodyPool(PoolRules(), SystemClock())
    yield pool
    await pool.close()


@pytest.mark.asyncio(loop_scope="module")
class TestPool:
    @settings(
        max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
    )
    @given(_BODIES | st.binary(max_size=20), st.sampled_from(READS), st.text(max_size=3))
    async def test_a_body_says_the_same_wherever_it_is_read(self, pool, body, read, key):
        """Each endpoint's request, writer and idempotency_key, and each refusal to the letter."""
        head = RequestHead(target="/x", model_name="m", idempotency_key=key, token="t")
        read = all_of(read, head)

        assert repr(here(read, body)) == repr(await there(pool, read, body))

    @pytest.mark.parametrize("spec", endpoints.ENDPOINTS, ids=lambda spec: spec.paths[0])
    async def test_all_that_a_request_can_be_made_of(self, pool, spec):
        """Each endpoint's tools, formats, options and history."""
        body = json.dumps(RICH[spec.paths[0]]).encode()
        read = all_of(spec.read, RequestHead(model_name="m", idempotency_key="once"))
        parsed, idempotency_key = await there(pool, read, body)

        assert idempotency_key
        assert here(read, body) == (parsed, idempotency_key)

    @pytest.mark.parametrize(
        "name",
        ["a hundred thousand parts", "deep in an unknown field", "not UTF-8", "a thousand tools"],
    )
    async def test_a_bomb_is_told_of_alike(self, pool, name):
        """What is refused is refused in the same words."""
        read, body = all_of(READS[0]), BOMBS[name]()

        assert repr(here(read, body)) == repr(await there(pool, read, body))

    async def test_what_is_packed_is_unpacked_there(self, pool):
        """Within the bound of a body that is not packed."""
        bomb = PACKED_BOMBS["nine megabytes of blanks"]()

        assert 9 == await there(pool, len, gzip.compress(b"x" * 9), is_packed=True)
        assert BodyTooLargeError is (await there(pool, len, bomb, is_packed=True))[0]

    @pytest.mark.parametrize("spec", endpoints.TOKEN_COUNT_ENDPOINTS, ids=lambda s: s.paths[0])
    async def test_prompts_to_be_counted_are_read_there(self, pool, spec):
        """Both endpoints that count."""
        body = json.dumps(HELLO | {"input": "Once"}).encode()

        assert repr(here(spec.read, body)) == repr(await there(pool, spec.read, body))

    async def test_a_process_that_is_killed_has_a_successor(self, pool):
        """Nobody is told of it."""
        await there(pool, len, b"x")
        before = pool.worker_pids
        for pid in before:
            os.kill(pid, signal.SIGKILL)

        assert 1 == await there(pool, len, b"x")
        assert not before & pool.worker_pids

    async def test_a_mistake_of_the_programs_is_raised_here(self, pool):
        """Where it is logged; without a word of the body."""
        with pytest.raises(RuntimeError, match="ValueError") as fault:
            await there(pool, int, b"secret")
        assert "secret" not in str(fault.value)

    async def test_one_account_leaves_a_process_to_others(self, pool):
        """However much it sends: the other one's body is read while the first one's takes long."""
        slow = [asyncio.create_task(there(pool, eval, SLEEP)) for _ in range(3)]
        await asyncio.sleep(0)
        work = Work(len, is_packed=False, max_bytes=MAX_BYTES)

        assert 1 == await pool.read(2, work, b"x")
        assert not any(task.done() for task in slow)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    async def test_the_memory_of_a_process_is_bounded(self, pool):
        """What takes more is refused, and the next one is read."""
        kind, message, _ = await there(pool, eval, b"bytes(1 << 30)")
        assert kind is BodyTooLargeError
        assert "takes more than 512 MiB to parse" in message

        assert 1 == await there(pool, len, b"x")

    async def test_a_process_has_no_environment_and_no_files(self, pool):
        """It is given bodies, and nothing else."""
        names = await there(pool, eval, b"list(__import__('os').environ)")
        assert {*names} <= {"LC_CTYPE"}  # which Python sets itself
        files = await there(pool, eval, OPEN_FILES)
        assert {"/dev/null"} == {path for path in files if path.startswith("/")} - {"/proc/self/fd"}


async def test_a_body_that_takes_too_long_is_refused():
    """Its process is ended: nobody knows how long it would go on."""
    pool = BodyPool(PoolRules(timeout_s=1), SystemClock())
    assert 1 == await there(pool, len, b"x")
    before = pool.worker_pids
    kind, message, _ = await there(pool, eval, SLEEP)
    await pool.close()

    assert kind is BodyTooLargeError
    assert "takes longer than 1 s" in message
    for pid in before:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_closed_pool_reads_nothing():
    """The server is about to end; the answer is a 503."""
    pool = BodyPool(PoolRules(), SystemClock())
    await pool.close()

    assert EngineUnavailableError is (await there(pool, len, b"x"))[0]


def test_every_error_comes_through_as_it_was():
    """With what was given by name alone, too."""
    error = ContextLengthError(prompt_tokens=5, max_prompt_tokens=4, param="prompt")
    done = read_result(write_result(Done(0, error=(type(error), error.args, vars(error)))))

    with pytest.raises(ContextLengthError) as raised:
        done.result()
    assert told(error) == told(raised.value)


def test_a_result_makes_nothing_but_this_programs_objects():
    """Whatever a child has become, it runs nothing here."""
    for value in (os.system, partial(os.system, "true"), Calls(), Path("x"), SystemClock):
        with pytest.raises(Exception, match="is not allowed in a result"):
            read_result(write_result(Done(0, value)))


class Calls:
    def __reduce__(self):
        return time.time, ()
