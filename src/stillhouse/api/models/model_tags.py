"""What a model is said to be able to do: what its makers say, and what holds here."""

from __future__ import annotations

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.text.families import FAMILIES

# What every model has here, whatever it is: the doors, constrained decoding, the prefix cache and
# the service tiers are the server's.
_SERVED = ("openai", "chat", "json", "structured-output", "prompt_cache", "priority", "flex")
_OF_MODELS = frozenset({"reasoning", "non-reasoning", "can-disable-reasoning", "tools"})


def tags_of(spec: ModelSpec) -> list[str]:
    """
    DeepInfra's words for what the model of *spec* can do.

    The catalogue may add to them, but claim nothing about reasoning and tools that does not hold.
    """
    family = FAMILIES[spec.family]
    held = list(_SERVED)
    held += ["reasoning", "can-disable-reasoning"] if family.reasoning else ["non-reasoning"]
    if family.call_form:
        held.append("tools")
    added = [tag for tag in spec.tags if tag not in _OF_MODELS]
    return list(dict.fromkeys([*held, *added]))
