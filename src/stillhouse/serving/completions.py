"""The straight line: one chat completion, from an authenticated request to its ledger row."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from stillhouse.accounts.accounts import Principal
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.chat import (
    ChatEvent,
    ChatRequest,
    Finish,
    FinishReason,
    TokenUsage,
)
from stillhouse.clock import Clock
from stillhouse.engines.base import EngineFinish, GenerateRequest, GenerateStep
from stillhouse.errors import OverloadedError, ServingError, StillhouseError
from stillhouse.metrics import Metrics
from stillhouse.models.chat_model import Prompt
from stillhouse.models.reply import Reply
from stillhouse.serving.served_model import ServedModel, ServedModels
from stillhouse.serving.token_count import TokenCount

log = structlog.get_logger()

_BUSY_RETRY_AFTER_S = 1.0
_LONG_CONVERSATION_CHARS = 20_000


class Completions:
    """
    Admits requests and sees each of them through to its settlement.

    Args:
        max_outstanding: Requests in flight per model; more are refused, not queued without end.
        cancel_timeout_s: An engine that generates on for so long after a cancel is not listened to
            any more.

    """

    def __init__(  # noqa: PLR0913  (given once, by app.py)
        self,
        *,
        models: ServedModels,
        ledger: Ledger,
        clock: Clock,
        metrics: Metrics,
        max_outstanding: int,
        cancel_timeout_s: float,
    ) -> None:
        self._models = models
        self._ledger = ledger
        self._clock = clock
        self._metrics = metrics
        self._max_outstanding = max_outstanding
        self._cancel_timeout_s = cancel_timeout_s
        self._outstanding: Counter[str] = Counter()
        # The only owner of the running completions: a task that nothing refers to can vanish.
        self._running: dict[asyncio.Task[None], Completion] = {}

    async def open(self, request_id: str, principal: Principal, request: ChatRequest) -> Completion:
        """
        Admit *request*: when this returns, its highest cost is held and its engine works on it.

        Raises:
            ModelNotFoundError: No loaded model answers to its name.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context.
            InsufficientFundsError: The account does not cover its highest possible cost.
            OverloadedError: Too many requests are in flight for the model.

        """
        model = self._models.resolve(request.model)
        prompt = await _encode(model, request)
        max_tokens = model.most_tokens(request, prompt)
        self._take_place(model.chat.spec.id)
        try:
            hold = await self._ledger.hold(
                request_id=request_id,
                account_id=principal.account_id,
                key_id=principal.key_id,
                price=model.price,
                prompt_tokens=len(prompt.token_ids),
                max_tokens=max_tokens,
            )
        except BaseException:
            self._give_place_back(model.chat.spec.id)
            raise
        completion = Completion(
            model=model,
            generate=GenerateRequest(
                request_id=request_id,
                prompt_token_ids=prompt.token_ids,
                max_tokens=max_tokens,
                sampling=request.sampling.over(model.chat.spec.recommended),
                stop_token_ids=model.chat.stop_token_ids,
                cache_salt=principal.cache_salt,
            ),
            reply=model.chat.reply(prompt, request.stop),
            hold=hold,
            ledger=self._ledger,
            watch=_Watch(self._clock, self._metrics),
            cancel_timeout_s=self._cancel_timeout_s,
        )
        self._start(completion)
        return completion

    async def drain(self, grace_s: float) -> None:
        """Wait for what is running, then stop what is left; every row is settled on return."""
        running = self._running.copy()
        if running:
            await asyncio.wait(running, timeout=grace_s)
        for completion in running.values():
            completion.stop(Outcome.DRAINED)
        if running:
            await asyncio.wait(running)

    def _start(self, completion: Completion) -> None:
        model_id = completion.model.chat.spec.id

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[task]
            self._give_place_back(model_id)

        task = asyncio.create_task(completion.run(), name=f"completion {completion.request_id}")
        self._running[task] = completion
        task.add_done_callback(ended)

    def _take_place(self, model_id: str) -> None:
        if self._outstanding[model_id] >= self._max_outstanding:
            raise OverloadedError("Model busy, retry later", retry_after_s=_BUSY_RETRY_AFTER_S)
        self._outstanding[model_id] += 1
        self._metrics.outstanding.labels(model_id).inc()

    def _give_place_back(self, model_id: str) -> None:
        self._outstanding[model_id] -= 1
        self._metrics.outstanding.labels(model_id).dec()


async def _encode(model: ServedModel, request: ChatRequest) -> Prompt:
    """Long conversations are tokenised in a thread: they take longer than others should wait."""
    num_chars = sum(len(message.content) for message in request.messages)
    if num_chars < _LONG_CONVERSATION_CHARS:
        return model.chat.encode(request.messages)
    return await asyncio.to_thread(model.chat.encode, request.messages)


@dataclass(slots=True)
class _Watch:
    """Counts and times one completion for the metrics."""

    clock: Clock
    metrics: Metrics
    _started_s: float = 0.0
    _has_token: bool = False

    def __post_init__(self) -> None:
        self._started_s = self.clock.monotonic_s()

    def saw(self, model_id: str, step: GenerateStep) -> None:
        if step.token_ids and not self._has_token:
            self._has_token = True
            waited_s = self.clock.monotonic_s() - self._started_s
            self.metrics.first_token_s.labels(model_id).observe(waited_s)

    def closed(self, model_id: str, outcome: Outcome, usage: TokenUsage, cost_picousd: int) -> None:
        self.metrics.requests.labels(model_id, outcome).inc()
        self.metrics.cost_picousd.labels(model_id).inc(cost_picousd)
        for kind, count in (
            ("prompt", usage.prompt_tokens),
            ("cached", usage.cached_tokens),
            ("completion", usage.completion_tokens),
        ):
            self.metrics.tokens.labels(model_id, kind).inc(count)


class Completion:
    """
    One admitted completion, run by a task of its own that outlives the response.

    The response reads `events()`; whoever learns that nobody reads any more calls `stop()`. Either
    way `run()` goes on until the engine has reported its last count and the hold is settled: an
    await in a response's own ``finally`` would be cancelled with it, and the row lost.
    """

    def __init__(  # noqa: PLR0913  (given once, by Completions.open)
        self,
        *,
        model: ServedModel,
        generate: GenerateRequest,
        reply: Reply,
        hold: Hold,
        ledger: Ledger,
        watch: _Watch,
        cancel_timeout_s: float,
    ) -> None:
        self.request_id = generate.request_id
        self.model = model
        self._generate = generate
        self._count = TokenCount(generate)
        self._reply = reply
        self._hold = hold
        self._ledger = ledger
        self._watch = watch
        self._cancel_timeout_s = cancel_timeout_s
        self._stopped_by: Outcome | None = None
        self._usage_when_stopped = self._count.usage
        self._patience: asyncio.Timeout | None = None  # set exactly while the engine is read
        # Bounded by the request's own max_tokens: one event per engine step at most.
        self._events: asyncio.Queue[ChatEvent | StillhouseError | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[ChatEvent]:
        """
        Yield the answer's text as it comes, then `Finish`, whose cost is durable by then.

        Raises:
            ServingError: The engine or the ledger failed; nothing is charged.

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
        """End the generation within one engine step; what was generated is charged."""
        if self._stopped_by is None:
            self._stopped_by = outcome
            self._usage_when_stopped = self.usage
            self.model.engine.cancel(self.request_id)
            if self._patience is not None:
                now_s = asyncio.get_running_loop().time()
                self._patience.reschedule(now_s + self._cancel_timeout_s)

    async def run(self) -> None:
        """Drive the engine to its last step and settle; called once, by `Completions`."""
        try:
            finish = await self._read_engine()
            await self._settle(finish)
        except StillhouseError as error:
            await self._void()
            self._events.put_nowait(error)
        except Exception:
            log.exception("completion failed", request_id=self.request_id)
            await self._void()
            self._events.put_nowait(ServingError("Internal error"))
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
        async for step in self.model.engine.generate(self._generate):
            self._count.saw(step)
            self._watch.saw(self.model.chat.spec.id, step)
            if delta := self._reply.push(step.token_ids):
                self._events.put_nowait(delta)
            if self._reply.stopped and step.finish is None:
                self.stop(Outcome.STOP)
            finish = step.finish
        assert finish is not None, "an engine's last step carries its finish. This is a bug."
        if tail := self._reply.finish():
            self._events.put_nowait(tail)
        return finish

    async def _settle(self, finish: EngineFinish) -> None:
        outcome = self._outcome(finish)
        cost_picousd = await self._ledger.settle(
            self._hold, usage=self.usage, outcome=outcome, usage_source=self._count.source
        )
        self._watch.closed(self.model.chat.spec.id, outcome, self.usage, cost_picousd)
        log.info(
            "completion",
            request_id=self.request_id,
            model=self.model.chat.spec.id,
            outcome=outcome.value,
            prompt_tokens=self.usage.prompt_tokens,
            cached_tokens=self.usage.cached_tokens,
            completion_tokens=self.usage.completion_tokens,
            cost_picousd=cost_picousd,
        )
        reason = FinishReason.LENGTH if outcome is Outcome.LENGTH else FinishReason.STOP
        self._events.put_nowait(Finish(reason, self.usage, cost_picousd))

    def _outcome(self, finish: EngineFinish) -> Outcome:
        if finish is EngineFinish.CANCELLED:
            return self._stopped_by or Outcome.CANCELLED
        if self._reply.stopped or finish is EngineFinish.STOP:
            return Outcome.STOP
        return Outcome.LENGTH

    async def _void(self) -> None:
        try:
            await self._ledger.void(
                self._hold,
                outcome=Outcome.ENGINE_ERROR,
                usage=self.usage,
                usage_source=self._count.source,
            )
            self._watch.closed(self.model.chat.spec.id, Outcome.ENGINE_ERROR, self.usage, 0)
        except StillhouseError:
            # The row stays held; the sweep at the next start resolves it.
            log.exception("void failed", request_id=self.request_id)
