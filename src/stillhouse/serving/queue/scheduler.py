"""Who goes next: mostly the higher tier, then the account that was served least, then its key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stillhouse.fairness.queue import FairQueue
from stillhouse.types.service_tier import ServiceTier

#: A completion's token is a step of the whole model, a prompt's one a row of a large product.
COMPLETION_WEIGHT = 2

#: The first of these that waits goes first.
_TIERS = (ServiceTier.PRIORITY, ServiceTier.DEFAULT, ServiceTier.FLEX)

#: So many sequences of other tiers go before one that waits, at most: whoever pays for a higher
#: tier has three quarters of the turns, or fifteen sixteenths, but shuts out nobody.
MOST_PASSES = {ServiceTier.PRIORITY: 0, ServiceTier.DEFAULT: 3, ServiceTier.FLEX: 15}


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """
    One request in the queue; each is itself alone.

    Args:
        key_id: Of the account.
        num_sequences: How many answers it has; each is a sequence of the engine.
        prompt_tokens: Of the prompt, which they share.

    """

    account_id: int
    key_id: int
    tier: ServiceTier
    num_sequences: int
    prompt_tokens: int


@dataclass(slots=True)
class _InFlight:
    """
    A request at the engine.

    Args:
        num_sequences: Those that have not ended.
        prompt_ahead: What it holds of the window; 0 from its first token on.

    """

    num_sequences: int
    prompt_ahead: int


#: Whether one replica has room for so many sequences.
Fits = Callable[[int], bool]


def _fits_always(_num_sequences: int) -> bool:
    return True


class FairScheduler:
    """
    Decides which request goes to a model's engines next; a pure state without any engine.

    The engine serves what it is given in the order of arrival, so it is given little ahead: as
    many sequences as it works on at once, and of prompts that it has yet to compute no more than a
    window. A prompt counts for at most half of that, so that a long one, which the engine computes
    beside others, leaves room for a short one; one request always goes.

    Args:
        max_sequences: Most sequences at the engine; a request of more goes alone.
        prompt_window_tokens: Of prompts whose first token has not come yet; and the weighted tokens
            by which an account, or a key in it, that comes may be ahead of those that wait.

    """

    def __init__(self, *, max_sequences: int, prompt_window_tokens: int) -> None:
        self._max_sequences = max_sequences
        self._num_replicas = 1
        self._prompt_window_tokens = prompt_window_tokens
        self._queues: dict[ServiceTier, FairQueue[Ticket]] = {
            tier: FairQueue(credit=prompt_window_tokens) for tier in _TIERS
        }
        self._passes = dict.fromkeys(_TIERS, 0)  # sequences that went before what waits in a tier
        self._going: dict[Ticket, _InFlight] = {}
        self._num_sequences = 0
        self._prompt_ahead = 0

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing is at the engine."""
        return not self._going and not any(self._queues.values())

    def num_waiting(self, tier: ServiceTier) -> int:
        """How many wait that go before or beside a newcomer of *tier*."""
        return sum(len(self._queues[other]) for other in _up_to(tier))

    def resize(self, *, max_sequences: int, num_replicas: int) -> None:
        """Set the capacity: the slots of all replicas that serve, and a prompt window for each."""
        self._max_sequences = max_sequences
        self._num_replicas = num_replicas

    def would_wait(self, ticket: Ticket, fits: Fits = _fits_always) -> bool:
        """Whether *ticket*, not in the queue yet, could not go at once."""
        return self.num_waiting(ticket.tier) > 0 or not self._has_room(ticket, fits)

    def join(self, ticket: Ticket) -> None:
        """Let it wait."""
        self._queues[ticket.tier].push(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Take out one that waits; it was served nothing."""
        queue = self._queues[ticket.tier]
        queue.remove(ticket)
        if not queue:
            self._passes[ticket.tier] = 0

    def next(self, fits: Fits = _fits_always) -> Ticket | None:
        """
        Let the next request go, and charge its prompt; None where it has to wait.

        Args:
            fits: Whether one replica has room for so many sequences.

        """
        queue = self._due()
        if queue is None or (ticket := queue.first()) is None or not self._has_room(ticket, fits):
            return None
        queue.take(ticket)
        self._count_passes(ticket)
        queue.charge_item(ticket, ticket.prompt_tokens)
        going = _InFlight(ticket.num_sequences, self._share(ticket))
        self._going[ticket] = going
        self._num_sequences += going.num_sequences
        self._prompt_ahead += going.prompt_ahead
        return ticket

    def prompt_done(self, ticket: Ticket, *, cached_tokens: int) -> None:
        """Its prompt is computed, but for *cached_tokens*, which cost nothing."""
        going = self._going[ticket]
        self._prompt_ahead -= going.prompt_ahead
        going.prompt_ahead = 0
        self._queues[ticket.tier].charge_item(ticket, -cached_tokens)

    def made(self, ticket: Ticket, num_tokens: int) -> None:
        """Tokens of a completion have come."""
        self._queues[ticket.tier].charge_item(ticket, COMPLETION_WEIGHT * num_tokens)

    def charge(self, account_id: int, key_id: int, tier: ServiceTier, amount: int) -> None:
        """Count other work for an account, in weighted tokens, as if the engine had done it."""
        self._queues[tier].charge(account_id, key_id, amount)

    def end_sequence(self, ticket: Ticket) -> None:
        """One of its sequences has ended."""
        self._going[ticket].num_sequences -= 1
        self._num_sequences -= 1

    def requeue(self, ticket: Ticket) -> None:
        """Put one of which nothing was computed before all that its key has waiting."""
        queue = self._queues[ticket.tier]
        queue.charge_item(ticket, -ticket.prompt_tokens)
        queue.push(ticket, at_front=True)
        self.end(ticket)

    def end(self, ticket: Ticket) -> None:
        """Nothing of it is at the engine any more."""
        going = self._going.pop(ticket)
        self._num_sequences -= going.num_sequences
        self._prompt_ahead -= going.prompt_ahead
        self._queues[ticket.tier].end(ticket)

    def served(self, account_id: int, tier: ServiceTier) -> int:
        """How much the account was served in a tier while that has been busy."""
        return self._queues[tier].served(account_id)

    def served_key(self, account_id: int, key_id: int, tier: ServiceTier) -> int:
        """How much a key was served in a tier while its account has been busy there."""
        return self._queues[tier].served_key(account_id, key_id)

    def _due(self) -> FairQueue[Ticket] | None:
        """The highest tier, unless one below it has been passed often enough."""
        waiting = [tier for tier, queue in self._queues.items() if queue]
        if not waiting:
            return None
        passed = [tier for tier in waiting[1:] if self._passes[tier] >= MOST_PASSES[tier]]
        return self._queues[passed[-1] if passed else waiting[0]]

    def _count_passes(self, gone: Ticket) -> None:
        for tier, queue in self._queues.items():
            if tier is gone.tier or not queue:
                self._passes[tier] = 0
            else:
                self._passes[tier] += gone.num_sequences

    def _has_room(self, ticket: Ticket, fits: Fits) -> bool:
        if not fits(ticket.num_sequences):
            return False
        window = self._prompt_window_tokens * self._num_replicas
        return not self._num_sequences or (
            self._num_sequences + ticket.num_sequences <= self._max_sequences
            and self._prompt_ahead + self._share(ticket) <= window
        )

    def _share(self, ticket: Ticket) -> int:
        return min(ticket.prompt_tokens, self._prompt_window_tokens // 2)


def _up_to(tier: ServiceTier) -> Iterator[ServiceTier]:
    for other in _TIERS:
        yield other
        if other is tier:
            return
