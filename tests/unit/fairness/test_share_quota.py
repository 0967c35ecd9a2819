from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.fairness.share_quota import ShareQuota


def try_to_take(quota, account_id, key_id):
    if quota.is_full or quota.has_share(account_id, key_id):
        return False
    quota.acquire(account_id, key_id)
    return True


def fill(quota, account_id, key_id=0):
    """Take all that it gets, and return how many these are."""
    count = 0
    while try_to_take(quota, account_id, key_id):
        count += 1
    return count


def fill_with_keys(quota, account_id, num_keys):
    """The same, by many keys in turn."""
    taken = []
    while new := [key for key in range(num_keys) if try_to_take(quota, account_id, key)]:
        taken += new
    return taken


@settings(deadline=None)
@given(st.integers(8, 300), st.integers(1, 40))
def test_an_account_has_no_more_slots_by_having_more_keys(num_slots, num_keys):
    """Another one always gets the last eighth, and a third of all that comes free."""
    quota = ShareQuota(num_slots)
    heavy = fill_with_keys(quota, 1, num_keys)
    light = fill(quota, 2)
    for key_id in heavy:
        quota.release(1, key_id)
        light += fill(quota, 2)
        if light >= num_slots // 3:
            break
        fill_with_keys(quota, 1, num_keys)

    assert len(heavy) <= num_slots - num_slots // 8
    assert light >= num_slots // 3 - num_slots // 24 - 1  # but for the last eighth of its own


def test_a_key_leaves_slots_for_its_accounts_other_keys():
    """The same rule inside what the account can have."""
    quota = ShareQuota(96)
    first = fill(quota, 1, key_id=1)
    second = fill(quota, 1, key_id=2)

    assert (84 - 10, 10) == (first, second)
    assert 12 == fill(quota, 2)  # less than its share, of which it keeps an eighth for others


@settings(deadline=None)
@given(
    st.integers(8, 64),
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(-20, 40)), max_size=20),
)
def test_whatever_others_do_an_account_has_its_part(num_slots, changes):
    """A key of an account below its share is refused for want of slots, or beside its siblings."""
    quota, taken = ShareQuota(num_slots), {}
    for account_id, key_id, change in changes:
        for _ in range(min(-change, taken.get((account_id, key_id), 0))):
            quota.release(account_id, key_id)
            taken[account_id, key_id] -= 1
        for _ in range(change):
            by_account = {
                account: sum(n for (a, _), n in taken.items() if a == account)
                for account in {a for (a, _), n in taken.items() if n}
            }
            mine = by_account.get(account_id, 0)
            share = num_slots / (len(by_account.keys() | {account_id}) + 1)
            num_free = num_slots - sum(by_account.values())
            if try_to_take(quota, account_id, key_id):
                taken[account_id, key_id] = taken.get((account_id, key_id), 0) + 1
                assert num_free > 0
            elif num_free == 0:
                assert quota.is_full
            elif mine < share:
                assert taken.get((account_id, key_id), 0) > 0
                assert mine >= share - share / 8 - 1
            else:
                assert num_free <= num_slots // 8 + num_slots // 8
