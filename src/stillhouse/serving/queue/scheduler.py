"""Schedules requests by tier, then by the account's service, then by the key's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stillhouse.fairness.queue import FairQueue
from stillhouse.types.service_tier import ServiceTier

#: A completion token costs a step of the whole model, a prompt token one row of a large product.
COMPLETION_WEIGHT = 2

#: The tiers in the order in which they are served.
_TIERS = (ServiceTier.PRIORITY, ServiceTier.DEFAULT, ServiceTier.FLEX)

#: Most sequences of other tiers that are dispatched before a waiting one: a higher tier gets three
#: quarters of the dispatches, or fifteen sixteenths, and starves no other tier.
MOST_PASSES = {ServiceTier.PRIORITY: 0, ServiceTier.DEFAULT: 3, ServiceTier.FLEX: 15}


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """
    One request in the queue, compared by identity.

    Args:
        num_sequences: How many choices it has; each is a sequence of the engine.
        prompt_tokens: The length of the prompt, which the choices share.

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
        num_sequences: Sequences that have not ended.
        prompt_ahead: What the request holds of the prompt window; 0 from its first token on.

    """

    num_sequences: int
    prompt_ahead: int


#: Whether one replica has slots for a number of sequences.
Fits = Callable[[int], bool]


def _fits_always(_num_sequences: int) -> bool:
    return True


class FairScheduler:
    """
    Decides which request goes to a model's engines next; a pure state without any engine.

    An engine serves requests in the order of arrival, so it is given few ahead: as many sequences
    as it runs at once, and no more tokens of uncomputed prompts than a window. A prompt counts for
    at most half of the window, so that a short one fits beside a long one, which the engine
    computes in chunks. A request is always dispatched to an idle engine.

    It has more than 15 methods: one for each event of a request, and for each query of the queue.

    Args:
        max_sequences: Most sequences in flight; a request of more runs alone.
        prompt_window_tokens: Most prompt tokens in flight without a first token; also the credit,
            in weighted tokens, of an account, or a key in it, that begins to wait.

    """

    def __init__(self, *, max_sequences: int, prompt_window_tokens: int) -> None:
        self._max_sequences = max_sequences
        self._num_replicas = 1
        self._prompt_window_tokens = prompt_window_tokens
        self._queues: dict[ServiceTier, FairQueue[Ticket]] = {
            tier: FairQueue(credit=prompt_window_tokens) for tier in _TIERS
        }
        self._passes = dict.fromkeys(_TIERS, 0)  # sequences that went before what waits in a tier
        self._in_flight: dict[Ticket, _InFlight] = {}
        self._num_sequences = 0
        self._prompt_ahead = 0

    @property
    def is_idle(self) -> bool:
        """Whether no request waits or is in flight."""
        return not self._in_flight and not any(self._queues.values())

    def num_waiting(self, tier: ServiceTier) -> int:
        """Returns how many requests wait in *tier* and the tiers above it."""
        return sum(len(self._queues[other]) for other in _up_to(tier))

    def resize(self, *, max_sequences: int, num_replicas: int) -> None:
        """Sets the capacity: the slots of all replicas that serve, and a prompt window for each."""
        self._max_sequences = max_sequences
        self._num_replicas = num_replicas

    def would_wait(self, ticket: Ticket, fits: Fits = _fits_always) -> bool:
        """Returns whether *ticket*, not in the queue yet, could not be dispatched at once."""
        return self.num_waiting(ticket.tier) > 0 or not self._has_capacity(ticket, fits)

    def join(self, ticket: Ticket) -> None:
        """Appends a request."""
        self._queues[ticket.tier].push(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Removes a waiting request, which was not served."""
        queue = self._queues[ticket.tier]
        queue.remove(ticket)
        if not queue:
            self._passes[ticket.tier] = 0

    def dispatch_next(self, fits: Fits = _fits_always) -> Ticket | None:
        """
        Dispatches the next request, and charges its prompt; None if it has to wait.

        Args:
            fits: Whether one replica has slots for a number of sequences.

        """
        queue = self._due()
        if (
            queue is None
            or (ticket := queue.first()) is None
            or not self._has_capacity(ticket, fits)
        ):
            return None
        queue.take(ticket)
        self._count_passes(ticket)
        queue.charge_item(ticket, ticket.prompt_tokens)
        in_flight = _InFlight(ticket.num_sequences, self._window_share(ticket))
        self._in_flight[ticket] = in_flight
        self._num_sequences += in_flight.num_sequences
        self._prompt_ahead += in_flight.prompt_ahead
        return ticket

    def end_prompt(self, ticket: Ticket, *, cached_tokens: int) -> None:
        """Frees a request's part of the prompt window; *cached_tokens* of its prompt are free."""
        in_flight = self._in_flight[ticket]
        self._prompt_ahead -= in_flight.prompt_ahead
        in_flight.prompt_ahead = 0
        self._queues[ticket.tier].charge_item(ticket, -cached_tokens)

    def charge_completion(self, ticket: Ticket, num_tokens: int) -> None:
        """Charges tokens of a completion."""
        self._queues[ticket.tier].charge_item(ticket, COMPLETION_WEIGHT * num_tokens)

    def charge(self, account_id: int, key_id: int, tier: ServiceTier, amount: int) -> None:
        """Charges other work to an account, in weighted tokens, as if the engine had done it."""
        self._queues[tier].charge(account_id, key_id, amount)

    def end_sequence(self, ticket: Ticket) -> None:
        """Counts one of a request's sequences as ended."""
        self._in_flight[ticket].num_sequences -= 1
        self._num_sequences -= 1

    def requeue(self, ticket: Ticket) -> None:
        """Puts a request for which nothing was computed before the others of its key."""
        queue = self._queues[ticket.tier]
        queue.charge_item(ticket, -ticket.prompt_tokens)
        queue.push(ticket, at_front=True)
        self.end(ticket)

    def end(self, ticket: Ticket) -> None:
        """Counts a request as ended: the engine no longer runs any sequence of it."""
        in_flight = self._in_flight.pop(ticket)
        self._num_sequences -= in_flight.num_sequences
        self._prompt_ahead -= in_flight.prompt_ahead
        self._queues[ticket.tier].end(ticket)

    def served(self, account_id: int, tier: ServiceTier) -> int:
        """Returns how much an account was served in a tier while the tier has been busy."""
        return self._queues[tier].served(account_id)

    def served_key(self, account_id: int, key_id: int, tier: ServiceTier) -> int:
        """Returns how much a key was served in a tier while its account has been busy there."""
        return self._queues[tier].served_key(account_id, key_id)

    def _due(self) -> FairQueue[Ticket] | None:
        """Returns the highest waiting tier, unless a lower one has been passed often enough."""
        waiting = [tier for tier, queue in self._queues.items() if queue]
        if not waiting:
            return None
        passed = [tier for tier in waiting[1:] if self._passes[tier] >= MOST_PASSES[tier]]
        return self._queues[passed[-1] if passed else waiting[0]]

    def _count_passes(self, dispatched: Ticket) -> None:
        for tier, queue in self._queues.items():
            if tier is dispatched.tier or not queue:
                self._passes[tier] = 0
            else:
                self._passes[tier] += dispatched.num_sequences

    def _has_capacity(self, ticket: Ticket, fits: Fits) -> bool:
        if not fits(ticket.num_sequences):
            return False
        window = self._prompt_window_tokens * self._num_replicas
        return not self._num_sequences or (
            self._num_sequences + ticket.num_sequences <= self._max_sequences
            and self._prompt_ahead + self._window_share(ticket) <= window
        )

    def _window_share(self, ticket: Ticket) -> int:
        return min(ticket.prompt_tokens, self._prompt_window_tokens // 2)


def _up_to(tier: ServiceTier) -> Iterator[ServiceTier]:
    for other in _TIERS:
        yield other
        if other is tier:
            return
