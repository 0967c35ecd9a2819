"""Charges the compilation of grammars to the accounts that requested them."""

from __future__ import annotations

from collections import OrderedDict

from stillhouse.accounts.accounts import Principal
from stillhouse.serving.admission.controller import AdmissionController
from stillhouse.telemetry.metrics import Metrics
from stillhouse.text.grammar.compiler import Owner
from stillhouse.types.service_tier import ServiceTier

_MAX_REMEMBERED = 1000


class GrammarCharges:
    """
    Charges compilation time to an account's share of the engine, and counts it for the metrics.

    An engine knows no accounts, and reports the cache salt that it has compiled for. This maps the
    salts of the last thousand accounts that used grammars to their accounts.
    """

    def __init__(self, admission: AdmissionController, metrics: Metrics) -> None:
        self._admission = admission
        self._metrics = metrics
        self._owners: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def owner(self, principal: Principal, model_id: str, tier: ServiceTier) -> Owner:
        """Returns the owner that the compiler charges for a grammar."""
        account_id, key_id = principal.account_id, principal.key_id
        self._owners[principal.cache_salt] = (account_id, key_id)
        self._owners.move_to_end(principal.cache_salt)
        if len(self._owners) > _MAX_REMEMBERED:
            self._owners.popitem(last=False)

        def charge(seconds: float) -> None:
            self._metrics.grammar_s.labels(model_id, "check").observe(seconds)
            self._admission.charge_work(account_id, key_id, model_id, seconds, tier=tier)

        return Owner(account_id, key_id, charge)

    def compiled(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charges the time that a model's engine spent compiling."""
        self._metrics.grammar_s.labels(model_id, "engine").observe(seconds)
        if owner := self._owners.get(cache_salt):
            account_id, key_id = owner
            self._admission.charge_work(account_id, key_id, model_id, seconds)
