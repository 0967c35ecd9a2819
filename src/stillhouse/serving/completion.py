"""One completion at work: from its engine's first token to its durable cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import structlog

from stillhouse.billing.idempotency import Answer
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import ChatEvent, Finish, FinishReason, TextDelta, TokenUsage
from stillhouse.engines.base import EngineFinish, GenerateRequest
from stillhouse.errors import ServingError, StillhouseError, StoreUnavailableError
from stillhouse.models.reply import Reply
from stillhouse.serving.replay import AnswerHead, Transcript
from stillhouse.serving.resolver import Resolver
from stillhouse.serving.served_model import ServedModel
from stillhouse.serving.token_count import TokenCount
from stillhouse.serving.watch import Watch

log = structlog.get_logger()


class Completion:
    """
    One admitted completion, run by a task of its own that outlives the response.

    The response reads `events()`; whoever learns that nobody reads any more calls `stop()`. Either
    way `run()` goes on until the engine has reported its last count and the hold is settled: an
    await in a response's own ``finally`` would be cancelled with it, and the row lost.

    Args:
        transcript: Of a request that its client has named, and may repeat.

    """

    is_replay = False

    def __init__(  # noqa: PLR0913  (given once, by Completions.open)
        self,
        *,
        model: ServedModel,
        generate: GenerateRequest,
        reply: Reply,
        hold: Hold,
        ledger: Ledger,
        resolver: Resolver,
        watch: Watch,
        transcript: Transcript | None,
        cancel_timeout_s: float,
    ) -> None:
        self.request_id = generate.request_id
        self.head = AnswerHead(
            request_id=generate.request_id,
            created_s=hold.held.created_at_ms // 1000,
            model_id=model.chat.spec.id,
            tier=hold.price.tier,
        )
        self._engine = model.engine
        self._generate = generate
        self._count = TokenCount(generate)
        self._reply = reply
        self._hold = hold
        self._ledger = ledger
        self._resolver = resolver
        self._watch = watch
        self._transcript = transcript
        self._cancel_timeout_s = cancel_timeout_s
        self._stopped_by: Outcome | None = None
        self._usage_when_stopped = self._count.usage
        self._patience: asyncio.Timeout | None = None  # set exactly while the engine is read
        # Bounded by the request's own max_tokens: one event per engine step at most.
        self._events: asyncio.Queue[ChatEvent | StillhouseError | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[ChatEvent]:
        """
        Yield the answer's text as it comes, then `Finish`, whose cost is durable by then.

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
        """The tokens counted up to now."""
        return self._count.usage

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
            self._usage_when_stopped = self.usage
            self._engine.cancel(self.request_id)
            if self._patience is not None:
                now_s = asyncio.get_running_loop().time()
                self._patience.reschedule(now_s + self._cancel_timeout_s)

    async def run(self) -> None:
        """Drive the engine to its last step and settle; called once, by `Completions`."""
        try:
            finish = await self._read_engine()
            await self._settle(finish)
        except StoreUnavailableError as error:
            self._leave_to_sweep(error)
        except StillhouseError as error:
            await self._void(error)
        except Exception:
            log.exception("completion failed", request_id=self.request_id)
            await self._void(ServingError("Internal error"))
        finally:
            self._events.put_nowait(None)

    async def _read_engine(self) -> EngineFinish:
        try:
            async with asyncio.timeout(None) as self._patience:
                return await self._read_steps()
        except TimeoutError:
            log.error(  # noqa: TRY400  (an alarm about the engine; the trace says nothing of it)
                "engine_ignores_cancel",
                request_id=self.request_id,
                waited_s=self._cancel_timeout_s,
                tokens_not_charged=self.usage.completion_tokens
                - self._usage_when_stopped.completion_tokens,
            )
            self._count.go_back_to(self._usage_when_stopped)
            return EngineFinish.CANCELLED
        finally:
            self._patience = None

    async def _read_steps(self) -> EngineFinish:
        finish: EngineFinish | None = None
        async for step in self._engine.generate(self._generate):
            self._count.saw(step)
            self._watch.saw(step)
            self._tell(self._reply.push(step.token_ids))
            if self._reply.stopped and step.finish is None:
                self.stop(Outcome.STOP)
            finish = step.finish
        assert finish is not None, "an engine's last step carries its finish. This is a bug."
        self._tell(self._reply.finish())
        return finish

    def _tell(self, delta: TextDelta) -> None:
        if delta:
            self._events.put_nowait(delta)
            if self._transcript is not None:
                self._transcript.add(delta)

    async def _settle(self, finish: EngineFinish) -> None:
        outcome = self._outcome(finish)
        reason = FinishReason.LENGTH if outcome is Outcome.LENGTH else FinishReason.STOP
        settle = partial(
            self._ledger.settle,
            self._hold,
            usage=self.usage,
            outcome=outcome,
            usage_source=self._count.source,
            answer=self._answer(reason),
        )
        cost_picousd = await self._resolver.resolve(
            settle, on_delay=partial(self._finish, reason, None)
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
        self._finish(reason, cost_picousd)

    def _finish(self, reason: FinishReason, cost_picousd: int | None) -> None:
        """End the client's answer; the first time counts."""
        self._events.put_nowait(Finish(reason, self.usage, cost_picousd))
        self._events.put_nowait(None)

    def _outcome(self, finish: EngineFinish) -> Outcome:
        if finish is EngineFinish.CANCELLED:
            return self._stopped_by or Outcome.CANCELLED
        if self._reply.stopped or finish is EngineFinish.STOP:
            return Outcome.STOP
        return Outcome.LENGTH

    def _answer(self, reason: FinishReason) -> Answer | None:
        return None if self._transcript is None else self._transcript.close(reason)

    async def _void(self, error: StillhouseError) -> None:
        tell = partial(self._events.put_nowait, error)
        void = partial(
            self._ledger.void,
            self._hold,
            outcome=Outcome.ENGINE_ERROR,
            usage=self.usage,
            usage_source=self._count.source,
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
