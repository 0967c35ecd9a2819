"""One admitted request: its generation, then its settlement, then the end of its response."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import structlog

from stillhouse.billing.idempotency import Answer
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.errors import (
    EngineUnavailableError,
    OverloadedError,
    ServingError,
    StillhouseError,
    StoreUnavailableError,
)
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.generation import Generation
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.settlement import Settlement
from stillhouse.types.events import ChatEvent, ChoiceEnd, Finish
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()

#: Outcomes that mean that the client no longer reads.
_CLIENT_GONE = frozenset({Outcome.CLIENT_DISCONNECT, Outcome.SLOW_CLIENT})


class Completion:
    """
    Runs one admitted request, in a task of its own that outlives the response.

    The API reads `batches` or `events`, and calls `stop` when the client is gone. Either way `run`
    goes on until the engine has reported its last count and the hold is settled. If the response
    settled in its own ``finally``, a disconnect would cancel that, and lose the ledger's row.

    Args:
        generation: Produces the events.
        settlement: Charges what was generated.
        events: Hands the events to the client, and stores them if the request may be repeated.

    """

    is_replay = False

    def __init__(
        self,
        meta: ResponseMeta,
        *,
        generation: Generation,
        settlement: Settlement,
        events: EventBuffer,
        metrics: RequestMetrics,
    ) -> None:
        self.meta = meta
        self._generation = generation
        self._settlement = settlement
        self._events = events
        self._metrics = metrics
        self._charged: Finish | None = None
        settlement.notify_if_lost(partial(self.stop, Outcome.LAPSED))

    async def events(self) -> AsyncIterator[ChatEvent]:
        """Yields the events of `batches` one by one."""
        async for batch in self._events.batches():
            for event in batch:
                yield event

    def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """
        Yields the response's events as they come, then `Finish`, whose cost is durable by then.

        A batch holds what has come since the one before. Decoding pauses while the client does not
        read; the engine goes on. If the ledger cannot be written for longer than a client waits,
        `Finish` has no cost.

        Raises:
            OverloadedError: The request waited for too long; nothing is charged.
            RequestError: The engine cannot go on with it; `charged` holds what is charged.
            AuthenticationError: Its key was revoked; `charged` holds what is charged.
            EngineUnavailableError: The engine did not come back from a crash in time; or the server
                ends, and `charged` holds what is charged.
            ServingError: The engine failed; nothing is charged.

        """
        return self._events.batches()

    @property
    def key_id(self) -> int:
        """The API key that is charged."""
        return self._settlement.key_id

    @property
    def charged(self) -> Finish | None:
        """Usage and cost of a response that ended in an error and was charged; otherwise None."""
        return self._charged

    @property
    def usage(self) -> TokenUsage:
        """The tokens counted up to now; the prompt, which the choices share, once."""
        return self._generation.usage

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens up to now were reasoning."""
        return self._generation.reasoning_tokens

    @property
    def cost_so_far_picousd(self) -> int:
        """What the tokens counted up to now cost; not charged yet."""
        return self._settlement.cost_picousd(self.usage)

    def stop(self, outcome: Outcome, error: StillhouseError | None = None) -> None:
        """
        Cancels the generation within one engine step; what was generated is charged.

        A request that still waits leaves the queue, and is charged nothing. A request with an
        idempotency key goes on when its client disconnects, because it will be repeated.

        Args:
            error: Sent after the text, if the stop cut off a choice; None ends a choice as its
                token limit does.

        """
        if outcome in _CLIENT_GONE and self._events.is_recorded:
            self._events.drop_reader()
            return
        self._generation.stop(outcome, error)

    async def run(self) -> None:
        """Generates and settle; called once, by `Completions`."""
        generation = self._generation
        try:
            last = await generation.run()
            if last is None or not generation.has_begun:
                await self._void_stopped()
            elif generation.fault is not None and not self.usage.completion_tokens:
                await self._void(generation.fault, Outcome.REQUEST_FAULT)
            else:
                await self._settle(last)
        except OverloadedError as error:
            await self._void(error, Outcome.DEADLINE, was_served=False)
        except EngineUnavailableError as error:
            await self._void(error, was_served=self.usage.completion_tokens > 0)
        except StoreUnavailableError as error:
            self._leave_to_sweep(error)
        except StillhouseError as error:
            await self._void(error)
        except Exception:
            log.exception("completion failed", request_id=self.meta.request_id)
            await self._void(ServingError("Internal error"))
        finally:
            self._events.close()

    async def _settle(self, last: ChoiceEnd) -> None:
        generation, answer = self._generation, None
        generation.clear_crashes()
        if (
            self._events.is_recorded and generation.error is None
        ):  # otherwise a repetition runs anew
            answer = Answer(self._events.recorded(last), self.reasoning_tokens)
        cost_picousd = await self._settlement.settle(
            generation.usage,
            generation.outcome,
            usage_source=generation.usage_source,
            answer=answer,
            on_timeout=partial(self._finish, last, None),
        )
        self._finish(last, cost_picousd)

    def _finish(self, last: ChoiceEnd, cost_picousd: int | None) -> None:
        """Ends the client's response; the first call counts."""
        finish = Finish(
            last.reason,
            self.usage,
            cost_picousd,
            reasoning_tokens=self.reasoning_tokens,
            choice=last.choice,
            stop_string=last.stop_string,
            runtime_ms=self._metrics.elapsed_ms(),
        )
        error = self._generation.error
        if error is None:
            self._events.emit(finish)
        elif self._charged is None:
            self._charged = finish
        self._events.close(error)

    async def _void_stopped(self) -> None:
        """Voids a request that was stopped in the queue: nothing was generated for it."""
        stopped_by, error = self._generation.stopped_by, self._generation.stop_error
        assert stopped_by is not None, "only `stop` takes a request off its queue. This is a bug."
        if error is None or stopped_by is Outcome.DRAINED:
            error = EngineUnavailableError("The server stopped before the request was dispatched.")
        await self._void(error, stopped_by, was_served=False)

    async def _void(
        self,
        error: StillhouseError,
        outcome: Outcome = Outcome.ENGINE_ERROR,
        *,
        was_served: bool = True,
    ) -> None:
        """Releases the hold, and ends the response with *error*."""
        end_response = partial(self._events.close, error)
        source = self._generation.usage_source if was_served else UsageSource.GATEWAY_COUNT
        try:
            await self._settlement.void(
                self.usage if was_served else TokenUsage(),
                outcome,
                usage_source=source,
                on_timeout=end_response,
            )
        except StillhouseError as outage:
            self._leave_to_sweep(outage)
        else:
            end_response()

    def _leave_to_sweep(self, error: StillhouseError) -> None:
        """Ends the response of a process that ends before the ledger is back."""
        log.error("hold_left_to_sweep", request_id=self.meta.request_id, reason=error.message)
        self._events.close(error)
