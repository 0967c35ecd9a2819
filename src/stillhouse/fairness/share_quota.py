"""Limits how many slots each account, and each of its keys, may take."""

from __future__ import annotations

from collections import Counter

#: One part in this many is reserved for holders below their share.
_LAST_PART = 8


class ShareQuota:
    """
    Counts the taken slots by account, and by key inside it.

    The last eighth is reserved for accounts below their share, which is what each would have if one
    account more were present: with *k* accounts, a (*k*+1)th part. An account's keys divide its
    part by the same rule. Below 8 slots nothing is reserved.

    Args:
        num_slots: The number of slots.

    """

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._accounts: Counter[int] = Counter()
        self._keys: dict[int, Counter[int]] = {}  # by account
        self._num_taken = 0

    def acquire(self, account_id: int, key_id: int) -> None:
        """Takes a slot; the caller has checked `is_full` and `has_share`."""
        self._num_taken += 1
        self._accounts[account_id] += 1
        self._keys.setdefault(account_id, Counter())[key_id] += 1

    def release(self, account_id: int, key_id: int) -> None:
        """Frees a slot."""
        self._num_taken -= 1
        _decrease(self._accounts, account_id)
        _decrease(self._keys[account_id], key_id)
        if not self._keys[account_id]:
            del self._keys[account_id]

    @property
    def is_full(self) -> bool:
        """Whether every slot is taken."""
        return self._num_taken >= self._num_slots

    def has_share(self, account_id: int, key_id: int) -> bool:
        """Whether the account, or its key, has as many slots as it may have now."""
        num_taken = self._accounts[account_id]
        for_account = _most(self._num_slots, num_taken, self._num_taken, len(self._accounts))
        if num_taken >= for_account:
            return True
        if not num_taken:
            return False
        keys = self._keys[account_id]
        return keys[key_id] >= _most(for_account, keys[key_id], num_taken, len(keys))


def _most(num_slots: int, num_taken: int, num_taken_by_all: int, num_holders: int) -> int:
    """
    Returns how many of *num_slots* a holder may have, given what the others have.

    That is all but the last eighth, less what the others have; or its share, if that is more.
    """
    num_taken_by_others = num_taken_by_all - num_taken
    share = -(-num_slots // (num_holders + 1))
    return max(share, num_slots - num_slots // _LAST_PART - num_taken_by_others)


def _decrease(counts: Counter[int], owner_id: int) -> None:
    counts[owner_id] -= 1
    if not counts[owner_id]:
        del counts[owner_id]
