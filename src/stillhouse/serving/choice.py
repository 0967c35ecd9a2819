"""One of a request's answers at work: an engine's sequence, read to its last step."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from stillhouse.billing.outcome import UsageSource
from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep, TokenEngine
from stillhouse.errors import RequestError
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.queue.request_queue import QueueEntry
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.usage_meter import UsageMeter
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import ChatEvent, FinishReason
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()


class Choice:
    """
    One answer of a request: one sequence of its engine.

    Args:
        turn: Of the whole request; told of every step.
        tell: Takes the answer's events as they come; its end is not among them.
        pending: Where they wait; while it is full, no more tokens become text.
        cancel_timeout_s: An engine that generates on for so long after a cancel is not listened to
            any more.

    """

    def __init__(  # noqa: PLR0913  (given once, by Completion)
        self,
        *,
        engine: TokenEngine,
        generate: GenerateRequest,
        parser: OutputParser,
        turn: QueueEntry,
        watch: RequestMetrics,
        tell: Callable[[ChatEvent], None],
        pending: EventBuffer,
        cancel_timeout_s: float,
    ) -> None:
        self.index = parser.choice
        self._engine = engine
        self._generate = generate
        self._parser = parser
        self._turn = turn
        self._watch = watch
        self._tell = tell
        self._pending = pending
        self._cancel_timeout_s = cancel_timeout_s
        self._count = UsageMeter(generate)
        # Steps that are not text yet, for want of a reader; bounded by max_tokens.
        self._untold: deque[GenerateStep] = deque()
        self._finish: EngineFinish | None = None
        self._has_begun = False
        self._is_stopped = False
        self._met_stop_string = False
        self._usage_when_stopped = self._count.usage
        self._patience: asyncio.Timeout | None = None  # set exactly while the engine is read

    @property
    def usage(self) -> TokenUsage:
        """The tokens counted up to now."""
        return self._count.usage

    @property
    def usage_source(self) -> UsageSource:
        """Whose count `usage` is."""
        return self._count.source

    @property
    def reasoning_tokens(self) -> int:
        """How many of its tokens were reasoning."""
        return self._parser.reasoning_tokens

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended it."""
        return self._parser.stop_string

    @property
    def has_begun(self) -> bool:
        """Whether its engine was asked."""
        return self._has_begun

    @property
    def was_cancelled(self) -> bool:
        """Whether it was ended, by `stop` or by a fault of its request, and not by itself."""
        return self._finish is EngineFinish.CANCELLED and not self._met_stop_string

    @property
    def reason(self) -> FinishReason:
        """Why it ended, as the client is told; asked for once it has."""
        # What was cancelled is cut off as well, and not at its end.
        return self._parser.finish_reason(at_limit=self._finish is not EngineFinish.STOP)

    @property
    def _is_over(self) -> bool:
        """Whether its client waits for no more of it: it was stopped, or a stop string was met."""
        return self._is_stopped or self._parser.stopped

    def stop(self) -> None:
        """End the sequence within one engine step."""
        if self._is_stopped or self._finish is not None:
            return
        self._is_stopped = True
        self._usage_when_stopped = self.usage
        self._engine.cancel(self._generate.request_id)
        if self._patience is not None:
            now_s = asyncio.get_running_loop().time()
            self._patience.reschedule(now_s + self._cancel_timeout_s)

    async def run(self) -> None:
        """
        Drive the engine to the sequence's last step.

        Called once, and once more where the engine was gone before it made anything.

        Raises:
            RequestError: The engine cannot go on with it. What came before is told, and counted.
            ServingError: The engine failed.

        """
        if self._is_stopped:  # no engine knows of it
            self._finish = EngineFinish.CANCELLED
            return
        if not self._has_begun:
            self._has_begun = True
            self._push(self._parser.opening())
        fault: RequestError | None = None
        try:
            async with asyncio.timeout(None) as self._patience:
                self._finish = await self._read_steps()
        except TimeoutError:
            log.error(  # noqa: TRY400  (an alarm about the engine; the trace says nothing of it)
                "engine_ignores_cancel",
                request_id=self._generate.request_id,
                waited_s=self._cancel_timeout_s,
                tokens_not_charged=self.usage.completion_tokens
                - self._usage_when_stopped.completion_tokens,
            )
            self._count.go_back_to(self._usage_when_stopped)
            self._untold.clear()
            self._finish = EngineFinish.CANCELLED
            return
        except RequestError as error:
            self._finish = EngineFinish.CANCELLED
            if not self.usage.completion_tokens:
                raise
            self._turn.end_sequence()
            fault = error
        finally:
            self._patience = None
        await self._tell_rest()
        self._push(self._parser.finish(at_limit=self._finish is not EngineFinish.STOP))
        if fault is not None and not self._is_over:
            raise fault

    async def _read_steps(self) -> EngineFinish:
        """Take what the engine makes as it comes: a slow reader must not keep its engine busy."""
        finish: EngineFinish | None = None
        async for step in self._engine.generate(self._generate):
            self._count.saw(step)
            self._turn.saw(len(step.token_ids), cached_tokens=self._count.usage.cached_tokens)
            self._watch.saw(step)
            self._untold.append(step)
            while self._untold and not self._pending.is_full:
                self._tell_step(self._untold.popleft())
            finish = step.finish
        assert finish is not None, "an engine's last step carries its finish. This is a bug."
        self._turn.end_sequence()
        return finish

    async def _tell_rest(self) -> None:
        while self._untold:
            await self._pending.room()
            self._tell_step(self._untold.popleft())

    def _tell_step(self, step: GenerateStep) -> None:
        self._push(self._parser.push(step.token_ids, step.logprobs))
        if self._parser.stopped and step.finish is None and not self._is_stopped:
            self._met_stop_string = True
            self.stop()

    def _push(self, delta: ChatEvent) -> None:
        if delta:
            self._tell(delta)
