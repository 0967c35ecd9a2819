"""The straight line: one completion, from an authenticated request to its ledger row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from stillhouse.accounts.accounts import Principal
from stillhouse.billing.idempotency import PastRequest, PastRequests
from stillhouse.billing.idempotency_key import IdempotencyKey
from stillhouse.billing.ledger import Hold, Ledger
from stillhouse.billing.outcome import Outcome
from stillhouse.billing.price import Price
from stillhouse.clock import Clock
from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.engines.request_check import check_capabilities
from stillhouse.errors import (
    ContextLengthError,
    OverloadedError,
    PermissionDeniedError,
    StillhouseError,
    StoreUnavailableError,
)
from stillhouse.serving.admission.controller import AdmissionController, Slot
from stillhouse.serving.admission.grammar_charges import GrammarCharges
from stillhouse.serving.admission.quarantine import Fingerprint, Quarantine
from stillhouse.serving.admission.thread_pool import FairThreadPool
from stillhouse.serving.choice import ChoiceContext
from stillhouse.serving.completion import Completion
from stillhouse.serving.event_buffer import EventBuffer
from stillhouse.serving.generation import CrashGuard, Generation
from stillhouse.serving.queue.request_queue import QueueEntry
from stillhouse.serving.queue.scheduler import Ticket
from stillhouse.serving.registry.served_model import ENGINE_PRIORITY, ServedModel, ServedModels
from stillhouse.serving.replay import Replay
from stillhouse.serving.request_metrics import RequestMetrics
from stillhouse.serving.response import CompletionResponse
from stillhouse.serving.response_accumulator import ResponseAccumulator
from stillhouse.serving.settlement import PendingSettlements, Settlement
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.chat_model import Prompt
from stillhouse.text.grammar.compiler import GrammarCompiler
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.types.constraint import Constraint
from stillhouse.types.messages import Message
from stillhouse.types.requests import ChatRequest, TextRequest
from stillhouse.types.response_meta import ResponseMeta

T = TypeVar("T")

_LONG_PROMPT_CHARS = 20_000
_OWN_CHARS = 100
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

    def __init__(  # noqa: PLR0913  (given once, by app/)
        self,
        *,
        models: ServedModels,
        ledger: Ledger,
        past_requests: PastRequests,
        places: AdmissionController,
        threads: FairThreadPool,
        grammars: GrammarCompiler,
        quarantine: Quarantine,
        settlements: PendingSettlements,
        clock: Clock,
        metrics: Metrics,
        cancel_timeout_s: float,
    ) -> None:
        self._models = models
        self._ledger = ledger
        self._past_requests = past_requests
        self._places = places
        self._threads = threads
        self._grammars = grammars
        self._quarantine = quarantine
        self._grammar_work = GrammarCharges(places, metrics)
        self._settlements = settlements
        self._clock = clock
        self._metrics = metrics
        self._cancel_timeout_s = cancel_timeout_s
        # The only owner of the running completions: a task that nothing refers to can vanish.
        self._running: dict[asyncio.Task[None], Completion] = {}

    async def open(
        self,
        request_id: str,
        principal: Principal,
        request: ChatRequest | TextRequest,
        idempotency_key: IdempotencyKey | None = None,
    ) -> CompletionResponse:
        """
        Admit *request*: when this returns, its highest cost is held and it waits for its turn.

        Args:
            idempotency_key: Under the same key, a repetition gets the first request's answer.

        Raises:
            ModelNotFoundError: No loaded model answers to its name.
            PermissionDeniedError: The key is for other models.
            IdempotencyConflictError: The first request with its name is still running.
            UnsupportedFeatureError: The model's engine cannot honour a field of it.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context, or its
                schema cannot be compiled, or its name belongs to a request with another body.
            QuarantinedRequestError: An engine has crashed on the same request twice.
            InsufficientFundsError: The account does not cover its highest possible cost.
            OverloadedError: Too many requests wait for the model, or to be tokenised, or this one
                would not wait.
            EngineUnavailableError: It would not wait for the engine to restart.
            RateLimitError: Too many of them are the account's or its key's, or the account has
                used up its minute.
            StoreUnavailableError: The ledger cannot be used; nothing runs that it does not know.

        """
        model = self._models.resolve_model(request.model)
        _refuse_other_models(principal, request, model)
        if idempotency_key and (past := await self._find_past(principal, idempotency_key)):
            return Replay(past)
        self._places.refuse_early(
            model.spec.id, principal.account_id, principal.key_id, request.tier
        )
        prompt = await self._encode(principal, model, request)
        place = self._places.take(
            Ticket(
                principal.account_id,
                principal.key_id,
                request.tier,
                request.n,
                len(prompt.token_ids),
            ),
            model_id=model.spec.id,
            engine=model.engine,
            is_fail_fast=request.fail_fast,
        )
        try:
            sequences = _sequences(
                request_id,
                request,
                model,
                prompt,
                constraint=await self._compile(principal, model, request, prompt),
                cache_salt=principal.cache_salt,
            )
            check_capabilities(sequences[0][0], model.engine.capabilities)
            fingerprint = Fingerprint(principal.account_id, model.spec.id, sequences[0][0])
            self._quarantine.refuse(fingerprint)
            hold = await self._hold(
                principal, model.prices[request.tier], sequences, idempotency_key
            )
        except BaseException:
            place.give_back()
            raise
        completion = self._completion(
            model,
            sequences,
            hold,
            entry=place.turn,
            fingerprint=fingerprint,
            is_recorded=idempotency_key is not None,
        )
        # From the hold to here nothing waits and nothing refuses: what is held is always run.
        self._start(completion, place)
        return completion

    def charge_compilation(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charge the time in which a model's engine has compiled a grammar to whose it is."""
        self._grammar_work.compiled(model_id, cache_salt, seconds)

    async def count_prompt_tokens(self, principal: Principal, request: ChatRequest) -> int:
        """
        How many tokens the prompt of *request* has; nothing is generated, held or charged.

        Raises:
            ModelNotFoundError: No loaded model answers to its name.
            PermissionDeniedError: The key is for other models.
            InvalidRequestError: Its messages cannot be rendered, or exceed the context.
            OverloadedError: Too many prompts wait to be tokenised.

        """
        model = self._models.resolve_model(request.model)
        _refuse_other_models(principal, request, model)
        return len((await self._encode(principal, model, request)).token_ids)

    async def run_in_thread(self, principal: Principal, write: Callable[[], bytes]) -> bytes:
        """What *write* returns, run in a thread once it is the account's turn."""
        try:
            return await self._threads.run(
                write, account_id=principal.account_id, key_id=principal.key_id
            )
        except OverloadedError:  # the answer is charged: late is better than never
            return write()

    def running_key_ids(self) -> set[int]:
        """The API keys that have requests waiting or running."""
        return {completion.key_id for completion in self._running.values()}

    def stop_key(self, key_id: int, error: StillhouseError) -> int:
        """
        End every request of a key within one engine step; what was generated is charged.

        Args:
            error: What their clients are told.

        Returns:
            How many there were.

        """
        of_key = [running for running in self._running.values() if running.key_id == key_id]
        for completion in of_key:
            completion.stop(Outcome.REVOKED, error)
        return len(of_key)

    async def drain(self, grace_s: float, *, hurry: asyncio.Event | None = None) -> None:
        """
        Wait for what is running, then stop what is left; every row is settled on return.

        Args:
            grace_s: So long is waited.
            hurry: Once it is set, nothing is waited for any more.

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
        """Return when nothing runs, the grace is over or *hurry* is set."""
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
            self._ledger if self._ledger.is_shared else None,
            recorder=ResponseAccumulator(len(sequences)) if is_recorded else None,
        )
        context = ChoiceContext(model.engine, entry, metrics, events, self._cancel_timeout_s)
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
                leases=self._ledger,
            ),
            settlement=Settlement(self._ledger, hold, pending=self._settlements, metrics=metrics),
            events=events,
            metrics=metrics,
        )

    def _start(self, completion: Completion, place: Slot) -> None:
        def ended(task: asyncio.Task[None]) -> None:
            del self._running[task]
            place.give_back(completion_tokens=completion.usage.completion_tokens)

        task = asyncio.create_task(
            completion.run(), name=f"completion {completion.meta.request_id}"
        )
        self._running[task] = completion
        task.add_done_callback(ended)

    async def _encode(
        self, principal: Principal, model: ServedModel, request: ChatRequest | TextRequest
    ) -> Prompt:
        """What takes longer than others should wait is tokenised in a thread."""
        encode = partial(model.chat.encode_prompt, request)
        if _is_short(request):
            prompt = encode()
        else:
            prompt = await self._in_thread(principal, model, request, encode)
        is_text = isinstance(request, TextRequest)
        _check_fits(model, prompt, param="prompt" if is_text else "messages")
        return prompt

    async def _in_thread(
        self,
        principal: Principal,
        model: ServedModel,
        request: ChatRequest | TextRequest,
        work: Callable[[], T],
    ) -> T:
        """What *work* returns; its time counts against the account's turns at the engine."""
        return await self._threads.run(
            work,
            account_id=principal.account_id,
            key_id=principal.key_id,
            charge=partial(
                self._places.charge_work,
                principal.account_id,
                principal.key_id,
                model.spec.id,
                tier=request.tier,
            ),
        )

    async def _compile(
        self,
        principal: Principal,
        model: ServedModel,
        request: ChatRequest | TextRequest,
        prompt: Prompt,
    ) -> Constraint | None:
        if request.response_format is None and not _has_tools(request):
            return None
        # A thousand schemas take longer than others should wait.
        constraint = await self._in_thread(
            principal, model, request, partial(model.chat.constraint, request, prompt)
        )
        if constraint is None:
            return None
        await self._grammars.check(
            constraint.grammar,
            param=constraint.param,
            owner=self._grammar_work.owner(principal, model.spec.id, request.tier),
            tokenizer_json=model.chat.checkpoint_path / "tokenizer.json",
        )
        return constraint

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


