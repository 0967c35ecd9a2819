import asyncio
import ctypes
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE
from dataclasses import replace

import pytest
import pytest_asyncio

from stillhouse.clock import FrozenClock
from stillhouse.errors import EngineUnavailableError, InvalidRequestError, OverloadedError
from stillhouse.text.families.tool_call_forms import HERMES_CALLS
from stillhouse.text.grammar.compiler import GrammarCompiler, Owner
from stillhouse.text.grammar.config import GrammarsConfig
from stillhouse.types.messages import Tool, ToolChoice, ToolMode
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, RegexFormat
from tests.unit.text.checkpoints import trained_tokenizer
from tests.unit.text.grammar.grammars import grammar_of, tools_grammar

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
#: Each pattern is small; that they hold at once takes minutes to find out, and gigabytes.
EVIL_SCHEMA = {"type": "string", "allOf": [{"pattern": f"(a|b)*a(a|b){{{i}}}"} for i in range(20)]}
EVIL = grammar_of(JsonSchemaFormat(EVIL_SCHEMA))
OBJECT = grammar_of(JsonObjectFormat())
PATIENT = GrammarsConfig(timeout_s=600, start_timeout_s=600, max_wait_s=600)


def evil(number: int) -> str:
    """One of many grammars that take for ever."""
    return grammar_of(JsonSchemaFormat({**EVIL_SCHEMA, "maxLength": 900 + number}))


def regex(text: str) -> str:
    return grammar_of(RegexFormat(text))


@pytest_asyncio.fixture
async def compiler():
    compiler = GrammarCompiler(PATIENT)
    yield compiler
    await compiler.close()


@pytest_asyncio.fixture
async def make_compiler():
    """Compilers of other limits, closed at the end."""
    compilers = []

    def make(clock=None, **limits):
        settings = {"timeout_s": 600, "start_timeout_s": 600, "max_wait_s": 600} | limits
        compilers.append(GrammarCompiler(GrammarsConfig(**settings), clock))
        return compilers[-1]

    yield make
    for compiler in compilers:
        await compiler.close()


def nothing(_seconds: float) -> None:
    pass


OWNER = Owner(1, 1, nothing)


async def check(compiler: GrammarCompiler, grammar: str, *, account: int = 1) -> None:
    owner = replace(OWNER, account_id=account)
    await compiler.check(grammar, param="response_format", owner=owner)


async def has_ended(pid: int) -> None:
    """Return when the process is gone, whoever its parent is."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await asyncio.to_thread(select.select, [pidfd], [], [])
    finally:
        os.close(pidfd)


async def busy_pid(compiler: GrammarCompiler, *, other_than: int = 0) -> int:
    """The process id of the compiler's only child, as soon as there is one."""
    while not compiler.worker_pids - {other_than}:  # noqa: ASYNC110 (the compiler announces nothing)
        await asyncio.sleep(0)
    (pid,) = compiler.worker_pids
    return pid


async def test_a_good_grammar_passes_and_its_process_stays(compiler):
    """The next one is compiled by the same."""
    await check(compiler, OBJECT)
    pids = compiler.worker_pids
    await check(compiler, regex("a+"))

    assert 1 == len(pids)
    assert pids == compiler.worker_pids


async def test_processes_start_when_they_are_needed(compiler):
    """Most servers never see a grammar."""
    assert frozenset() == compiler.worker_pids


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (regex("(a"), "response_format cannot be compiled: unclosed group"),
        (
            grammar_of(JsonSchemaFormat({"allOf": [{"type": "string"}, {"type": "null"}]})),
            "response_format cannot be compiled: Unsatisfiable schema: incompatible types",
        ),
        (
            '{"grammars":[{"json_schema":{"$ref":"#"}}]}',
            "response_format cannot be compiled: no answer fits it",
        ),
        ("{}", "response_format cannot be compiled: "),
        ("\n", "response_format cannot be compiled: "),
    ],
)
async def test_a_bad_grammar_is_refused_with_its_reason(compiler, grammar, reason):
    """And its process goes on to the next."""
    with pytest.raises(InvalidRequestError) as caught:
        await check(compiler, grammar)
    pids = compiler.worker_pids
    await check(compiler, OBJECT)

    assert str(caught.value).startswith(reason)
    assert "response_format" == caught.value.param
    assert pids == compiler.worker_pids


