"""Runs a load: sends each request when it is due, whether or not the server keeps up."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from stillhouse_loadgen.client.chat_client import ChatClient, Message, Stopwatch
from stillhouse_loadgen.record import Failure, RequestRecord
from stillhouse_loadgen.workload.workload import Conversation, Extent, is_over

_NUM_RECENT = 20_000
_WITHOUT_END = Extent()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadBounds:
    """
    The bounds of a run.

    Args:
        extent: The end of the run.
        concurrency: Conversations at once in a closed loop; None is an open loop.
        max_in_flight: Further requests are recorded as not sent.
        warmup_s: Requests that are due before this are marked, and not counted.

    """

    extent: Extent = _WITHOUT_END
    concurrency: int | None = None
    max_in_flight: int = 10_000
    warmup_s: float = 0.0


@dataclass(slots=True)
class Progress:
    """The progress of a run, for the display."""

    num_due: int = 0
    num_in_flight: int = 0
    recent: deque[RequestRecord] = field(default_factory=lambda: deque(maxlen=_NUM_RECENT))
    failures: dict[str, int] = field(default_factory=dict)


class Load:
    """
    One run.

    An open loop starts every conversation when it is due. The turns of a conversation wait for
    its earlier answers, so the load is "partly open" (Schroeder et al., NSDI 2006): new users do
    not wait for old ones, but each waits for its own answers. A closed loop has a fixed number of
    users, and each asks again as soon as it is served; it slows down with the server, and hides
    stalls.

    Args:
        conversations: In the order of their starts; in a closed loop they have no start.
        sleep: Waits for a number of seconds.

    Attributes:
        records: One per request, in the order in which they were due.
        num_given_up: Turns that were never sent because an earlier one had failed.

    """

    def __init__(
        self,
        conversations: Iterator[Conversation],
        client: ChatClient,
        watch: Stopwatch,
        bounds: LoadBounds,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._conversations = conversations
        self._client = client
        self._watch = watch
        self._bounds = bounds
        self._sleep = sleep
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_stopped = False
        self.records: list[RequestRecord] = []
        self.num_given_up = 0
        self.progress = Progress()

    async def run(self) -> None:
        """Sends every request, and returns when the last one has been answered or has failed."""
        async with asyncio.TaskGroup() as group:
            if self._bounds.concurrency is None:
                self._spawn(group, self._offer(group))
            else:
                for _ in range(self._bounds.concurrency):
                    self._spawn(group, self._visit())

    def stop(self) -> None:
        """Starts no further request, and cancels those in flight; `run` returns."""
        self._is_stopped = True
        for task in self._tasks:
            task.cancel()

    def _spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        task = group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _offer(self, group: asyncio.TaskGroup) -> None:
        # The next conversation's text is made before the wait for its start.
        for conversation in self._conversations:
            assert conversation.start_s is not None
            await self._until(conversation.start_s)
            self._spawn(group, self._converse(conversation, conversation.start_s))

    async def _visit(self) -> None:
        for conversation in self._conversations:
            if is_over(self._bounds.extent, self._watch.now_s()):
                return
            await self._converse(conversation, self._watch.now_s())

    async def _converse(self, conversation: Conversation, due_s: float) -> None:
        messages: list[Message] = []
        if conversation.system is not None:
            messages.append({"role": "system", "content": conversation.system})
        for place, turn in enumerate(conversation.turns):
            if place > 0:
                due_s += turn.pause_s
                if is_over(self._bounds.extent, due_s):
                    return
                await self._until(due_s)
            messages.append({"role": "user", "content": turn.prompt})
            record = self._record(conversation, place, due_s)
            answer = await self._ask(record, messages, conversation)
            if not record.is_whole:
                self.num_given_up += len(conversation.turns) - place - 1
                return
            assert record.end_s is not None
            due_s = record.end_s
            messages.append({"role": "assistant", "content": answer})

    def _record(self, conversation: Conversation, place: int, due_s: float) -> RequestRecord:
        record = RequestRecord(
            number=len(self.records),
            conversation=conversation.number,
            turn=place,
            key=conversation.key.label,
            max_tokens=conversation.turns[place].max_tokens,
            intended_s=due_s,
            is_warmup=due_s < self._bounds.warmup_s,
        )
        self.records.append(record)
        self.progress.num_due += 1
        return record

    async def _ask(
        self, record: RequestRecord, messages: list[Message], conversation: Conversation
    ) -> str:
        if self.progress.num_in_flight >= self._bounds.max_in_flight:
            record.failure = Failure.NOT_SENT.value
            self._count(record)
            return ""
        self.progress.num_in_flight += 1
        try:
            return await self._client.complete(record, messages, conversation.key, self._watch)
        except asyncio.CancelledError:
            record.failure = Failure.INTERRUPTED.value
            raise
        finally:
            self.progress.num_in_flight -= 1
            self._count(record)

    def _count(self, record: RequestRecord) -> None:
        self.progress.recent.append(record)
        if record.failure is not None:
            failures = self.progress.failures
            failures[record.failure] = failures.get(record.failure, 0) + 1

    async def _until(self, due_s: float) -> None:
        # Also when it is late: tasks that read answers must run in between.
        await self._sleep(max(0.0, due_s - self._watch.now_s()))
        while self._watch.now_s() < due_s:  # timers count in milliseconds, and may fire early
            await self._sleep(0)
