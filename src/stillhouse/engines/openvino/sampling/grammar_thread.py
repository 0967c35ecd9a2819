"""Compiles grammars on a thread: each once per account, fairly between accounts."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stillhouse.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from llguidance import LLMatcher

    from stillhouse.clock import Clock

STACK_BYTES = 64 * 1024 * 1024  # address space; nested grammars are compiled by recursion
#: A grammar was compiled within 2 s before an engine sees it; a busy machine is slower.
TIMEOUT_S = 20.0
#: Threads that never came back; nothing ends a thread, so their number is bounded.
MAX_LOST_THREADS = 2
MAX_KEPT = 64
#: Compiled grammars take some 800 bytes for each character, and more with the texts they matched.
MAX_KEPT_CHARS = 256 * 1024
#: While others run, grammars are compiled with what they leave of the processor.
NICENESS = 10
#: A thread without work ends after that long.
IDLE_S = 10.0

_LOST = "The grammar takes longer than {:g} s to compile in the engine; it must be simpler."
_STUCK = (
    "The engine compiles no grammars now: others take too long; a request without one is served."
)


@dataclass(eq=False, slots=True)
class Compiled:
    """
    A grammar that is being compiled, or has been.

    Args:
        salt: The cache salt that owns it. Only requests of one salt share a compiled grammar, as
            its copies share a lexer and its limits, so that one text can fail another.
        begun: Tokens that the matcher has to match already; such a grammar is not shared.

    Attributes:
        matcher: The matcher in its initial state; copied where it is shared.
        fault: The reason why compiling failed.
        num_given: Number of sequences that received it.

    """

    salt: str
    text: str
    begun: tuple[int, ...] | None = None
    matcher: LLMatcher | None = None
    fault: str | None = None
    waiting: set[int] = field(default_factory=set)
    started_s: float | None = None
    num_given: int = 0

    @property
    def is_there(self) -> bool:
        """Whether compiling has ended, with a matcher or a fault."""
        return self.matcher is not None or self.fault is not None


class GrammarThread:
    """
    Compiles the grammars of sequences on one thread, and keeps the most recently used ones.

    The next grammar belongs to the waiting cache salt that has used the thread least since the
    thread was last idle. A hundred slow grammars of one salt therefore delay another salt's first
    one only by the grammar that is being compiled. A thread that does not return is replaced.

    `want` may be called on any thread and never waits; all else belongs to the engine loop. Its
    methods share one lock and the state behind it; a split would pass both around.

    Args:
        compile_: Makes a matcher that has matched some tokens; raises InvalidRequestError.
        clock: Measures compile times.

    Attributes:
        wake: Called on the thread when a grammar is done.

    """

    def __init__(
        self,
        compile_: Callable[[str, Sequence[int]], LLMatcher],
        clock: Clock,
        *,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self.wake: Callable[[], None] = _nobody_sleeps
        self._compile = compile_
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = threading.Condition()
        self._wanted: dict[int, Compiled] = {}  # by sequence
        self._coming: dict[tuple[str, str], Compiled] = {}
        self._kept: OrderedDict[tuple[str, str], Compiled] = OrderedDict()
        self._queues: dict[str, deque[Compiled]] = {}  # by salt, none of them empty
        self._spent_s: defaultdict[str, float] = defaultdict(float)
        self._times: list[tuple[str, float]] = []
        self._current: Compiled | None = None
        self._thread: threading.Thread | None = None
        self._num_lost = 0

    @property
    def num_kept(self) -> int:
        """Number of compiled grammars kept for later requests."""
        return len(self._kept)

    def want(
        self, sequence_id: int, salt: str, text: str, begun: Sequence[int] | None = None
    ) -> None:
        """
        Queues a grammar for a sequence, unless it is queued already.

        Args:
            begun: Compile one for this sequence alone that has matched these tokens.

        """
        with self._lock:
            if sequence_id in self._wanted:
                return
            key = (salt, text)
            if begun is not None:
                compiled = Compiled(salt, text, tuple(begun))
                self._kept.pop(key, None)  # a grammar that failed one text is likely to fail others
                self._enqueue(compiled)
            elif key in self._kept:
                compiled = self._kept[key]
                self._kept.move_to_end(key)
            elif key in self._coming:
                compiled = self._coming[key]
            else:
                compiled = self._coming[key] = Compiled(salt, text)
                self._enqueue(compiled)
            compiled.waiting.add(sequence_id)
            self._wanted[sequence_id] = compiled

    def take(self, sequence_id: int) -> Compiled | None:
        """
        Returns the grammar of a sequence; None until it is compiled.

        Raises:
            InvalidRequestError: It cannot be compiled, or takes too long.

        """
        with self._lock:
            compiled = self._wanted[sequence_id]
            if not compiled.is_there:
                self._replace_if_lost()
            if not compiled.is_there:
                return None
            del self._wanted[sequence_id]
            compiled.waiting.discard(sequence_id)
            if compiled.fault is not None:
                raise InvalidRequestError(compiled.fault)
            compiled.num_given += 1
            return compiled

    def forget(self, sequence_id: int) -> None:
        """Removes a sequence's request; a grammar without requests is not compiled."""
        with self._lock:
            compiled = self._wanted.pop(sequence_id, None)
            if compiled is None:
                return
            compiled.waiting.discard(sequence_id)
            if not compiled.waiting and not compiled.is_there and compiled.started_s is None:
                self._comes_no_more(compiled)
                self._queues[compiled.salt].remove(compiled)
                if not self._queues[compiled.salt]:
                    del self._queues[compiled.salt]

    def take_times(self) -> list[tuple[str, float]]:
        """Returns the seconds spent since the last call, by cache salt."""
        if not self._times:
            return []
        with self._lock:
            times, self._times = self._times, []
            return times

    # With the lock held.

    def _enqueue(self, compiled: Compiled) -> None:
        if self._thread is None:
            if self._num_lost >= MAX_LOST_THREADS:
                self._give_up(compiled, _STUCK)
                return
            self._start_thread()
        self._queues.setdefault(compiled.salt, deque()).append(compiled)
        self._lock.notify_all()

    def _start_thread(self) -> None:
        usual_bytes = threading.stack_size(STACK_BYTES)
        self._thread = threading.Thread(target=self._run, name="grammar-compiler", daemon=True)
        self._thread.start()
        threading.stack_size(usual_bytes)

    def _replace_if_lost(self) -> None:
        current = self._current
        if current is None:
            return
        assert current.started_s is not None
        if self._clock.monotonic_s() - current.started_s < self._timeout_s:
            return
        self._num_lost += 1
        self._current = None
        self._charge(current)
        self._give_up(current, _LOST.format(self._timeout_s))
        self._thread = None
        if self._num_lost < MAX_LOST_THREADS:
            self._start_thread()
            return
        for queue in self._queues.values():
            for compiled in queue:
                self._give_up(compiled, _STUCK)
        self._queues.clear()

    def _give_up(self, compiled: Compiled, fault: str) -> None:
        compiled.fault = fault
        self._comes_no_more(compiled)

    def _comes_no_more(self, compiled: Compiled) -> None:
        if compiled.begun is None:
            del self._coming[compiled.salt, compiled.text]

    def _charge(self, compiled: Compiled) -> None:
        assert compiled.started_s is not None
        seconds = self._clock.monotonic_s() - compiled.started_s
        self._times.append((compiled.salt, seconds))
        self._spent_s[compiled.salt] += seconds

    def _keep(self, compiled: Compiled) -> None:
        """Keeps a grammar; evicts the oldest ones of the cache salt that keeps the most."""
        self._kept[compiled.salt, compiled.text] = compiled
        num_chars = Counter[str]()
        for salt, text in self._kept:
            num_chars[salt] += len(text)
        while len(self._kept) > MAX_KEPT or num_chars.total() > MAX_KEPT_CHARS:
            (greediest, _), *_ = num_chars.most_common(1)
            oldest = next(key for key in self._kept if key[0] == greediest)
            num_chars[greediest] -= len(oldest[1])
            del self._kept[oldest]

    # On the thread.

    def _run(self) -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while compiled := self._next():
            if not self._finish(compiled, self._matcher_or_fault(compiled)):
                return
            self.wake()

    def _matcher_or_fault(self, compiled: Compiled) -> LLMatcher | str:
        try:
            return self._compile(compiled.text, compiled.begun or ())
        except InvalidRequestError as error:
            return error.message
        except BaseException:  # noqa: BLE001 (a panic of the compiler is none of Exception's)
            traceback.print_exc()
            return "The grammar cannot be compiled."

    def _next(self) -> Compiled | None:
        with self._lock:
            self._lock.wait_for(lambda: self._queues, IDLE_S)
            assert self._is_this(), "Who waits has not been lost. This is a bug."
            if not self._queues:
                self._thread = None
                return None
            salt = min(self._queues, key=self._spent_s.__getitem__)
            self._current = compiled = self._queues[salt].popleft()
            compiled.started_s = self._clock.monotonic_s()
            if not self._queues[salt]:
                del self._queues[salt]
            return compiled

    def _finish(self, compiled: Compiled, matcher: LLMatcher | str) -> bool:
        """Publishes a compiled grammar; returns whether this thread continues."""
        with self._lock:
            if not self._is_this():  # it was given up, and so were those that waited for it
                self._num_lost -= 1
                return False
            self._current = None
            self._charge(compiled)
            if not self._queues:
                self._spent_s.clear()
            if isinstance(matcher, str):
                compiled.fault = matcher
            else:
                compiled.matcher = matcher
            self._comes_no_more(compiled)
            if compiled.begun is None and compiled.fault is None:
                self._keep(compiled)
            return True

    def _is_this(self) -> bool:
        return self._thread is threading.current_thread()


def _nobody_sleeps() -> None:
    """Does nothing; the default until a loop sets `wake`."""
