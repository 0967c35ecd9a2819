from typing import Any

import pytest

from stillhouse.accounts.accounts import Principal
from stillhouse.serving import grammar_work
from stillhouse.serving.grammar_work import GrammarWork


class Charges:
    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def charge_work(self, *charge: Any) -> None:
        self.made.append(charge)


def test_what_an_engine_compiles_is_charged_to_whose_it_is(monkeypatch):
    """By the cache salt of its requests; the accounts remembered are so many."""
    monkeypatch.setattr(grammar_work, "_MAX_REMEMBERED", 2)
    charges = Charges()
    work = GrammarWork(charges)
    for number in (1, 2, 1, 3):
        work.expect(Principal(number, 10 * number, f"key {number}", f"salt {number}"))
    for number in (1, 2, 3):
        work.charge("model", f"salt {number}", 0.5)
    assert [(1, 10, "model", 0.5), (3, 30, "model", 0.5)] == charges.made


@pytest.mark.parametrize("salt", ["", "unknown"])
def test_what_nobody_asked_for_is_charged_to_nobody(salt):
    """An engine cannot make up an account."""
    charges = Charges()
    GrammarWork(charges).charge("model", salt, 1)
    assert [] == charges.made
