"""
Forks the program from a process that has already imported it.

Imports take three quarters of a start. A test that kills the server hundreds of times starts it
from a process that has imported everything, and forks at each line that it reads. This module is
that process's program; `Preloaded` is its client in the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from stillhouse.cli.main import main as stillhouse


@dataclass(frozen=True, slots=True)
class Life:
    """The arguments and environment of a process."""

    arguments: list[str]
    environment: dict[str, str]
    log: str

    def live(self) -> None:
        """Run the program in the forked process."""
        os.environ.clear()
        os.environ.update(self.environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(self.log, os.O_WRONLY | os.O_APPEND), 1)
        os.dup2(1, 2)
        sys.argv = ["stillhouse", *self.arguments]
        stillhouse()


class Preloaded:
    """Starts processes of the program; leaving the context ends the process it forks."""

    def __init__(self) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._mother.stdin
        assert self._mother.stdout
        self._mother.stdin.close()
        self._mother.stdout.close()
        self._mother.wait()

    def start(
        self, arguments: Sequence[str], environment: dict[str, str], log: Path
    ) -> ForkedProcess:
        """Run the program with *arguments*."""
        log.write_text("")  # before the test reads the log of this process
        life = Life(list(arguments), environment, str(log))
        return ForkedProcess(int(self.ask(asdict(life))), self)

    def ask(self, question: object) -> str:
        assert self._mother.stdin
        assert self._mother.stdout
        self._mother.stdin.write(json.dumps(question) + "\n")
        self._mother.stdin.flush()
        return self._mother.stdout.readline()


class ForkedProcess:
    """The part of `subprocess.Popen`'s interface that the tests use, for a grandchild."""

    def __init__(self, pid: int, mother: Preloaded) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._mother = mother
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("stillhouse", timeout or 0)
            self.returncode = int(self._mother.ask(self.pid))
            os.close(self._pidfd)
        return self.returncode

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            signal.pidfd_send_signal(self._pidfd, number)


def main() -> None:
    """Fork at each line that describes a process; report exit codes by pid."""
    for line in sys.stdin:
        question = json.loads(line)
        if isinstance(question, int):
            _, status = os.waitpid(question, 0)
            answer = os.waitstatus_to_exitcode(status)
        elif (answer := os.fork()) == 0:
            Life(**question).live()
            return
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