def _sequences(  # noqa: PLR0913  (all that makes up what an engine is asked)
    request_id: str,
    request: ChatRequest | TextRequest,
    model: ServedModel,
    prompt: Prompt,
    *,
    constraint: Constraint | None,
    cache_salt: str,
) -> list[tuple[GenerateRequest, OutputParser]]:
    """What the engine is asked for each answer, and what will read it."""
    sampling = request.sampling.over(model.spec.recommended)
    first = GenerateRequest(
        request_id=request_id,
        prompt_token_ids=prompt.token_ids,
        max_tokens=model.max_new_tokens(request, prompt),
        sampling=sampling,
        stop_token_ids=(*model.chat.stop_token_ids, *request.stop_token_ids),
        cache_salt=cache_salt,
        num_public_tokens=model.public_prefixes.num_tokens_of(prompt.token_ids),
        priority=ENGINE_PRIORITY[request.tier],
        top_logprobs=request.top_logprobs,
        constraint=None if constraint is None else constraint.portable,
        grammar=(
            None if constraint is None else Grammar(constraint.grammar, constraint.after_token_id)
        ),
    )
    # The engine computes a prompt's blocks once, however many sequences begin with them.
    others = [
        replace(
            first,
            request_id=f"{request_id}/{choice}",
            sampling=replace(sampling, seed=_seed_of(sampling.seed, choice)),
        )
        for choice in range(1, request.n)
    ]
    return [
        (generate, model.chat.output_parser(prompt, request, request_id=request_id, choice=choice))
        for choice, generate in enumerate([first, *others])
    ]


