from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillhouse.serving.queue.scheduler import COMPLETION_WEIGHT, MOST_PASSES, FairScheduler, Ticket
from stillhouse.types.service_tier import ServiceTier
from tests.effort import examples

TIERS = PRIORITY, DEFAULT, FLEX = (
    ServiceTier.PRIORITY,
    ServiceTier.DEFAULT,
    ServiceTier.FLEX,
)
HEAVY, LIGHT = 1, 2


def make_order(*, max_sequences=4, prompt_window_tokens=100):
    return FairScheduler(max_sequences=max_sequences, prompt_window_tokens=prompt_window_tokens)


def ticket(account_id=HEAVY, tier=DEFAULT, *, key_id=0, n=1, prompt_tokens=10):
    return Ticket(account_id, key_id, tier, n, prompt_tokens)


def join(order, *tickets):
    for each in tickets:
        order.join(each)
    return tickets


def go_all(order):
    """Everybody who has a turn now."""
    return list(iter(order.next, None))


def serve(order, each, completion_tokens=1):
    """Generate an answer, and leave the engine."""
    order.prompt_done(each, cached_tokens=0)
    order.made(each, completion_tokens)
    order.end(each)


# Room at the engine.


def test_as_many_sequences_go_as_the_engine_works_on():
    """The next one goes when one has ended."""
    order = make_order(max_sequences=2, prompt_window_tokens=1000)
    first, second, third = join(order, ticket(), ticket(), ticket())

    assert [first, second] == go_all(order)
    order.end(first)
    assert [third] == go_all(order)


def test_a_request_counts_its_answers():
    """One of four answers fills four places, and each that ends makes room."""
    order = make_order(prompt_window_tokens=1000)
    several, one, two = join(order, ticket(n=4), ticket(), ticket(n=2))

    assert [several] == go_all(order)
    order.end_sequence(several)
    assert [one] == go_all(order)
    order.end_sequence(several)
    assert [] == go_all(order)
    order.end_sequence(several)
    assert [two] == go_all(order)


def test_a_request_of_more_than_the_engine_works_on_goes_alone():
    """Nobody is kept out for ever."""
    order = make_order(max_sequences=2)
    one, several = join(order, ticket(), ticket(n=4))

    assert [one] == go_all(order)
    order.end(one)
    assert [several] == go_all(order)


def test_the_window_of_prompts_ahead():
    """Prompts that are not computed yet fill it, and a first token makes room."""
    order = make_order()
    first, second, third = join(order, *(ticket(prompt_tokens=40) for _ in range(3)))

    assert [first, second] == go_all(order)
    order.prompt_done(first, cached_tokens=0)
    assert [third] == go_all(order)


def test_a_long_prompt_leaves_room_for_a_short_one():
    """What is longer than the window counts for half of it."""
    order = make_order()
    long, short, other_long = join(
        order, *(ticket(prompt_tokens=length) for length in (10_000, 50, 10_000))
    )

    assert [long, short] == go_all(order)
    order.prompt_done(short, cached_tokens=0)
    assert [other_long] == go_all(order)


def test_who_ends_without_a_token_leaves_the_window():
    """A request that fails in its prompt keeps no room."""
    order = make_order()
    first, _, third = join(order, *(ticket(prompt_tokens=50) for _ in range(3)))
    go_all(order)
    order.end(first)

    assert [third] == go_all(order)


@pytest.mark.parametrize(
    ("newcomer", "waits"),
    [
        (ticket(LIGHT, PRIORITY), False),
        (ticket(LIGHT, DEFAULT), True),
        (ticket(LIGHT, FLEX), True),
        (ticket(LIGHT, PRIORITY, n=2), True),
        (ticket(LIGHT, PRIORITY, prompt_tokens=100), True),
    ],
)
def test_who_would_wait(newcomer, waits):
    """Whoever finds others of its tier or a higher one waiting, or no room; none else."""
    order = make_order()
    join(order, ticket(n=2, prompt_tokens=50), ticket(), ticket(n=2))
    go_all(order)

    assert waits == order.would_wait(newcomer)


# Tiers, accounts and keys.


def test_priority_goes_before_default_before_flex():
    """Whatever came first, and whoever was served least."""
    order = make_order(max_sequences=1)
    (running,) = join(order, ticket())
    assert [running] == go_all(order)
    waiting = join(
        order,
        *(ticket(account_id, tier) for account_id in (1, 2) for tier in (FLEX, DEFAULT, PRIORITY)),
    )

    turns = []
    while len(turns) < len(waiting):
        serve(order, running)
        (running,) = go_all(order)
        turns.append(running)
    assert [PRIORITY] * 2 + [DEFAULT] * 2 + [FLEX] * 2 == [turn.tier for turn in turns]


