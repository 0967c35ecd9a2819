"""What every path does, for ``/openapi.json``: a test holds it to the routes that are served."""

from __future__ import annotations

from typing import Any

from stillhouse.api.account_schema import ApiTokenIn, RequestCostsIn, ScopedJwtIn
from stillhouse.api.anthropic_answer import AnthropicMessageOut
from stillhouse.api.anthropic_messages import AnthropicTokenCountOut
from stillhouse.api.anthropic_request import MessagesIn, PromptIn
from stillhouse.api.anthropic_stream import AnthropicEventOut
from stillhouse.api.chat_request import ChatCompletionIn
from stillhouse.api.doors import ANTHROPIC_BASES, OPENAI_BASES
from stillhouse.api.error_body import AnthropicErrorBodyOut
from stillhouse.api.form_body import MULTIPART, URLENCODED
from stillhouse.api.inference_answer import InferenceEventOut, InferenceOut
from stillhouse.api.inference_request import InferenceIn
from stillhouse.api.live_metrics import LiveMetricsOut
from stillhouse.api.model_cards import ModelCardOut, ModelInfoOut, VersionOut
from stillhouse.api.model_list import ModelListOut, ModelOut
from stillhouse.api.openai_answer import ChatCompletionChunkOut, ChatCompletionOut
from stillhouse.api.openapi import Operation, Query
from stillhouse.api.openrouter_models import OpenRouterModelListOut
from stillhouse.api.responses import ResponseTokenCountOut
from stillhouse.api.responses_answer import ResponseOut
from stillhouse.api.responses_request import ResponseIn
from stillhouse.api.responses_stream import ResponseEventOut
from stillhouse.api.text_answer import TextCompletionOut
from stillhouse.api.text_request import TextCompletionIn

#: An object whose fields are told in docs/api.md.
Fields = dict[str, Any]

#: What a completion can be refused with.
_OF_COMPLETIONS = (400, 401, 402, 403, 404, 405, 408, 409, 413, 422, 429, 502, 503)
_OF_COUNTS = (400, 401, 403, 404, 405, 408, 413, 422, 503)
_MONTHS = (
    Query("from", "YYYY.MM, current, current-N or Unix seconds"),
    Query("to", "the same, and included"),
)

_PROBES = (
    Operation("get", "/livez", "Is the process up?", statuses=(), is_public=True),
    Operation(
        "get",
        "/readyz",
        "Do every engine and the ledger answer?",
        answer=dict[str, str],
        statuses=(),
        is_public=True,
    ),
    Operation("get", "/metrics", "Prometheus metrics", statuses=(401,)),
    Operation("get", "/openapi.json", "This document", answer=Fields, statuses=(), is_public=True),
)

_ACCOUNT = (
    Operation("get", "/v1/me", "The key's account", answer=Fields),
    Operation("get", "/v1/me/rate_limit", "How much it may ask at once", answer=Fields),
    Operation("get", "/v1/api-tokens", "Its keys", answer=list[Fields]),
    Operation(
        "post",
        "/v1/api-tokens",
        "Make a key, shown this once",
        body=ApiTokenIn,
        answer=Fields,
        statuses=(401, 403, 408, 409, 413, 422, 503),
    ),
    Operation(
        "get",
        "/v1/api-tokens/{api_token}",
        "One of its keys, by id",
        answer=Fields,
        statuses=(401, 403, 404, 422, 503),
    ),
    Operation(
        "delete",
        "/v1/api-tokens/{api_token}",
        "Revoke a key, by id",
        answer=Fields,
        statuses=(401, 403, 404, 422, 503),
    ),
    Operation(
        "get",
        "/v1/scoped-jwt",
        "What a scoped token may do",
        answer=Fields,
        queries=(Query("jwtoken", "jwt:...", is_required=True),),
    ),
    Operation(
        "post",
        "/v1/scoped-jwt",
        "Make a token with fewer rights than the key",
        body=ScopedJwtIn,
        answer=Fields,
        statuses=(401, 403, 404, 408, 413, 422, 503),
    ),
    Operation(
        "post",
        "/v1/request-costs",
        "What requests cost, in nano-dollars",
        body=RequestCostsIn,
        answer=Fields,
        statuses=(401, 403, 408, 413, 422, 503),
    ),
    Operation(
        "get", "/payment/usage", "Usage by month, of all keys", answer=Fields, queries=_MONTHS
    ),
    Operation(
        "get",
        "/payment/usage/tokens",
        "The same: tokens are all that is sold",
        answer=Fields,
        queries=_MONTHS,
    ),
    Operation(
        "get",
        "/payment/usage/{api_token}",
        "Usage by month, of one key",
        answer=Fields,
        queries=_MONTHS,
        statuses=(401, 403, 404, 422, 503),
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
        ),
        Operation(
            "post",
            f"{base}/completions",
            "A text continued as it stands, without a chat template",
            body=TextCompletionIn,
            answer=TextCompletionOut,
            event=TextCompletionOut,
            statuses=_OF_COMPLETIONS,
        ),
        Operation(
            "post",
            f"{base}/responses",
            "A response; nothing of it is stored",
            body=ResponseIn,
            answer=ResponseOut,
            event=ResponseEventOut,
            statuses=_OF_COMPLETIONS,
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
                Query("filter", "with_meta: those with metadata, which all have"),
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
        forms=(MULTIPART.decode(), URLENCODED.decode()),
    ),
    Operation(
        "get",
        "/models/list",
        "The models that are served, in DeepInfra's catalogue",
        answer=list[ModelCardOut],
        statuses=(),
        is_public=True,
    ),
    Operation(
        "get",
        "/models/featured",
        "The same: all of them are featured",
        answer=list[ModelCardOut],
        statuses=(),
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
        statuses=(),
        is_public=True,
    ),
    Operation(
        "get",
        "/v1/metrics/live",
        "How much was done in the last minute",
        answer=LiveMetricsOut,
        statuses=(),
        is_public=True,
    ),
)

OPERATIONS = (*_OPENAI, *_ANTHROPIC, *_NATIVE, *_ACCOUNT, *_PROBES)
