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


def make_scheduler(*, max_sequences=4, prompt_window_tokens=100):
    return FairScheduler(max_sequences=max_sequences, prompt_window_tokens=prompt_window_tokens)


def ticket(account_id=HEAVY, tier=DEFAULT, *, key_id=0, n=1, prompt_tokens=10):
    return Ticket(account_id, key_id, tier, n, prompt_tokens)


def join(scheduler, *tickets):
    for each in tickets:
        scheduler.join(each)
    return tickets


def dispatch_all(scheduler):
    """Everybody who has a turn now."""
    return list(iter(scheduler.dispatch_next, None))


def serve(scheduler, each, completion_tokens=1):
    """Generate an answer, and leave the engine."""
    scheduler.end_prompt(each, cached_tokens=0)
    scheduler.charge_completion(each, completion_tokens)
    scheduler.end(each)


# Room at the engine.


def test_as_many_sequences_go_as_the_engine_works_on():
    """The next one goes when one has ended."""
    scheduler = make_scheduler(max_sequences=2, prompt_window_tokens=1000)
    first, second, third = join(scheduler, ticket(), ticket(), ticket())

    assert [first, second] == dispatch_all(scheduler)
    scheduler.end(first)
    assert [third] == dispatch_all(scheduler)


def test_a_request_counts_its_answers():
    """One of four answers fills four places, and each that ends makes room."""
    scheduler = make_scheduler(prompt_window_tokens=1000)
    several, one, two = join(scheduler, ticket(n=4), ticket(), ticket(n=2))

    assert [several] == dispatch_all(scheduler)
    scheduler.end_sequence(several)
    assert [one] == dispatch_all(scheduler)
    scheduler.end_sequence(several)
    assert [] == dispatch_all(scheduler)
    scheduler.end_sequence(several)
    assert [two] == dispatch_all(scheduler)


def test_a_request_of_more_than_the_engine_works_on_goes_alone():
    """Nobody is kept out for ever."""
    scheduler = make_scheduler(max_sequences=2)
    one, several = join(scheduler, ticket(), ticket(n=4))

    assert [one] == dispatch_all(scheduler)
    scheduler.end(one)
    assert [several] == dispatch_all(scheduler)


def test_the_window_of_prompts_ahead():
    """Prompts that are not computed yet fill it, and a first token makes room."""
    scheduler = make_scheduler()
    first, second, third = join(scheduler, *(ticket(prompt_tokens=40) for _ in range(3)))

    assert [first, second] == dispatch_all(scheduler)
    scheduler.end_prompt(first, cached_tokens=0)
    assert [third] == dispatch_all(scheduler)


def test_a_long_prompt_leaves_room_for_a_short_one():
    """What is longer than the window counts for half of it."""
    scheduler = make_scheduler()
    long, short, other_long = join(
        scheduler, *(ticket(prompt_tokens=length) for length in (10_000, 50, 10_000))
    )

    assert [long, short] == dispatch_all(scheduler)
    scheduler.end_prompt(short, cached_tokens=0)
    assert [other_long] == dispatch_all(scheduler)


def test_who_ends_without_a_token_leaves_the_window():
    """A request that fails in its prompt keeps no room."""
    scheduler = make_scheduler()
    first, _, third = join(scheduler, *(ticket(prompt_tokens=50) for _ in range(3)))
    dispatch_all(scheduler)
    scheduler.end(first)

    assert [third] == dispatch_all(scheduler)


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
    scheduler = make_scheduler()
    join(scheduler, ticket(n=2, prompt_tokens=50), ticket(), ticket(n=2))
    dispatch_all(scheduler)

    assert waits == scheduler.would_wait(newcomer)


# Tiers, accounts and keys.


def test_priority_goes_before_default_before_flex():
    """Whatever came first, and whoever was served least."""
    scheduler = make_scheduler(max_sequences=1)
    (running,) = join(scheduler, ticket())
    assert [running] == dispatch_all(scheduler)
    waiting = join(
        scheduler,
        *(ticket(account_id, tier) for account_id in (1, 2) for tier in (FLEX, DEFAULT, PRIORITY)),
    )

    dispatched = []
    while len(dispatched) < len(waiting):
        serve(scheduler, running)
        (running,) = dispatch_all(scheduler)
        dispatched.append(running)
    assert [PRIORITY] * 2 + [DEFAULT] * 2 + [FLEX] * 2 == [each.tier for each in dispatched]


@pytest.mark.parametrize(("lower", "passes"), [(DEFAULT, 3), (FLEX, 15)])
@pytest.mark.parametrize("slots", [1, 4])
def test_whoever_pays_for_a_higher_tier_shuts_out_nobody(lower, passes, slots):
    """Of an account that asks for nothing else, so many sequences go before another's request."""
    scheduler = make_scheduler(max_sequences=slots)
    join(scheduler, *(ticket(HEAVY, PRIORITY) for _ in range(slots + 40)))
    running = dispatch_all(scheduler)
    lights = join(scheduler, *(ticket(LIGHT, lower) for _ in range(2)))
    dispatched = []
    for _ in range(2 * (passes + 1)):
        serve(scheduler, running.pop(0))
        running += dispatch_all(scheduler)
        dispatched.append(running[-1])

    assert [passes, 2 * passes + 1] == [dispatched.index(light) for light in lights]


