"""One completion at work: from its engine's first token to its durable cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import structlog

from stillhouse.billing.idempotency import Answer
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.chat import ChatEvent, ChoiceEnd, Finish, FinishReason, TokenUsage
from stillhouse.engines.base import GenerateRequest
from stillhouse.errors import ServingError, StillhouseError, StoreUnavailableError
from stillhouse.models.reply.reply import Reply
from stillhouse.serving.choice import Choice
from stillhouse.serving.replay import AnswerHead
from stillhouse.serving.resolver import Resolver
from stillhouse.serving.served_model import ServedModel
from stillhouse.serving.transcript import Transcript
from stillhouse.serving.watch import Watch

log = structlog.get_logger()

#: Of several answers that end differently, the first of these is what the request is known by.
_OUTCOMES = {
    FinishReason.LENGTH: Outcome.LENGTH,
    FinishReason.TOOL_CALLS: Outcome.TOOL_CALLS,
    FinishReason.STOP: Outcome.STOP,
}


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
        sequences: Sequence[tuple[GenerateRequest, Reply]],
        hold: Hold,
        ledger: Ledger,
        resolver: Resolver,
        watch: Watch,
        is_named: bool,
        cancel_timeout_s: float,
    ) -> None:
        self.request_id = sequences[0][0].request_id
        self.head = AnswerHead(
            request_id=self.request_id,
            created_s=hold.held.created_at_ms // 1000,
            model_id=model.chat.spec.id,
            tier=hold.price.tier,
            n=len(sequences),
        )
        self._hold = hold
        self._ledger = ledger
        self._resolver = resolver
        self._watch = watch
        self._transcript = Transcript(len(sequences)) if is_named else None
        self._stopped_by: Outcome | None = None
        self._num_running = len(sequences)
        self._last_choice = 0
        self._choices = [
            Choice(
                engine=model.engine,
                generate=generate,
                reply=reply,
                watch=watch,
                tell=self._tell,
                cancel_timeout_s=cancel_timeout_s,
            )
            for generate, reply in sequences
        ]
        # Bounded by the request's own max_tokens: one event per engine step at most.
        self._events: asyncio.Queue[ChatEvent | StillhouseError | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[ChatEvent]:
        """
        Yield the answers' text as it comes, then `Finish`, whose cost is durable by then.

        While the ledger is down it waits for a while, and then says `Finish` without a cost.

        Raises:
            ServingError: The engine failed, or the server ends; nothing is charged.

        """
        while (event := await self._events.get()) is not None:
            if isinstance(event, StillhouseError):
                raise event
            yield event

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

    def stop(self, outcome: Outcome) -> None:
        """
        End the generation within one engine step; what was generated is charged.

        A request that its client has named goes on when the client leaves: it will be repeated.
        """
        if outcome is Outcome.CLIENT_DISCONNECT and self._transcript is not None:
            return
        if self._stopped_by is None:
            self._stopped_by = outcome
            for choice in self._choices:
                choice.stop()

    async def run(self) -> None:
        """Drive the engine to its last step and settle; called once, by `Completions`."""
        try:
            last = await self._run_choices()
            await self._settle(last)
        except StoreUnavailableError as error:
            self._leave_to_sweep(error)
        except StillhouseError as error:
            await self._void(error)
        except Exception:
            log.exception("completion failed", request_id=self.request_id)
            await self._void(ServingError("Internal error"))
        finally:
            self._events.put_nowait(None)

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
        await choice.run()
        end = ChoiceEnd(choice.reason, choice.index, choice.stop_string)
        self._num_running -= 1
        if self._num_running:
            self._tell(end)
        else:
            self._last_choice = choice.index
        return end

    def _tell(self, event: ChatEvent) -> None:
        self._events.put_nowait(event)
        if self._transcript is not None:
            self._transcript.add(event)

    async def _settle(self, last: ChoiceEnd) -> None:
        outcome = self._outcome()
        settle = partial(
            self._ledger.settle,
            self._hold,
            usage=self.usage,
            outcome=outcome,
            usage_source=self._usage_source,
            answer=self._answer(last),
        )
        cost_picousd = await self._resolver.resolve(
            settle, on_delay=partial(self._finish, last, None)
        )
        self._watch.closed(outcome, self.usage, cost_picousd)
        log.info(
            "completion",
            request_id=self.request_id,
            model=self.head.model_id,
            outcome=outcome.value,
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=self.usage.cached_tokens,
            completion_tokens=self.usage.completion_tokens,
            cost_picousd=cost_picousd,
        )
        self._finish(last, cost_picousd)

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
        self._events.put_nowait(finish)
        self._events.put_nowait(None)

    @property
    def _usage_source(self) -> UsageSource:
        sources = {choice.usage_source for choice in self._choices}
        return UsageSource.ENGINE if sources == {UsageSource.ENGINE} else UsageSource.GATEWAY_COUNT

    def _outcome(self) -> Outcome:
        if any(choice.was_cancelled for choice in self._choices):
            return self._stopped_by or Outcome.CANCELLED
        reasons = {choice.reason for choice in self._choices}
        return next(outcome for reason, outcome in _OUTCOMES.items() if reason in reasons)

    def _answer(self, last: ChoiceEnd) -> Answer | None:
        if self._transcript is None:
            return None
        self._transcript.add(last)
        return Answer(self._transcript.close(), self.reasoning_tokens)

    async def _void(self, error: StillhouseError) -> None:
        tell = partial(self._events.put_nowait, error)
        void = partial(
            self._ledger.void,
            self._hold,
            outcome=Outcome.ENGINE_ERROR,
            usage=self.usage,
            usage_source=self._usage_source,
        )
        try:
            await self._resolver.resolve(void, on_delay=tell)
        except StillhouseError as outage:
            self._leave_to_sweep(outage)
        else:
            self._watch.closed(Outcome.ENGINE_ERROR, self.usage, 0)
            tell()

    def _leave_to_sweep(self, error: StillhouseError) -> None:
        """The process ends before the ledger is back: the next start's sweep voids the hold."""
        log.error("hold_left_to_sweep", request_id=self.request_id, reason=error.message)
        self._events.put_nowait(error)
