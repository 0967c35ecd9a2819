from __future__ import annotations

from dataclasses import dataclass

import pytest

from stillhouse.serving.registry.router import pick_replica


@dataclass
class Load:
    name: str
    num_sequences: int
    max_sequences: int = 4
    is_serving: bool = True


@pytest.mark.parametrize(
    ("loads", "num_sequences", "picked"),
    [
        ([Load("a", 3), Load("b", 1)], 1, "b"),
        ([Load("a", 1), Load("b", 1)], 1, "a"),
        ([Load("a", 1), Load("b", 5, max_sequences=16)], 1, "b"),
        ([Load("a", 4), Load("b", 4)], 1, None),
        ([Load("a", 3), Load("b", 3)], 2, None),
        ([Load("a", 0, is_serving=False), Load("b", 3)], 1, "b"),
        ([Load("a", 0, is_serving=False)], 1, None),
        ([Load("a", 1, max_sequences=64), Load("b", 0)], 70, "b"),
        ([], 1, None),
    ],
    ids=[
        "most free slots",
        "of equals the first",
        "free slots count, not used ones",
        "all are full",
        "all answers need one replica",
        "a replica that restarts is left out",
        "none serves",
        "more answers than any has slots",
        "no replica",
    ],
)
def test_the_router_picks_the_serving_replica_with_most_free_slots(loads, num_sequences, picked):
    """And one with room for all answers of the request."""
    replica = pick_replica(loads, num_sequences)

    assert picked == (replica and replica.name)
