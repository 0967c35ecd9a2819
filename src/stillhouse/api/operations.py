"""What every path does, for ``/openapi.json``: a test holds it to the routes that are served."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from stillhouse.api.account.account_schema import ApiTokenIn, RequestCostsIn, ScopedJwtIn
from stillhouse.api.account.api_tokens import ApiTokenOut, RevokedOut
from stillhouse.api.account.me import AccountOut, RateLimitOut
from stillhouse.api.account.payment import AccountUsageOut, RequestCostsOut
from stillhouse.api.account.scoped_jwt import ScopedJwtOut, ScopeOut
from stillhouse.api.anthropic.messages import AnthropicTokenCountOut
from stillhouse.api.anthropic.request import MessagesIn, PromptIn
from stillhouse.api.anthropic.response import AnthropicMessageOut
from stillhouse.api.anthropic.stream import AnthropicEventOut
from stillhouse.api.deepinfra.form_body import MULTIPART, URLENCODED
from stillhouse.api.deepinfra.request import InferenceIn
from stillhouse.api.deepinfra.response import InferenceEventOut, InferenceOut
from stillhouse.api.endpoints import ANTHROPIC_BASES, OPENAI_BASES
from stillhouse.api.http.errors import AnthropicErrorBodyOut
from stillhouse.api.http.openapi import Operation, Query
from stillhouse.api.models.live_metrics import LiveMetricsOut
from stillhouse.api.models.model_cards import ModelCardOut, ModelInfoOut, VersionOut
from stillhouse.api.models.model_list import ModelListOut, ModelOut
from stillhouse.api.models.openrouter_models import OpenRouterModelListOut
from stillhouse.api.openai.chat_request import ChatCompletionIn
from stillhouse.api.openai.chat_response import ChatCompletionChunkOut, ChatCompletionOut
from stillhouse.api.openai.text_request import TextCompletionIn
from stillhouse.api.openai.text_response import TextCompletionOut
from stillhouse.api.responses.request import ResponseIn
from stillhouse.api.responses.response import ResponseOut
from stillhouse.api.responses.responses import ResponseTokenCountOut
from stillhouse.api.responses.stream import ResponseEventOut

METRICS_PATH = "/metrics"

#: What anything that needs a key can be refused with.
_WITH_KEY = (401, 429, 503)
#: And what belongs to an account, which no scoped token may see.
_OF_ACCOUNTS = (401, 403, 429, 503)
#: What anything that has a body can be refused with.
_WITH_BODY = (408, 413, 422)
_OF_COMPLETIONS = (*_WITH_KEY, *_WITH_BODY, 400, 402, 403, 404, 405, 409, 502)
_OF_COUNTS = (*_WITH_KEY, *_WITH_BODY, 400, 403, 404, 405)

_MONTH = r"^(current(-[0-9]{1,4}|\(-[0-9]{1,4}\))?|[0-9]{4}\.[0-9]{2}|[0-9]{1,12})$"
_MONTHS = (
    Query("from", "YYYY.MM, current, current-N or Unix seconds", _MONTH),
    Query("to", "the same, and included; at most 120 months", _MONTH),
)

_PROBES = (
    Operation("get", "/livez", "Is the process up?", is_public=True),
    Operation(
        "get",
        "/readyz",
        "Do every engine and the ledger answer? 503 says of each `ok`, or what is wrong",
        answer=dict[str, str],
        answer_statuses=(200, 503),
        is_public=True,
    ),
    Operation("get", METRICS_PATH, "Prometheus metrics, for the admin key", statuses=_OF_ACCOUNTS),
    Operation("get", "/openapi.json", "This document", answer=dict[str, Any], is_public=True),
)

_ACCOUNT = (
    Operation("get", "/v1/me", "The key's account", answer=AccountOut, statuses=_OF_ACCOUNTS),
    Operation(
        "get",
        "/v1/me/rate_limit",
        "How much it may ask at once",
        answer=RateLimitOut,
        statuses=_OF_ACCOUNTS,
    ),
    Operation("get", "/v1/api-tokens", "Its keys", answer=list[ApiTokenOut], statuses=_OF_ACCOUNTS),
    Operation(
        "post",
        "/v1/api-tokens",
        "Make a key, shown this once",
        body=ApiTokenIn,
        answer=ApiTokenOut,
        statuses=(*_OF_ACCOUNTS, *_WITH_BODY, 409),
    ),
    Operation(
        "get",
        "/v1/api-tokens/{api_token}",
        "One of its keys, by id",
        answer=ApiTokenOut,
        statuses=(*_OF_ACCOUNTS, 404),
    ),
    Operation(
        "delete",
        "/v1/api-tokens/{api_token}",
        "Revoke a key, by id",
        answer=RevokedOut,
        statuses=(*_OF_ACCOUNTS, 404),
    ),
    Operation(
        "get",
        "/v1/scoped-jwt",
        "What a scoped token may do",
        answer=ScopeOut,
        queries=(Query("jwtoken", "jwt:...", is_required=True),),
        statuses=(*_OF_ACCOUNTS, 422),
    ),
    Operation(
        "post",
        "/v1/scoped-jwt",
        "Make a token with fewer rights than the key",
        body=ScopedJwtIn,
        answer=ScopedJwtOut,
        statuses=(*_OF_ACCOUNTS, *_WITH_BODY, 404),
    ),
    Operation(
        "post",
        "/v1/request-costs",
        "What requests cost, in nano-dollars",
        body=RequestCostsIn,
        answer=RequestCostsOut,
        statuses=(*_OF_ACCOUNTS, *_WITH_BODY),
    ),
    Operation(
        "get",
        "/payment/usage",
        "Usage by month, of all keys",
        answer=AccountUsageOut,
        queries=_MONTHS,
        statuses=(*_OF_ACCOUNTS, 422),
    ),
    Operation(
        "get",
        "/payment/usage/tokens",
        "The same: tokens are all that is sold",
        answer=AccountUsageOut,
        queries=_MONTHS,
        statuses=(*_OF_ACCOUNTS, 422),
    ),
    Operation(
        "get",
        "/payment/usage/{api_token}",
        "Usage by month, of one key",
        answer=AccountUsageOut,
        queries=_MONTHS,
        statuses=(*_OF_ACCOUNTS, 404, 422),
    ),
)

_OPENAI = tuple(
    operation
    for base in OPENAI_BASES
    for operation in (
        Operation(
            "post",
            f"{base}/chat/completions",
            "A chat completion",
            body=ChatCompletionIn,
            answer=ChatCompletionOut,
            event=ChatCompletionChunkOut,
            statuses=_OF_COMPLETIONS,
            has_idempotency_key=True,
        ),
        Operation(
            "post",
            f"{base}/completions",
            "A text continued as it stands, without a chat template",
            body=TextCompletionIn,
            answer=TextCompletionOut,
            event=TextCompletionOut,
            statuses=_OF_COMPLETIONS,
            has_idempotency_key=True,
        ),
        Operation(
            "post",
            f"{base}/responses",
            "A response; nothing of it is stored",
            body=ResponseIn,
            answer=ResponseOut,
            event=ResponseEventOut,
            statuses=_OF_COMPLETIONS,
            has_idempotency_key=True,
        ),
        Operation(
            "post",
            f"{base}/responses/input_tokens",
            "How many tokens a response's input has",
            body=ResponseIn,
            answer=ResponseTokenCountOut,
            statuses=_OF_COUNTS,
        ),
        Operation(
            "get",
            f"{base}/models",
            "The models that are served",
            answer=ModelListOut,
            queries=(
                Query("filter", "those with metadata, which all have", "^with_meta$"),
                Query("sort_by", "accepted; the order is by id"),
            ),
            statuses=(422,),
            is_public=True,
        ),
        Operation(
            "get",
            f"{base}/models/{{model}}",
            "One model",
            answer=ModelOut,
            statuses=(404,),
            is_public=True,
        ),
    )
)

_ANTHROPIC = tuple(
    operation
    for base in ANTHROPIC_BASES
    for operation in (
        Operation(
            "post",
            f"{base}/messages",
            "A message, as Anthropic's clients ask for it",
            body=MessagesIn,
            answer=AnthropicMessageOut,
            event=AnthropicEventOut,
            error=AnthropicErrorBodyOut,
            statuses=_OF_COMPLETIONS,
            has_idempotency_key=True,
        ),
        Operation(
            "post",
            f"{base}/messages/count_tokens",
            "How many tokens a message's prompt has",
            body=PromptIn,
            answer=AnthropicTokenCountOut,
            error=AnthropicErrorBodyOut,
            statuses=_OF_COUNTS,
        ),
    )
)

_VERSION = Query("version", "right is only the one that is served")
_NATIVE = (
    Operation(
        "post",
        "/v1/inference/{model_name}",
        "DeepInfra's native text generation: a text continued as it stands",
        body=InferenceIn,
        answer=InferenceOut,
        event=InferenceEventOut,
        queries=(_VERSION,),
        statuses=_OF_COMPLETIONS,
        has_idempotency_key=True,
        forms=(MULTIPART.decode(), URLENCODED.decode()),
    ),
    Operation(
        "get",
        "/models/list",
        "The models that are served, in DeepInfra's catalogue",
        answer=list[ModelCardOut],
        is_public=True,
    ),
    Operation(
        "get",
        "/models/featured",
        "The same: all of them are featured",
        answer=list[ModelCardOut],
        is_public=True,
    ),
    Operation(
        "get",
        "/models/{model_name}",
        "One model, and what its native door takes",
        answer=ModelInfoOut,
        queries=(_VERSION,),
        statuses=(404,),
        is_public=True,
    ),
    Operation(
        "get",
        "/models/{model_name}/versions",
        "A model's versions",
        answer=list[VersionOut],
        statuses=(404,),
        is_public=True,
    ),
    Operation(
        "get",
        "/openrouter/models",
        "The models that are served, as OpenRouter reads them",
        answer=OpenRouterModelListOut,
        is_public=True,
    ),
    Operation(
        "get",
        "/v1/metrics/live",
        "How much was done in the last minute",
        answer=LiveMetricsOut,
        is_public=True,
    ),
)

OPERATIONS = (*_OPENAI, *_ANTHROPIC, *_NATIVE, *_ACCOUNT, *_PROBES)


def operations(public_paths: Collection[str]) -> tuple[Operation, ...]:
    """Every operation, those at *public_paths* among the ones that need no key."""
    return tuple(
        replace(operation, is_public=True, statuses=())
        if operation.path in public_paths and not operation.is_public
        else operation
        for operation in OPERATIONS
    )
