"""Admits a request, holds its cost, and starts the task that generates and settles it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from stillhouse.accounts.accounts import Principal
from stillhouse.billing.idempotency import PastRequest, PastRequests
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price
from stillhouse.clock import Clock
from stillhouse.engines.base import GenerateRequest
from stillhouse.engines.request_check import check_capabilities
from stillhouse.errors import (
    PermissionDeniedError,
    StillhouseError,
    StoreUnavailableError,
)
from stillhouse.serving.admission.controller import AdmissionController, Slot
from stillhouse.serving.admission.quarantine import Fingerprint, Quarantine
from stillhouse.serving.choice import ChoiceContext
from stillhouse.serving.completion import Completion
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.generation import CrashGuard, Generation
from stillhouse.serving.preparation import RequestPreparer
from stillhouse.serving.queue.request_queue import QueueEntry
from stillhouse.serving.queue.scheduler import Ticket
from stillhouse.serving.registry.lifecycle import Lease
from stillhouse.serving.registry.registry import ModelRegistry
from stillhouse.serving.registry.served_model import ServedModel
from stillhouse.serving.replay import Replay
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.response import CompletionResponse
from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.serving.settlement import PendingSettlements, Settlement
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.requests import ChatRequest, TextRequest
from stillhouse.types.response_meta import ResponseMeta

T = TypeVar("T")

#: The rest of a second is for authentication: a client learns within one that the ledger is down.
_LEDGER_TIMEOUT_S = 0.8
#: Time of a shutdown for settlements, beyond the cancel timeout.
_LAST_CHANCE_S = 10


class Completions:
    """
    Admits requests, holds their highest cost, and owns the tasks that run and settle them.

    Args:
        cancel_timeout_s: How long an engine may go on generating after a cancel before the gateway
            stops reading from it.

    """

    def __init__(  # noqa: PLR0913  (given once, by app/)
        self,
        *,
        models: ModelRegistry,
        ledger: Ledger,
        past_requests: PastRequests,
        admission: AdmissionController,
        preparer: RequestPreparer,
        quarantine: Quarantine,
        settlements: PendingSettlements,
        clock: Clock,
        metrics: Metrics,
        cancel_timeout_s: float,
    ) -> None:
        self._models = models
        self._ledger = ledger
        self._past_requests = past_requests
        self._admission = admission
        self._preparer = preparer
        self._quarantine = quarantine
        self._settlements = settlements
        self._clock = clock
        self._metrics = metrics
        self._cancel_timeout_s = cancel_timeout_s
        # Strong references to the running tasks; asyncio keeps weak ones alone.
        self._running: dict[asyncio.Task[None], Completion] = {}

    async def open(
        self,
        request_id: str,
        principal: Principal,
        request: ChatRequest | TextRequest,
        idempotency_key: IdempotencyKey | None = None,
    ) -> CompletionResponse:
        """
        Admits *request*, holds its highest cost and starts it; it may still wait in the queue.

        Args:
            idempotency_key: A repetition under the same key gets the first request's response.

        Raises:
            ModelNotFoundError: No configured model answers to its name.
            ModelUnavailableError: The model is loading, draining or failed.
            PermissionDeniedError: The API key is for other models.
            IdempotencyConflictError: The first request under its idempotency key still runs.
            UnsupportedFeatureError: The model's engine cannot honour a field of it.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context, or its
                schema cannot be compiled, or its idempotency key belongs to another body.
            QuarantinedRequestError: An engine has crashed on the same request twice.
            InsufficientFundsError: The account does not cover its highest possible cost.
            OverloadedError: Too many requests wait for the model or to be tokenised, or a
                fail-fast request would have to wait.
            EngineUnavailableError: A fail-fast request would have to wait for an engine's restart.
            RateLimitError: The account or its API key has too many requests in flight, or the
                account has used up its rate per minute.
            StoreUnavailableError: The ledger cannot be used; nothing runs without a hold.

        """
        lease = self._models.lease(request.model)
        try:
            response = await self._admit(request_id, principal, request, idempotency_key, lease)
        except BaseException:
            lease.release()
            raise
        if response.is_replay:
            lease.release()
        return response

    async def _admit(
        self,
        request_id: str,
        principal: Principal,
        request: ChatRequest | TextRequest,
        idempotency_key: IdempotencyKey | None,
        lease: Lease,
    ) -> CompletionResponse:
        model = lease.model
        _refuse_other_models(principal, request, model)
        if idempotency_key and (past := await self._find_past(principal, idempotency_key)):
            return Replay(past)
        self._admission.refuse_early(
            model.spec.id, principal.account_id, principal.key_id, request.tier
        )
        prompt = await self._preparer.encode_prompt(principal, model, request)
        slot = self._admission.admit(
            Ticket(
                principal.account_id,
                principal.key_id,
                request.tier,
                request.n,
                len(prompt.token_ids),
            ),
            model_id=model.spec.id,
            replicas=model.replicas,
            is_fail_fast=request.fail_fast,
        )
        try:
            sequences = await self._preparer.sequences(
                request_id, principal, model, request, prompt
            )
            check_capabilities(sequences[0][0], model.replicas.capabilities)
            fingerprint = Fingerprint(principal.account_id, model.spec.id, sequences[0][0])
            self._quarantine.refuse(fingerprint)
            hold = await self._hold(
                principal, model.prices[request.tier], sequences, idempotency_key
            )
        except BaseException:
            slot.release()
            raise
        completion = self._completion(
            model,
            sequences,
            hold,
            entry=slot.entry,
            fingerprint=fingerprint,
            is_recorded=idempotency_key is not None,
        )
        # Nothing awaits or raises between the hold and here, so every held request runs.
        self._start(completion, slot, lease)
        return completion

    def charge_compilation(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charges the time in which an engine has compiled a grammar to the account it is for."""
        self._preparer.charge_compilation(model_id, cache_salt, seconds)

    async def run_in_thread(self, principal: Principal, work: Callable[[], bytes]) -> bytes:
        """Returns what *work* returns, run in a thread of the account's share."""
        return await self._preparer.run_in_thread(principal, work)

    async def count_prompt_tokens(self, principal: Principal, request: ChatRequest) -> int:
        """
        Returns how many tokens the prompt of *request* has; nothing is generated or charged.

        Raises:
            ModelNotFoundError: No configured model answers to its name.
            ModelUnavailableError: The model is loading, draining or failed.
            PermissionDeniedError: The key is for other models.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context.
            OverloadedError: Too many prompts wait to be tokenised.

        """
        model = self._models.resolve_model(request.model)
        _refuse_other_models(principal, request, model)
        prompt = await self._preparer.encode_prompt(principal, model, request)
        return len(prompt.token_ids)

    def running_key_ids(self) -> set[int]:
        """Returns the API keys that have requests waiting or running."""
        return {completion.key_id for completion in self._running.values()}

    def stop_key(self, key_id: int, error: StillhouseError) -> int:
        """
        Stops every request of a key within one engine step; what was generated is charged.

        Args:
            error: Ends their responses.

        Returns:
            How many requests were stopped.

        """
        of_key = [running for running in self._running.values() if running.key_id == key_id]
        for completion in of_key:
            completion.stop(Outcome.REVOKED, error)
        return len(of_key)

    async def drain(self, grace_s: float, *, hurry: asyncio.Event | None = None) -> None:
        """
        Waits for the running requests, then stops the rest; every hold is settled on return.

        Args:
            grace_s: How long to wait before stopping them.
            hurry: Ends the wait as soon as it is set.

        """
        if not self._running:
            return
        await self._wait(grace_s, hurry or asyncio.Event())
        running = self._running.copy()
        if not running:
            return
        for completion in running.values():
            completion.stop(Outcome.DRAINED)
        await asyncio.wait(running, timeout=self._cancel_timeout_s + _LAST_CHANCE_S)
        self._settlements.give_up()
        await asyncio.wait(running)

    async def _wait(self, grace_s: float, hurry: asyncio.Event) -> None:
        """Returns when nothing runs, the grace period is over, or *hurry* is set."""
        hurried: asyncio.Future[object] = asyncio.ensure_future(hurry.wait())
        try:
            async with asyncio.timeout(grace_s):
                while self._running and not hurry.is_set():
                    ended: asyncio.Future[object] = asyncio.ensure_future(
                        asyncio.wait(self._running.copy())
                    )
                    await asyncio.wait([hurried, ended], return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            return
        finally:
            hurried.cancel()

    def _completion(  # noqa: PLR0913  (the parts of a completion)
        self,
        model: ServedModel,
        sequences: list[tuple[GenerateRequest, OutputParser]],
        hold: Hold,
        *,
        entry: QueueEntry,
        fingerprint: Fingerprint,
        is_recorded: bool,
    ) -> Completion:
        metrics = RequestMetrics(self._clock, self._metrics, model.spec.id)
        events = EventBuffer(
            self._ledger.leases if self._ledger.leases.is_shared else None,
            recorder=ResponseAccumulator(len(sequences)) if is_recorded else None,
        )
        context = ChoiceContext(entry, metrics, events, self._cancel_timeout_s)
        return Completion(
            ResponseMeta(
                request_id=hold.request_id,
                created_s=hold.held.created_at_ms // 1000,
                model_id=model.spec.id,
                tier=hold.price.tier,
                n=len(sequences),
            ),
            generation=Generation(
                sequences,
                context,
                crash_guard=CrashGuard(self._quarantine, fingerprint),
                leases=self._ledger.leases,
            ),
            settlement=Settlement(self._ledger, hold, pending=self._settlements, metrics=metrics),
            events=events,
            metrics=metrics,
        )

    def _start(self, completion: Completion, slot: Slot, lease: Lease) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            del self._running[task]
            slot.release(completion_tokens=completion.usage.completion_tokens)
            lease.release()

        task = asyncio.create_task(
            completion.run(), name=f"completion {completion.meta.request_id}"
        )
        self._running[task] = completion
        task.add_done_callback(ended)

    async def _hold(
        self,
        principal: Principal,
        price: Price,
        sequences: list[tuple[GenerateRequest, OutputParser]],
        idempotency_key: IdempotencyKey | None,
    ) -> Hold:
        first = sequences[0][0]
        return await _in_time(
            self._ledger.hold(
                request_id=first.request_id,
                account_id=principal.account_id,
                key_id=principal.key_id,
                scope=principal.scope,
                price=price,
                prompt_tokens=len(first.prompt_token_ids),
                max_tokens=len(sequences) * first.max_tokens,
                idempotency_key=idempotency_key,
            )
        )

    async def _find_past(
        self, principal: Principal, idempotency_key: IdempotencyKey
    ) -> PastRequest | None:
        return await _in_time(self._past_requests.find(principal.account_id, idempotency_key))


def _refuse_other_models(
    principal: Principal, request: ChatRequest | TextRequest, model: ServedModel
) -> None:
    # A key for a model may use the fallback model that answers for it.
    if not principal.may_use(model.spec.id) and not principal.may_use(request.model):
        allowed = ", ".join(sorted(principal.allowed_models or ())) or "none"
        raise PermissionDeniedError(
            f"This API key is not for {model.spec.id}; the models that it may use: {allowed}"
        )


async def _in_time(answer: Awaitable[T]) -> T:
    """Returns what the ledger answers, or raises once a client should be refused."""
    try:
        async with asyncio.timeout(_LEDGER_TIMEOUT_S):
            return await answer
    except TimeoutError as error:
        raise StoreUnavailableError(
            f"The ledger did not answer within {_LEDGER_TIMEOUT_S} s."
        ) from error
