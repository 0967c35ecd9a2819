"""Prepares a request for its engine: prompt, grammar, and one sequence for each choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from stillhouse.accounts.accounts import Principal
from stillhouse.engines.base import GenerateRequest, Grammar
from stillhouse.errors import ContextLengthError, OverloadedError
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.serving.admission.grammar_charges import GrammarCharges
from stillhouse.serving.admission.thread_pool import FairThreadPool
from stillhouse.serving.registry.served_model import ENGINE_PRIORITY, ServedModel
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.grammar.compiler import GrammarCompiler
from stillhouse.text.parsing.output_parser import OutputParser
from stillhouse.text.prompt.encoder import Prompt
from stillhouse.types.constraint import Constraint
from stillhouse.types.messages import Message
from stillhouse.types.requests import ChatRequest, TextRequest

T = TypeVar("T")

#: A longer prompt is tokenised in a thread, so that other requests do not wait for it.
_LONG_PROMPT_CHARS = 20_000
#: What a chat template may write around a message or a call.
_TEMPLATE_CHARS = 100


class RequestPreparer:
    """
    Tokenises prompts and compiles grammars, and charges that work to the account it is for.

    Args:
        threads: Run what takes longer than other requests should wait.

    """

    def __init__(
        self,
        *,
        threads: FairThreadPool,
        grammars: GrammarCompiler,
        admission: AdmissionController,
        metrics: Metrics,
    ) -> None:
        self._threads = threads
        self._grammars = grammars
        self._admission = admission
        self._grammar_charges = GrammarCharges(admission, metrics)

    def charge_compilation(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charges the time in which an engine has compiled a grammar to the account it is for."""
        self._grammar_charges.compiled(model_id, cache_salt, seconds)

    async def encode_prompt(
        self, principal: Principal, model: ServedModel, request: ChatRequest | TextRequest
    ) -> Prompt:
        """
        Returns the request's prompt as token ids.

        Raises:
            InvalidRequestError: Its messages cannot be rendered.
            ContextLengthError: The model's context or its engine's memory cannot hold it.
            OverloadedError: Too many prompts wait to be tokenised.

        """
        encode = partial(model.chat.encode_prompt, request)
        if _is_short(request):
            prompt = encode()
        else:
            prompt = await self._in_thread(principal, model, request, encode)
        is_text = isinstance(request, TextRequest)
        _check_fits(model, prompt, param="prompt" if is_text else "messages")
        return prompt

    async def sequences(
        self,
        request_id: str,
        principal: Principal,
        model: ServedModel,
        request: ChatRequest | TextRequest,
        prompt: Prompt,
    ) -> list[tuple[GenerateRequest, OutputParser]]:
        """
        Returns what the engine generates for each choice, and what parses it.

        Raises:
            InvalidRequestError: Its schema cannot be compiled.
            OverloadedError: Too many schemas wait to be compiled.

        """
        constraint = await self._compile(principal, model, request, prompt)
        return _sequences(
            request_id,
            request,
            model,
            prompt,
            constraint=constraint,
            cache_salt=principal.cache_salt,
        )

    async def run_in_thread(self, principal: Principal, work: Callable[[], bytes]) -> bytes:
        """Returns what *work* returns, run in a thread of the account's share."""
        try:
            return await self._threads.run(
                work, account_id=principal.account_id, key_id=principal.key_id
            )
        except OverloadedError:  # the response is charged already: late is better than never
            return work()

    async def _in_thread(
        self,
        principal: Principal,
        model: ServedModel,
        request: ChatRequest | TextRequest,
        work: Callable[[], T],
    ) -> T:
        """Returns what *work* returns, and charges its time to the account's engine share."""
        return await self._threads.run(
            work,
            account_id=principal.account_id,
            key_id=principal.key_id,
            charge=partial(
                self._admission.charge_work,
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
        # A thousand schemas take longer than other requests should wait.
        constraint = await self._in_thread(
            principal, model, request, partial(model.chat.constraint, request, prompt)
        )
        if constraint is None:
            return None
        await self._grammars.check(
            constraint.grammar,
            param=constraint.param,
            owner=self._grammar_charges.owner(principal, model.spec.id, request.tier),
            tokenizer_json=model.chat.checkpoint_path / "tokenizer.json",
        )
        return constraint


def _sequences(  # noqa: PLR0913  (all that makes up an engine's request)
    request_id: str,
    request: ChatRequest | TextRequest,
    model: ServedModel,
    prompt: Prompt,
    *,
    constraint: Constraint | None,
    cache_salt: str,
) -> list[tuple[GenerateRequest, OutputParser]]:
    """Returns the engine's request for each choice, and its parser."""
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


def _check_fits(model: ServedModel, prompt: Prompt, *, param: str) -> None:
    """Refuses a prompt that the model's context, or its engine's memory, cannot hold."""
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
    """Returns about how many characters a chat template writes for a message."""
    calls = sum(
        _TEMPLATE_CHARS + len(call.name) + len(call.arguments) for call in message.tool_calls
    )
    return _TEMPLATE_CHARS + len(message.content) + len(message.reasoning) + calls


def _has_tools(request: ChatRequest | TextRequest) -> bool:
    return isinstance(request, ChatRequest) and bool(request.tools)