def _seed_of(seed: int | None, choice: int) -> int | None:
    """Each answer of a seeded request has a seed of its own, and the first one the request's."""
    return None if seed is None else (seed + choice) % 2**64


def _refuse_other_models(
    principal: Principal, request: ChatRequest | TextRequest, model: ServedModel
) -> None:
    # A key for a model that another one stands in for may use what it is answered by.
    if not principal.may_use(model.spec.id) and not principal.may_use(request.model):
        allowed = ", ".join(sorted(principal.allowed_models or ())) or "none"
        raise PermissionDeniedError(
            f"This API key is not for {model.spec.id}; the models that it may use: {allowed}"
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


def _check_fits(model: ServedModel, prompt: Prompt, *, param: str) -> None:
    """The engine's memory may hold less than the model's context."""
    if len(prompt.token_ids) >= model.context_length:
        raise ContextLengthError(
            prompt_tokens=len(prompt.token_ids),
            max_prompt_tokens=model.context_length - 1,
            param=param,
        )


def _is_short(request: ChatRequest | TextRequest) -> bool:
    if isinstance(request, TextRequest):
        return len(request.prompt) < _LONG_PROMPT_CHARS
    num_chars = sum(map(_num_chars, request.messages))
    return num_chars < _LONG_PROMPT_CHARS and not request.tools


def _num_chars(message: Message) -> int:
    """How much of a message a template may write; its own words around it count as some."""
    calls = sum(_OWN_CHARS + len(call.name) + len(call.arguments) for call in message.tool_calls)
    return _OWN_CHARS + len(message.content) + len(message.reasoning) + calls


def _has_tools(request: ChatRequest | TextRequest) -> bool:
    return isinstance(request, ChatRequest) and bool(request.tools)
