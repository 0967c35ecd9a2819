"""Work on grammars, charged to those who asked for it."""

from __future__ import annotations

from collections import OrderedDict

from stillhouse.accounts.accounts import Principal
from stillhouse.serving.places import Places

_MAX_REMEMBERED = 1000


class GrammarWork:
    """
    Charges what engines compile to accounts, which engines do not know.

    An engine tells for which cache salt it has compiled; whose that is, is remembered from their
    requests, the last thousand accounts with grammars.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._owners: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def expect(self, principal: Principal) -> None:
        """Remember who asks for a grammar."""
        self._owners[principal.cache_salt] = (principal.account_id, principal.key_id)
        self._owners.move_to_end(principal.cache_salt)
        if len(self._owners) > _MAX_REMEMBERED:
            self._owners.popitem(last=False)

    def charge(self, model_id: str, cache_salt: str, seconds: float) -> None:
        """Charge the time in which an engine has compiled."""
        if owner := self._owners.get(cache_salt):
            account_id, key_id = owner
            self._places.charge_work(account_id, key_id, model_id, seconds)
