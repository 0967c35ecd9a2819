from typing import Any

import pytest

from stillhouse.accounts.accounts import Principal
from stillhouse.serving.admission import grammar_charges
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.serving.admission.grammar_charges import GrammarCharges
from stillhouse.telemetry.metrics import Metrics
from stillhouse.types.service_tier import ServiceTier


class Charges(AdmissionController):
    def __init__(self) -> None:
        self.made: list[tuple[Any, ...]] = []

    def charge_work(self, *charge: Any, tier: ServiceTier = ServiceTier.DEFAULT) -> None:
        self.made.append((*charge, tier))


@pytest.fixture
def charges():
    return Charges()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def work(charges, metrics):
    return GrammarCharges(charges, metrics)


def principal(number: int) -> Principal:
    return Principal(number, 10 * number, f"key {number}", f"salt {number}")


def total(metrics: Metrics, where: str) -> tuple[float | None, float | None]:
    labels = {"model": "model", "where": where}
    names = ("stillhouse_grammar_compile_seconds_count", "stillhouse_grammar_compile_seconds_sum")
    count, seconds = (metrics.registry.get_sample_value(name, labels) for name in names)
    return count, seconds


def test_what_is_tried_is_charged_to_its_tier(work, charges, metrics):
    """And counted."""
    work.owner(principal(1), "model", ServiceTier.FLEX).charge(0.25)
    assert [(1, 10, "model", 0.25, ServiceTier.FLEX)] == charges.made
    assert (1, 0.25) == total(metrics, "check")


def test_what_an_engine_compiles_is_charged_to_whose_it_is(work, charges, metrics, monkeypatch):
    """By the cache salt of its requests; the accounts remembered are so many."""
    monkeypatch.setattr(grammar_charges, "_MAX_REMEMBERED", 2)
    for number in (1, 2, 1, 3):
        work.owner(principal(number), "model", ServiceTier.DEFAULT)
    for salt in ("salt 1", "salt 2", "salt 3", "", "unknown"):
        work.compiled("model", salt, 0.5)
    tier = ServiceTier.DEFAULT
    assert [(1, 10, "model", 0.5, tier), (3, 30, "model", 0.5, tier)] == charges.made
    assert (5, 2.5) == total(metrics, "engine")
