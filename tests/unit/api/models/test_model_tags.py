from __future__ import annotations

from stillhouse.api.models.model_tags import tags_of
from stillhouse.catalogue.entry import read_entry

PRICE = {"input": "1", "output": "1"}


def tags(family, *added):
    table = {"family": family, "usd_per_million_tokens": PRICE, "tags": list(added)}
    return tags_of(read_entry("a/b", table, source="here"))


def test_what_the_server_can_do_is_said_of_every_model():
    """Formats, cache and tiers are the server's own."""
    for family in ("plain", "deepseek_r1"):
        assert {"openai", "chat", "json", "structured-output", "prompt_cache", "flex"} < set(
            tags(family)
        )


def test_reasoning_and_tools_are_what_the_family_knows():
    """A model that reasons can be told not to; one that does not is said not to."""
    assert {"reasoning", "can-disable-reasoning", "tools"} < set(tags("deepseek_v31"))
    assert "tools" not in tags("deepseek_r1")
    assert "non-reasoning" in tags("plain")
    assert "reasoning" not in tags("plain")


def test_the_catalogue_adds_but_cannot_overstate():
    """A tag of an operator's own is kept, once; a claim that does not hold is not."""
    said = tags("plain", "reasoning", "tools", "chat", "swiss")

    assert "swiss" == said[-1]
    assert 1 == said.count("chat")
    assert not {"reasoning", "tools"} & set(said)
