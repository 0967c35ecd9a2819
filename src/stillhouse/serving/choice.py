"""One answer of a request, from its engine's first step to its last."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

import structlog

from stillhouse.billing.outcome import UsageSource
from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep
from stillhouse.errors import RequestError
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.queue.request_queue import QueueEntry
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.usage_meter import UsageMeter
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import ChatEvent, ChoiceEnd, FinishReason
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ChoiceContext:
    """
    Holds what all choices of one request share.

    Args:
        entry: The request in its model's queue; charged for every step.
        events: Takes the choices' text; while the buffer is full, no more tokens are decoded.
        cancel_timeout_s: How long an engine may go on generating after a cancel before the gateway
            stops reading from it.

    """

    entry: QueueEntry
    metrics: RequestMetrics
    events: EventBuffer
    cancel_timeout_s: float


class Choice:
    """
    Reads one sequence of the engine, decodes its tokens and counts its usage.

    Args:
        request: What the engine generates.
        parser: Turns its tokens into the choice's events.

    """

    def __init__(
        self, request: GenerateRequest, parser: OutputParser, context: ChoiceContext
    ) -> None:
        self.index = parser.choice
        self._request = request
        self._parser = parser
        self._context = context
        self._meter = UsageMeter(request)
        # Steps that are not decoded yet because the client does not read; bounded by max_tokens.
        self._undecoded: deque[GenerateStep] = deque()
        self._finish: EngineFinish | None = None
        self._has_begun = False
        self._is_stopped = False
        self._met_stop_string = False
        self._usage_when_stopped = self._meter.usage
        self._cancel_timeout: asyncio.Timeout | None = None  # set exactly while the engine is read

    @property
    def usage(self) -> TokenUsage:
        """The tokens counted up to now."""
        return self._meter.usage

    @property
    def usage_source(self) -> UsageSource:
        """Whose count `usage` is."""
        return self._meter.source

    @property
    def reasoning_tokens(self) -> int:
        """How many of its tokens were reasoning."""
        return self._parser.reasoning_tokens

    @property
    def has_begun(self) -> bool:
        """Whether the engine was given the sequence."""
        return self._has_begun

    @property
    def was_cancelled(self) -> bool:
        """Whether `stop` or a fault of the request ended it before its own end."""
        return self._finish is EngineFinish.CANCELLED and not self._met_stop_string

    @property
    def reason(self) -> FinishReason:
        """Why it ended, as the client sees it; known once it has ended."""
        # A cancelled choice is cut off as well, and reports the same reason as one at its limit.
        return self._parser.finish_reason(at_limit=self._finish is not EngineFinish.STOP)

    @property
    def end(self) -> ChoiceEnd:
        """The event that ends it; known once it has ended."""
        return ChoiceEnd(self.reason, self.index, self._parser.stop_string)

    @property
    def _is_over(self) -> bool:
        """Whether its client waits for no more of it: it was stopped, or met a stop string."""
        return self._is_stopped or self._parser.stopped

    def stop(self) -> None:
        """Cancels the sequence within one engine step."""
        if self._is_stopped or self._finish is not None:
            return
        self._is_stopped = True
        self._usage_when_stopped = self.usage
        if self._cancel_timeout is not None:
            self._context.entry.engine.cancel(self._request.request_id)
            now_s = asyncio.get_running_loop().time()
            self._cancel_timeout.reschedule(now_s + self._context.cancel_timeout_s)

    async def run(self) -> None:
        """
        Reads the sequence to its last step.

        Called once, and again if the engine was gone before it generated anything.

        Raises:
            RequestError: The engine cannot go on with it. What came before is emitted and counted.
            ServingError: The engine failed.

        """
        if self._is_stopped:  # the engine was never given the sequence
            self._finish = EngineFinish.CANCELLED
            return
        if not self._has_begun:
            self._has_begun = True
            self._emit(self._parser.opening())
        fault: RequestError | None = None
        try:
            async with asyncio.timeout(None) as self._cancel_timeout:
                self._finish = await self._read_steps()
        except TimeoutError:
            self._abandon_engine()
            return
        except RequestError as error:
            self._finish = EngineFinish.CANCELLED
            if not self.usage.completion_tokens:
                raise
            self._context.entry.end_sequence()
            fault = error
        finally:
            self._cancel_timeout = None
        while self._undecoded:
            await self._context.events.wait_for_space()
            self._decode(self._undecoded.popleft())
        self._emit(self._parser.finish(at_limit=self._finish is not EngineFinish.STOP))
        if fault is not None and not self._is_over:
            raise fault

    def _abandon_engine(self) -> None:
        """Stops reading from an engine that ignores a cancel; its later tokens are not charged."""
        log.error(
            "engine_ignores_cancel",
            request_id=self._request.request_id,
            waited_s=self._context.cancel_timeout_s,
            tokens_not_charged=self.usage.completion_tokens
            - self._usage_when_stopped.completion_tokens,
        )
        self._meter.roll_back_to(self._usage_when_stopped)
        self._undecoded.clear()
        self._finish = EngineFinish.CANCELLED

    async def _read_steps(self) -> EngineFinish:
        """Reads the engine's steps as they come: a slow reader must not keep the engine busy."""
        finish: EngineFinish | None = None
        entry, metrics, events = self._context.entry, self._context.metrics, self._context.events
        async for step in self._context.entry.engine.generate(self._request):
            self._meter.record_step(step)
            entry.record_step(len(step.token_ids), cached_tokens=self._meter.usage.cached_tokens)
            metrics.record_step(step)
            self._undecoded.append(step)
            while self._undecoded and not events.is_full:
                self._decode(self._undecoded.popleft())
            finish = step.finish
        assert finish is not None, "an engine's last step carries its finish. This is a bug."
        entry.end_sequence()
        return finish

    def _decode(self, step: GenerateStep) -> None:
        self._emit(self._parser.push(step.token_ids, step.logprobs))
        if self._parser.stopped and step.finish is None and not self._is_stopped:
            self._met_stop_string = True
            self.stop()

    def _emit(self, delta: ChatEvent) -> None:
        if delta:
            self._context.events.emit(delta)