@pytest.mark.parametrize(("lower", "passes"), [(DEFAULT, 3), (FLEX, 15)])
@pytest.mark.parametrize("slots", [1, 4])
def test_whoever_pays_for_a_higher_tier_shuts_out_nobody(lower, passes, slots):
    """Of an account that asks for nothing else, so many sequences go before another's request."""
    order = make_order(max_sequences=slots)
    join(order, *(ticket(HEAVY, PRIORITY) for _ in range(slots + 40)))
    running = go_all(order)
    lights = join(order, *(ticket(LIGHT, lower) for _ in range(2)))
    turns = []
    for _ in range(2 * (passes + 1)):
        serve(order, running.pop(0))
        running += go_all(order)
        turns.append(running[-1])

    assert [passes, 2 * passes + 1] == [turns.index(light) for light in lights]


def test_each_keys_requests_go_in_their_order():
    """Fairness turns nothing around within one."""
    order = make_order(max_sequences=1)
    tickets = join(order, *(ticket() for _ in range(5)))
    turns = []
    while running := order.next():
        turns.append(running)
        serve(order, running)

    assert list(tickets) == turns


def test_a_completion_token_counts_twice_and_a_cached_one_not_at_all():
    """The service of a request, part by part."""
    order = make_order()
    (each,) = join(order, ticket(prompt_tokens=90))
    order.next()
    charged = [order.served(HEAVY, DEFAULT)]
    order.prompt_done(each, cached_tokens=64)
    charged.append(order.served(HEAVY, DEFAULT))
    order.made(each, 5)

    assert [90, 26, 36] == [*charged, order.served(HEAVY, DEFAULT)]


def test_who_leaves_the_queue_was_served_nothing():
    """Nor does anybody wait for it."""
    order = make_order(max_sequences=1)
    running, left, last = join(order, ticket(LIGHT), ticket(), ticket())
    order.next()
    order.leave(left)

    assert 0 == order.served(HEAVY, DEFAULT)
    order.end(running)
    assert [last] == go_all(order)
    order.end(last)
    assert order.is_idle


def test_a_light_account_waits_for_one_turn_of_a_heavy_one():
    """Sixteen requests that were there before do not go before one of another account."""
    order = make_order(max_sequences=1)
    join(order, *(ticket(HEAVY) for _ in range(16)))
    running = order.next()
    (light,) = join(order, ticket(LIGHT))
    serve(order, running)

    assert light is order.next()


def test_idling_earns_no_more_than_the_credit():
    """An account that stayed away while another was served is soon in turns with it."""
    order = make_order(max_sequences=1, prompt_window_tokens=36)
    join(order, *(ticket(HEAVY) for _ in range(110)))
    for _ in range(100):
        serve(order, order.next())
    join(order, *(ticket(LIGHT) for _ in range(13)))
    turns = []
    while running := order.next():
        turns.append(running.account_id)
        serve(order, running)

    assert [LIGHT] * 3 == turns[:3]  # 12 tokens each, as weighted
    for begin in range(3, 23, 2):
        assert {HEAVY, LIGHT} == set(turns[begin : begin + 2])


def test_an_account_within_its_share_goes_first_each_time():
    """It asks for a third of what a full engine does, one at a time: it never waits for two."""
    order = make_order(max_sequences=3, prompt_window_tokens=1000)
    join(order, *(ticket(HEAVY) for _ in range(200)))
    running = go_all(order)
    overtaken = []
    for _ in range(30):
        light, other = join(order, ticket(LIGHT), ticket(LIGHT))
        gone = []
        while not {light, other} <= set(gone):
            serve(order, running.pop(0))
            gone += go_all(order)
        running += gone
        overtaken.append(len(gone) - 2)
        for _ in range(4):
            serve(order, running.pop(0))
            running += go_all(order)

    assert [0] * 30 == overtaken


def test_other_work_is_paid_with_turns():
    """Who let the host work for it, however it did that, waits for who did not."""
    order = make_order(max_sequences=1)
    join(order, *(ticket(HEAVY) for _ in range(10)), *(ticket(LIGHT) for _ in range(10)))
    order.charge(HEAVY, 0, DEFAULT, 4 * 12)  # what four turns cost
    turns = []
    while running := order.next():
        turns.append(running.account_id)
        serve(order, running)

    assert [LIGHT] * 4 == turns[:4]
    assert 10 == turns[4:].count(HEAVY)
    assert {HEAVY, LIGHT} == set(turns[5:7])