async def test_what_takes_too_long_is_killed(make_compiler):
    """By the wall's clock; the next grammar has a new process."""
    compiler = make_compiler(timeout_s=0.2)
    check_evil = asyncio.create_task(check(compiler, EVIL))
    pid = await busy_pid(compiler)

    with pytest.raises(InvalidRequestError, match=r"takes longer than 0.2 s to compile; right"):
        await check_evil
    await has_ended(pid)

    assert frozenset() == compiler.worker_pids


async def test_what_takes_too_much_memory_ends_its_process_alone(make_compiler):
    """The next grammar has a new process."""
    compiler = make_compiler(process_memory_mib=32)

    with pytest.raises(InvalidRequestError, match="takes more than 32 MiB to compile; right"):
        await check(compiler, EVIL)
    await check(compiler, OBJECT)

    assert 1 == len(compiler.worker_pids)


async def test_a_child_killed_from_outside_has_a_successor(compiler):
    """While it was idle: the request notices nothing."""
    await check(compiler, OBJECT)
    (pid,) = compiler.worker_pids
    os.kill(pid, signal.SIGKILL)
    await has_ended(pid)

    await check(compiler, regex("a"))

    assert {pid}.isdisjoint(compiler.worker_pids)
    assert 1 == len(compiler.worker_pids)


async def test_a_grammar_whose_child_is_killed_twice_fails(compiler):
    """That is not the request's fault."""
    check_evil = asyncio.create_task(check(compiler, EVIL))
    first = await busy_pid(compiler)
    os.kill(first, signal.SIGKILL)
    second = await busy_pid(compiler, other_than=first)
    os.kill(second, signal.SIGKILL)

    with pytest.raises(EngineUnavailableError, match="killed"):
        await check_evil
    assert frozenset() == compiler.worker_pids


async def test_many_at_once_take_turns(compiler):
    """Two processes at most, and one for each account."""
    await asyncio.gather(*(check(compiler, regex("a" * length)) for length in range(1, 11)))
    assert 1 == len(compiler.worker_pids)

    await asyncio.gather(*(check(compiler, regex("b" * n), account=n) for n in range(1, 11)))
    assert 2 == len(compiler.worker_pids)


@pytest.mark.parametrize("limits", [{"max_waiting": 2}, {"max_waiting_per_account": 2}])
async def test_a_full_queue_refuses(make_compiler, limits):
    """With a time to come back; the others are not disturbed."""
    compiler = make_compiler(processes=1, **limits)
    checks = [asyncio.create_task(check(compiler, regex("a" * length))) for length in (1, 2, 3)]
    await busy_pid(compiler)

    with pytest.raises(OverloadedError, match="wait for their grammars to be comp") as caught:
        await check(compiler, OBJECT)
    await asyncio.gather(*checks)

    assert 1 == caught.value.retry_after_s


async def test_who_waits_too_long_is_refused(make_compiler):
    """And leaves the queue; what is being compiled has its own limit."""
    compiler = make_compiler(processes=1, max_wait_s=0.05)
    check_evil = asyncio.create_task(check(compiler, EVIL))
    await busy_pid(compiler)

    with pytest.raises(OverloadedError, match=r"has waited 0\.05 s"):
        await check(compiler, OBJECT)

    assert not check_evil.done()
    check_evil.cancel()


async def test_slow_grammars_hold_up_no_other_account(make_compiler):
    """However many accounts send them: one process is for those that had little lately."""
    compiler = make_compiler()
    for account in (1, 2):
        compiler._recent.add(account, 60.0)
    slow = [
        asyncio.create_task(check(compiler, evil(number), account=1 + number % 2))
        for number in range(10)
    ]
    await busy_pid(compiler)

    await check(compiler, OBJECT, account=3)

    assert not any(task.done() for task in slow)
    for task in slow:
        task.cancel()


