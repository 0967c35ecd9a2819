"""The tags of a model's abilities: those of the catalogue, and those of this server."""

from __future__ import annotations

from stillhouse.catalogue.model_spec import ModelSpec
from stillhouse.text.families import FAMILIES

# Every model has these: the server provides the endpoints, constrained decoding, the prefix cache
# and the service tiers.
_SERVED = ("openai", "chat", "json", "structured-output", "prompt_cache", "priority", "flex")
_OF_MODELS = frozenset({"reasoning", "non-reasoning", "can-disable-reasoning", "tools"})


def tags_of(spec: ModelSpec) -> list[str]:
    """
    Returns DeepInfra's tags for a model.

    The catalogue may add tags, except about reasoning and tools, which the family determines.
    """
    family = FAMILIES[spec.family]
    held = list(_SERVED)
    held += ["reasoning", "can-disable-reasoning"] if family.reasoning else ["non-reasoning"]
    if family.call_form:
        held.append("tools")
    added = [tag for tag in spec.tags if tag not in _OF_MODELS]
    return list(dict.fromkeys([*held, *added]))
