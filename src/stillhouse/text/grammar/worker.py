"""Compiles grammars in a child process: `python -m stillhouse.text.grammar.worker PARENT`."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path

from llguidance import LLMatcher, LLTokenizer

from stillhouse.engines.grammar_limits import GRAMMAR_LIMITS
from stillhouse.text.grammar.frames import Compiled, Loaded, decode_request, encode
from stillhouse.text.grammar.walk import Walker
from stillhouse.workers.child import MemoryLimit, die_with_parent, forbid_core_dumps
from stillhouse.workers.framing import read_frame, write_frame

#: A tokenizer of 128 000 tokens takes 80 MiB.
MAX_TOKENIZERS = 4
MAX_REASON_LENGTH = 300
_TOO_MUCH_WORK = "some answers would take too much work on their way"


def main() -> None:
    """Answers each request with `Loaded` and then `Compiled`, until there are no more."""
    die_with_parent(int(sys.argv[1]))
    forbid_core_dumps()
    tokenizers = _Tokenizers()
    while (frame := read_frame(sys.stdin.buffer)) is not None:
        request = decode_request(frame)
        tokenizer = tokenizers.load(request.tokenizer)
        write_frame(sys.stdout.buffer, encode(Loaded()))
        with MemoryLimit(request.memory_bytes):
            reason = _reason_against(request.grammar, tokenizer)
        write_frame(sys.stdout.buffer, encode(Compiled(reason)))


def _reason_against(grammar: str, tokenizer: LLTokenizer) -> str | None:
    """Repeats an engine's work at a sequence's start and in the middle of some answers."""
    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=GRAMMAR_LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        return _sentence(matcher.get_error())
    fault = Walker(tokenizer, GRAMMAR_LIMITS).fault_of(grammar, matcher)
    return None if fault is None else f"{_TOO_MUCH_WORK}: {_sentence(fault)}"


def _sentence(error: str) -> str:
    """Returns the message without its source excerpt, which quotes a text that no client wrote."""
    if error.startswith("NoExtension"):
        return "no answer fits it"
    _, found, at_heart = error.partition("\nerror: ")
    heart = (at_heart if found else error).strip().partition("\n")[0]
    return heart[:MAX_REASON_LENGTH]


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


if __name__ == "__main__":
    main()