# Whatever happens.

MAX_PROMPT, MAX_COMPLETION, MAX_SEQUENCES = 60, 30, 3
lengths = st.tuples(st.integers(1, MAX_PROMPT), st.integers(0, MAX_COMPLETION))


@settings(deadline=None)
@given(
    st.lists(lengths, min_size=2, max_size=60),
    st.lists(lengths, min_size=2, max_size=60),
    st.randoms(use_true_random=False),
)
def test_two_accounts_that_always_wait_are_served_the_same(heavy, light, random):
    """
    Their service differs by no more than one prompt and the completions of a full engine.

    Source: theorem 4.4 of the paper, whose batch is here the sequences at the engine.
    """
    order = make_order(max_sequences=MAX_SEQUENCES)
    bound = MAX_PROMPT + MAX_SEQUENCES * COMPLETION_WEIGHT * MAX_COMPLETION
    lines = {HEAVY: deque(heavy), LIGHT: deque(light)}
    completions = {}
    for account_id, line in lines.items():  # two at a time, so that each always has one that waits
        for _ in range(2):
            join_next(order, account_id, line, completions)
    running = []
    while all(lines.values()):
        for gone in go_all(order):
            running.append(gone)
            join_next(order, gone.account_id, lines[gone.account_id], completions)
        each = running.pop(random.randrange(len(running)))
        serve(order, each, completions[each])

        assert abs(order.served(HEAVY, DEFAULT) - order.served(LIGHT, DEFAULT)) <= bound


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 4), st.integers(1, 25), min_size=2),
    st.integers(1, MAX_PROMPT),
    st.sampled_from(TIERS),
)
def test_the_number_of_its_keys_changes_nothing_for_an_account(num_keys, prompt_tokens, tier):
    """Dispatches fall to accounts as if each of them had a single key."""

    def turns_with(num_keys):
        order = make_order(max_sequences=1)
        for number in range(25):
            for account_id, keys in num_keys.items():
                key_id = 100 * account_id + number % keys
                order.join(ticket(account_id, tier, key_id=key_id, prompt_tokens=prompt_tokens))
        while each := order.next():
            serve(order, each)
            yield each.account_id

    assert list(turns_with(dict.fromkeys(num_keys, 1))) == list(turns_with(num_keys))


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 30)), max_size=8),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_who_comes_and_goes_gets_no_more_than_who_stays(visits, credit, random):
    """Over any time, but for the credit and twice what separates two that both wait."""
    order = make_order(max_sequences=MAX_SEQUENCES, prompt_window_tokens=credit)
    prompt_tokens, most_made = 10, 3
    bound = prompt_tokens + MAX_SEQUENCES * COMPLETION_WEIGHT * most_made
    served, running, least_ahead = {HEAVY: 0, LIGHT: 0}, [], 0
    join(order, *(ticket(HEAVY) for _ in range(500)))
    for pause, num_requests in visits:
        for step in range(pause + 1):
            if step == pause:
                join(order, *(ticket(LIGHT) for _ in range(num_requests)))
            for gone in go_all(order):
                running.append(gone)
                served[gone.account_id] += prompt_tokens
            each = running.pop(random.randrange(len(running)))
            num_made = random.randint(0, most_made)
            serve(order, each, num_made)
            served[each.account_id] += COMPLETION_WEIGHT * num_made
            ahead = served[LIGHT] - served[HEAVY]
            least_ahead = min(least_ahead, ahead)

            assert ahead - least_ahead <= credit + 2 * bound


def join_next(order, account_id, line, completions):
    if line:
        prompt_tokens, completion_tokens = line.popleft()
        (each,) = join(order, ticket(account_id, key_id=len(line) % 3, prompt_tokens=prompt_tokens))
        completions[each] = completion_tokens


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.lists(lengths, min_size=60, max_size=60))
def test_ten_times_the_load_delays_another_account_by_turns_that_are_counted(before, slots, sizes):
    """However many a heavy account has waiting, a light one's goes before all of them."""
    order = make_order(max_sequences=slots)
    join(
        order,
        *(
            ticket(HEAVY, key_id=number, prompt_tokens=prompt)  # each with a key of its own
            for number, (prompt, _) in enumerate(sizes[: 10 + before])
        ),
    )
    running = go_all(order)
    (light,) = join(order, ticket(LIGHT, prompt_tokens=MAX_PROMPT))
    while not (gone := go_all(order)):
        serve(order, running.pop(0), MAX_COMPLETION)

    assert light is gone[0]


