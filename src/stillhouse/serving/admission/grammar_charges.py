"""Work on grammars, charged to those who asked for it."""

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
    Charges what is compiled for accounts to their turns, and counts it.

    An engine knows no accounts and tells for which cache salt it has compiled; whose that is, is
    remembered from their requests, the last thousand accounts with grammars.
    """

    def __init__(self, places: AdmissionController, metrics: Metrics) -> None:
        self._places = places
        self._metrics = metrics
        self._owners: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def owner(self, principal: Principal, model_id: str, tier: ServiceTier) -> Owner:
        """Return who asks for a grammar, and remember it."""
        account_id, key_id = principal.account_id, principal.key_id
        self._owners[principal.cache_salt] = (account_id, key_id)
        self._owners.move_to_end(principal.cache_salt)
        if len(self._owners) > _MAX_REMEMBERED:
            self._owners.popitem(last=False)

        def charge(seconds: float) -> None:
            self._metrics.grammar_s.labels(model_id, "check").observe(seconds)
            self._places.charge_work(account_id, key_id, model_id, seconds, tier=tier)

        return Owner(account_id, key_id, charge)

    def compiled(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charge the time in which a model's engine has compiled."""
        self._metrics.grammar_s.labels(model_id, "engine").observe(seconds)
        if owner := self._owners.get(cache_salt):
            account_id, key_id = owner
            self._places.charge_work(account_id, key_id, model_id, seconds)