async def test_who_had_much_lately_is_known(make_compiler):
    """By the time that a process was busy for it; after some minutes that is forgotten."""
    clock = FrozenClock()
    compiler = make_compiler(clock=clock, heavy_from_s=1.0)
    compiler._recent.add(1, 8.0)
    assert compiler._is_heavy(1)
    assert not compiler._is_heavy(2)
    clock.advance(181)
    assert not compiler._is_heavy(1)


async def test_a_bad_grammar_is_compiled_once(make_compiler):
    """Again and again from several accounts, at once or later: it takes one process's time."""
    compiler = make_compiler(timeout_s=0.2)
    charged: list[tuple[int, float]] = []

    async def check_evil(account: int) -> None:
        owner = Owner(account, 1, lambda seconds: charged.append((account, seconds)))
        with pytest.raises(InvalidRequestError, match="takes longer than"):
            await compiler.check(EVIL, param="response_format", owner=owner)

    await asyncio.gather(*(check_evil(1) for _ in range(50)))
    assert [1] == [account for account, _ in charged]
    assert charged[0][1] >= 0.2
    await check_evil(1)
    await check_evil(2)
    assert 1 == len(charged)
    assert frozenset() == compiler.worker_pids


async def test_a_bad_grammar_is_tried_again_after_a_while(make_compiler):
    """A busy machine may be why it took too long."""
    clock = FrozenClock()
    compiler = make_compiler(clock=clock, timeout_s=0.2, bad_for_s=600)
    with pytest.raises(InvalidRequestError):
        await check(compiler, EVIL)
    clock.advance(599)
    with pytest.raises(InvalidRequestError):
        await asyncio.wait_for(check(compiler, EVIL), 0.1)
    clock.advance(1)
    check_evil = asyncio.create_task(check(compiler, EVIL))
    await busy_pid(compiler)
    check_evil.cancel()


async def test_who_joins_a_check_outlives_who_began_it(compiler):
    """The first one's client leaves; the second's still gets its verdict, from the same process."""
    first = asyncio.create_task(check(compiler, OBJECT))
    pid = await busy_pid(compiler)
    second = asyncio.create_task(check(compiler, OBJECT))
    await asyncio.sleep(0)

    first.cancel()
    await second

    assert {pid} == compiler.worker_pids


async def test_who_leaves_is_charged_all_the_same(make_compiler):
    """A slow schema cannot be sent for nothing by hanging up."""
    charged: list[float] = []
    compiler = make_compiler(processes=1)
    owner = replace(OWNER, charge=charged.append)
    checking = asyncio.create_task(compiler.check(EVIL, param="tools", owner=owner))
    pid = await busy_pid(compiler)
    checking.cancel()
    await has_ended(pid)
    await check(compiler, OBJECT)  # its place is free

    assert 1 == len(charged)
    assert charged[0] > 0


async def test_a_cancelled_check_ends_its_process(make_compiler):
    """Its place is free for the next one, which was waiting."""
    compiler = make_compiler(processes=1)
    check_evil = asyncio.create_task(check(compiler, EVIL))
    pid = await busy_pid(compiler)
    waiting = asyncio.create_task(check(compiler, OBJECT))
    given_up = asyncio.create_task(check(compiler, regex("b")))
    await asyncio.sleep(0)

    given_up.cancel()
    check_evil.cancel()
    await waiting
    await has_ended(pid)

    assert {pid}.isdisjoint(compiler.worker_pids)
    assert 1 == len(compiler.worker_pids)


