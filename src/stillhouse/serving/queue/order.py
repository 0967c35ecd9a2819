"""Who goes next: the higher tier, then the key that was served least, while there is room."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from stillhouse.chat import ServiceTier
from stillhouse.serving.queue.service import COMPLETION_WEIGHT, Service

#: The first of these that waits goes first.
_TIERS = (ServiceTier.PRIORITY, ServiceTier.DEFAULT, ServiceTier.FLEX)


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """
    One request in the queue; each is itself alone.

    Args:
        num_sequences: How many answers it has; each is a sequence of the engine.
        prompt_tokens: Of the prompt, which they share.

    """

    key_id: int
    tier: ServiceTier
    num_sequences: int
    prompt_tokens: int


@dataclass(slots=True)
class _Going:
    """
    A request at the engine.

    Args:
        num_sequences: Those that have not ended.
        prompt_ahead: What it holds of the window; 0 from its first token on.

    """

    num_sequences: int
    prompt_ahead: int


class Order:
    """
    The queue before one engine, as a pure state: who waits, who is at the engine, who is next.

    The engine serves what it is given in the order of arrival, so it is given little ahead: as
    many sequences as it works on at once, and of prompts that it has yet to compute no more than a
    window. A prompt counts for at most half of that, so that a long one, which the engine computes
    beside others, leaves room for a short one; one request always goes.

    Args:
        max_sequences: Most sequences at the engine; a request of more goes alone.
        prompt_window_tokens: Of prompts whose first token has not come yet; and the weighted tokens
            by which a key that comes may be ahead of those that wait.

    """

    def __init__(self, *, max_sequences: int, prompt_window_tokens: int) -> None:
        self._max_sequences = max_sequences
        self._prompt_window_tokens = prompt_window_tokens
        self._lines = {tier: _Line(credit=prompt_window_tokens) for tier in _TIERS}
        self._going: dict[Ticket, _Going] = {}
        self._num_sequences = 0
        self._prompt_ahead = 0

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits and nothing is at the engine."""
        return not self._going and not any(self._lines.values())

    def num_waiting(self, tier: ServiceTier) -> int:
        """How many wait that go before or beside a newcomer of *tier*."""
        return sum(len(self._lines[other]) for other in _up_to(tier))

    def would_wait(self, ticket: Ticket) -> bool:
        """Whether *ticket*, not in the queue yet, could not go at once."""
        return self.num_waiting(ticket.tier) > 0 or not self._has_room(ticket)

    def join(self, ticket: Ticket) -> None:
        """Let it wait."""
        self._lines[ticket.tier].join(ticket)

    def leave(self, ticket: Ticket) -> None:
        """Take out one that waits; it was served nothing."""
        self._lines[ticket.tier].leave(ticket)

    def next(self) -> Ticket | None:
        """Let the next request go, and charge its prompt; None where it has to wait."""
        line = next((line for line in self._lines.values() if line), None)
        if line is None or not self._has_room(ticket := line.first()):
            return None
        line.go(ticket)
        going = _Going(ticket.num_sequences, self._share(ticket))
        self._going[ticket] = going
        self._num_sequences += going.num_sequences
        self._prompt_ahead += going.prompt_ahead
        return ticket

    def prompt_done(self, ticket: Ticket, *, cached_tokens: int) -> None:
        """Its prompt is computed, but for *cached_tokens*, which cost nothing."""
        going = self._going[ticket]
        self._prompt_ahead -= going.prompt_ahead
        going.prompt_ahead = 0
        self._lines[ticket.tier].service.charge(ticket.key_id, -cached_tokens)

    def made(self, ticket: Ticket, num_tokens: int) -> None:
        """Tokens of a completion have come."""
        service = self._lines[ticket.tier].service
        service.charge(ticket.key_id, COMPLETION_WEIGHT * num_tokens)

    def end_sequence(self, ticket: Ticket) -> None:
        """One of its sequences has ended."""
        self._going[ticket].num_sequences -= 1
        self._num_sequences -= 1

    def end(self, ticket: Ticket) -> None:
        """Nothing of it is at the engine any more."""
        going = self._going.pop(ticket)
        self._num_sequences -= going.num_sequences
        self._prompt_ahead -= going.prompt_ahead
        self._lines[ticket.tier].service.end(ticket.key_id)

    def served(self, key_id: int, tier: ServiceTier) -> int:
        """How much the key was served in a tier while that has been busy, in weighted tokens."""
        return self._lines[tier].service.of(key_id)

    def _has_room(self, ticket: Ticket) -> bool:
        return not self._num_sequences or (
            self._num_sequences + ticket.num_sequences <= self._max_sequences
            and self._prompt_ahead + self._share(ticket) <= self._prompt_window_tokens
        )

    def _share(self, ticket: Ticket) -> int:
        return min(ticket.prompt_tokens, self._prompt_window_tokens // 2)


class _Line:
    """Those of one tier that wait, each key's in the order of their arrival."""

    def __init__(self, *, credit: int) -> None:
        self.service = Service(credit=credit)
        self._waiting: dict[int, deque[Ticket]] = {}
        self._num_waiting = 0

    def __len__(self) -> int:
        return self._num_waiting

    def join(self, ticket: Ticket) -> None:
        self._num_waiting += 1
        self._waiting.setdefault(ticket.key_id, deque()).append(ticket)
        self.service.enter(ticket.key_id)

    def leave(self, ticket: Ticket) -> None:
        self._take_out(ticket)
        self.service.end(ticket.key_id)

    def first(self) -> Ticket:
        # Of keys that were served the same, the one that began to wait first.
        return self._waiting[min(self._waiting, key=self.service.of)][0]

    def go(self, ticket: Ticket) -> None:
        self._take_out(ticket)
        self.service.charge(ticket.key_id, ticket.prompt_tokens)

    def _take_out(self, ticket: Ticket) -> None:
        self._num_waiting -= 1
        tickets = self._waiting[ticket.key_id]
        tickets.remove(ticket)
        if not tickets:
            del self._waiting[ticket.key_id]
        self.service.stop_waiting(ticket.key_id)


def _up_to(tier: ServiceTier) -> Iterator[ServiceTier]:
    for other in _TIERS:
        yield other
        if other is tier:
            return
