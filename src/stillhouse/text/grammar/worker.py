"""The process where grammars are tried: `python -m stillhouse.text.grammar.worker PARENT`."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
from collections import OrderedDict
from pathlib import Path
from typing import IO

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from stillhouse.text.grammar.walk import Walker

PR_SET_PDEATHSIG = 1  # linux/prctl.h
#: A tokenizer of 128 000 tokens takes 80 MiB.
MAX_TOKENIZERS = 4
MAX_REASON_LENGTH = 300
_TOO_MUCH_WORK = "some answers would take too much work on their way"
#: Those of the embedded engine, so that what passes here does not fail there.
LIMITS = LLParserLimits(
    initial_lexer_fuel=200_000,
    step_lexer_fuel=50_000,
    step_max_items=20_000,
    max_items_in_row=1_000,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)


def main() -> None:
    """
    Answer one request after the other, each a line of JSON, until there are no more.

    A request has a ``grammar``, a ``tokenizer`` (the path of its ``tokenizer.json``; null: one
    token for each byte) and ``memory_bytes`` that may be taken beyond what the process has. The
    answer is a line with ``loaded``, once the tokenizer is there, and one with the ``reason`` why
    the grammar is not good, null where it is.
    """
    _die_with_parent(int(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold what customers wrote
    tokenizers = _Tokenizers()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        tokenizer = tokenizers.load(request["tokenizer"])
        _answer(sys.stdout.buffer, {"loaded": True})
        with _MemoryLimit(request["memory_bytes"]):
            reason = _reason_against(request["grammar"], tokenizer)
        _answer(sys.stdout.buffer, {"reason": reason})


def _reason_against(grammar: str, tokenizer: LLTokenizer) -> str | None:
    """Do what an engine does at a sequence's start and in the middle of some answers."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        return _sentence(matcher.get_error())
    fault = Walker(tokenizer, LIMITS).fault_of(grammar, matcher)
    return None if fault is None else f"{_TOO_MUCH_WORK}: {_sentence(fault)}"


def _sentence(error: str) -> str:
    """The message without the drawing of its place, which is in a text that no client wrote."""
    if error.startswith("NoExtension"):
        return "no answer fits it"
    _, found, at_heart = error.partition("\nerror: ")
    heart = (at_heart if found else error).strip().partition("\n")[0]
    return heart[:MAX_REASON_LENGTH]


def _answer(stream: IO[bytes], answer: dict[str, object]) -> None:
    stream.write(json.dumps(answer).encode() + b"\n")
    stream.flush()


def _die_with_parent(parent_pid: int) -> None:
    """A terminal's Ctrl-C and a service manager's SIGTERM reach the group; the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        sys.exit()  # it died before the line above


class _Tokenizers:
    """The tokenizers used last, by path."""

    def __init__(self) -> None:
        self._loaded: OrderedDict[str | None, LLTokenizer] = OrderedDict()

    def load(self, path: str | None) -> LLTokenizer:
        if path not in self._loaded:
            if len(self._loaded) == MAX_TOKENIZERS:
                self._loaded.popitem(last=False)
            # Passed as text: a name would be looked up on a hub, where no such file exists.
            text = "byte" if path is None else Path(path).read_text(encoding="utf-8")
            self._loaded[path] = LLTokenizer(text)
        self._loaded.move_to_end(path)
        return self._loaded[path]


class _MemoryLimit:
    """While entered, the process may take so many bytes beyond what it has, or is aborted."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes

    def __enter__(self) -> None:
        gc.collect()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (_mapped_bytes() + self._num_bytes, hard))

    def __exit__(self, *exception: object) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _mapped_bytes() -> int:
    """What RLIMIT_AS counts (proc(5))."""
    num_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return num_pages * resource.getpagesize()


if __name__ == "__main__":
    main()