def test_each_keys_requests_go_in_their_order():
    """Fairness turns nothing around within one."""
    scheduler = make_scheduler(max_sequences=1)
    tickets = join(scheduler, *(ticket() for _ in range(5)))
    dispatched = []
    while running := scheduler.dispatch_next():
        dispatched.append(running)
        serve(scheduler, running)

    assert list(tickets) == dispatched


def test_a_completion_token_counts_twice_and_a_cached_one_not_at_all():
    """The service of a request, part by part."""
    scheduler = make_scheduler()
    (each,) = join(scheduler, ticket(prompt_tokens=90))
    scheduler.dispatch_next()
    charged = [scheduler.served(HEAVY, DEFAULT)]
    scheduler.end_prompt(each, cached_tokens=64)
    charged.append(scheduler.served(HEAVY, DEFAULT))
    scheduler.charge_completion(each, 5)

    assert [90, 26, 36] == [*charged, scheduler.served(HEAVY, DEFAULT)]


def test_who_leaves_the_queue_was_served_nothing():
    """Nor does anybody wait for it."""
    scheduler = make_scheduler(max_sequences=1)
    running, left, last = join(scheduler, ticket(LIGHT), ticket(), ticket())
    scheduler.dispatch_next()
    scheduler.leave(left)

    assert 0 == scheduler.served(HEAVY, DEFAULT)
    scheduler.end(running)
    assert [last] == dispatch_all(scheduler)
    scheduler.end(last)
    assert scheduler.is_idle


def test_a_light_account_waits_for_one_turn_of_a_heavy_one():
    """Sixteen requests that were there before do not go before one of another account."""
    scheduler = make_scheduler(max_sequences=1)
    join(scheduler, *(ticket(HEAVY) for _ in range(16)))
    running = scheduler.dispatch_next()
    (light,) = join(scheduler, ticket(LIGHT))
    serve(scheduler, running)

    assert light is scheduler.dispatch_next()


def test_idling_earns_no_more_than_the_credit():
    """An account that stayed away while another was served is soon in turns with it."""
    scheduler = make_scheduler(max_sequences=1, prompt_window_tokens=36)
    join(scheduler, *(ticket(HEAVY) for _ in range(110)))
    for _ in range(100):
        serve(scheduler, scheduler.dispatch_next())
    join(scheduler, *(ticket(LIGHT) for _ in range(13)))
    dispatched = []
    while running := scheduler.dispatch_next():
        dispatched.append(running.account_id)
        serve(scheduler, running)

    assert [LIGHT] * 3 == dispatched[:3]  # 12 tokens each, as weighted
    for begin in range(3, 23, 2):
        assert {HEAVY, LIGHT} == set(dispatched[begin : begin + 2])


def test_an_account_within_its_share_goes_first_each_time():
    """It asks for a third of what a full engine does, one at a time: it never waits for two."""
    scheduler = make_scheduler(max_sequences=3, prompt_window_tokens=1000)
    join(scheduler, *(ticket(HEAVY) for _ in range(200)))
    running = dispatch_all(scheduler)
    overtaken = []
    for _ in range(30):
        light, other = join(scheduler, ticket(LIGHT), ticket(LIGHT))
        gone = []
        while not {light, other} <= set(gone):
            serve(scheduler, running.pop(0))
            gone += dispatch_all(scheduler)
        running += gone
        overtaken.append(len(gone) - 2)
        for _ in range(4):
            serve(scheduler, running.pop(0))
            running += dispatch_all(scheduler)

    assert [0] * 30 == overtaken


