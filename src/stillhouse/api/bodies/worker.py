"""The process that parses large bodies: `python -m stillhouse.api.bodies.worker PARENT MIB`."""

from __future__ import annotations

import sys
import time
import traceback
from typing import IO

from stillhouse.api.anthropic import messages
from stillhouse.api.bodies.frames import Done, Work, read_work, write_result
from stillhouse.api.bodies.request_body import unpack
from stillhouse.api.deepinfra import inference
from stillhouse.api.openai import chat_completions, text_completions
from stillhouse.api.responses import responses
from stillhouse.errors import BodyTooLargeError, StillhouseError
from stillhouse.settings import MIB
from stillhouse.workers.child import die_with_parent, forbid_core_dumps, limit_memory
from stillhouse.workers.framing import read_frame, write_frame

#: Imported before the memory is bounded, and before the first job.
READERS = (chat_completions, text_completions, inference, messages, responses)


def main() -> None:
    """
    Reports readiness, then parses one body after another until the pipe closes.

    The process may use `MIB` of memory beyond that of its start. If it runs out, it reports so, and
    ends.
    """
    die_with_parent(int(sys.argv[1]))
    forbid_core_dumps()
    max_mib = int(sys.argv[2])
    limit_memory(max_mib * MIB)
    write_frame(sys.stdout.buffer, write_result(Done(time.process_time())))
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        is_spent = _serve(frame, sys.stdin.buffer, sys.stdout.buffer, max_mib)
        if is_spent:
            return


def _serve(frame: bytes, jobs: IO[bytes], results: IO[bytes], max_mib: int) -> bool:
    """Parses one body; returns whether it ran out of memory."""
    begin_s = time.process_time()
    try:
        result = write_result(_do(frame, jobs, begin_s))
    except MemoryError:
        spent_s = time.process_time() - begin_s
        result = write_result(Done(spent_s, error=_error_parts(_too_much_memory(max_mib))))
        write_frame(results, result)
        return True
    write_frame(results, result)
    return False


def _do(frame: bytes, jobs: IO[bytes], begin_s: float) -> Done:
    work = read_work(frame)
    body = read_frame(jobs)
    if body is None:
        sys.exit()  # the parent has ended in the middle
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


if __name__ == "__main__":
    main()
