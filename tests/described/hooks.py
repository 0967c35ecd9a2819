"""Hooks of schemathesis: keep answers short, and name a model that is served."""

# mypy: ignore-errors
# (what it imports is in another environment, where no checker runs)

from __future__ import annotations

import itertools

import schemathesis
from schemathesis import GenerationMode

# One thinks, and one calls tools.
MODELS = itertools.cycle(["stillhouse/demo-r1", "stillhouse/demo-tools"])
OWN_KEY_ID, NO_KEY_ID = "1", "999"
MAX_TOKENS = 4
_LIMITS = {"/inference/": "max_new_tokens", "/responses": "max_output_tokens"}


@schemathesis.hook
def before_load_schema(_context, raw_schema):
    """Forbid undescribed fields in responses, although clients must tolerate them."""
    for name, schema in raw_schema["components"]["schemas"].items():
        if name.endswith("Out") and "properties" in schema:
            schema["additionalProperties"] = False


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Replace requests that would take long, or revoke the key in use, by harmless ones."""
    _keep_own_key(case)
    _shorten(case)
    if case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE:
        _name_model(case)


def _keep_own_key(case):
    if (case.path_parameters or {}).get("api_token") == OWN_KEY_ID:
        case.path_parameters["api_token"] = NO_KEY_ID


def _shorten(case):
    limit = next((name for part, name in _LIMITS.items() if part in case.path), "max_tokens")
    if not isinstance(case.body, dict) or not {"messages", "prompt", "input"} & case.body.keys():
        return
    asked = case.body.get(limit)
    if asked is None or (type(asked) is int and asked > MAX_TOKENS):
        case.body[limit] = MAX_TOKENS


def _name_model(case):
    """Replace generated model names, with which every request would be a 404."""
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = next(MODELS)
    for name in ("model", "model_name"):
        if name in (case.path_parameters or {}):
            case.path_parameters[name] = next(MODELS)
