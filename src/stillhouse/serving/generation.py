"""Queues and runs a request; queues it again if the engine is lost before the first token."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from stillhouse.billing.outcome import Outcome, UsageSource
from stillhouse.engines.base import GenerateRequest
from stillhouse.errors import (
    EngineCrashedError,
    EngineUnavailableError,
    RequestError,
    StillhouseError,
)
from stillhouse.serving.admission.quarantine import Fingerprint, Quarantine
from stillhouse.serving.choice import Choice, ChoiceContext
from stillhouse.serving.event_buffer import LeaseGuard
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.events import ChoiceEnd, FinishReason
from stillhouse.types.usage import TokenUsage

#: In this order: the first reason that any choice has is the request's outcome.
_OUTCOMES = {
    FinishReason.LENGTH: Outcome.LENGTH,
    FinishReason.TOOL_CALLS: Outcome.TOOL_CALLS,
    FinishReason.STOP: Outcome.STOP,
}

_CUT_OFF = "The server has shut down before the answer's end; what came of it is charged."


@dataclass(frozen=True, slots=True)
class CrashGuard:
    """Reports one request's crashes to the quarantine, and isolates a suspect."""

    quarantine: Quarantine
    fingerprint: Fingerprint

    @property
    def is_suspect(self) -> bool:
        """Whether the request must run while no other suspect runs at its engine."""
        return self.quarantine.is_suspect(self.fingerprint)

    def record_crash(self, error: EngineCrashedError) -> None:
        """Counts a crash of the engine while it ran the request."""
        self.quarantine.record_crash(self.fingerprint, error.crash)

    def clear(self) -> None:
        """Forgets the crashes of a request that was answered."""
        self.quarantine.clear(self.fingerprint)


class Generation:
    """
    Runs a request's sequences from the queue to their last step.

    A request whose engine was lost before it generated anything waits in the queue again.

    Args:
        sequences: For each choice, what the engine generates and what parses it.
        leases: Refreshed before the engine starts, so that no request runs whose hold was
            voided.

    Attributes:
        stopped_by: Why `stop` was called first; None if it was not.
        stop_error: The error that `stop` was given; None if the choices end as at their limit.
        fault: The first error of the request itself, met while it ran.

    """

    def __init__(
        self,
        sequences: Sequence[tuple[GenerateRequest, OutputParser]],
        context: ChoiceContext,
        *,
        crash_guard: CrashGuard,
        leases: LeaseGuard,
    ) -> None:
        self.stopped_by: Outcome | None = None
        self.stop_error: StillhouseError | None = None
        self.fault: RequestError | None = None
        self._choices = [Choice(request, parser, context) for request, parser in sequences]
        self._entry = context.entry
        self._events = context.events
        self._crash_guard = crash_guard
        self._leases = leases
        self._num_running = len(sequences)
        self._last_choice = 0

    @property
    def usage(self) -> TokenUsage:
        """The tokens counted up to now; the prompt, which the choices share, once."""
        first, *others = (choice.usage for choice in self._choices)
        if not others:
            return first
        completion_tokens = first.completion_tokens + sum(u.completion_tokens for u in others)
        return replace(first, completion_tokens=completion_tokens)

    @property
    def usage_source(self) -> UsageSource:
        """Whose count `usage` is; the gateway's if it corrected any choice."""
        sources = {choice.usage_source for choice in self._choices}
        return UsageSource.ENGINE if sources == {UsageSource.ENGINE} else UsageSource.GATEWAY_COUNT

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens up to now were reasoning."""
        return sum(choice.reasoning_tokens for choice in self._choices)

    @property
    def has_begun(self) -> bool:
        """Whether the engine was given any of the sequences."""
        return any(choice.has_begun for choice in self._choices)

    @property
    def error(self) -> StillhouseError | None:
        """The error that ends the response, if any; known once all choices have ended."""
        return self.stop_error if _any_cancelled(self._choices) else None

    @property
    def outcome(self) -> Outcome:
        """How the request ended, for its ledger row; known once all choices have ended."""
        if self.stopped_by is Outcome.SLOW_CLIENT:
            return Outcome.SLOW_CLIENT  # even if the engine had finished already
        if _any_cancelled(self._choices):
            return self.stopped_by or Outcome.CANCELLED
        reasons = {choice.reason for choice in self._choices}
        return next(outcome for reason, outcome in _OUTCOMES.items() if reason in reasons)

    def stop(self, outcome: Outcome, error: StillhouseError | None = None) -> None:
        """Leaves the queue, or cancels all sequences; only the first call counts."""
        self._events.lift_limit()
        if self.stopped_by is not None:
            return
        self.stopped_by = outcome
        if outcome is Outcome.DRAINED and error is None:
            error = EngineUnavailableError(_CUT_OFF)
        self.stop_error = error
        self._entry.leave()
        for choice in self._choices:
            choice.stop()

    def clear_crashes(self) -> None:
        """Forgets the crashes of a request that has been answered."""
        self._crash_guard.clear()

    async def run(self) -> ChoiceEnd | None:
        """
        Returns the end of the last choice to end; None if the request was stopped in the queue.

        Raises:
            OverloadedError: The request waited in the queue for as long as its tier may.
            EngineUnavailableError: The engine did not come back from a crash in time.
            ServingError: The engine failed.

        """
        guard = self._crash_guard
        if not guard.is_suspect:
            return await self._run_from_queue()
        max_wait_s = self._entry.max_wait_s
        async with guard.quarantine.isolation(guard.fingerprint, max_wait_s=max_wait_s):
            return await self._run_from_queue()

    async def _run_from_queue(self) -> ChoiceEnd | None:
        try:
            while await self._wait_for_dispatch():
                try:
                    return await self._run_choices()
                except (EngineCrashedError, EngineUnavailableError) as error:
                    if not self._requeue_after(error):
                        raise
            return None
        finally:
            self._entry.end()  # settling takes the ledger's time, not the engine's

    async def _wait_for_dispatch(self) -> bool:
        is_dispatched = await self._entry.wait()
        if is_dispatched and not self._leases.are_fresh:
            await self._leases.refresh()
        return is_dispatched

    def _requeue_after(self, error: EngineCrashedError | EngineUnavailableError) -> bool:
        """Puts the request back into the queue if it may run again; returns whether it was."""
        has_crashed = isinstance(error, EngineCrashedError)
        if isinstance(error, EngineCrashedError):
            self._crash_guard.record_crash(error)
        if self.stopped_by is not None or not self._entry.may_requeue(has_crashed=has_crashed):
            return False
        self._entry.requeue(has_crashed=has_crashed)
        return True

    async def _run_choices(self) -> ChoiceEnd:
        """Runs all choices side by side, and returns the end of the last one to end."""
        if len(self._choices) == 1:  # most requests, and a task less
            return await self._run_choice(self._choices[0])
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._run_choice(choice)) for choice in self._choices]
        except ExceptionGroup as failures:  # one choice that fails fails them all
            raise failures.exceptions[0] from failures
        return next(end for task in tasks if (end := task.result()).choice == self._last_choice)

    async def _run_choice(self, choice: Choice) -> ChoiceEnd:
        try:
            await choice.run()
        except RequestError as error:  # the other choices are of no use without this one
            self.fault = self.fault or error
            self.stop(Outcome.REQUEST_FAULT, error)
        end = choice.end
        self._num_running -= 1
        if not self._num_running:
            self._last_choice = choice.index
        elif not (choice.was_cancelled and self.stop_error):
            self._events.emit(end)
        return end


def _any_cancelled(choices: Sequence[Choice]) -> bool:
    return any(choice.was_cancelled for choice in choices)