def test_other_work_is_paid_with_turns():
    """Who let the host work for it, however it did that, waits for who did not."""
    scheduler = make_scheduler(max_sequences=1)
    join(scheduler, *(ticket(HEAVY) for _ in range(10)), *(ticket(LIGHT) for _ in range(10)))
    scheduler.charge(HEAVY, 0, DEFAULT, 4 * 12)  # what four turns cost
    dispatched = []
    while running := scheduler.dispatch_next():
        dispatched.append(running.account_id)
        serve(scheduler, running)

    assert [LIGHT] * 4 == dispatched[:4]
    assert 10 == dispatched[4:].count(HEAVY)
    assert {HEAVY, LIGHT} == set(dispatched[5:7])


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
    scheduler = make_scheduler(max_sequences=MAX_SEQUENCES)
    bound = MAX_PROMPT + MAX_SEQUENCES * COMPLETION_WEIGHT * MAX_COMPLETION
    lines = {HEAVY: deque(heavy), LIGHT: deque(light)}
    completions = {}
    for account_id, line in lines.items():  # two at a time, so that each always has one that waits
        for _ in range(2):
            join_next(scheduler, account_id, line, completions)
    running = []
    while all(lines.values()):
        for gone in dispatch_all(scheduler):
            running.append(gone)
            join_next(scheduler, gone.account_id, lines[gone.account_id], completions)
        each = running.pop(random.randrange(len(running)))
        serve(scheduler, each, completions[each])

        assert abs(scheduler.served(HEAVY, DEFAULT) - scheduler.served(LIGHT, DEFAULT)) <= bound


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 4), st.integers(1, 25), min_size=2),
    st.integers(1, MAX_PROMPT),
    st.sampled_from(TIERS),
)
def test_the_number_of_its_keys_changes_nothing_for_an_account(num_keys, prompt_tokens, tier):
    """Dispatches fall to accounts as if each of them had a single key."""

    def turns_with(num_keys):
        scheduler = make_scheduler(max_sequences=1)
        for number in range(25):
            for account_id, keys in num_keys.items():
                key_id = 100 * account_id + number % keys
                scheduler.join(ticket(account_id, tier, key_id=key_id, prompt_tokens=prompt_tokens))
        while each := scheduler.dispatch_next():
            serve(scheduler, each)
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
    scheduler = make_scheduler(max_sequences=MAX_SEQUENCES, prompt_window_tokens=credit)
    prompt_tokens, most_made = 10, 3
    bound = prompt_tokens + MAX_SEQUENCES * COMPLETION_WEIGHT * most_made
    served, running, least_ahead = {HEAVY: 0, LIGHT: 0}, [], 0
    join(scheduler, *(ticket(HEAVY) for _ in range(500)))
    for pause, num_requests in visits:
        for step in range(pause + 1):
            if step == pause:
                join(scheduler, *(ticket(LIGHT) for _ in range(num_requests)))
            for gone in dispatch_all(scheduler):
                running.append(gone)
                served[gone.account_id] += prompt_tokens
            each = running.pop(random.randrange(len(running)))
            num_made = random.randint(0, most_made)
            serve(scheduler, each, num_made)
            served[each.account_id] += COMPLETION_WEIGHT * num_made
            ahead = served[LIGHT] - served[HEAVY]
            least_ahead = min(least_ahead, ahead)

            assert ahead - least_ahead <= credit + 2 * bound


def join_next(scheduler, account_id, line, completions):
    if line:
        prompt_tokens, completion_tokens = line.popleft()
        new = ticket(account_id, key_id=len(line) % 3, prompt_tokens=prompt_tokens)
        (each,) = join(scheduler, new)
        completions[each] = completion_tokens


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 6), st.lists(lengths, min_size=60, max_size=60))
def test_ten_times_the_load_delays_another_account_by_turns_that_are_counted(before, slots, sizes):
    """However many a heavy account has waiting, a light one's goes before all of them."""
    scheduler = make_scheduler(max_sequences=slots)
    join(
        scheduler,
        *(
            ticket(HEAVY, key_id=number, prompt_tokens=prompt)  # each with a key of its own
            for number, (prompt, _) in enumerate(sizes[: 10 + before])
        ),
    )
    running = dispatch_all(scheduler)
    (light,) = join(scheduler, ticket(LIGHT, prompt_tokens=MAX_PROMPT))
    while not (gone := dispatch_all(scheduler)):
        serve(scheduler, running.pop(0), MAX_COMPLETION)

    assert light is gone[0]


class Model:
    """What is true of the queue, kept in the plainest way."""

    def __init__(self, max_sequences, window):
        self.scheduler = make_scheduler(max_sequences=max_sequences, prompt_window_tokens=window)
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
            served = {
                each: self.scheduler.served(each.account_id, each.tier) for each in self.waiting
            }
            by_key = {
                each: self.scheduler.served_key(each.account_id, each.key_id, each.tier)
                for each in self.waiting
            }
            if (gone := self.scheduler.dispatch_next()) is None:
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
    """Bounds, tiers, accounts, keys, their own scheduler and work conservation, over any events."""
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
                model.scheduler.join(each)
                model.waiting.append(each)
            case "leave":
                each = data.draw(st.sampled_from(model.waiting))
                model.scheduler.leave(each)
                model.remove(each)
            case "token":
                each = data.draw(st.sampled_from(list(model.running)))
                model.scheduler.charge_completion(each, 1)
            case "prompt":
                each = data.draw(st.sampled_from(model.computing))
                cached = data.draw(st.integers(0, each.prompt_tokens))
                model.scheduler.end_prompt(each, cached_tokens=cached)
                model.computing.remove(each)
            case "end":
                each = data.draw(st.sampled_from(list(model.running)))
                if model.running[each] > 1:
                    model.scheduler.end_sequence(each)
                    model.running[each] -= 1
                else:
                    model.scheduler.end(each)
                    del model.running[each]
                    model.computing = [other for other in model.computing if other is not each]
        model.go()
    assert model.scheduler.is_idle == (not model.waiting and not model.running)
