"""Tags a model with what it supports here."""

from __future__ import annotations

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.catalogue.task import Task
from stillhouse.text.families import FAMILIES

# The server gives these to every model: its API dialects, constrained decoding, the prefix cache
# and the service tiers.
_SERVED = ("openai", "json", "structured-output", "prompt_cache", "priority", "flex")
_OF_MODELS = frozenset({"reasoning", "non-reasoning", "can-disable-reasoning", "tools", *Task})


def tags_of(spec: ModelSpec) -> list[str]:
    """
    Returns DeepInfra's tags of the model, with its task among them.

    The catalogue adds tags of its own; those about reasoning, tools and tasks are left out.
    """
    family = FAMILIES[spec.family]
    held = [*_SERVED, str(spec.task)]
    held += ["reasoning", "can-disable-reasoning"] if family.reasoning else ["non-reasoning"]
    if family.call_form:
        held.append("tools")
    added = [tag for tag in spec.tags if tag not in _OF_MODELS]
    return list(dict.fromkeys([*held, *added]))