class Model:
    """What is true of the queue, kept in the plainest way."""

    def __init__(self, max_sequences, window):
        self.order = make_order(max_sequences=max_sequences, prompt_window_tokens=window)
        self.max_sequences, self.window = max_sequences, window
        self.waiting: list[Ticket] = []
        self.running: dict[Ticket, int] = {}
        self.computing: list[Ticket] = []
        self.passes = Counter()

    def due_tier(self):
        tiers = sorted({each.tier for each in self.waiting}, key=TIERS.index)
        passed = [tier for tier in tiers[1:] if self.passes[tier] >= MOST_PASSES[tier]]
        return passed[-1] if passed else tiers[0]

    def count_passes(self, gone):
        for tier in {each.tier for each in self.waiting} - {gone.tier}:
            self.passes[tier] += gone.num_sequences
        del self.passes[gone.tier]

    def remove(self, each):
        self.waiting.remove(each)
        if each.tier not in {other.tier for other in self.waiting}:
            del self.passes[each.tier]

    def share(self, each):
        return min(each.prompt_tokens, self.window // 2)

    def fits(self, each):
        ahead = sum(map(self.share, self.computing))
        return not self.running or (
            sum(self.running.values()) + each.num_sequences <= self.max_sequences
            and ahead + self.share(each) <= self.window
        )

    def go(self):
        while True:
            served = {each: self.order.served(each.account_id, each.tier) for each in self.waiting}
            by_key = {
                each: self.order.served_key(each.account_id, each.key_id, each.tier)
                for each in self.waiting
            }
            if (gone := self.order.next()) is None:
                break
            assert self.fits(gone)
            assert self.due_tier() is gone.tier
            self.count_passes(gone)
            same_tier = [each for each in served if each.tier is gone.tier]
            assert min(served[each] for each in same_tier) == served[gone]
            of_account = [each for each in same_tier if each.account_id == gone.account_id]
            assert min(by_key[each] for each in of_account) == by_key[gone]
            assert gone is next(each for each in of_account if each.key_id == gone.key_id)
            self.remove(gone)
            self.running[gone] = gone.num_sequences
            self.computing.append(gone)
        # Work conserving: where anybody waits, one of those is kept back for want of room.
        assert not self.waiting or not all(self.fits(each) for each in self.waiting)


@settings(deadline=None, max_examples=examples(200))
@given(st.data())
def test_whatever_happens_the_order_holds(data):
    """Bounds, tiers, accounts, keys, their own order and work conservation, over any events."""
    model = Model(data.draw(st.integers(1, 6)), data.draw(st.integers(1, 80)))
    tiers = st.sampled_from(list(ServiceTier))
    for _ in range(data.draw(st.integers(1, 60))):
        kinds = ["join"]
        kinds += ["leave"] if model.waiting else []
        kinds += ["end", "token"] if model.running else []
        kinds += ["prompt"] if model.computing else []
        match data.draw(st.sampled_from(kinds)):
            case "join":
                each = ticket(
                    data.draw(st.integers(1, 3)),
                    data.draw(tiers),
                    key_id=data.draw(st.integers(1, 3)),
                    n=data.draw(st.integers(1, 4)),
                    prompt_tokens=data.draw(st.integers(1, 100)),
                )
                model.order.join(each)
                model.waiting.append(each)
            case "leave":
                each = data.draw(st.sampled_from(model.waiting))
                model.order.leave(each)
                model.remove(each)
            case "token":
                model.order.made(data.draw(st.sampled_from(list(model.running))), 1)
            case "prompt":
                each = data.draw(st.sampled_from(model.computing))
                cached = data.draw(st.integers(0, each.prompt_tokens))
                model.order.prompt_done(each, cached_tokens=cached)
                model.computing.remove(each)
            case "end":
                each = data.draw(st.sampled_from(list(model.running)))
                if model.running[each] > 1:
                    model.order.end_sequence(each)
                    model.running[each] -= 1
                else:
                    model.order.end(each)
                    del model.running[each]
                    model.computing = [other for other in model.computing if other is not each]
        model.go()
    assert model.order.is_idle == (not model.waiting and not model.running)