async def test_closing_ends_what_runs(compiler):
    """No process stays, and no check waits for ever."""
    await check(compiler, OBJECT)
    check_evil = asyncio.create_task(check(compiler, EVIL))
    (pid,) = compiler.worker_pids
    await asyncio.sleep(0)

    await compiler.close()
    await has_ended(pid)

    with pytest.raises(EngineUnavailableError, match="closed"):
        await check_evil
    with pytest.raises(EngineUnavailableError, match="closed"):
        await check(compiler, regex("a"))
    assert frozenset() == compiler.worker_pids


async def test_what_is_remembered_takes_no_process(compiler):
    """A schema that comes again and again is compiled once."""
    await check(compiler, OBJECT)
    (pid,) = compiler.worker_pids
    os.kill(pid, signal.SIGKILL)
    await has_ended(pid)

    await check(compiler, OBJECT)

    assert {pid} == compiler.worker_pids  # nobody has noticed that it is gone


async def test_what_was_not_used_for_longest_is_forgotten_first(make_compiler):
    """So that memory is bounded, however many schemas there are."""
    compiler = make_compiler(max_remembered=2, processes=1)
    for text in ("a", "b", "a", "c"):  # a was used after b
        await check(compiler, regex(text))
    (pid,) = compiler.worker_pids
    os.kill(pid, signal.SIGKILL)
    await has_ended(pid)

    await check(compiler, regex("a"))
    await check(compiler, regex("c"))
    assert {pid} == compiler.worker_pids

    await check(compiler, regex("b"))
    assert {pid}.isdisjoint(compiler.worker_pids)


async def test_tags_have_to_be_tokens_of_the_model(compiler, tmp_path):
    """With the model's tokenizer its token ids can be named, and no others."""
    tokenizer = trained_tokenizer()
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    choice = ToolChoice(ToolMode.REQUIRED)
    known = tokenizer.get_vocab_size() - 1

    async def check_tags(token_id: int) -> None:
        grammar = tools_grammar([Tool("f")], choice, HERMES_CALLS, lambda _: token_id)
        assert grammar is not None
        await compiler.check(grammar, param="tools", owner=OWNER, tokenizer_json=path)

    await check_tags(known)
    with pytest.raises(InvalidRequestError, match=r"tools cannot be compiled: .* range") as caught:
        await check_tags(known + 1)
    assert "tools" == caught.value.param


async def test_a_tokenizer_that_cannot_be_read_is_not_the_requests_fault(compiler, tmp_path):
    """The message names the file."""
    with pytest.raises(EngineUnavailableError, match=r"cannot load .*missing.json"):
        await compiler.check(
            OBJECT, param="tools", owner=OWNER, tokenizer_json=tmp_path / "missing.json"
        )


PARENT = f"""
import asyncio
from stillhouse.text.grammar.compiler import GrammarCompiler, Owner
from stillhouse.text.grammar.config import GrammarsConfig

async def main():
    compiler = GrammarCompiler(GrammarsConfig(timeout_s=600, start_timeout_s=600))
    await compiler.check({OBJECT!r}, param="response_format", owner=Owner(1, 1, lambda _: None))
    print(*compiler.worker_pids, flush=True)
    await compiler.check({EVIL!r}, param="response_format", owner=Owner(1, 1, lambda _: None))

asyncio.run(main())
"""


@pytest.fixture
def orphans_are_ours():
    """Children of children that die become ours, so that it can be asked how they ended."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


async def test_a_child_dies_with_its_parent(orphans_are_ours):
    """At once, also in the middle of its work: neither at its end nor for want of memory."""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())

    parent.kill()
    await parent.wait()
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)

    assert signal.SIGKILL == os.WTERMSIG(status)


async def test_a_child_inherits_no_secrets(compiler, monkeypatch):
    """Its environment is empty."""
    monkeypatch.setenv("STILLHOUSE_TEST_SECRET", "secret")
    await check(compiler, OBJECT)
    (pid,) = compiler.worker_pids

    with open(f"/proc/{pid}/environ", "rb") as environment:  # noqa: ASYNC230, PTH123 (a few bytes)
        assert b"STILLHOUSE" not in environment.read()
