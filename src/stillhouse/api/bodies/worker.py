"""The process that parses large bodies: `python -m stillhouse.api.bodies.worker PARENT MIB`."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import IO

from stillhouse.api.anthropic import messages
from stillhouse.api.bodies.frames import JOB_HEAD, Done, Work, read_work, result_frame
from stillhouse.api.bodies.request_body import unpack
from stillhouse.api.deepinfra import inference
from stillhouse.api.openai import chat_completions, text_completions
from stillhouse.api.responses import responses
from stillhouse.engines.worker.channel import die_with_parent
from stillhouse.errors import BodyTooLargeError, StillhouseError
from stillhouse.settings import MIB

#: Lower priority than engine and gateway: they serve all requests, and this process serves one.
NICENESS = 10
#: Imported before the memory is bounded, and before the first job.
READERS = (chat_completions, text_completions, inference, messages, responses)


def main() -> None:
    """
    Reports readiness, then parses one body after another until the pipe closes.

    The process may use `MIB` of memory beyond that of its start. If it runs out, it reports so, and
    ends.
    """
    die_with_parent()
    if os.getppid() != int(sys.argv[1]):
        return  # the parent died before the line above
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold prompts
    max_mib = int(sys.argv[2])
    _bound_memory(max_mib * MIB)
    _write(sys.stdout.buffer, result_frame(Done(time.process_time())))
    while head := sys.stdin.buffer.read(JOB_HEAD.size):
        is_spent = _serve(head, sys.stdin.buffer, sys.stdout.buffer, max_mib)
        if is_spent:
            return


def _serve(head: bytes, jobs: IO[bytes], results: IO[bytes], max_mib: int) -> bool:
    """Runs one job; returns whether it ran out of memory."""
    begin_s = time.process_time()
    try:
        result = result_frame(_do(head, jobs, begin_s))
    except MemoryError:
        spent_s = time.process_time() - begin_s
        result = result_frame(Done(spent_s, error=_error_parts(_too_much_memory(max_mib))))
        _write(results, result)
        return True
    _write(results, result)
    return False


def _write(results: IO[bytes], result: bytes) -> None:
    results.write(result)
    results.flush()


def _do(head: bytes, jobs: IO[bytes], begin_s: float) -> Done:
    num_words, num_bytes = JOB_HEAD.unpack(head)
    work = read_work(jobs.read(num_words))
    body = jobs.read(num_bytes)
    value, error, fault = None, None, None
    try:
        value = _read(work, body)
    except StillhouseError as refusal:
        error = _error_parts(refusal)
    except MemoryError:
        raise
    except Exception as bug:  # noqa: BLE001  (the gateway raises it again)
        fault = f"{type(bug).__name__}\n" + "".join(traceback.format_tb(bug.__traceback__))
    return Done(time.process_time() - begin_s, value, error, fault)


def _read(work: Work, body: bytes) -> object:
    return work.read(unpack(body, work.max_bytes) if work.is_packed else body)


def _error_parts(
    error: StillhouseError,
) -> tuple[type[StillhouseError], tuple[object, ...], dict[str, object]]:
    return type(error), error.args, error.__dict__


def _too_much_memory(max_mib: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The request body takes more than {max_mib} MiB to parse; right would be a smaller one"
    )


def _bound_memory(num_bytes: int) -> None:
    num_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    mapped_bytes = num_pages * resource.getpagesize()  # what RLIMIT_AS counts (proc(5))
    most = mapped_bytes + num_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    main()
