"""The straight line: one chat completion, from an authenticated request to its ledger row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from stillhouse.accounts.accounts import Principal
from stillhouse.billing.idempotency import Claim, PastRequest, PastRequests
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price
from stillhouse.chat import ChatRequest
from stillhouse.clock import Clock
from stillhouse.engines.base import GenerateRequest
from stillhouse.errors import PermissionDeniedError, StoreUnavailableError
from stillhouse.metrics import Metrics
from stillhouse.models.chat_model import Prompt
from stillhouse.serving.completion import Completion
from stillhouse.serving.places import Place, Places
from stillhouse.serving.replay import Replay, Transcript
from stillhouse.serving.resolver import Resolver
from stillhouse.serving.served_model import ENGINE_PRIORITY, ServedModel, ServedModels
from stillhouse.serving.watch import Watch

T = TypeVar("T")

_LONG_CONVERSATION_CHARS = 20_000
#: A ledger that is down is told of within a second, authentication included.
_LEDGER_TIMEOUT_S = 0.8
#: A process that ends gives a ledger that is down so long to come back.
_LAST_CHANCE_S = 10


class Completions:
    """
    Admits requests and sees each of them through to its settlement.

    Args:
        cancel_timeout_s: An engine that generates on for so long after a cancel is not listened to
            any more.

    """

    def __init__(  # noqa: PLR0913  (given once, by app.py)
        self,
        *,
        models: ServedModels,
        ledger: Ledger,
        past_requests: PastRequests,
        places: Places,
        resolver: Resolver,
        clock: Clock,
        metrics: Metrics,
        cancel_timeout_s: float,
    ) -> None:
        self._models = models
        self._ledger = ledger
        self._past_requests = past_requests
        self._places = places
        self._resolver = resolver
        self._clock = clock
        self._metrics = metrics
        self._cancel_timeout_s = cancel_timeout_s
        # The only owner of the running completions: a task that nothing refers to can vanish.
        self._running: dict[asyncio.Task[None], Completion] = {}

    async def open(
        self,
        request_id: str,
        principal: Principal,
        request: ChatRequest,
        claim: Claim | None = None,
    ) -> Completion | Replay:
        """
        Admit *request*: when this returns, its highest cost is held and its engine works on it.

        Args:
            claim: The client's own name for the request; a repetition gets the first one's answer.

        Raises:
            ModelNotFoundError: No loaded model answers to its name.
            PermissionDeniedError: The key is for other models.
            IdempotencyConflictError: The first request with its name is still running.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context, or its name
                belongs to a request with another body.
            InsufficientFundsError: The account does not cover its highest possible cost.
            OverloadedError: Too many requests are in flight for the model.
            RateLimitError: Too many of them are the account's, or it has used up its minute.
            StoreUnavailableError: The ledger cannot be used; nothing runs that it does not know.

        """
        model = self._models.resolve(request.model)
        _refuse_other_models(principal, request, model)
        if claim and (past := await self._find_past(principal, claim)):
            return Replay(past)
        prompt = await _encode(model, request)
        generate = GenerateRequest(
            request_id=request_id,
            prompt_token_ids=prompt.token_ids,
            max_tokens=model.most_tokens(request, prompt),
            sampling=request.sampling.over(model.chat.spec.recommended),
            stop_token_ids=model.chat.stop_token_ids,
            cache_salt=principal.cache_salt,
            priority=ENGINE_PRIORITY[request.tier],
        )
        reply = model.chat.reply(prompt, request.stop)
        place = self._places.take(
            principal.account_id, model.chat.spec.id, prompt_tokens=len(prompt.token_ids)
        )
        try:
            hold = await self._hold(principal, model.prices[request.tier], generate, claim)
        except BaseException:
            place.give_back()
            raise
        completion = Completion(
            model=model,
            generate=generate,
            reply=reply,
            hold=hold,
            ledger=self._ledger,
            resolver=self._resolver,
            watch=Watch(self._clock, self._metrics, model.chat.spec.id),
            transcript=Transcript() if claim else None,
            cancel_timeout_s=self._cancel_timeout_s,
        )
        # From the hold to here nothing waits and nothing refuses: what is held is always run.
        self._start(completion, place)
        return completion

    async def drain(self, grace_s: float) -> None:
        """Wait for what is running, then stop what is left; every row is settled on return."""
        running = self._running.copy()
        if not running:
            return
        await asyncio.wait(running, timeout=grace_s)
        for completion in running.values():
            completion.stop(Outcome.DRAINED)
        await asyncio.wait(running, timeout=self._cancel_timeout_s + _LAST_CHANCE_S)
        self._resolver.give_up()
        await asyncio.wait(running)

    def _start(self, completion: Completion, place: Place) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            del self._running[task]
            place.give_back(completion_tokens=completion.usage.completion_tokens)

        task = asyncio.create_task(completion.run(), name=f"completion {completion.request_id}")
        self._running[task] = completion
        task.add_done_callback(ended)

    async def _hold(
        self, principal: Principal, price: Price, generate: GenerateRequest, claim: Claim | None
    ) -> Hold:
        return await _in_time(
            self._ledger.hold(
                request_id=generate.request_id,
                account_id=principal.account_id,
                key_id=principal.key_id,
                scope_id=principal.scope_id,
                price=price,
                prompt_tokens=len(generate.prompt_token_ids),
                max_tokens=generate.max_tokens,
                claim=claim,
            )
        )

    async def _find_past(self, principal: Principal, claim: Claim) -> PastRequest | None:
        return await _in_time(self._past_requests.find(principal.account_id, claim))


def _refuse_other_models(principal: Principal, request: ChatRequest, model: ServedModel) -> None:
    # A key for a model that another one stands in for may use what it is answered by.
    if not principal.may_use(model.chat.spec.id) and not principal.may_use(request.model):
        allowed = ", ".join(sorted(principal.allowed_models or ())) or "none"
        raise PermissionDeniedError(
            f"This API key is not for {model.chat.spec.id}; the models that it may use: {allowed}"
        )


async def _in_time(answer: Awaitable[T]) -> T:
    """What the ledger answers, unless it takes longer than a request may wait to be refused."""
    try:
        async with asyncio.timeout(_LEDGER_TIMEOUT_S):
            return await answer
    except TimeoutError as error:
        raise StoreUnavailableError(
            f"The ledger did not answer within {_LEDGER_TIMEOUT_S} s."
        ) from error


async def _encode(model: ServedModel, request: ChatRequest) -> Prompt:
    """Long conversations are tokenised in a thread: they take longer than others should wait."""
    num_chars = sum(len(message.content) for message in request.messages)
    if num_chars < _LONG_CONVERSATION_CHARS:
        return model.chat.encode(request.messages)
    return await asyncio.to_thread(model.chat.encode, request.messages)
