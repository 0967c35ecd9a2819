"""Admission refuses by name what a model's engine does not declare, and holds nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stillhouse.engines.capabilities import Capabilities
from stillhouse.errors import UnsupportedFeatureError
from stillhouse.types.constraint import ConstraintKind
from stillhouse.types.response_format import JsonObjectFormat, JsonSchemaFormat, RegexFormat
from stillhouse.types.sampling import SamplingOverrides
from stillhouse.types.service_tier import ServiceTier
from tests.unit.serving.conftest import ALL_CAPABILITIES, Serving

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
ASKED = [
    ("seed", {"seed": False}, {"sampling": SamplingOverrides(seed=1)}),
    (
        "presence_penalty",
        {"penalties": False},
        {"sampling": SamplingOverrides(presence_penalty=1.0)},
    ),
    (
        "frequency_penalty",
        {"penalties": False},
        {"sampling": SamplingOverrides(frequency_penalty=-1.0)},
    ),
    (
        "repetition_penalty",
        {"penalties": False},
        {"sampling": SamplingOverrides(repetition_penalty=1.1)},
    ),
    ("logit_bias", {"logit_bias": False}, {"sampling": SamplingOverrides(logit_bias=((1, 2.0),))}),
    ("logprobs", {"max_top_logprobs": None}, {"top_logprobs": 0}),
    ("top_logprobs", {"max_top_logprobs": 5}, {"top_logprobs": 6}),
    (
        "response_format",
        {"constraints": frozenset({ConstraintKind.REGEX, ConstraintKind.TOOL_CALLS})},
        {"response_format": JsonSchemaFormat(SCHEMA)},
    ),
    (
        "response_format",
        {"constraints": frozenset({ConstraintKind.REGEX, ConstraintKind.TOOL_CALLS})},
        {"response_format": JsonObjectFormat()},
    ),
    (
        "response_format",
        {"constraints": frozenset({ConstraintKind.JSON_SCHEMA})},
        {"response_format": RegexFormat("a+")},
    ),
]


@pytest.mark.parametrize(("param", "lacking", "fields"), ASKED)
async def test_what_the_engine_does_not_declare_is_refused_by_name(
    serving: Serving, param, lacking, fields
):
    """The refusal names the field, before money is held or the engine receives the request."""
    serving.engine.capabilities = replace(ALL_CAPABILITIES, **lacking)
    with pytest.raises(UnsupportedFeatureError) as refused:
        await serving.open(**fields)
    assert param == refused.value.param
    assert param in refused.value.message
    assert [] == serving.engine.requests
    assert [] == await serving.rows()
    assert 0 == serving.outstanding()


@pytest.mark.parametrize(("param", "lacking", "fields"), ASKED)
async def test_what_the_engine_declares_is_admitted(serving: Serving, param, lacking, fields):
    """The same requests run where the engine can honour them, and reach it unchanged."""
    await serving.answer(**fields)
    (request,) = serving.engine.requests
    assert (request.constraint is None) is ("response_format" not in fields)
    assert (request.grammar is None) is ("response_format" not in fields)


async def test_hints_are_accepted_by_an_engine_that_ignores_them(serving: Serving):
    """Priority and public prefixes change the time of an answer alone, so none is refused."""
    serving.engine.capabilities = Capabilities()
    await serving.answer(tier=ServiceTier.PRIORITY)
    assert 1 == len(serving.engine.requests)
