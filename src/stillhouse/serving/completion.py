"""One completion at work: from the wait for its turn to its durable cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import structlog

from stillhouse.billing.idempotency import Answer
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.engines.base import GenerateRequest
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    OverloadedError,
    RequestError,
    ServingError,
    StillhouseError,
    StoreUnavailableError,
)
from stillhouse.serving.admission.quarantine import Fingerprint, Quarantine
from stillhouse.serving.choice import Choice
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.queue.request_queue import QueueEntry
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.serving.settlement import PendingSettlements
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import ChatEvent, ChoiceEnd, Finish, FinishReason
from stillhouse.types.response_meta import ResponseMeta
from stillhouse.types.usage import TokenUsage

log = structlog.get_logger()

#: Of several answers that end differently, the first of these is what the request is known by.
_OUTCOMES = {
    FinishReason.LENGTH: Outcome.LENGTH,
    FinishReason.TOOL_CALLS: Outcome.TOOL_CALLS,
    FinishReason.STOP: Outcome.STOP,
}

_LEFT = frozenset({Outcome.CLIENT_DISCONNECT, Outcome.SLOW_CLIENT})

_CUT_OFF = "The server has shut down before the answer's end; what came of it is charged."


class Completion:
    """
    One admitted completion, run by a task of its own that outlives the response.

    The response reads `events()`; whoever learns that nobody reads any more calls `stop()`. Either
    way `run()` goes on until the engine has reported its last count and the hold is settled: an
    await in a response's own ``finally`` would be cancelled with it, and the row lost.

    Args:
        sequences: What the engine is asked for each answer, and what reads it.
        is_named: The client has named the request, and may repeat it.

    """

    is_replay = False

    def __init__(  # noqa: PLR0913  (given once, by Completions.open)
        self,
        *,
        model: ServedModel,
        sequences: Sequence[tuple[GenerateRequest, OutputParser]],
        hold: Hold,
        turn: QueueEntry,
        fingerprint: Fingerprint,
        quarantine: Quarantine,
        ledger: Ledger,
        settlements: PendingSettlements,
        watch: RequestMetrics,
        is_named: bool,
        cancel_timeout_s: float,
    ) -> None:
        self.request_id = sequences[0][0].request_id
        self.meta = ResponseMeta(
            request_id=self.request_id,
            created_s=hold.held.created_at_ms // 1000,
            model_id=model.spec.id,
            tier=hold.price.tier,
            n=len(sequences),
        )
        self._hold = hold
        self._turn = turn
        self._fingerprint = fingerprint
        self._quarantine = quarantine
        self._ledger = ledger
        self._settlements = settlements
        self._watch = watch
        self._transcript = ResponseAccumulator(len(sequences)) if is_named else None
        self._stopped_by: Outcome | None = None
        self._cut_off_with: StillhouseError | None = None
        self._fault: RequestError | None = None
        self._charged: Finish | None = None
        self._num_running = len(sequences)
        self._last_choice = 0
        self._pending = EventBuffer(ledger if ledger.is_shared else None)
        ledger.notify_if_lost(hold, partial(self.stop, Outcome.LAPSED))
        self._choices = [
            Choice(
                engine=model.engine,
                generate=generate,
                parser=parser,
                turn=turn,
                watch=watch,
                tell=self._tell,
                pending=self._pending,
                cancel_timeout_s=cancel_timeout_s,
            )
            for generate, parser in sequences
        ]

    async def events(self) -> AsyncIterator[ChatEvent]:
        """Yield the events of `batches` one by one."""
        async for batch in self._pending.batches():
            for event in batch:
                yield event

    def batches(self) -> AsyncIterator[list[ChatEvent]]:
        """
        Yield the answers' text as it comes, then `Finish`, whose cost is durable by then.

        What has come since the last batch is one. Who does not ask for the next one is waited for:
        the engine goes on, but little of what it makes is decoded.

        While the ledger is down it waits for a while, and then says `Finish` without a cost.

        Raises:
            OverloadedError: Its turn did not come in time; nothing is charged.
            RequestError: It cannot be gone on with; `charged` says what came of it until then.
            AuthenticationError: Its key was revoked; the same.
            EngineUnavailableError: Its engine did not come back from a crash in time; or the server
                ends, and `charged` says what came of it until then.
            ServingError: The engine failed; nothing is charged.

        """
        return self._pending.batches()

    @property
    def key_id(self) -> int:
        """The API key that it is charged to."""
        return self._hold.held.key_id

    @property
    def charged(self) -> Finish | None:
        """What was charged for an answer that ended in an error; None where nothing was."""
        return self._charged

    @property
    def usage(self) -> TokenUsage:
        """The tokens counted up to now; the prompt, which the answers share, once."""
        first, *others = (choice.usage for choice in self._choices)
        if not others:
            return first
        completion_tokens = first.completion_tokens + sum(u.completion_tokens for u in others)
        return replace(first, completion_tokens=completion_tokens)

    @property
    def reasoning_tokens(self) -> int:
        """How many of the completion's tokens up to now were reasoning."""
        return sum(choice.reasoning_tokens for choice in self._choices)

    @property
    def cost_so_far_picousd(self) -> int:
        """What the tokens counted up to now cost; not yet charged."""
        return self._hold.price.cost_picousd(self.usage)

    def stop(self, outcome: Outcome, error: StillhouseError | None = None) -> None:
        """
        End the generation within one engine step; what was generated is charged.

        A request that still waits for its turn leaves the queue, and is charged nothing. One that
        its client has named goes on when the client leaves: it will be repeated.

        Args:
            error: What the client is told, behind the text, where an answer was cut off by this;
                None tells it that the answer has reached its limit.

        """
        if outcome in _LEFT and self._transcript is not None:
            self._pending.abandon()
            return
        self._pending.end_bound()
        if self._stopped_by is None:
            self._stopped_by = outcome
            if outcome is Outcome.DRAINED and error is None:
                error = EngineUnavailableError(_CUT_OFF)
            self._cut_off_with = error
            self._turn.leave()
            for choice in self._choices:
                choice.stop()

    async def run(self) -> None:
        """Wait, drive the engine to its last step and settle; called once, by `Completions`."""
        try:
            last = await self._generate()
            if last is None or not any(choice.has_begun for choice in self._choices):
                await self._void_stopped()
            elif self._fault is not None and not self.usage.completion_tokens:
                await self._void(self._fault, Outcome.REQUEST_FAULT)
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
            log.exception("completion failed", request_id=self.request_id)
            await self._void(ServingError("Internal error"))
        finally:
            self._pending.close()

    async def _generate(self) -> ChoiceEnd | None:
        """Return the end of the last answer to end; None where it was stopped before its turn."""
        if not self._quarantine.is_suspect(self._fingerprint):
            return await self._generate_in_turn()
        isolation = self._quarantine.isolation(self._fingerprint, max_wait_s=self._turn.max_wait_s)
        async with isolation:
            return await self._generate_in_turn()

    async def _comes_to_its_turn(self) -> bool:
        has_come = await self._turn.wait()
        if has_come and not self._ledger.has_fresh_leases:
            await self._ledger.refresh_leases()
        return has_come

    async def _generate_in_turn(self) -> ChoiceEnd | None:
        try:
            while await self._comes_to_its_turn():
                try:
                    return await self._run_choices()
                except (EngineCrashedError, EngineUnavailableError) as error:
                    if not self._goes_back(error):
                        raise
            return None
        finally:
            self._turn.end()  # what follows is the ledger's, and keeps no engine busy

    def _goes_back(self, error: EngineCrashedError | EngineUnavailableError) -> bool:
        """Whether the request, whose engine is gone, waits for the next one."""
        has_crashed = isinstance(error, EngineCrashedError)
        if isinstance(error, EngineCrashedError):
            self._quarantine.record_crash(self._fingerprint, error.crash)
        if self._stopped_by is not None or not self._turn.may_requeue(has_crashed=has_crashed):
            return False
        self._turn.requeue(has_crashed=has_crashed)
        return True

    async def _run_choices(self) -> ChoiceEnd:
        """Run all answers side by side, and return the end of the last one to end."""
        if len(self._choices) == 1:  # most requests, and a task less
            return await self._run_choice(self._choices[0])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._run_choice(choice)) for choice in self._choices]
        except ExceptionGroup as failures:  # one answer that fails fails them all
            raise failures.exceptions[0] from failures
        return next(end for task in tasks if (end := task.result()).choice == self._last_choice)

    async def _run_choice(self, choice: Choice) -> ChoiceEnd:
        try:
            await choice.run()
        except RequestError as error:  # its other answers are of no use without this one
            self._fault = self._fault or error
            self.stop(Outcome.REQUEST_FAULT, error)
        end = ChoiceEnd(choice.reason, choice.index, choice.stop_string)
        self._num_running -= 1
        if not self._num_running:
            self._last_choice = choice.index
        elif not (choice.was_cancelled and self._cut_off_with):
            self._tell(end)
        return end

    def _tell(self, event: ChatEvent) -> None:
        self._pending.tell(event)
        if self._transcript is not None:
            self._transcript.add(event)

    async def _settle(self, last: ChoiceEnd) -> None:
        outcome = self._outcome()
        self._quarantine.absolve(self._fingerprint)
        settle = partial(
            self._ledger.settle,
            self._hold,
            usage=self.usage,
            outcome=outcome,
            usage_source=self._usage_source,
            answer=self._answer(last),
        )
        cost_picousd = await self._settlements.wait_for(
            settle, on_timeout=partial(self._finish, last, None)
        )
        self._watch.closed(outcome, self.usage, cost_picousd)
        log.info(
            "completion",
            request_id=self.request_id,
            model=self.meta.model_id,
            outcome=outcome.value,
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=self.usage.cached_tokens,
            completion_tokens=self.usage.completion_tokens,
            cost_picousd=cost_picousd,
        )
        self._finish(last, cost_picousd)

    @property
    def _error(self) -> StillhouseError | None:
        """What ends the answers in the place of their own end; asked for once they have."""
        if any(choice.was_cancelled for choice in self._choices):
            return self._cut_off_with
        return None

    def _finish(self, last: ChoiceEnd, cost_picousd: int | None) -> None:
        """End the client's answer; the first time counts."""
        finish = Finish(
            last.reason,
            self.usage,
            cost_picousd,
            reasoning_tokens=self.reasoning_tokens,
            choice=last.choice,
            stop_string=last.stop_string,
            runtime_ms=self._watch.elapsed_ms(),
        )
        error = self._error
        if error is None:
            self._pending.tell(finish)
        elif self._charged is None:
            self._charged = finish
        self._pending.close(error)

    @property
    def _usage_source(self) -> UsageSource:
        sources = {choice.usage_source for choice in self._choices}
        return UsageSource.ENGINE if sources == {UsageSource.ENGINE} else UsageSource.GATEWAY_COUNT

    def _outcome(self) -> Outcome:
        if self._stopped_by is Outcome.SLOW_CLIENT:
            return Outcome.SLOW_CLIENT  # also where the engine was faster than its reader
        if any(choice.was_cancelled for choice in self._choices):
            return self._stopped_by or Outcome.CANCELLED
        reasons = {choice.reason for choice in self._choices}
        return next(outcome for reason, outcome in _OUTCOMES.items() if reason in reasons)

    def _answer(self, last: ChoiceEnd) -> Answer | None:
        if self._transcript is None or self._error is not None:
            return None  # and who names it again has it run again
        self._transcript.add(last)
        return Answer(self._transcript.close(), self.reasoning_tokens)

    async def _void_stopped(self) -> None:
        """It was stopped before its turn: nothing is generated, and so nothing charged."""
        assert self._stopped_by is not None, "nobody leaves the queue by itself. This is a bug."
        error = self._cut_off_with
        if error is None or self._stopped_by is Outcome.DRAINED:
            error = EngineUnavailableError("The server stopped before the request's turn had come.")
        await self._void(error, self._stopped_by, was_served=False)

    async def _void(
        self,
        error: StillhouseError,
        outcome: Outcome = Outcome.ENGINE_ERROR,
        *,
        was_served: bool = True,
    ) -> None:
        tell = partial(self._pending.close, error)
        usage = self.usage if was_served else TokenUsage()
        void = partial(
            self._ledger.void,
            self._hold,
            outcome=outcome,
            usage=usage,
            usage_source=self._usage_source if was_served else UsageSource.GATEWAY_COUNT,
        )
        try:
            await self._settlements.wait_for(void, on_timeout=tell)
        except StillhouseError as outage:
            self._leave_to_sweep(outage)
        else:
            self._watch.closed(outcome, usage, 0)
            tell()

    def _leave_to_sweep(self, error: StillhouseError) -> None:
        """The process ends before the ledger is back: the next start's sweep voids the hold."""
        log.error("hold_left_to_sweep", request_id=self.request_id, reason=error.message)
        self._pending.close(error)
